"""The journal of authority: every event that gives or takes rights, in a chain that only this installation can write.

Rows of identities, persons and policies say what is; whoever writes into the database can change them, or put back what
was true and signed a month ago. The journal says what this installation did, in order: each row carries a MAC over the
one before it, so that nothing can be added, changed, moved or taken out; and the newest row's MAC lies in a file beside
the data as well (`mark`), so that its end cannot be cut off.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from remit.kernel.errors import Misconfigured
from remit.storage.schema.core import authority_journal

KEPT = frozenset(
    {
        "access.enforcer.registered",
        "access.enforcer.removed",
        "access.grant.denied",
        "access.grant.used",
        "access.grant.voided",
        "access.grant.withdrawn",
        "access.intent.approved",
        "access.intent.ended",
        "access.policy.activated",
        "access.secret.added",
        "access.secret.removed",
        "access.secret.rotated",
        "access.segment.place_removed",
        "access.segment.placed",
        "access.target.added",
        "access.target.removed",
        "access.task.registered",
        "access.task.removed",
        "access.tool.approved",
        "access.tool.removed",
        "governance.directory.joined",
        "governance.directory.left",
        "governance.exception.approved",
        "governance.exception.expired",
        "governance.exception.renewed",
        "governance.exception.revoked",
        "governance.identity.moved",
        "governance.owner.assigned",
        "governance.owner.claimed",
        "governance.person.deactivated",
        "governance.person.enrolled",
        "governance.proof.bound",
        "governance.proof.unbound",
        "governance.rightsizing.canary",
        "governance.rightsizing.canarying",
        "governance.rightsizing.enforced",
        "governance.rightsizing.enforcing",
        "governance.rightsizing.restored",
        "governance.rightsizing.restoring",
        "governance.rightsizing.shadow",
        "governance.description.set",
        "governance.description.unset",
        "governance.resource.classified",
        "governance.resource.declassified",
        "governance.team.ended",
        "governance.team.registered",
        "governance.tier.set",
        "governance.tier.unset",
        "inventory.identity.merged",
        "inventory.identity.split",
        "trust.agent.attested",
        "trust.agent.banned",
        "trust.agent.evicted",
        "trust.authority.activated",
        "trust.authority.learned",
        "trust.authority.prepared",
        "trust.authority.retired",
        "trust.authority.revoked",
        "trust.authority.tainted",
        "trust.client.registered",
        "trust.client.removed",
        "trust.downstream.allowed",
        "trust.downstream.withdrawn",
        "trust.entry.created",
        "trust.entry.removed",
        "trust.join_token.created",
        "trust.join_token.removed",
        "trust.join_token.spent",
        "trust.federation.added",
        "trust.federation.ended",
        "trust.federation.refreshed",
        "trust.federation.removed",
        "trust.revocation.ended",
        "trust.revocation.made",
        "trust.revocation.restored",
        "trust.revocation.spread",
    }
)
"""Types of event that the journal keeps."""
_PAGE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest row that a reader has seen: 0 and no MAC before the first."""

    serial: int = 0
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One event of the journal."""

    type: str
    subject: str
    data: dict[str, Any]


class AuthorityJournal:
    """The journal on one connection; appended under the same lock, and in the same commit, as the ledger."""

    def __init__(self, conn: Connection, key: bytes) -> None:
        self._conn = conn
        self._key = key

    def append(self, leaves: Sequence[bytes]) -> None:
        """Add the canonical bytes of events of the kinds in `KEPT`."""
        mark, rows = self.mark(), []
        for leaf in leaves:
            mark = self._next(mark, leaf)
            rows.append({"serial": mark.serial, "leaf": leaf, "mac": mark.mac})
        self._conn.execute(insert(authority_journal), rows)

    def mark(self) -> Mark:
        """The newest row, unverified."""
        table = authority_journal
        row = self._conn.execute(select(table.c.serial, table.c.mac).order_by(table.c.serial.desc()).limit(1)).first()
        return Mark() if row is None else Mark(serial=row.serial, mac=row.mac)

    def read(self, seen: Mark) -> Iterator[Act]:
        """Every act, oldest first; `Misconfigured` (`storage.authority.broken`) when chain or `seen` do not hold."""
        mark, table = Mark(), authority_journal
        while True:
            query = select(table.c.serial, table.c.leaf, table.c.mac).where(table.c.serial > mark.serial)
            page = self._conn.execute(query.order_by(table.c.serial).limit(_PAGE)).all()
            for row in page:
                leaf = row.leaf if isinstance(row.leaf, bytes) else str(row.leaf).encode()
                mark = self._next(mark, leaf)
                if row.serial != mark.serial or not hmac.compare_digest(row.mac, mark.mac):
                    raise _broken(f"row {mark.serial} was not written by this installation, or another is missing")
                if mark.serial == seen.serial and mark != seen:
                    raise _broken(f"row {mark.serial} is not the one that was seen before")
                said = msgspec.json.decode(leaf)
                yield Act(type=said["type"], subject=said["subject"], data=said["data"])
            if not page:
                break
        if mark.serial < seen.serial:
            raise _broken(f"{seen.serial} rows were seen, and {mark.serial} are left")

    def _next(self, mark: Mark, leaf: bytes) -> Mark:
        serial = mark.serial + 1
        text = bytes.fromhex(mark.mac) + serial.to_bytes(8, "big") + leaf
        return Mark(serial=serial, mac=hmac.new(self._key, text, hashlib.sha256).hexdigest())


def read_mark(path: Path) -> Mark:
    """The mark in a file; `Mark()` where there is none. Raises `Misconfigured` (`storage.authority.broken`)."""
    try:
        serial, _, mac = path.read_text(encoding="ascii").strip().partition(" ")
        return Mark(serial=int(serial), mac=mac)
    except FileNotFoundError:
        return Mark()
    except (OSError, ValueError):
        raise _broken(f"`{path}` cannot be read") from None


def write_mark(path: Path, mark: Mark) -> None:
    """Replace the file; a kill in between leaves the older one, which is true as well."""
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, f"{mark.serial} {mark.mac}\n".encode("ascii"))
    finally:
        os.close(handle)
    temporary.replace(path)


def _broken(why: str) -> Misconfigured:
    return Misconfigured(
        "storage.authority.broken",
        f"the journal of what gives and takes rights does not hold: {why}",
        next_step="restore the newest backup of the database; the ledger tells what was done since",
    )
