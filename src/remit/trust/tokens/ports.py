"""What the token service needs of others: its rows, grants, revocations, verified SVIDs and platforms' proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from remit.kernel.canonical import Json
from remit.trust.model import Entry, Evidence, Issued, SvidClaims
from remit.trust.ports import TrustUnit
from remit.trust.tokens.model import Client, GrantAsk, Spend, TokenGrant


class TokenRows(Protocol):
    """The rows of one unit of work."""

    def clients(self) -> Sequence[Client]:
        """Every client, by id."""
        ...

    def put_client(self, client: Client) -> None: ...
    def remove_client(self, client_id: str) -> bool: ...

    def spend(self, spend: Spend) -> bool:
        """Remember it; `False` when it was spent before, by whatever node."""
        ...

    def add_grant(self, grant: TokenGrant) -> None: ...
    def grant(self, grant_id: str) -> TokenGrant | None: ...

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        """Delete what nobody can use any more: proofs and grants past their end; how many."""
        ...


class TokenUnit(TrustUnit, Protocol):
    """A unit of work with the rows of tokens."""

    @property
    def tokens(self) -> TokenRows: ...


class GrantSource(Protocol):
    """Gives authority for tokens. No grant, no token."""

    async def grant(self, ask: GrantAsk) -> TokenGrant:
        """A grant in force that covers some of what is asked, durable with its decisions before it is returned.

        Its scopes and details may be fewer than asked. Raises `Denied` (`trust.token.denied`) when there is none,
        `Unavailable` when it cannot be decided or recorded.
        """
        ...

    async def stands(self, grant_id: str, subject: str, actors: Sequence[str]) -> bool:
        """Whether the grant is still in force, and everybody on the chain still in service."""
        ...


class Revocations(Protocol):
    """What counts no more. The questions read memory: they are asked whenever a token is issued, shown or looked at."""

    def is_revoked(
        self,
        *,
        id: str = "",
        spiffe_id: str = "",
        identity: str = "",
        authority: str = "",
        grant: str = "",
        issued_at: datetime | None = None,
    ) -> bool: ...

    def is_blocked(self, *, spiffe_id: str = "", identity: str = "", grant: str = "") -> bool:
        """Whether nothing may be issued to any of these now."""
        ...

    async def revoke_token(self, token_id: str, *, actor: str) -> None:
        """End one token now; again is no error."""
        ...


class StatusIndex(Protocol):
    """Gives a token its place in a status list, for verifiers that do not ask us."""

    def allot(self, issued: Issued) -> Mapping[str, Json] | None:
        """The value of the token's claim `status`; `None` for no claim."""
        ...


class Svids(Protocol):
    """Verifies JWT-SVIDs, of our trust domain and of partners; `TrustService` does."""

    def validate_jwt(self, token: str, audience: str) -> SvidClaims: ...


class PlatformProofs(Protocol):
    """Turns a platform's own token (GitHub, GitLab, Kubernetes …) into the entries that name its bearer."""

    async def prove(self, token: str, audiences: frozenset[str], now: datetime) -> tuple[Evidence, tuple[Entry, ...]]:
        """What it proves, and the entries that match, oldest first. It is shown once; `Rejected`, `Unavailable`."""
        ...
