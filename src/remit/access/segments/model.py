"""A segment: one target, who may reach it from where, and what was seen when that was tried."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected

SIGNED_AS: Final = "access.segment"
MAX_ADDRESSES: Final = 64
MAX_LABELS: Final = 16
_SUBJECT: Final = re.compile(r"(?:task|target):[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WORD: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL: Final = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_WORD}")
_VALUE: Final = re.compile(rf"(?:{_WORD})?")
NAMESPACE: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Form(StrEnum):
    """The language of the place where the rules hold."""

    NFTABLES = "nftables"
    KUBERNETES = "kubernetes"
    PG_HBA = "pg_hba"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a task comes from, or where a target is, on the word of a person who signed it."""

    subject: str
    """`task:NAME` or `target:NAME`."""
    addresses: tuple[str, ...] = ()
    """Networks in CIDR notation, sorted."""
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of its pods, in `namespace`."""
    created_by: str = ""
    signature: str = ""

    def content(self) -> dict[str, Json]:
        """What is signed."""
        return {
            "subject": self.subject,
            "addresses": list(self.addresses),
            "namespace": self.namespace,
            "labels": dict(self.labels),
            "created_by": self.created_by,
        }


def parse_place(
    subject: str, *, addresses: Sequence[str], namespace: str, labels: Mapping[str, str], actor: str
) -> Place:
    """Read a person's word of a place strictly; `Rejected` (`access.segment.place`) names what is wrong."""
    if not _SUBJECT.fullmatch(subject):
        raise _wrong("it is of `task:NAME` or `target:NAME`")
    if not addresses and not namespace:
        raise _wrong("it says neither a network nor a namespace")
    if len(addresses) > MAX_ADDRESSES or len(labels) > MAX_LABELS:
        raise _wrong(f"it has at most {MAX_ADDRESSES} networks and {MAX_LABELS} labels")
    if namespace and not NAMESPACE.fullmatch(namespace):
        raise _wrong(f"`{namespace[:64]}` is no namespace")
    if labels and not namespace:
        raise _wrong("labels select pods of a namespace")
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or not _VALUE.fullmatch(value):
            raise _wrong(f"`{key[:64]}={value[:64]}` is no label")
    return Place(
        subject=subject, addresses=tuple(sorted({network(each) for each in addresses})), namespace=namespace,
        labels=dict(sorted(labels.items())), created_by=actor,
    )  # fmt: skip


def network(text: str) -> str:
    """A network in its one notation: `10.0.0.7/32`. `Rejected` for what is none, and for everywhere."""
    try:
        found = ipaddress.ip_network(text[:64])
    except ValueError:
        raise _wrong(f"`{text[:64]}` is no network") from None
    if found.prefixlen == 0 or "%" in text:
        raise _wrong("everywhere is no place")
    return str(found)


def _wrong(why: str) -> Rejected:
    return Rejected(
        "access.segment.place", f"this place cannot be registered: {why}",
        next_step="`remit segment place task:NAME --from 10.0.0.0/24`",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """From where a task comes, by facts that are registered: a user of this machine, networks, or pods."""

    uid: int | None = None
    networks: tuple[str, ...] = ()
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One task that may reach the target, as whom, from where, and why."""

    identity: str
    task: str
    why: str
    source: Source
    roles: tuple[tuple[str, str], ...]
    """(database, group role on the target), sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A task that may have the credential, but whose place is not known: it gets no opening."""

    task: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A target, everything that may reach it, and nothing else."""

    instance: str
    target: str
    system: str
    networks: tuple[str, ...]
    """Where the target is; empty where it is reached by a Unix socket, or not known."""
    port: int
    tls: bool
    admin: str
    """The login by which Remit itself comes."""
    uid: int
    """The user of this machine as which Remit itself comes."""
    address: str
    """The address from which the target sees Remit come; empty by a Unix socket, or where it was not asked."""
    patterns: bool = False
    """Whether its `pg_hba.conf` may name logins by a pattern (PostgreSQL 16 and later)."""
    place: Place | None = None
    openings: tuple[Opening, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def tag(self) -> str:
        """Eight letters that are this target's alone."""
        return tag_of(self.target)

    @property
    def mark(self) -> str:
        """The name of everything that is ours at the place."""
        return mark_of(self.instance, self.target)


def tag_of(name: str) -> str:
    """Eight hexadecimal letters for a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def mark_of(instance: str, target: str) -> str:
    """`remit_<instance>_<tag>`: the name of what is ours at a place."""
    return f"remit_{instance}_{tag_of(target)}"


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One attempt: from where, whether it should work, and what happened."""

    what: str
    expected: str
    """`open`, `shut`, or `kept` (the rules are those that were applied)."""
    verdict: Verdict
    detail: str = ""

    def as_json(self) -> dict[str, Json]:
        return {
            "what": self.what, "expected": self.expected, "verdict": self.verdict.value, "detail": self.detail,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was seen of one segment at one moment."""

    target: str
    form: Form
    time: datetime
    checks: tuple[Check, ...]
    signature: str = ""

    @property
    def verdict(self) -> Verdict:
        """`pass` only when something got in that should, something was refused that should be, and nothing failed."""
        if any(check.verdict is Verdict.FAIL for check in self.checks):
            return Verdict.FAIL
        passed = {check.expected for check in self.checks if check.verdict is Verdict.PASS}
        return Verdict.PASS if {"open", "shut"} <= passed else Verdict.UNMEASURED

    def as_json(self) -> dict[str, Json]:
        return {
            "target": self.target,
            "form": self.form.value,
            "time": rfc3339(self.time),
            "checks": [check.as_json() for check in self.checks],
        }


def probe_from(said: Mapping[str, Any], signature: str) -> Probe:
    """Read what `as_json` wrote."""
    return Probe(
        target=said["target"], form=Form(said["form"]), time=datetime.fromisoformat(said["time"]),
        checks=tuple(Check(**{**each, "verdict": Verdict(each["verdict"])}) for each in said["checks"]),
        signature=signature,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Rules of ours that hold at a place. Unsettled: being put there; what was before is put back after a crash."""

    target: str
    form: Form
    text: str
    follow: bool
    """Whether they follow the grants in force."""
    file: str
    """`pg_hba`: the file whose region is ours."""
    before: str
    """The rules of ours that held before; empty where there were none."""
    listing: str
    """How the place itself tells them, digested: what differs from it is drift."""
    settled: bool
    actor: str
    time: datetime
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        return {
            "target": self.target, "form": self.form.value, "text": self.text, "follow": self.follow,
            "file": self.file, "before": self.before, "listing": self.listing, "settled": self.settled,
            "actor": self.actor, "time": rfc3339(self.time),
        }  # fmt: skip


def applied_from(said: Mapping[str, Any], signature: str) -> Applied:
    """Read what `as_json` wrote."""
    fields = {**said, "form": Form(said["form"]), "time": datetime.fromisoformat(said["time"])}
    return Applied(**fields, signature=signature)
