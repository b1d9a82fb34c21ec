"""Our D-Bus interface as data: its methods, signals and properties, and its introspection XML.

Belongs here: names and signatures; kernward-dbus(7) says the same for people, and a test compares.
Not here: what the properties hold (bus_values.py), the bus (bus.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.nouns import dataclass

NAME = "org.kernward.Kernward1"
PATH = "/org/kernward/Kernward1"
INTERFACE = NAME
ERROR = "org.kernward.Error"
# Large: told to have changed, and sent to those who ask.
STATUS_JSON = "StatusJson"


@dataclass(frozen=True)
class Argument:
    """One argument of a method or signal."""

    name: str
    signature: str


@dataclass(frozen=True)
class Method:
    """A verb, and the polkit action that it needs; without one it only reads, for everybody."""

    name: str
    action: str
    arguments: tuple[Argument, ...] = ()
    results: tuple[Argument, ...] = ()

    @property
    def signature(self) -> str:
        """Of what goes in."""
        return "".join(each.signature for each in self.arguments)


@dataclass(frozen=True)
class Signal:
    """A signal besides PropertiesChanged."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def signature(self) -> str:
        """Of what it carries."""
        return "".join(each.signature for each in self.arguments)


_SERVICE, _REASON = Argument("service", "s"), Argument("reason", "s")
_QUESTION = (
    *(Argument(name, "as") for name in ("kernels", "modules")),
    *(Argument("since_us", "t"), Argument("limit", "u")),
)
METHODS = (
    Method("Check", "org.kernward.check"),
    Method("Repair", "org.kernward.repair"),
    Method("Approve", "org.kernward.approve"),
    Method("Hold", "org.kernward.hold", (_SERVICE, _REASON)),
    Method("Unhold", "org.kernward.hold", (_SERVICE,)),
    Method("Release", "org.kernward.release", (_SERVICE, _REASON, Argument("seconds", "t"))),
    Method("History", "", _QUESTION, (Argument("document", "s"),)),
)

_FINDING = tuple(Argument(name, "s") for name in ("code", "kernel", "module", "summary"))
SIGNALS = (Signal("FindingAdded", _FINDING), Signal("FindingResolved", _FINDING))

# Name and signature. All are read-only.
PROPERTIES = {
    "State": "s",
    "Phase": "s",
    "WaitsFor": "s",
    "Kernel": "s",
    "Passes": "u",
    "Changed": "b",
    "NeedsApproval": "b",
    "Verdicts": "a(ssssas)",
    "Plan": "a(ssss)",
    "Step": "(uuss)",
    "Gates": "a(sss)",
    "Holds": "a(ssst)",
    "Leases": "a(ssst)",
    "Inhibitor": "s",
    STATUS_JSON: "s",
}


def introspection() -> str:
    """The interface as Introspect tells it."""
    parts = [f'<node name="{PATH}"><interface name="{INTERFACE}">']
    for method in METHODS:
        parts += [
            f'<method name="{method.name}">',
            *_arguments(method.arguments, ' direction="in"'),
            *_arguments(method.results, ' direction="out"'),
        ]
        parts.append("</method>")
    for signal in SIGNALS:
        parts += [f'<signal name="{signal.name}">', *_arguments(signal.arguments, ""), "</signal>"]
    for name, signature in PROPERTIES.items():
        emits = "invalidates" if name == STATUS_JSON else "true"
        parts.append(_property(name, signature, emits))
    return "".join([*parts, "</interface>", _STANDARD, "</node>"])


def _arguments(arguments: tuple[Argument, ...], direction: str) -> Iterator[str]:
    return (f'<arg name="{a.name}" type="{a.signature}"{direction}/>' for a in arguments)


def _property(name: str, signature: str, emits: str) -> str:
    note = f'<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="{emits}"/>'
    return f'<property name="{name}" type="{signature}" access="read">{note}</property>'


_STANDARD = (
    '<interface name="org.freedesktop.DBus.Properties">'
    '<method name="Get"><arg name="interface" type="s" direction="in"/>'
    '<arg name="property" type="s" direction="in"/><arg name="value" type="v" direction="out"/>'
    '</method><method name="GetAll"><arg name="interface" type="s" direction="in"/>'
    '<arg name="values" type="a{sv}" direction="out"/></method>'
    '<signal name="PropertiesChanged"><arg name="interface" type="s"/>'
    '<arg name="changed" type="a{sv}"/><arg name="invalidated" type="as"/></signal></interface>'
    '<interface name="org.freedesktop.DBus.Introspectable"><method name="Introspect">'
    '<arg name="xml" type="s" direction="out"/></method></interface>'
    '<interface name="org.freedesktop.DBus.Peer"><method name="Ping"/></interface>'
)
