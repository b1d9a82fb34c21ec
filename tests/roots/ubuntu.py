"""The kernel packages of an Ubuntu, made from Debian's kernel files.

Ubuntu splits the kernel: linux-image-K has the vmlinuz alone, linux-modules-K the System.map, the
configuration and the modules, linux-modules-extra-K the drivers that fewer need. The image's postinst does not run the hooks of
/etc/kernel/postinst.d: it leaves a note and activates a trigger of its own package, which dpkg
processes when all else is configured. linux-headers-K does as Debian's does. The maintainer
scripts here are minimal ones that behave so; no text of Ubuntu's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from roots import repack

_SUFFIX = "+ubuntu1"
_PACK = {"zst": ["zstd", "-q", "--rm"], "xz": ["xz", "--check=crc32"]}

_IMAGE_POSTINST = """#!/bin/sh
set -e
note=/usr/lib/linux/triggers/@K@
if [ "$1" = triggered ]; then
    if [ -f "$note" ]; then
        sh "$note"
        rm -f "$note"
    fi
    exit 0
fi
[ "$1" = configure ] || exit 0
depmod -a -F /boot/System.map-@K@ @K@ || :
mkdir -p "${note%/*}"
cat >"$note" <<NOTE
DEB_MAINT_PARAMS="$*" run-parts --report --exit-on-error --arg=@K@ --arg=/boot/vmlinuz-@K@ /etc/kernel/postinst.d
NOTE
dpkg-trigger --no-await linux-update-@K@
"""
_IMAGE_HOOK = """#!/bin/sh
set -e
[ ! -d /etc/kernel/@HOOK@.d ] || DEB_MAINT_PARAMS="$*" run-parts --report --exit-on-error \
    --arg=@K@ --arg=/boot/vmlinuz-@K@ /etc/kernel/@HOOK@.d
"""
_MODULES_POSTINST = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
depmod -a -F /boot/System.map-@K@ @K@ || :
"""
_MODULES_POSTRM = """#!/bin/sh
set -e
[ "$1" = purge ] || exit 0
rm -f /lib/modules/@K@/modules.*
rmdir --ignore-fail-on-non-empty /lib/modules/@K@ 2>/dev/null || :
"""


def make(main: Path, kernel: str, into: Path, packing: str) -> None:
    """linux-image, linux-modules and linux-headers of ``kernel``; modules packed as zst or xz."""
    into.mkdir()
    (image,) = main.glob(f"linux-image-{kernel}_*.deb")
    (headers,) = main.glob(f"linux-headers-{kernel}_*.deb")
    with repack.unpacked(image) as tree:
        control = (tree / "DEBIAN/control").read_text()
        shutil.rmtree(tree / "DEBIAN")
        modules = tree.with_name("modules")
        _move(tree, modules, f"boot/System.map-{kernel}", f"boot/config-{kernel}")
        _move(tree, modules, *_modules_folders(tree))
        _pack_modules(modules, packing)
        extra = tree.with_name("extra")
        _move(modules, extra, *_extra_folders(modules))
        _describe(
            tree, control, f"linux-image-{kernel}", f"linux-modules-{kernel}, linux-base, kmod"
        )
        _describe(modules, control, f"linux-modules-{kernel}", "kmod")
        _describe(extra, control, f"linux-modules-extra-{kernel}", f"linux-modules-{kernel}")
        _image_scripts(tree, kernel)
        _script(modules, "postinst", _MODULES_POSTINST, kernel)
        _script(modules, "postrm", _MODULES_POSTRM, kernel)
        _script(extra, "postinst", _MODULES_POSTINST, kernel)
        for part in (tree, modules, extra):
            repack.pack(part, into)
    with repack.unpacked(headers) as tree:
        described = (tree / "DEBIAN/control").read_text()
        # Ubuntu's headers want no image.
        (tree / "DEBIAN/control").write_text(re.sub(r" linux-image-[^,]*,", "", described))
        repack.revise(tree, _SUFFIX)
        repack.pack(tree, into)


def make_later_modules(split: Path, kernel: str, into: Path, suffix: str) -> None:
    """The linux-modules of ``kernel`` that ``make`` left in ``split``, rebuilt: symbols moved."""
    into.mkdir()
    (modules,) = split.glob(f"linux-modules-{kernel}_*.deb")
    repack.image_revised(modules, into, suffix)


def _extra_folders(tree: Path) -> list[str]:
    found = tree.glob("**/kernel/drivers/infiniband")
    return [str(folder.relative_to(tree)) for folder in found]


def _modules_folders(tree: Path) -> list[str]:
    return [folder for folder in ("lib/modules", "usr/lib/modules") if (tree / folder).exists()]


def _move(tree: Path, target: Path, *names: str) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).rename(target / name)


def _pack_modules(tree: Path, packing: str) -> None:
    for packed in tree.rglob("*.ko.xz"):
        subprocess.run(["xz", "-d", packed], check=True, timeout=60)
    plain = sorted(tree.rglob("*.ko"))
    subprocess.run([*_PACK[packing], "-1", *plain], check=True, timeout=300)
    for order in tree.rglob("modules.order"):
        order.write_text(order.read_text().replace(".ko.xz\n", ".ko\n"))


def _describe(tree: Path, control: str, name: str, depends: str) -> None:
    def field(key: str) -> str:
        (value,) = re.findall(rf"(?m)^{key}: (.*)$", control)
        return str(value)

    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\n"
        f"Source: linux\n"
        f"Version: {field('Version')}{_SUFFIX}\n"
        f"Architecture: {field('Architecture')}\n"
        f"Maintainer: {field('Maintainer')}\n"
        f"Depends: {depends}\n"
        f"Section: kernel\n"
        f"Description: Linux kernel, split as Ubuntu does\n"
    )


def _image_scripts(tree: Path, kernel: str) -> None:
    _script(tree, "postinst", _IMAGE_POSTINST, kernel)
    for hook in ("preinst", "prerm", "postrm"):
        _script(tree, hook, _IMAGE_HOOK.replace("@HOOK@", hook), kernel)
    (tree / "DEBIAN/triggers").write_text(f"interest linux-update-{kernel}\n")


def _script(tree: Path, name: str, text: str, kernel: str) -> None:
    path = tree / "DEBIAN" / name
    path.write_text(text.replace("@K@", kernel))
    path.chmod(0o755)
