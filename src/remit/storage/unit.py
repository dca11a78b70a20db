"""One unit of work over a SQLAlchemy connection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from remit.kernel.canonical import Json, canonical, encode_checked
from remit.kernel.events import Event
from remit.kernel.ids import new_id

if TYPE_CHECKING:
    from remit.storage.access import AccessRows
    from remit.storage.defense import DefenseRows
    from remit.storage.facts import FactRows
    from remit.storage.governance import GovernanceRows
    from remit.storage.identities import IdentityRows
    from remit.storage.inventory import InventoryRows
    from remit.storage.ledger import LedgerRows
    from remit.storage.trust import TrustRows

LEAF_LIMIT = 60_000
"""Bytes of canonical JSON above which an entry's data is kept beside the log (C2SP tlog-tiles: 65,535)."""


class Unit:
    """What a command sees: rows of each capability, one `now`, ids, and the pen of the ledger.

    The connection is asked for on first use, so that a command that only records costs no savepoint.
    """

    def __init__(self, connect: Callable[[], Connection], now: datetime, *, read_only: bool = False) -> None:
        self._connect = connect
        self._now = now
        self._read_only = read_only
        self.events: list[Event] = []
        self.leaves: list[bytes] = []
        """The canonical bytes of each event: what the ledger keeps."""
        self.bodies: dict[str, bytes] = {}

    @property
    def now(self) -> datetime:
        return self._now

    @cached_property
    def conn(self) -> Connection:
        return self._connect()

    def new_id(self, prefix: str) -> str:
        return new_id(prefix, self._now)

    def record(self, type: str, /, *, actor: str, subject: str, data: Mapping[str, Json] | None = None) -> None:
        assert not self._read_only, "a query does not write to the ledger"
        body = canonical(dict(data or {}))
        kept: Mapping[str, Json] = data or {}
        if len(body) > LEAF_LIMIT:
            sha256 = hashlib.sha256(body).hexdigest()
            self.bodies[sha256] = body
            kept = {"data_sha256": sha256, "data_bytes": len(body)}
        canonical([actor, subject])
        event = Event(id=self.new_id("ev"), type=type, time=self._now, actor=actor, subject=subject, data=kept)
        self.events.append(event)
        self.leaves.append(encode_checked(event.as_json()))

    @cached_property
    def ledger(self) -> LedgerRows:
        from remit.storage.ledger import LedgerRows

        return LedgerRows(self.conn)

    @cached_property
    def inventory(self) -> InventoryRows:
        from remit.storage.inventory import InventoryRows

        return InventoryRows(self.conn)

    @cached_property
    def trust(self) -> TrustRows:
        from remit.storage.trust import TrustRows

        return TrustRows(self.conn)

    @cached_property
    def access(self) -> AccessRows:
        from remit.storage.access import AccessRows

        return AccessRows(self.conn)

    @cached_property
    def defense(self) -> DefenseRows:
        from remit.storage.defense import DefenseRows

        return DefenseRows(self.conn)

    @cached_property
    def governance(self) -> GovernanceRows:
        from remit.storage.governance import GovernanceRows

        return GovernanceRows(self.conn)

    @cached_property
    def identities(self) -> IdentityRows:
        from remit.storage.identities import IdentityRows

        return IdentityRows(self.conn, self.inventory)

    @cached_property
    def facts(self) -> FactRows:
        from remit.storage.facts import FactRows

        return FactRows(self.conn, self.inventory, self.access)
