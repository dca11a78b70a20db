"""What trust needs of others: its rows, an attestor for each way of seeing a workload, a word on admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from remit.kernel.canonical import Json
from remit.kernel.unit import Unit
from remit.trust.model import Authority, Entry, Evidence, Issued, JwtSvid, Selector, SvidClaims, X509Svid
from remit.trust.process import Peer
from remit.trust.spiffe import TrustDomain

if TYPE_CHECKING:
    from remit.trust.bundle import Bundle


ISSUED_FIELDS = ("id", "kind", "spiffe_id", "entry", "identity", "agent", "authority", "grant")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedFilter:
    """Which issuances: all fields that are not empty must fit."""

    now: datetime
    id: str = ""
    kind: str = ""
    spiffe_id: str = ""
    entry: str = ""
    identity: str = ""
    agent: str = ""
    authority: str = ""
    grant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Set:
    """Everything that a workload is entitled to at one moment: the first SVID is its default identity."""

    svids: tuple[X509Svid, ...]
    bundle: Bundle
    renew: datetime
    """When the first of them should be replaced."""


class TrustRows(Protocol):
    """The rows of one unit of work. Authorities come oldest first, entries by id."""

    def authorities(self) -> Sequence[Authority]: ...

    def put_authority(self, authority: Authority, sealed_key: bytes | None) -> None:
        """Insert it, or replace the row of the same id; `sealed_key` replaces the key as well, `None` destroys it."""
        ...

    def sealed_key(self, authority_id: str) -> bytes | None: ...

    def entries(self, *, after: str = "", limit: int = 10_000) -> Sequence[Entry]:
        """At most `limit` entries whose id is greater than `after`."""
        ...

    def entry(self, entry_id: str) -> Entry | None: ...

    def entry_by_key(self, key: str) -> Entry | None:
        """The entry that makes this claim (`Entry.key`)."""
        ...

    def add_entry(self, entry: Entry) -> None: ...

    def remove_entry(self, entry_id: str) -> bool:
        """Delete it with what was noted for it; tells whether it was there."""
        ...

    def note_binary(self, entry_id: str, path: str, sha256: str, at: datetime) -> str | None:
        """Remember the digest that the binary at `path` had; returns the one remembered before, if any."""
        ...

    def note_issued(self, issued: Sequence[Issued]) -> None:
        """Remember what was handed out until it expires, so that it can be revoked before."""
        ...

    def issued(self, where: IssuedFilter, *, after: str = "", limit: int = 10_000) -> Sequence[Issued]:
        """At most `limit` unexpired issuances that fit `where`, by id, whose id is greater than `after`."""
        ...

    def count_issued(self, where: IssuedFilter) -> int:
        """How many unexpired issuances fit `where`."""
        ...

    def forget_issued(self, before: datetime, *, limit: int = 10_000) -> int:
        """Delete at most `limit` that expired before this moment; returns how many."""
        ...

    def bundle_sequence(self) -> int:
        """The sequence number of the published bundle; 0 before the first."""
        ...

    def advance_bundle_sequence(self) -> int:
        """Add one, and return it: it never goes back."""
        ...


class TrustUnit(Unit, Protocol):
    """A unit of work with trust's rows."""

    @property
    def trust(self) -> TrustRows: ...


class Attestor(Protocol):
    """Turns a live workload into evidence. Safe for concurrent calls from threads; it reads, and changes nothing."""

    @property
    def id(self) -> str:
        """The first word of its selectors."""
        ...

    @property
    def keys(self) -> Mapping[str, str]:
        """The selector keys that it knows, each with one sentence on its value."""
        ...

    def check(self, selector: Selector) -> None:
        """Refuse a selector that it could never produce: `Rejected` (`trust.selector.unknown`, `.malformed`)."""
        ...

    def attest(self, peer: Peer, now: datetime) -> Evidence:
        """Look at a process. Blocks for file I/O.

        Raises `Rejected` (`trust.peer.gone`) when it ended, or became another, while it was looked at.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A question that only the holder of a key can answer, now."""

    question: Mapping[str, Json]
    """What is sent to the caller."""
    state: Mapping[str, Json] = field(repr=False)
    """What is kept here until the answer comes, for `finish` alone; never sent."""


class ProofAttestor(Protocol):
    """Verifies what a workload or a node shows of itself: a platform's token, a signed request, a key, a TPM.

    It believes nothing that it has not verified against an anchor which the operator configured, and says which claims
    become selectors. Safe for concurrent calls.
    """

    @property
    def id(self) -> str:
        """The first word of its selectors."""
        ...

    @property
    def keys(self) -> Mapping[str, str]:
        """The selector keys that it knows, each with one sentence on its value."""
        ...

    def check(self, selector: Selector) -> None:
        """Refuse a selector that it could never produce: `Rejected` (`trust.selector.unknown`, `.malformed`)."""
        ...

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence | Challenge:
        """Verify a proof, or ask for more. `payload` is what the caller sent: bounded, otherwise not trusted at all.

        Evidence of a proof that may be shown once only names it in `facts["proof"]` (a digest or `jti`) with its
        expiry in `facts["proof_expires"]` (Unix seconds): the desk refuses it the second time.
        Raises `Rejected` (`trust.proof.…`) or `Unavailable` when the anchor does not answer.
        """
        ...

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """Verify the answer to a challenge that `begin` made less than a minute ago, and that was not answered before.

        Raises `Rejected` (`trust.proof.…`).
        """
        ...


class WorkloadSource(Protocol):
    """Where a Workload API on a socket gets its identities: the control plane itself, or an agent far from it.

    Methods belong to the event loop; their errors are those of `TrustService`.
    """

    @property
    def trust_domain(self) -> TrustDomain: ...
    @property
    def ready(self) -> bool: ...
    @property
    def version(self) -> int: ...
    @property
    def bundle(self) -> Bundle: ...

    def now(self) -> datetime: ...

    async def changed(self, seen: int) -> int:
        """Wait until `version` is no longer `seen`; returns the new one."""
        ...

    async def attest(self, peer: Peer) -> Evidence: ...

    def require(self, evidence: Evidence) -> tuple[Entry, ...]:
        """The entries of this workload, oldest first; `Denied` (`trust.workload.unknown`) when there is none."""
        ...

    def federated(self, entries: Sequence[Entry]) -> Mapping[str, Bundle]:
        """The foreign bundles that these entries name, by the SPIFFE ID of the trust domain."""
        ...

    def crls(self) -> Sequence[bytes]:
        """The DER of each current certificate revocation list of the trust domain."""
        ...

    async def x509_svids(self, evidence: Evidence) -> X509Set: ...

    async def jwt_svids(
        self, evidence: Evidence, audience: Sequence[str], *, spiffe_id: str = ""
    ) -> tuple[JwtSvid, ...]: ...

    def validate_jwt(self, token: str, audience: str) -> SvidClaims: ...


class RevocationWord(Protocol):
    """Says whether something that was issued counts no more: by its id, by what it was issued for, and when."""

    def __call__(
        self,
        *,
        id: str = "",
        spiffe_id: str = "",
        entry: str = "",
        identity: str = "",
        agent: str = "",
        authority: str = "",
        grant: str = "",
        issued_at: datetime | None = None,
    ) -> bool: ...


class Admission(Protocol):
    """Says whether an entry's identity may have SVIDs now (quarantine, life-cycle state)."""

    def __call__(self, entry: Entry) -> bool: ...
