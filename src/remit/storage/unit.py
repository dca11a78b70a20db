"""One unit of work over a SQLAlchemy connection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Connection

from remit.kernel.canonical import Json, canonical, encode_checked
from remit.kernel.events import Event
from remit.kernel.ids import new_id

if TYPE_CHECKING:
    from remit.storage.access import AccessRows
    from remit.storage.agents import AgentRows
    from remit.storage.blastradius import RadiusRows
    from remit.storage.coverage import CoverageRows
    from remit.storage.defense import DefenseRows
    from remit.storage.directory import DirectoryRows
    from remit.storage.discovery import DiscoveryRows
    from remit.storage.downstreams import DownstreamRows
    from remit.storage.enforcers import EnforcerRows
    from remit.storage.facts import FactRows
    from remit.storage.federation import FederationRows
    from remit.storage.governance import GovernanceRows
    from remit.storage.identities import IdentityRows
    from remit.storage.intents import IntentRows
    from remit.storage.inventory import InventoryRows
    from remit.storage.join_tokens import JoinTokenRows
    from remit.storage.leaks import LeakRows
    from remit.storage.ledger import LedgerRows
    from remit.storage.past import PastRows
    from remit.storage.pathproof import PathProofRows
    from remit.storage.proofs import ProofRows
    from remit.storage.revocations import RevocationRows
    from remit.storage.rightsizing import RightsizingRows
    from remit.storage.rotation import RotationRows
    from remit.storage.screams import ScreamRows
    from remit.storage.secrets import SecretRows
    from remit.storage.segments import SegmentRows
    from remit.storage.standing import StandingRows
    from remit.storage.tokens import TokenRows
    from remit.storage.trust import TrustRows
    from remit.storage.use import UseRows
    from remit.storage.words import WordRows

LEAF_LIMIT = 60_000
"""Bytes of canonical JSON above which an entry's data is kept beside the log (C2SP tlog-tiles: 65,535)."""


TierOf: TypeAlias = Callable[[str, int | None], int | None]
"""The tier that counts of an identity, by its id and what its row says."""


def as_the_row_says(identity: str, row: int | None) -> int | None:
    """Where no journal of authority is open."""
    return row


class Unit:
    """What a command sees: rows of each capability, one `now`, ids, and the pen of the ledger.

    The connection is asked for on first use, so that a command that only records costs no savepoint.
    """

    def __init__(
        self, connect: Callable[[], Connection], now: datetime, *, read_only: bool = False,
        tier_of: TierOf = as_the_row_says,
    ) -> None:  # fmt: skip
        self._connect = connect
        self._now = now
        self._read_only = read_only
        self.tier_of = tier_of
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
    def past(self) -> PastRows:
        from remit.storage.past import PastRows

        return PastRows(self.conn, self.ledger)

    @cached_property
    def inventory(self) -> InventoryRows:
        from remit.storage.inventory import InventoryRows

        return InventoryRows(self.conn, self._now)

    @cached_property
    def words(self) -> WordRows:
        from remit.storage.words import WordRows

        return WordRows(self.conn, self.inventory)

    @cached_property
    def discovery(self) -> DiscoveryRows:
        from remit.storage.discovery import DiscoveryRows

        return DiscoveryRows(self.conn)

    @cached_property
    def use(self) -> UseRows:
        from remit.storage.use import UseRows

        return UseRows(self.conn, self._now)

    @cached_property
    def trust(self) -> TrustRows:
        from remit.storage.trust import TrustRows

        return TrustRows(self.conn)

    @cached_property
    def agents(self) -> AgentRows:
        from remit.storage.agents import AgentRows

        return AgentRows(self.conn)

    @cached_property
    def join_tokens(self) -> JoinTokenRows:
        from remit.storage.join_tokens import JoinTokenRows

        return JoinTokenRows(self.conn)

    @cached_property
    def tokens(self) -> TokenRows:
        from remit.storage.tokens import TokenRows

        return TokenRows(self.conn)

    @cached_property
    def revocations(self) -> RevocationRows:
        from remit.storage.revocations import RevocationRows

        return RevocationRows(self.conn)

    @cached_property
    def federation(self) -> FederationRows:
        from remit.storage.federation import FederationRows

        return FederationRows(self.conn)

    @cached_property
    def proofs(self) -> ProofRows:
        from remit.storage.proofs import ProofRows

        return ProofRows(self.conn)

    @cached_property
    def path_proofs(self) -> PathProofRows:
        from remit.storage.pathproof import PathProofRows

        return PathProofRows(self.conn)

    @cached_property
    def downstreams(self) -> DownstreamRows:
        from remit.storage.downstreams import DownstreamRows

        return DownstreamRows(self.conn)

    @cached_property
    def enforcers(self) -> EnforcerRows:
        from remit.storage.enforcers import EnforcerRows

        return EnforcerRows(self.conn)

    @cached_property
    def intents(self) -> IntentRows:
        from remit.storage.intents import IntentRows

        return IntentRows(self.conn)

    @cached_property
    def rotations(self) -> RotationRows:
        from remit.storage.rotation import RotationRows

        return RotationRows(self.conn)

    @cached_property
    def standing(self) -> StandingRows:
        from remit.storage.standing import StandingRows

        return StandingRows(self.conn)

    @cached_property
    def radii(self) -> RadiusRows:
        from remit.storage.blastradius import RadiusRows

        return RadiusRows(self.conn)

    @cached_property
    def rightsizing(self) -> RightsizingRows:
        from remit.storage.rightsizing import RightsizingRows

        return RightsizingRows(self.conn)

    @cached_property
    def screams(self) -> ScreamRows:
        from remit.storage.screams import ScreamRows

        return ScreamRows(self.conn)

    @cached_property
    def secrets(self) -> SecretRows:
        from remit.storage.secrets import SecretRows

        return SecretRows(self.conn)

    @cached_property
    def segments(self) -> SegmentRows:
        from remit.storage.segments import SegmentRows

        return SegmentRows(self.conn)

    @cached_property
    def access(self) -> AccessRows:
        from remit.storage.access import AccessRows

        return AccessRows(self.conn)

    @cached_property
    def defense(self) -> DefenseRows:
        from remit.storage.defense import DefenseRows

        return DefenseRows(self.conn)

    @cached_property
    def leaks(self) -> LeakRows:
        from remit.storage.leaks import LeakRows

        return LeakRows(self.conn)

    @cached_property
    def governance(self) -> GovernanceRows:
        from remit.storage.governance import GovernanceRows

        return GovernanceRows(self.conn)

    @cached_property
    def coverage(self) -> CoverageRows:
        from remit.storage.coverage import CoverageRows

        return CoverageRows(self.conn)

    @cached_property
    def directory(self) -> DirectoryRows:
        from remit.storage.directory import DirectoryRows

        return DirectoryRows(self.conn)

    @cached_property
    def identities(self) -> IdentityRows:
        from remit.storage.identities import IdentityRows

        return IdentityRows(self.conn, self.inventory, self.tier_of)

    @cached_property
    def facts(self) -> FactRows:
        from remit.storage.facts import FactRows

        return FactRows(self.conn, self.inventory, self.access)
