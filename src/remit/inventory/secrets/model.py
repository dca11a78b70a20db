"""What the secret scan reads, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remit.inventory.model import Attribute, CredentialKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes to scan, and what to call them.

    `path` is for people: `app/.env`, `dump.tar!layer/etc/app.env` for a member, `HISTORY:path` is never used: the blob
    of a git object has the path at which it was last seen and `commit` empty until somebody asks (`sources.attribute`).
    """

    path: str
    data: bytes = field(repr=False)
    windows: tuple[tuple[int, int], ...] | None = None
    """The parts (start, end) that are new where the rest was scanned as another blob; `None`: all of it."""
    object_id: str = ""
    """The git object, in hexadecimal, for a blob of history; else empty."""
    offset: int = 0
    """Where `data` begins in the file, for a piece of a large one; pieces overlap."""
    first_line: int = 1
    """The number of the first line of `data`."""
    note: str = ""
    """What was undone to get it, where the path does not tell: `utf-16`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A value that looks like a secret. Lives in memory only: whoever keeps it keeps a keyed fingerprint."""

    rule: str
    """Stable: `github-token`, `aws-secret-key`, `generic-assignment`, `private-key` …"""
    title: str
    """What it is, for people: `GitHub token`."""
    kind: CredentialKind
    value: bytes = field(repr=False)
    """The secret itself, decoded."""
    start: int
    end: int
    """Where it lies in the blob's own bytes (of the encoded form, for what was decoded)."""
    line: int
    """From 1."""
    confidence: int
    """0–100, calibrated: of a hundred hits at 80, eighty are real."""
    variable: str = ""
    """The name to which it is assigned (`DB_PASSWORD`, `spec.password`), where there is one."""
    checksum: str = ""
    """`pass` or `fail` where the format carries a checksum; else empty."""
    decoded: tuple[str, ...] = ()
    """The encodings that were undone, outermost first: `base64`, `hex`, `url`, `utf-16`, `escape`, `joined`."""
    parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Named neighbours that are not secret and say whose it is: `user`, `host`, `client_id`, `account`, `key_id`."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """What the value's own structure says without asking anybody: `class`, `expires`, `organisation`."""
