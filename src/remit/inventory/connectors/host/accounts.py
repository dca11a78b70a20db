"""What passwd, shadow and group say: who exists, who can log in, how passwords are kept, who is in a strong group.

A password's hash never leaves here: only its kind, and a keyed fingerprint by which its change is seen.
Spec: passwd(5), shadow(5), group(5), crypt(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from remit.inventory.connectors.files.formats import decode

_MOST = 50_000
_NO_SHELL = frozenset({"nologin", "false", "sync", "shutdown", "halt", "true", ""})
NO_LOGIN_UID = 65_534


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One line of passwd."""

    login: str
    uid: int
    gid: int
    remark: str
    home: str
    login_shell: str
    line: int
    hash: str = field(default="", repr=False)
    """The second field, where it is no reference to shadow."""

    @property
    def has_shell(self) -> bool:
        return self.login_shell.rpartition("/")[2] not in _NO_SHELL


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """One line of shadow."""

    hash: str = field(repr=False)
    changed: datetime | None = None
    ends: datetime | None = None
    """When it must be changed, or the account ends."""

    @property
    def state(self) -> str:
        return password_state(self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    name: str
    gid: int
    members: tuple[str, ...]


def _lines(data: bytes, fields: int) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(decode(data).split("\n")[:_MOST], 1):
        parts = line[:65_536].rstrip("\r").split(":")
        if len(parts) >= fields and parts[0] and parts[0][0] not in "#+-":
            yield number, parts


def parse_accounts(data: bytes) -> tuple[Account, ...]:
    """The accounts of a passwd file; lines that are none are passed over."""
    return tuple(
        Account(
            login=parts[0][:256], uid=int(parts[2]), gid=int(parts[3]), remark=parts[4][:200], home=parts[5][:1000],
            login_shell=parts[6][:200].strip(), line=number, hash="" if parts[1] in {"x", "*"} else parts[1] or "empty",
        )
        for number, parts in _lines(data, 7)
        if _small(parts[2]) and _small(parts[3])
    )  # fmt: skip


def _small(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def parse_groups(data: bytes) -> tuple[Group, ...]:
    """The groups of a group file; lines that are none are passed over."""
    return tuple(
        Group(
            name=parts[0][:256], gid=int(parts[2]),
            members=tuple(member for member in parts[3].strip().split(",") if member)[:5_000],
        )
        for _, parts in _lines(data, 4)
        if _small(parts[2])
    )  # fmt: skip


def parse_shadow(data: bytes) -> Mapping[str, Password]:
    """Login → its password's line."""
    return {
        parts[0]: Password(
            hash=parts[1], changed=_day(parts[2]),
            ends=min(filter(None, (_sum(parts[2], parts[4]), _day(parts[7]))), default=None),
        )
        for _, parts in _lines(data, 8)
    }  # fmt: skip


def _day(text: str) -> datetime | None:
    days = int(text) if _small(text) and len(text) <= 6 else 0
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days) if days > 0 else None


def _sum(changed: str, most: str) -> datetime | None:
    start = _day(changed)
    if start is None or not _small(most) or len(most) > 4:  # 99999 means never
        return None
    return start + timedelta(days=int(most))


_KINDS = {
    "1": "md5", "md5": "md5", "2": "bcrypt", "2a": "bcrypt", "2b": "bcrypt", "2y": "bcrypt", "3": "nt", "5": "sha256",
    "6": "sha512", "7": "scrypt", "y": "yescrypt", "gy": "gost-yescrypt", "sha1": "sha1", "argon2id": "argon2id",
}  # fmt: skip
LEGACY = frozenset({"md5", "des", "nt", "sha1", "bsdi"})
"""Kinds that a stolen shadow file gives away within hours."""


def password_state(field: str) -> str:
    """`none` where nobody is asked for one, `locked`, `unset`, or the kind of its hash."""
    if field == "":
        return "none"
    if field.startswith(("!", "*")):
        return "locked" if field.strip("!*") else "unset"
    if field.startswith("$"):
        return _KINDS.get(field[1:].partition("$")[0], "unknown")
    if field.startswith("_") and len(field) == 20:
        return "bsdi"
    return "des" if re.fullmatch(r"[./A-Za-z0-9]{13}", field) else "unknown"


STRONG: Mapping[str, str] = {
    "docker": "its members start containers that mount the host's disk",
    "lxd": "its members start privileged containers",
    "incus": "its members start privileged containers",
    "incus-admin": "its members start privileged containers",
    "podman": "its members start containers as root where the socket is root's",
    "disk": "its members read and write the disk beneath its file system",
    "shadow": "its members read the hashes of all passwords",
    "kmem": "its members read the kernel's memory",
    "libvirt": "its members start machines with the host's disk",
    "root": "it is the group of root's own files",
}
"""Groups that are root by another name, and why."""
ADMINISTRATIVE = frozenset({"sudo", "wheel", "admin"})
"""Groups to which the rules of sudo usually give everything; they are edges only where the rules say so."""
