"""The key that dkms signs with, and keeping dkms from making one of its own.

Belongs here: where each dkms looks for its key, and the setting that stops it. Not here: judging a
signature (signature.py), which keys the machine trusts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Optional, Union

from kernward.core.facts import Certificate, KernelRelease, SigningKey, Unknown
from kernward.tools.atomic import naming
from kernward.tools.dkms_script import script_text
from kernward.tools.root import Root

FRAMEWORK = "/etc/dkms/framework.conf"
_KEY_SETTING = re.compile(r"^\s*(mok_signing_key|mok_certificate)=(.*)$", re.MULTILINE)


def would_make_a_key(root: Root, kernel: KernelRelease) -> bool:
    """From 3.0 on, dkms makes a signing key where it finds none; two builds at once would make
    halves of two. A key that nobody enrolled is worth nothing, so there it builds unsigned.
    """
    key = _places(root, kernel)
    if key["mok_signing_key"].startswith("pkcs11:") or "$" in "".join(key.values()):
        return False
    if not root.exists(FRAMEWORK):
        # Nothing to put the setting into; dkms goes its own way there.
        return False
    return not all(root.exists(path) for path in key.values())


def signing_key(
    root: Root,
    kernel: KernelRelease,
    read_certificate: Callable[[bytes], Optional[Certificate]],
) -> Union[SigningKey, Unknown, None]:
    """The key that dkms signs with for that kernel; None where it signs nothing (before 3.0).

    None, too, where its settings name a place that only a shell could tell.
    """
    try:
        script = script_text(root)
        path = _places(root, kernel)["mok_certificate"]
        if script is None or "mok_certificate" not in script or "$" in path or path[:1] != "/":
            return None
        encoded = root.read_bytes(path) if root.exists(path) else None
    except OSError as error:
        return Unknown("dkms's signing key", f"{error.filename}: {error.strerror}")
    identity: Union[Certificate, Unknown, None] = None
    if encoded is not None:
        identity = read_certificate(encoded) or Unknown(path, "no certificate in DER", garbled=True)
    # 3.2.2 has this command, 3.0.10 has not.
    return SigningKey(path, identity, on_demand="generate_mok" in script)


def _places(root: Root, kernel: KernelRelease) -> dict[str, str]:
    """``mok_signing_key`` and ``mok_certificate``, as settings or the distribution's dkms have it."""
    ubuntu = re.search(r'^ID="?ubuntu"?$', _text(root, "/etc/os-release"), re.MULTILINE)
    shim = "/var/lib/shim-signed/mok"
    key = {
        "mok_signing_key": f"{shim}/MOK.priv" if ubuntu else "/var/lib/dkms/mok.key",
        "mok_certificate": f"{shim}/MOK.der" if ubuntu else "/var/lib/dkms/mok.pub",
    }
    more = [f"{FRAMEWORK}.d/{name}" for name in root.names(f"{FRAMEWORK}.d")]
    for path in (FRAMEWORK, *more):
        for name, value in _KEY_SETTING.findall(_text(root, path)):
            key[name] = re.sub(
                r"\$(kernelver|\{kernelver\})", str(kernel), value.strip().strip("'\"")
            )
    return key


def unsigned_framework(root: Root, work: str) -> str:
    """A copy of framework.conf (its outside path) with a signing program that is not there.

    Every dkms from 3.0 on then builds unsigned and makes no key. Raises OSError.
    """
    path = root.outside(f"{work}/framework.conf")
    with naming(path), open(path, "x", encoding="utf-8", errors="surrogateescape") as made:
        made.write(_text(root, FRAMEWORK))
        made.write('\nsign_file="/nonexistent/kernward-makes-no-key"\n')
    return path


def _text(root: Root, path: str) -> str:
    try:
        return root.read_text(path)
    except OSError:
        return ""
