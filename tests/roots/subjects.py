"""The modules that scenarios are about, and their variants.

The sources lie in subjects/. A variant is the same source under another name or version, with
lines added to its dkms.conf or with files replaced: derived here, so that there is one of each.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from roots.live import LiveRoot

_SOURCES = Path(__file__).with_name("subjects")
_PROFILES = "/etc/kernward/profiles"
# Where dkms installs, whatever dkms.conf says: Debian, RHEL, SUSE.
DKMS_PLACES = ("updates/dkms", "extra", "updates")
_TEXT = ("dkms.conf", "Makefile", ".c", ".sh")


@dataclass(frozen=True)
class Subject:
    """A dkms module version. ``conf`` is appended to dkms.conf; ``files`` replaces whole files."""

    origin: str
    name: str
    version: str = "1.0"
    conf: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where its source lies inside a root."""
        return f"/usr/src/{self.name}-{self.version}"

    def called(self, name: str) -> Subject:
        """The same module under another name (letters only: it is an identifier in C)."""
        return replace(self, name=name)

    def at(self, version: str) -> Subject:
        """The same module as another version."""
        return replace(self, version=version)

    def with_conf(self, *lines: str) -> Subject:
        """With more lines in dkms.conf; the last value of a directive counts."""
        return replace(self, conf=self.conf + "".join(f"{line}\n" for line in lines))

    def with_file(self, name: str, content: str) -> Subject:
        """With a file replaced."""
        return replace(self, files={**self.files, name: content})

    def unpack(self, root: LiveRoot) -> None:
        """Put the source where a -dkms package puts it. dkms is told nothing."""
        target = root / self.source
        shutil.copytree(_SOURCES / self.origin, target)
        (target / "profile.toml").unlink(missing_ok=True)
        for path in sorted(target.iterdir()):
            if path.name.endswith(_TEXT):
                path.write_text(self._adapted(path.read_text()))
            path.rename(path.with_name(path.name.replace(self.origin, self.name)))
        with (target / "dkms.conf").open("a") as conf:
            conf.write(self.conf)
        for name, content in self.files.items():
            (target / name).write_text(content)

    def add(self, root: LiveRoot) -> None:
        """Put the source there and register it with dkms."""
        self.unpack(root)
        root.run("dkms", "add", f"{self.name}/{self.version}")

    def teach(self, root: LiveRoot) -> None:
        """Give kernward the profile of this module, as an admin would."""
        target = root / f"{_PROFILES}/{self.name}.toml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.profile)

    @property
    def profile(self) -> str:
        """What kernward can be told of it."""
        shipped = (_SOURCES / self.origin / "profile.toml").read_text()
        return shipped.replace(self.origin, self.name)

    def installed(self, root: LiveRoot, kernel: str) -> str:
        """The path inside of the module file that dkms installed for ``kernel``."""
        modules = Path("/lib/modules", kernel)
        (found,) = (
            modules / place / path.name
            for place in DKMS_PLACES
            for path in (root / str(modules / place)).glob(f"{self.name}.ko*")
        )
        return str(found)

    def _adapted(self, text: str) -> str:
        renamed = text.replace(self.origin, self.name)
        return renamed.replace('VERSION="1.0"', f'VERSION="{self.version}"').replace(
            'MODULE_VERSION("1.0")', f'MODULE_VERSION("{self.version}")'
        )


def sources_text() -> str:
    """All sources as one text: what a root that holds them was made from."""
    files = sorted(
        path for path in _SOURCES.rglob("*") if path.is_file() and path.suffix != ".toml"
    )
    return "".join(f"{path.name}\n{path.read_text()}" for path in files)


MAPPROBE = Subject("mapprobe", "mapprobe")
PLAINPROBE = Subject("plainprobe", "plainprobe")
NEEDYPROBE = Subject("needyprobe", "needyprobe")
BLOCKTRACK = Subject("blocktrack", "blocktrack")
