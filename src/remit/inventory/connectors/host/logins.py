"""When accounts logged in last, from the machine's own records.

Spec: utmp(5) and lastlog(8) of glibc on Linux, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime

_UTMP = struct.Struct("<hxxi32s4s32s256shhiii16s20x")
_LASTLOG = struct.Struct("<i32s256s")
_USER_PROCESS = 7
MOST_BYTES = 4 * 1024 * 1024
"""Of wtmp, from its end."""


def from_wtmp(data: bytes) -> Mapping[str, datetime]:
    """Account → last login. What is no whole record is passed over."""
    found: dict[str, datetime] = {}
    data = data[len(data) % _UTMP.size :]
    for kind, _, _, _, user, _, _, _, _, seconds, _, _ in _UTMP.iter_unpack(data):
        if kind == _USER_PROCESS and seconds > 0 and (login := _text(user)):
            moment = datetime.fromtimestamp(seconds, UTC)
            found[login] = max(moment, found.get(login, moment))
    return found


def from_lastlog(data: bytes, accounts: Mapping[int, str]) -> Mapping[str, datetime]:
    """Account → last login; the file has one record for each user id."""
    found: dict[str, datetime] = {}
    for uid, login in accounts.items():
        at = uid * _LASTLOG.size
        if uid >= 0 and at + _LASTLOG.size <= len(data):
            seconds = _LASTLOG.unpack_from(data, at)[0]
            if seconds > 0:
                found[login] = datetime.fromtimestamp(seconds, UTC)
    return found


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
