"""The signature appended to a module file: where it begins, who signed.

Belongs here: the trailer that ``scripts/sign-file`` writes and the PKCS#7 in front of it, read for
what identifies the key. Not here: whether the key is trusted, nor checking the signature itself.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Optional

from kernward.core.facts import Signature
from kernward.tools import der

# include/linux/module_signature.h: algorithm, hash, id type, length of the signer's name, length of
# the key id, three bytes of padding, length of the signature (big endian). The last two lengths
# but one are used with X.509 ids only (before Linux 4.3).
_MAGIC = b"~Module signature appended~\n"
_TRAILER = struct.Struct(">BBBBB3xI")
_X509_ID = 1
_PKCS7_ID = 2
_X509_HASHES = {4: "sha256", 5: "sha384", 6: "sha512", 2: "sha1", 7: "sha224"}
# A signature with a whole chain of certificates takes a few kilobytes.
_LONGEST_BYTES = 1 << 20

_HASHES = {
    "2b0e03021a": "sha1",
    "608648016503040201": "sha256",
    "608648016503040202": "sha384",
    "608648016503040203": "sha512",
    "608648016503040204": "sha224",
    "608648016503040208": "sha3-256",
    "608648016503040209": "sha3-384",
    "60864801650304020a": "sha3-512",
}
_COMMON_NAME = bytes.fromhex("550403")

UNREADABLE = Signature(signer="", hash_name="", key_id="", issuer_der=b"", serial_der=b"")


def read_appended(stream: BinaryIO, size: int) -> tuple[int, Optional[Signature]]:
    """Look at the end of a plain module file of ``size`` bytes.

    Gives the size of the content in front of the signature, and the signature: None where none is
    appended, ``UNREADABLE`` where there is one that cannot be read. Raises OSError.
    """
    tail_size = _TRAILER.size + len(_MAGIC)
    stream.seek(max(size - tail_size, 0))
    tail = stream.read(tail_size)
    if len(tail) < tail_size or not tail.endswith(_MAGIC):
        return size, None
    _, hash_number, kind, signer_size, key_size, signature_size = _TRAILER.unpack_from(tail)
    appended = signature_size + (signer_size + key_size if kind == _X509_ID else 0)
    if appended > min(size - tail_size, _LONGEST_BYTES):
        return size, UNREADABLE
    content_size = size - tail_size - appended
    stream.seek(content_size)
    blob = stream.read(appended)
    if kind == _PKCS7_ID:
        return content_size, _pkcs7(blob)
    if kind == _X509_ID:
        return content_size, _x509(blob, signer_size, key_size, hash_number)
    return content_size, UNREADABLE


def _x509(blob: bytes, signer_size: int, key_size: int, hash_number: int) -> Signature:
    key_id = blob[signer_size : signer_size + key_size]
    return Signature(
        signer=blob[:signer_size].decode("utf-8", "replace"),
        hash_name=_X509_HASHES.get(hash_number, ""),
        key_id=key_id.hex(),
        issuer_der=b"",
        serial_der=b"",
    )


def _pkcs7(blob: bytes) -> Signature:
    """RFC 5652: ContentInfo, SignedData in its [0], the first SignerInfo in that one's last SET."""
    try:
        _, explicit, *_ = der.first_element(blob).children
        signed_data = explicit.children[0].children
        signer_info = signed_data[-1].children[0].children
        return _signer(signer_info)
    except (ValueError, IndexError):
        return UNREADABLE


def _signer(signer_info: tuple[der.Element, ...]) -> Signature:
    identifier = signer_info[1]
    hash_name = _HASHES.get(signer_info[2].children[0].content.hex(), "")
    if identifier.tag == der.CONTEXT_0_PRIMITIVE:
        return Signature("", hash_name, identifier.content.hex(), b"", b"")
    issuer, serial = identifier.children[:2]
    return Signature(
        signer=_common_name(issuer),
        hash_name=hash_name,
        key_id="",
        issuer_der=issuer.encoding,
        serial_der=serial.encoding,
    )


def _common_name(name: der.Element) -> str:
    """As ``modinfo -F signer`` shows it; the last text of the name where it has no common name."""
    text = ""
    for relative in name.children:
        for attribute in relative.children:
            kind, value = attribute.children[:2]
            text = value.content.decode("utf-8", "replace")
            if kind.content == _COMMON_NAME:
                return text
    return text
