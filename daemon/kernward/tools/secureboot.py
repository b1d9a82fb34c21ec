"""What the running kernel demands of a module's signature, and which keys it knows.

Belongs here: sig_enforce, lockdown, Secure Boot, EFI signature lists, kernel keys, certificates.
Not here: whether a module will be accepted. Only for the running host: under a mounted root these
files are the host's or are not there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Optional, Union

from kernward.core.facts import Certificate, Trust, Unknown
from kernward.core.nouns import dataclass
from kernward.tools import der
from kernward.tools.root import Root

_SIG_ENFORCE = "/sys/module/module/parameters/sig_enforce"
_SECURITYFS = "/sys/kernel/security"
_LOCKDOWN = f"{_SECURITYFS}/lockdown"
_KEYS = "/proc/keys"
_EFI = "/sys/firmware/efi"
_EFIVARS = f"{_EFI}/efivars"
# Linux 5.10 and later keep here what shim left, which efivarfs may be too small for. No attributes.
_MOK_VARIABLES = f"{_EFI}/mok-variables"

# UEFI 2.10: 3.3 (global variables), 32.6.1 (image security database); shim's own name space.
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_DATABASE = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
_ATTRIBUTE_BYTES = 4

# EFI_SIGNATURE_LIST: type, size of the list, of its header, of each entry. An entry has its owner's
# GUID in front.
_LIST_HEADER = struct.Struct("<16sIII")
_OWNER_BYTES = 16
_X509_TYPE = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")

# crypto/asymmetric_keys: "subject: id in hexadecimal: kind", the type's name cut to nine letters.
_ASYMMETRIC_KEY = re.compile(r" asymmetri\w* .*?: ([0-9a-f]{8,}): X509", re.ASCII)

_SUBJECT_KEY_ID = bytes.fromhex("551d0e")
_MOK_LIST = re.compile(r"MokListRT[0-9]*")


def read_trust(root: Root) -> Union[Trust, Unknown]:
    """Ask the running kernel. Unknown where sysfs is not there to be asked.

    ``enforced`` means that a module without a valid signature by a trusted key is refused:
    sig_enforce is Y, or lockdown is integrity or confidentiality (which is how distribution kernels
    react to Secure Boot); also when Secure Boot is on and securityfs is not mounted, so that nobody
    can tell the lockdown. Records that cannot be read count as enforcing. ``why`` names the record
    that decided, or all that were asked when nothing enforces.

    ``enrolled`` holds the machine owner's certificates and those of the firmware's ``db``; empty
    without EFI. ``waiting`` are those that mokutil has asked shim's MokManager to add. ``key_ids`` are the subject key ids of all certificates on the kernel's keyrings
    (/proc/keys tells no more of them), lower-case hexadecimal; a serial stands in where a
    certificate has no key id.
    """
    try:
        if not root.is_dir("/sys/module"):
            return Unknown("/sys/module", "sysfs is not mounted, or the kernel loads no modules")
    except OSError as error:
        return Unknown("/sys/module", error.strerror or str(error))
    enforced, why = _enforcement(root)
    return Trust(
        enforced=enforced,
        why=why,
        enrolled=_enrolled(root),
        key_ids=_key_ids(root),
        waiting=_waiting(root),
    )


def read_certificate(encoded: bytes) -> Optional[Certificate]:
    """An X.509 certificate in DER; None for what is none."""
    try:
        fields = list(der.first_element(encoded).children[0].children)
        if fields[0].tag == der.CONTEXT_0:
            del fields[0]
        serial, _, issuer = fields[:3]
        return Certificate(issuer.encoding, serial.encoding, _subject_key_id(fields))
    except (ValueError, IndexError):
        return None


def _subject_key_id(fields: list[der.Element]) -> str:
    """RFC 5280, 4.2.1.2: an octet string within the octet string of the extension."""
    for extensions in (field for field in fields if field.tag == der.CONTEXT_3):
        for extension in extensions.children[0].children:
            name, *_, value = extension.children
            if name.content == _SUBJECT_KEY_ID:
                return der.first_element(value.content).content.hex()
    return ""


# --------------------------------------------------------------------------- is it enforced


@dataclass(frozen=True)
class _Records:
    """What the kernel's own records say; None: that record is not there."""

    sig_enforce: Union[str, Unknown, None]
    lockdown: Union[str, Unknown, None]
    has_securityfs: bool
    secure_boot: Union[bool, Unknown]

    def reasons(self) -> Iterator[str]:
        """Why to take it that signatures are enforced."""
        for record in (self.sig_enforce, self.lockdown):
            if isinstance(record, Unknown):
                yield f"{record.what} cannot be read: {record.reason}"
        if self.sig_enforce == "Y":
            yield f"sig_enforce is Y ({_SIG_ENFORCE})"
        if isinstance(self.lockdown, str) and self.lockdown != "none":
            yield f"lockdown is {self.lockdown} ({_LOCKDOWN})"
        if self.lockdown is None and not self.has_securityfs:
            if isinstance(self.secure_boot, Unknown):
                what, reason = self.secure_boot.what, self.secure_boot.reason
                yield f"securityfs is not mounted, and {what}: {reason}"
            elif self.secure_boot:
                yield f"Secure Boot is on, and securityfs is not mounted ({_LOCKDOWN})"

    def __str__(self) -> str:
        secure = self.secure_boot
        boot = "not known" if isinstance(secure, Unknown) else "on" if secure else "off"
        return (
            f"sig_enforce {self.sig_enforce or 'absent'}, "
            f"lockdown {self.lockdown or 'absent'}, Secure Boot {boot}"
        )


def _enforcement(root: Root) -> tuple[bool, str]:
    records = _Records(
        sig_enforce=_text(root, _SIG_ENFORCE),
        lockdown=_lockdown(root),
        has_securityfs=_has_names(root, _SECURITYFS),
        secure_boot=_secure_boot(root),
    )
    reason = next(records.reasons(), None)
    return reason is not None, reason or f"signatures are not enforced: {records}"


def _lockdown(root: Root) -> Union[str, Unknown, None]:
    """The word in brackets of ``none [integrity] confidentiality``; None: no such file."""
    text = _text(root, _LOCKDOWN)
    if not isinstance(text, str):
        return text
    chosen = re.search(r"\[(\w+)\]", text)
    return (
        chosen[1] if chosen else Unknown(_LOCKDOWN, f"not understood: {text[:80]!r}", garbled=True)
    )


def _secure_boot(root: Root) -> Union[bool, Unknown]:
    """As the kernel's efi_get_secureboot() decides: shim's own switch turns it off, too."""
    secure = _flag(root, f"SecureBoot-{_GLOBAL}")
    setup = _flag(root, f"SetupMode-{_GLOBAL}")
    insecure = _flag(root, f"MokSBStateRT-{_SHIM}")
    if secure is None and _has_names(root, _EFI) and not _has_names(root, _EFIVARS):
        return Unknown(_EFIVARS, "efivarfs is not mounted")
    for state in (secure, setup, insecure):
        if isinstance(state, Unknown):
            return state
    return bool(secure) and not setup and not insecure


def _flag(root: Root, name: str) -> Union[bool, Unknown, None]:
    data = _bytes(root, f"{_EFIVARS}/{name}")
    if not isinstance(data, bytes):
        return data
    if len(data) != _ATTRIBUTE_BYTES + 1:
        return Unknown(f"{_EFIVARS}/{name}", f"{len(data)} bytes instead of 5", garbled=True)
    return data[-1] == 1


# --------------------------------------------------------------------------- which keys


def _enrolled(root: Root) -> Union[tuple[Certificate, ...], Unknown]:
    """Each certificate once, the machine owner's first; what is none certifies nothing."""
    try:
        if not root.exists(_EFI):
            return ()
        variables = list(_key_variables(root))
    except OSError as error:
        return Unknown(_EFI, error.strerror or str(error))
    if not variables:
        return Unknown(_EFIVARS, "neither efivarfs nor mok-variables is there")
    return _certificates_in(root, variables)


def _waiting(root: Root) -> Union[tuple[Certificate, ...], Unknown]:
    """What shim's MokManager will be asked to add at the next boot."""
    return _certificates_in(root, [(f"{_EFIVARS}/MokNew-{_SHIM}", _ATTRIBUTE_BYTES)])


def _certificates_in(
    root: Root, variables: list[tuple[str, int]]
) -> Union[tuple[Certificate, ...], Unknown]:
    """``variables``: files, and how many bytes stand in front of the lists in them."""
    certificates: dict[bytes, None] = {}
    for path, skip in variables:
        data = _bytes(root, path)
        if isinstance(data, Unknown):
            return data
        try:
            certificates.update(dict.fromkeys(_certificates((data or b"")[skip:])))
        except ValueError as error:
            return Unknown(path, str(error), garbled=True)
    known = (read_certificate(encoded) for encoded in certificates)
    return tuple(each for each in known if each is not None)


def _key_variables(root: Root) -> Iterator[tuple[str, int]]:
    """Files that hold EFI signature lists, and how many bytes of attributes stand in front."""
    for name in root.names(_MOK_VARIABLES):
        if _MOK_LIST.fullmatch(name):
            yield f"{_MOK_VARIABLES}/{name}", 0
    for name in root.names(_EFIVARS):
        variable, _, owner = name.partition("-")
        if (owner == _SHIM and _MOK_LIST.fullmatch(variable)) or name == f"db-{_DATABASE}":
            yield f"{_EFIVARS}/{name}", _ATTRIBUTE_BYTES


def _certificates(lists: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(lists):
        if len(lists) < offset + _LIST_HEADER.size:
            raise ValueError(f"EFI signature list ends early at offset {offset}")
        kind, size, header, entry = _LIST_HEADER.unpack_from(lists, offset)
        first = offset + _LIST_HEADER.size + header
        end = offset + size
        if not first <= end <= len(lists) or (end > first and entry <= _OWNER_BYTES):
            raise ValueError(f"EFI signature list at offset {offset} has sizes that cannot be")
        if kind == _X509_TYPE and entry:
            for at in range(first, end - entry + 1, entry):
                yield lists[at + _OWNER_BYTES : at + entry]
        offset = end


def _key_ids(root: Root) -> tuple[str, ...]:
    """Keys that may not be seen (no privileges) are not listed, and so not here."""
    text = _text(root, _KEYS)
    return tuple(_ASYMMETRIC_KEY.findall(text)) if isinstance(text, str) else ()


# --------------------------------------------------------------------------- reading


def _text(root: Root, inside: str) -> Union[str, Unknown, None]:
    data = _bytes(root, inside)
    return data.decode("utf-8", "replace").strip() if isinstance(data, bytes) else data


def _bytes(root: Root, inside: str) -> Union[bytes, Unknown, None]:
    """None: no such file."""
    try:
        return root.read_bytes(inside)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Unknown(inside, error.strerror or str(error))


def _has_names(root: Root, inside: str) -> bool:
    try:
        return bool(root.names(inside))
    except OSError:
        return False
