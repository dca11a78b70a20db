"""The machine on which files lie: a fingerprint that stays, and whose home is where."""

from __future__ import annotations

import hashlib
import hmac
import posixpath
import re
import socket
from collections.abc import Mapping

from remit.inventory.connectors.files.formats import decode
from remit.inventory.connectors.files.repository import small_file

_APPLICATION = b"remit: files connector"
_SHARED_HOMES = frozenset({
    "", "/", "/nonexistent", "/dev", "/dev/null", "/bin", "/sbin", "/usr/sbin", "/var", "/run", "/tmp",  # noqa: S108
})  # fmt: skip


def host_fingerprint(machine_id: bytes | None = None) -> str:
    """Sixteen hex digits that name this machine and do not tell its machine id.

    Spec: machine-id(5), "should be considered confidential": it is the key of a hash, as sd-id128(3) advises.
    """
    key = machine_id or small_file("/etc/machine-id") or small_file("/var/lib/dbus/machine-id") or b""
    key = key.strip() or socket.gethostname().encode()
    return hmac.new(key, _APPLICATION, hashlib.sha256).hexdigest()[:16]


def parse_passwd(data: bytes) -> tuple[dict[int, str], dict[str, str]]:
    """Read a passwd file: user id → account, and home → account for homes that are somebody's own."""
    accounts: dict[int, str] = {}
    homes: dict[str, str] = {}
    for line in decode(data).splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[0] and fields[2].isdigit():
            accounts.setdefault(int(fields[2]), fields[0])
            if fields[5] not in _SHARED_HOMES:
                homes.setdefault(posixpath.normpath(fields[5]), fields[0])
    return accounts, homes


def account_of(directory: str, uid: int, accounts: Mapping[int, str], homes: Mapping[str, str]) -> str:
    """Whose a file is: the account in whose home it lies, else its owner. A home of no account here counts too."""
    path = directory
    while len(path) > 1:
        if path in homes:
            return homes[path]
        path = posixpath.dirname(path)
    elsewhere = re.search(r"/(?:home|Users)/([^/]+)", directory)
    return elsewhere.group(1) if elsewhere else accounts.get(uid, f"uid-{uid}")
