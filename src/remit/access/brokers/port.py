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

from remit.access.brokers.location import Location
from remit.access.brokers.presentation import Credential, Presentation
from remit.access.model import Minted, MintOrder, Revocation, RevokeOrder, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerManifest:
    """What a broker says of itself."""

    id: str
    """The scheme of needs, as `postgres` in `postgres://TARGET?role=ROLE`."""
    title: str
    needs: tuple[str, ...]
    """The least privilege that can mint, as the exact statements to grant it."""
    fail_safe: bool
    """Whether the target ends sessions by itself when Remit is dead; else leases are shown as *not fail-safe*."""
    hazards: tuple[str, ...] = ()
    native_expiry: bool = True
    """Whether the target refuses new logins after the expiry by itself, though Remit is dead."""
    counts_sessions: bool = True
    """Whether the target shows how many sessions a credential has; else revocations say 0 of them."""


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

    def make(self, target: Target, secret: str) -> Broker:
        """A broker for `target`; nothing is opened yet. `Misconfigured` for options and roles that it cannot read."""
        ...

    def locate(self, url: str) -> Location:
        """Read the URL of `remit target add`. Raises `Rejected`, always for one with a password."""
        ...

    def present(self, credential: Credential) -> Presentation:
        """How the clients of this system find a credential that this broker minted."""
        ...


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
class ShowsMint(Protocol):
    """A broker that can say beforehand what a mint carries out on its target."""

    def mint_steps(self, order: MintOrder) -> Sequence[str]:
        """The statements of `mint` in the target's own language, the secret left out. Carries nothing out."""
        ...


@runtime_checkable
class KeepsSpares(Broker, Protocol):
    """A broker that can make credentials ahead: parked ones admit nobody, and are armed when a task gets one."""

    @property
    def spares(self) -> int:
        """How many to keep at hand for each role and database that tasks ask for; 0 for none."""
        ...

    async def park(self, principal: str, until: datetime) -> None:
        """Let a credential that was minted a moment ago admit nobody. Raises `Rejected` when it is gone."""
        ...

    async def arm(self, order: MintOrder) -> Minted:
        """Let a parked credential admit its task. Raises `Conflict` when it is being revoked, or gone."""
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

    def install_script(self, instance: str) -> str:
        """What `install` would run, for a person to read and run; needs no open broker."""
        ...

    async def install(self, instance: str) -> Sequence[str]:
        """Install; again changes nothing. Returns the databases (or the like) that are prepared."""
        ...
