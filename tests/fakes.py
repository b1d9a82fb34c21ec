"""Stand-ins for a host: a small root folder that a look takes for a Debian, and a scripted ``run``.

The folder is real files (module files are recorded ones), made in milliseconds; nothing in it can
be executed. A test that needs dkms or apt themselves belongs into ``tests/roots``.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from kernward.tools.run import Command, Completed, OnLine

RECORDED = Path(__file__).parent / "recorded"
RELEASE = "6.1.0-47-cloud-amd64"
REVISION = "6.1.170-3"
TRACKER = (RECORDED / "elf/6.1/tracker-real.ko").read_bytes()
_STUB_MAP = (RECORDED / "symbols/6.1/System.map-stub").read_bytes()
_REAL_MAP = (
    "ffffffff81000000 A __per_cpu_start\n"
    + "".join(f"ffffffff{at:08x} T symbol_{at}\n" for at in range(0x81000000, 0x81005000))
    + "ffffffff82000000 B _end\n"
)
# The CRCs that the recorded module imports.
_SYMVERS = "".join(
    f"{crc:#010x}\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n"
    for name, crc in {
        "kfree": 58330298,
        "__fentry__": 3187371451,
        "__x86_indirect_thunk_rax": 1699246231,
        "__x86_indirect_thunk_rbx": 1729023694,
        "__x86_return_thunk": 1535261130,
        "module_layout": 3398528178,
    }.items()
)


@dataclass(frozen=True)
class Link:
    """A symlink, in a dict of files."""

    target: str


Content = Union[bytes, str, Link]


def write_files(root: Path, files: Mapping[str, Content]) -> None:
    """Inside path → content, in that order (births tell which came first)."""
    for inside, content in files.items():
        path = root / inside.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            data = (
                content if isinstance(content, bytes) else content.encode(errors="surrogateescape")
            )
            path.write_bytes(data)


def debian_root(
    folder: Path,
    kernels: Iterable[str] = (RELEASE,),
    modules: Iterable[str] = ("tracker",),
    more: Optional[Mapping[str, Content]] = None,
) -> Path:
    """A Debian 12 with these kernels, and each module built and installed for all of them: sound."""
    kernels, modules = tuple(kernels), tuple(modules)
    files: dict[str, Content] = {
        "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "/usr/sbin/dkms": '#!/bin/bash\necho "dkms-3.0.10"\n',
        "/usr/bin/gcc-12": "gcc",
        "/usr/bin/gcc": Link("gcc-12"),
        "/usr/bin/make": "make",
        "/var/lib/dkms/dkms_dbversion": "2.0.0\n",
        "/var/lib/dpkg/status": "".join(_paragraphs(kernels)),
        "/var/lib/dpkg/lock": "",
        "/var/log/dpkg.log": "".join(_history(kernels)),
    }
    for release in kernels:
        files.update(_kernel(release))
    for module in modules:
        files.update(_module(module, kernels))
    write_files(folder, {**files, **(more or {})})
    for path in ("usr/bin/gcc-12", "usr/bin/make", "usr/sbin/dkms"):
        (folder / path).chmod(0o755)
    return folder


def _kernel(release: str) -> dict[str, Content]:
    image, headers = f"linux-image-{release}", f"linux-headers-{release}"
    tree, sources = f"/lib/modules/{release}", f"/usr/src/{headers}"
    image_files = (f"/boot/vmlinuz-{release}", f"/boot/System.map-{release}", f"{tree}/kernel")
    return {
        f"/boot/vmlinuz-{release}": "an image",
        f"/boot/System.map-{release}": _REAL_MAP,
        f"/boot/config-{release}": "CONFIG_MODVERSIONS=y\n",
        f"{tree}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
        f"{tree}/modules.order": "kernel/drivers/net/dummy.ko\n",
        f"{tree}/modules.dep": "updates/dkms/tracker.ko:\n",
        f"{tree}/build": Link(sources),
        f"{sources}/Makefile": "",
        f"{sources}/Module.symvers": _SYMVERS,
        f"/var/lib/dpkg/info/{image}.list": "\n".join(("/.", *image_files, "")),
        f"/var/lib/dpkg/info/{headers}.list": f"/.\n{sources}\n{tree}/build\n",
    }


def _module(name: str, kernels: Iterable[str]) -> dict[str, Content]:
    source, tree = f"/usr/src/{name}-1.0", f"/var/lib/dkms/{name}/1.0"
    conf = (
        f'PACKAGE_NAME="{name}"\nPACKAGE_VERSION="1.0"\nBUILT_MODULE_NAME[0]="tracker"\n'
        'DEST_MODULE_LOCATION[0]="/updates/dkms"\nAUTOINSTALL="yes"\n'
    )
    files: dict[str, Content] = {
        f"{source}/dkms.conf": conf,
        f"{source}/Makefile": "obj-m := tracker.o\n",
        f"{source}/tracker.c": '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n',
        f"{tree}/source": Link(source),
    }
    for release in kernels:
        build = f"{tree}/{release}/x86_64"
        began = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(time.time()))
        head = f"DKMS make.log for {name}-1.0 for kernel {release} (x86_64)\n{began}\n"
        files[f"{build}/log/make.log"] = f"{head}make: Leaving directory\n"
        files[f"{build}/module/tracker.ko"] = TRACKER
        files[f"/lib/modules/{release}/updates/dkms/tracker.ko"] = TRACKER
        files[f"/var/lib/dkms/{name}/kernel-{release}-x86_64"] = Link(f"1.0/{release}/x86_64")
    return files


def _paragraphs(kernels: Iterable[str]) -> Iterable[str]:
    names = [f"linux-{kind}-{release}" for release in kernels for kind in ("headers", "image")]
    for name in names:
        yield (
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n"
            f"Version: {REVISION}\nDescription: of a fake\n\n"
        )


def _history(kernels: Iterable[str]) -> Iterable[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 1))
    for release in kernels:
        for name in (f"linux-headers-{release}", f"linux-image-{release}"):
            yield f"{when} install {name}:amd64 <none> {REVISION}\n"
            for status in ("half-installed", "unpacked", "half-configured", "installed"):
                if status == "half-configured":
                    yield f"{when} configure {name}:amd64 {REVISION} <none>\n"
                yield f"{when} status {status} {name}:amd64 {REVISION}\n"


def stub_map(release: str = RELEASE) -> dict[str, Content]:
    """What Debian ships in place of a map."""
    return {f"/boot/System.map-{release}": _STUB_MAP}


# ---- programs

Answer = Union[int, Exception, Callable[[Command], int]]


class ScriptedRun:
    """Answers by the program's name from a table; an unexpected program fails the test.

    An answer is an exit code, an exception, or a function that does what the program would do.
    """

    def __init__(self, answers: Mapping[str, Answer], output: str = "") -> None:
        self.asked: list[Command] = []
        self._answers = answers
        self._output = output

    def __call__(
        self,
        command: Command,
        on_line: Optional[OnLine] = None,
        stopping: Optional[threading.Event] = None,
    ) -> Completed:
        assert stopping is not None, "what a repair runs can be stopped"
        self.asked.append(command)
        program = os.path.basename(command.argv[0])
        assert program in self._answers, f"nobody said what {command.argv} answers"
        answer = self._answers[program]
        if isinstance(answer, Exception):
            raise answer
        for line in self._output.splitlines():
            if on_line is not None:
                on_line(line)
        code = answer if isinstance(answer, int) else answer(command)
        return Completed(command.argv, code, self._output, "", 0.0)


def dkms_build(module_file: Optional[bytes] = TRACKER, code: int = 0) -> Callable[[Command], int]:
    """What ``dkms build`` does in the folder that stands in for MODULE/VERSION; None: no module."""

    def build(command: Command) -> int:
        argv = dict(zip(command.argv[2::2], command.argv[3::2]))
        registered = f"/var/lib/dkms/{argv['--module']}/{argv['-v']}"
        version = Path(next(source for source, target in command.binds if target == registered))
        log = f"DKMS make.log for {argv['--module']}-{argv['-v']} for kernel {argv['--kernelver']} (x86_64)\n"
        if module_file is None:
            write_files(version, {"/build/make.log": f"{log}tracker.c:1: error: no such thing\n"})
            return code
        place = f"/{argv['--kernelver']}/x86_64"
        write_files(
            version,
            {f"{place}/log/make.log": log, f"{place}/module/tracker.ko": module_file},
        )
        return code

    return build


def depmod(folder: Path) -> Callable[[Command], int]:
    """Indexes the one module of the fake root."""

    def index(command: Command) -> int:
        base = command.argv[command.argv.index("-b") + 1]
        write_index(folder / base.lstrip("/") / "lib/modules" / command.argv[-1], _LINE)
        return 0

    return index


_LINE = "updates/dkms/tracker.ko:"


def write_index(tree: Path, line: str, *, binary: Optional[str] = None) -> None:
    """Text files and their twins, which may say something else: one node with the values."""
    (tree / "modules.dep").write_text(f"{line}\n")
    value = struct.pack(">II", 1, 0) + (binary or line).encode() + b"\0"
    head = struct.pack(">III", 0xB007F457, 0x00020001, 12 | 1 << 30)
    (tree / "modules.dep.bin").write_bytes(head + value)
    for name in ("alias", "symbols"):
        (tree / f"modules.{name}").write_text(f"# {name}\n")
        (tree / f"modules.{name}.bin").write_bytes(struct.pack(">III", 0xB007F457, 0x00020001, 12))


def put_programs(root: Path, scripts: Mapping[str, str]) -> None:
    """A shell and a few tools of this host, so that these scripts can be run inside the root."""
    for name in ("sh", "sleep"):
        program = shutil.which(name)
        assert program is not None
        told = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout
        needed = [word for word in told.split() if word.startswith("/")]
        for path in (program, *needed):
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    for folder in ("bin", "dev", "proc", "sys", "tmp"):
        (root / folder).mkdir(exist_ok=True)
    if not (root / "bin/sh").exists():
        shutil.copy(shutil.which("sh") or "", root / "bin/sh")
    for name, script in scripts.items():
        (root / "usr/sbin" / name).write_text(f"#!/bin/sh\n{script}")
        (root / "usr/sbin" / name).chmod(0o755)
