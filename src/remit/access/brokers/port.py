"""What a broker is: it mints, renews, revokes, proves and sweeps on one target.

The order that every revocation keeps: stop new logins and commit → end live sessions → look again until none is
left → move or clean what the credential made → delete it → be refused with it → report each step.
Every step tolerates "already gone"; every verb may be called again after a crash at any instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from remit.access.model import Minted, MintOrder, Revocation, RevokeOrder, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerManifest:
    """What a broker says of itself."""

    id: str
    """The scheme of needs: `postgres`."""
    title: str
    needs: tuple[str, ...]
    """The least privilege that can mint, as the exact statements to grant it."""
    fail_safe: bool
    """Whether the target ends sessions by itself when Remit is dead; else leases are shown as *not fail-safe*."""
    hazards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `remit doctor` about a target."""

    ok: bool
    title: str
    detail: str = ""
    next_step: str = ""


class Broker(Protocol):
    """Opened on one target; safe for concurrent calls; `close` works after a failed `open`."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def mint(self, order: MintOrder) -> Minted:
        """Create the credential and log in with it once.

        Raises `Unavailable` or `Rejected`; then it may or may not exist.
        """
        ...

    async def renew(self, principals: Sequence[str], expires: datetime) -> Sequence[str]:
        """Move the native expiry; returns the principals that still exist."""
        ...

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """Revoke all of them in one go, and prove each. Raises `Unavailable` when the target cannot be reached."""
        ...

    async def sweep(self, instance: str) -> Sequence[str]:
        """The principals of this installation (`remit_<instance>_<ulid>`, full pattern) that exist on the target."""
        ...

    async def check(self) -> Sequence[Check]:
        """What `doctor` says: reachability, privileges (least, and enough), whether it is fail-safe."""
        ...


class BrokerFactory(Protocol):
    """A broker plug-in: what it is, and how to make one for a target with its admin secret."""

    @property
    def id(self) -> str: ...
    @property
    def manifest(self) -> BrokerManifest: ...
    def make(self, target: Target, secret: str) -> Broker: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A live session on a target and the statement that it runs, or ran last."""

    number: int
    """The session's number on the target."""
    principal: str
    connected: datetime
    statement: str
    started: datetime | None
    application: str = ""
    client: str = ""


@runtime_checkable
class ShowsActivity(Protocol):
    """A broker whose target shows what sessions do."""

    async def activity(self) -> Sequence[Session]:
        """Every session but our own."""
        ...


@runtime_checkable
class RevokesStatic(Protocol):
    """A broker that can end a credential which it did not mint."""

    @property
    def instance(self) -> str: ...

    async def revoke_static(self, principal: str, secret: str | None) -> Revocation:
        """End the login of `principal` and its sessions; prove it by `secret` where that is known.

        Refuses (`Denied`) the broker's own account, administrators and group roles that leases use.
        """
        ...


@runtime_checkable
class Installs(Protocol):
    """A broker that can prepare its target, so that it needs less privilege there and sees more."""

    async def install(self, instance: str) -> Sequence[str]:
        """Install; again changes nothing. Returns the databases (or the like) that are prepared."""
        ...
