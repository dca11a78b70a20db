"""Identifiers: prefixed ULIDs for our own records, URNs for what other systems name.

Spec: ULID (github.com/ulid/spec); RFC 8141 for URNs, RFC 3986 §2.1 for percent-encoding.
"""

from __future__ import annotations

import os
import re
import threading
from datetime import datetime
from typing import NewType
from urllib.parse import quote, unquote

IdentityId = NewType("IdentityId", str)
"""`id_<ULID>`: an identity, for ever."""
Name = NewType("Name", str)
"""`urn:remit:<system>:<instance>:<kind>:<name>` or a SPIFFE ID: unique, never reused for another identity."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def ulid(now: datetime, *, entropy: bytes | None = None) -> str:
    """Make a ULID: 26 characters, 48 bits of milliseconds and 80 of randomness (`entropy`, 10 bytes)."""
    entropy = _entropy() if entropy is None else entropy
    value = int(now.timestamp() * 1000) << 80 | int.from_bytes(entropy, "big")
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -10, -10)])


class _Pool(threading.local):
    """Random bytes, read from the kernel four kilobytes at a time: ids are unique, not secret."""

    data = b""
    at = 0


_pool = _Pool()


def _entropy() -> bytes:
    if _pool.at + 10 > len(_pool.data):
        _pool.data, _pool.at = os.urandom(4096), 0
    _pool.at += 10
    return _pool.data[_pool.at - 10 : _pool.at]


def _forget_entropy() -> None:
    _pool.data, _pool.at = b"", 0


# A forked child must not give out its parent's ids again.
os.register_at_fork(after_in_child=_forget_entropy)


def new_id(prefix: str, now: datetime) -> str:
    """Make an id such as `gr_01K…`."""
    return f"{prefix}_{ulid(now)}"


def is_id(prefix: str, text: str) -> bool:
    """Tell whether `text` is an id with this prefix."""
    head, _, tail = text.partition("_")
    return head == prefix and _ULID.fullmatch(tail) is not None


_PLAIN = re.compile(r"[A-Za-z0-9_.~@/+=,-]*").fullmatch
"""What `quote` would leave as it is, and most parts are."""


def name(system: str, instance: str, kind: str, local: str) -> Name:
    """Name something of another system; each part is percent-encoded, so that no value can forge a separator."""
    parts = [each if _PLAIN(each) else quote(each, safe="@/._-+=,") for each in (system, instance, kind, local)]
    return Name("urn:remit:" + ":".join(parts))


def parse_name(text: str) -> tuple[str, str, str, str] | None:
    """Split a URN into system, instance, kind and local name; `None` when it is no URN of ours."""
    parts = text.split(":")
    if len(parts) != 6 or parts[:2] != ["urn", "remit"]:
        return None
    system, instance, kind, local = (unquote(part) for part in parts[2:])
    return system, instance, kind, local


def credential_name(fingerprint: str) -> Name:
    """Name the graph node of a credential by its fingerprint (`sha256:…`, `hmac:…`)."""
    algorithm, _, digest = fingerprint.partition(":")
    return name("credential", algorithm, "fingerprint", digest)
