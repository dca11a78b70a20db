"""What revocation needs of others: its rows, and an authority's key for a list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from remit.trust.model import Authority, Issued
from remit.trust.ports import TrustUnit
from remit.trust.revocation.model import Fallen, Revocation, SubjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusBlock:
    """Places in one status list that nobody else gives out."""

    list_id: int
    seed: bytes
    """Orders the places of this list: see `statuslist.place`."""
    first: int
    count: int


class RevocationRows(Protocol):
    """The revocations of one unit of work."""

    def revocations(self) -> Sequence[Revocation]:
        """All that are kept, oldest first."""
        ...

    def put_revocation(self, revocation: Revocation) -> None:
        """Insert it, or replace the row of the same id."""
        ...

    def remove_revocations(self, ids: Collection[str]) -> None:
        """Delete them with what fell under them."""
        ...

    def fallen(self) -> Sequence[Fallen]:
        """Everything that fell and is kept."""
        ...

    def note_fallen(self, fallen: Sequence[Fallen]) -> None:
        """Remember them; what is there already stays."""
        ...

    def covered(self, kind: SubjectKind, values: Collection[str], now: datetime) -> Sequence[Issued]:
        """Every unexpired issuance whose field of this kind is one of `values`."""
        ...

    def advance(self, least: int) -> int:
        """The next version: above every one before, and above `least`."""
        ...

    def agents_due(self, now: datetime) -> Mapping[str, datetime]:
        """Agents through which something unexpired went, and when the last of it expires."""
        ...

    def reserve_status(self, count: int, seed: bytes, until: datetime) -> StatusBlock:
        """Take the next `count` places of the newest status list, or of a new one with `seed` when that is full."""
        ...

    def status_lists(self, now: datetime) -> Sequence[tuple[int, bytes]]:
        """Number and seed of each list that something unexpired may name."""
        ...


class RevocationUnit(TrustUnit, Protocol):
    """A unit of work with the rows of revocations."""

    @property
    def revocations(self) -> RevocationRows: ...


class ListSigner(Protocol):
    """Holds the authorities, and lends their keys to what ends what they signed; `TrustService` does."""

    def authorities(self) -> Sequence[Authority]: ...

    async def signing_key(self, authority_id: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Certificate and key of an X.509 authority that is not revoked, whether it still signs leaves or not.

        Raises `NotFound`, `Conflict` when the key is not, or no more, ours.
        """
        ...

    def token_key(self) -> tuple[str, ec.EllipticCurvePrivateKey]:
        """The `kid` and the key that sign tokens now."""
        ...
