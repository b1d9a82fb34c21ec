"""Every finding code with its words. Codes are a contract: they are never renamed or reused.

``{module}``, ``{version}``, ``{kernel}`` and ``{detail}`` are filled in per finding; ``explain``
shows the same texts with the names left open. Severity here is the usual one; a rule may say
otherwise where its evidence does.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernward.core.findings import Severity
from kernward.core.nouns import dataclass

HOLD, WARN, INFO = Severity.HOLD, Severity.WARN, Severity.INFO


@dataclass(frozen=True)
class Kind:
    """One code: how grave, what was found (one line), why it matters, what happens or what to do."""

    severity: Severity
    summary: str
    explanation: str
    next_step: str


_REBUILD = "kernward repair builds {module} again for {kernel}, installs it and looks again."

KINDS: Mapping[str, Kind] = {
    # ------------------------------------------------------------ order
    "headers-before-image": Kind(
        HOLD,
        "{module} was built for {kernel} before that kernel's image was installed",
        "The headers came first and dkms built at once, without the image and its System.map. Such "
        "a module loads without complaint; if it takes kernel addresses from the map, they are "
        "missing and the first use of one stops the kernel. {detail}",
        _REBUILD,
    ),
    "image-replaced": Kind(
        HOLD,
        "{module} was built for an earlier revision of {kernel}",
        "The kernel package was replaced under the same release name and dkms kept the module it "
        "had: addresses and symbol versions may have moved. {detail}",
        _REBUILD,
    ),
    "premature-build": Kind(
        WARN,
        "{module} is built for {kernel}, whose image is not installed",
        "Headers without an image are a normal state, but a module built in it saw no symbol map. "
        "When the image arrives, dkms older than 3.1.6 takes this module as it is. {detail}",
        "Nothing now: it is judged again, and built again if need be, when the image arrives.",
    ),
    "weak-link": Kind(
        HOLD,
        "{module} on {kernel} is a link to what was built for another kernel",
        "weak-modules makes such links between kernels whose symbol versions are the same. "
        "Addresses taken from a System.map are not: they belong to the one kernel that the module "
        "was built for. {detail}",
        "kernward repair builds {module} for {kernel} itself. To keep dkms from making such links: "
        'NO_WEAK_MODULES="yes" in /etc/dkms/{module}.conf',
    ),
    # ------------------------------------------------------------ content
    "map-pointers-missing": Kind(
        HOLD,
        "{module} on {kernel} has no address for symbols that this kernel has",
        "Its pointers into the kernel were compiled as zero because the build found no usable "
        "System.map. It loads; the first call through such a pointer is a kernel oops. {detail}",
        _REBUILD,
    ),
    "map-pointers-wrong": Kind(
        HOLD,
        "{module} on {kernel} points at addresses that are not this kernel's",
        "The addresses compiled in differ from the System.map of the installed image: calls "
        "through them run whatever code lies there. {detail}",
        _REBUILD,
    ),
    "map-unusable": Kind(
        WARN,
        "no usable System.map for {kernel}, which {module} needs to be built right",
        "Only a stub or no map is installed, so a build finds no addresses, and what is compiled "
        "in cannot be compared. {detail}",
        "Install a real map as /boot/System.map-{kernel} ({detail_package}), then: kernward repair",
    ),
    "symbol-crc-mismatch": Kind(
        HOLD,
        "{module} on {kernel} was built against other symbol versions",
        "The CRC of a kernel symbol that it imports differs from the kernel's own: the interface "
        'changed under it. The kernel refuses to load it ("disagrees about version of symbol"). '
        "{detail}",
        _REBUILD,
    ),
    "symbol-unknown": Kind(
        HOLD,
        "{module} on {kernel} needs a symbol that nothing there exports",
        'Loading it fails with "Unknown symbol". {detail}',
        _REBUILD,
    ),
    "vermagic-mismatch": Kind(
        HOLD,
        "{module} installed for {kernel} was built for another kernel",
        "Its vermagic names another release. {detail}",
        _REBUILD,
    ),
    # ------------------------------------------------------------ dkms and files
    "not-built": Kind(
        HOLD,
        "{module} is not built for {kernel}",
        "When that kernel boots, whatever needs the module finds none. {detail}",
        "kernward repair builds and installs it.",
    ),
    "build-failed": Kind(
        HOLD,
        "building {module} for {kernel} failed",
        "There is no module for that kernel. {detail}",
        "Read the log named below; when its cause is mended: kernward repair",
    ),
    "not-installed": Kind(
        HOLD,
        "{module} is built for {kernel} but not installed",
        "dkms has it in its own folder; modprobe does not find it there. {detail}",
        "kernward repair installs it.",
    ),
    "file-missing": Kind(
        HOLD,
        "a file of {module} for {kernel} is gone",
        "dkms says that the module is installed, but what it installed is not all there: modprobe "
        "fails, or the next rebuild has nothing to compare with. {detail}",
        "kernward repair puts the built file back, or builds it again.",
    ),
    "file-differs": Kind(
        HOLD,
        "the installed {module} for {kernel} is not the one that dkms built",
        "It was changed, damaged or replaced after the installation. {detail}",
        "kernward repair puts the built file back if that is sound, or builds it again.",
    ),
    "dependency-missing": Kind(
        HOLD,
        "{module} on {kernel} depends on a module that is not there",
        "modprobe loads what a module depends on first and gives up when one is missing. {detail}",
        "Install what brings the missing module ({detail_package}), then: kernward check",
    ),
    "source-broken": Kind(
        HOLD,
        "the source of {module} {version} cannot be used",
        "dkms cannot build it for any further kernel. {detail}",
        "Reinstall the package that brings it, or forget the version: "
        "dkms remove {module}/{version} --all",
    ),
    "unregistered": Kind(
        HOLD,
        "dkms has forgotten {module} {version}, whose source is still installed",
        "dkms drops a module when its last kernel goes; after that no kernel gets it, and nothing "
        "says so. {detail}",
        "kernward repair registers it with dkms and builds it for the installed kernels.",
    ),
    "depmod-stale": Kind(
        HOLD,
        "the module index of {kernel} does not lead to the installed {module}",
        "modprobe finds modules through modules.dep only. {detail}",
        "kernward repair runs depmod for {kernel}.",
    ),
    # ------------------------------------------------------------ akmods
    "akmod-failed": Kind(
        WARN,
        "akmods could not build {module} for {kernel}",
        "It is not dkms's, so nothing of it is judged or repaired here; when that kernel boots, "
        "whatever needs the module finds none. An akmods of 0.5.4 or older does not try again. {detail}",
        "Read {detail_path}; when its cause is mended: "
        "akmods --force --kernels {kernel} --akmod {module}",
    ),
    "akmod-missing": Kind(
        INFO,
        "akmods has not built {module} for {kernel}",
        "It builds after a kernel was installed, and at the latest when that kernel boots. {detail}",
        "Nothing, or at once: akmods --kernels {kernel} --akmod {module}",
    ),
    # ------------------------------------------------------------ boot
    "initramfs-missing-module": Kind(
        HOLD,
        "the initramfs of {kernel} lacks {module}",
        "It has to act before the root file system is mounted, and is wanted in the initramfs. "
        "{detail}",
        "kernward repair makes the initramfs of {kernel} again, with the module in it.",
    ),
    "initramfs-stale-module": Kind(
        HOLD,
        "the initramfs of {kernel} holds another {module} than the installed one",
        "The copy in the initramfs is loaded first and wins over the repaired file. {detail}",
        "kernward repair makes the initramfs of {kernel} again.",
    ),
    "unified-image-unsound": Kind(
        HOLD,
        "the unified image of {kernel} does not have the installed {module} in it",
        "There the initramfs is part of one file with its kernel, often signed as a whole, which "
        "kernward reads and does not write. {detail}",
        "{detail_command}",
    ),
    "signature-rejected": Kind(
        HOLD,
        "{kernel} will refuse to load {module}: its signature is not trusted",
        "This machine loads only modules signed by a key that it knows. {detail}",
        "Enrol the key that dkms signs with ({detail_command}), then: kernward check",
    ),
    # ------------------------------------------------------------ running
    "not-loaded": Kind(
        HOLD,
        "{module} is not loaded in the running kernel",
        "It is to be loaded whenever its kernel runs. {detail}",
        "kernward repair loads it, after what it depends on.",
    ),
    "loaded-differs": Kind(
        HOLD,
        "the loaded {module} is not the installed one",
        "An earlier build is in the running kernel. It is never unloaded behind your back: a "
        "tracker in use would lose its state. {detail}",
        "Reboot, or stop what uses it and reload it by hand: modprobe -r {module} && "
        "modprobe {module}",
    ),
    # ------------------------------------------------------------ what it takes to build
    "headers-missing": Kind(
        WARN,
        "headers that fit {kernel} are not installed",
        "Without them {module} cannot be built for that kernel. {detail}",
        "Install them: {detail_command}",
    ),
    "toolchain-missing": Kind(
        WARN,
        "no compiler or make is installed",
        "{module} cannot be built here. {detail}",
        "Install them: {detail_command}",
    ),
    "space-low": Kind(
        WARN,
        "little room on the file system of {detail_path}",
        "A build or a new initramfs may not fit. {detail}",
        "Free some room, for instance by removing old kernels: {detail_command}",
    ),
    "kernel-unsupported": Kind(
        WARN,
        "{kernel} is outside the kernels that {module} supports",
        "Its makers name a range; outside it a build may fail, or succeed and misbehave. {detail}",
        "Boot a supported kernel, or get a newer version of {module}.",
    ),
    "fallback-unsound": Kind(
        WARN,
        "{module} is not sound on {kernel}, which can be booted as a fallback",
        "Neither the running nor the next kernel is concerned; whoever falls back to {kernel} is. "
        "{detail}",
        "kernward repair mends it along with the others.",
    ),
    # ------------------------------------------------------------ for the record
    "image-missing": Kind(
        INFO,
        "{kernel} has headers or a modules folder but no image",
        "It cannot be booted, so nothing on it is judged. A purged image leaves this behind.",
        "Nothing. To tidy up: {detail_command}",
    ),
    "leftover-tree": Kind(
        INFO,
        "{module} {version} is left over",
        "Something removed the module or moved on to another version and did not take this along. "
        "No kernel depends on it. {detail}",
        "Nothing. To tidy up: dkms remove {module}/{version} --all, or remove its folder.",
    ),
    "unguarded": Kind(
        INFO,
        "{module} {version} is not guarded",
        "Its dkms.conf does not ask to be installed automatically (AUTOINSTALL), so dkms does not "
        "follow kernel updates with it, and its state holds nothing. {detail}",
        'Nothing. To have it judged: guard = ["{module}"] in the settings.',
    ),
    "could-not-look": Kind(
        HOLD,
        "could not look at {detail_what}",
        "What was not seen counts as unsound until it is seen. {detail}",
        "Mend what is named here (or run as root), then: kernward check",
    ),
}
