"""Dataclasses whose methods are shared instead of generated.

A look makes some ninety classes of values. On Python 3.11 the standard library's ``dataclasses``
takes 10 ms to import and 0.7 ms for each class that it writes methods for: a third of a whole look
that finds nothing changed (``make bench``). To the type checker this *is* the standard one; what
works here of it is what is used here: defaults, ``field(default_factory=…)``, ``frozen``, equality
and hash by value, ``replace``. Not here: inheritance between them, order, ``__post_init__``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

__all__ = ["dataclass", "field", "is_noun", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:

    class _Factory:
        def __init__(self, default_factory):
            self.make = default_factory

    def field(*, default_factory):
        """A default that is made anew for each instance."""
        return _Factory(default_factory)

    def dataclass(cls=None, *, frozen=False):
        """Give a class the methods of a value; see ``dataclasses.dataclass``."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen)
        names = tuple(cls.__annotations__)
        defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}
        makers = tuple(name for name in defaults if isinstance(defaults[name], _Factory))
        for name in makers:
            delattr(cls, name)
        cls.__match_args__ = names
        cls._noun = names, frozenset(names), defaults, makers
        cls._values = itemgetter(*names)
        cls.__init__, cls.__repr__, cls.__eq__ = _init, _repr, _eq
        cls.__hash__ = _hash if frozen else None
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls

    def replace(value, **changes):
        """The same value with some of its fields changed."""
        return type(value)(**{name: getattr(value, name) for name in value._noun[0]} | changes)

    def _init(self, *args, **named):
        names, known, defaults, makers = self._noun
        values = self.__dict__
        if len(args) == len(names) and not named:
            values.update(zip(names, args))
            return
        values.update(defaults)
        values.update(zip(names, args))
        values.update(named)
        for name in makers:
            if isinstance(values[name], _Factory):
                values[name] = values[name].make()
        if len(args) + len(named) > len(names) or values.keys() != known:
            missing = ", ".join(name for name in names if name not in values)
            unknown = ", ".join(name for name in values if name not in known)
            raise TypeError(
                f"{type(self).__name__}({', '.join(names)}): missing: {missing or 'none'};"
                f" unknown: {unknown or 'none'}; {len(args)} by position"
            )

    def _repr(self):
        values = self.__dict__
        parts = (f"{name}={values[name]!r}" for name in self._noun[0])
        return f"{type(self).__qualname__}({', '.join(parts)})"

    def _eq(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self.__dict__ == other.__dict__

    def _hash(self):
        # Not by order in the dict: that is one of how the instance was made.
        return hash(type(self)._values(self.__dict__))

    def _refuse(self, name, *_):
        raise AttributeError(f"{type(self).__name__}.{name}: the value is frozen")


def is_noun(thing: object) -> bool:
    """``thing`` is a class made here."""
    return isinstance(thing, type) and "_noun" in vars(thing)
