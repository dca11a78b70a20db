"""What defense needs of others: its own rows, facts for detections, and hands to contain with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from remit.defense.model import Dependant, Detection, Incident, Moment, Response, VerifiedPerson
from remit.inventory.model import State
from remit.kernel.canonical import Json
from remit.kernel.unit import Unit


class Standing(StrEnum):
    """Whether a credential still counts."""

    LIVE = "live"
    REVOKING = "revoking"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFact:
    """A lease, as detections see it."""

    id: str
    identity: str
    target: str
    principal: str
    role: str
    """The group role on the target that it was minted with."""
    standing: Standing
    expires: datetime
    revoked: datetime | None = None
    last_probe: datetime | None = None
    """When Remit itself last tried the credential, to prove that it is refused."""
    schemas: frozenset[str] | None = None
    """The schemas that its grant covers; `None` when nobody declared them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFact:
    """A credential that is no lease, as detections see it."""

    fingerprint: str
    identity: str
    standing: Standing
    revoked: datetime | None = None
    last_probe: datetime | None = None


class Subject(Protocol):
    """An identity, as far as defense needs to know it."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def state(self) -> State: ...


class IdentityCensus(Protocol):
    """The inventory's identities, in the running unit of work."""

    def get(self, identity_id: str) -> Subject | None: ...

    def count_in(self, environment: str) -> int:
        """How many identities are in service there."""
        ...


class DetectionFacts(Protocol):
    """What is known about names and credentials, in the running unit of work. Cheap look-ups by key."""

    def identity_of(self, system: str, principal: str) -> str:
        """The identity that `principal` names on target or system `system`; empty when none is known.

        `principal` may be an identity's id, any of its names, or the bare name on that system.
        """
        ...

    def lease_of(self, target: str, principal: str) -> LeaseFact | None:
        """The lease whose credential has this name on the target, ended ones included."""
        ...

    def credential(self, fingerprint: str) -> CredentialFact | None: ...

    def credential_of(self, target: str, principal: str) -> CredentialFact | None:
        """The static credential of a principal, when the last of them was revoked; `None` while one is live."""
        ...

    def brokered(self, identity: str, target: str) -> Sequence[str]:
        """Needs (`postgres://orders?role=read`) for which this identity could have a lease on that target.

        Empty for the accounts with which Remit itself works there.
        """
        ...


class DefenseRows(Protocol):
    """Defense's own state, in the running unit of work. Lists are newest first unless they say otherwise."""

    def add_detection(self, detection: Detection) -> bool:
        """Keep it; `False` when it is known."""
        ...

    def detection(self, detection_id: str) -> Detection | None: ...
    def detections(self, *, identity: str = "", before: str = "", limit: int = 200) -> Sequence[Detection]: ...
    def detections_of(self, incident: str, *, limit: int = 500) -> Sequence[Detection]: ...

    def count_identities_detected(self, rule: str, since: datetime) -> int:
        """How many different identities a rule has named since."""
        ...

    def add_incident(self, incident: Incident) -> None: ...
    def update_incident(self, incident: Incident) -> None: ...
    def incident(self, incident_id: str) -> Incident | None: ...

    def open_incident(self, identity: str) -> Incident | None:
        """The newest incident of the identity that is not closed."""
        ...

    def incidents(self, *, status: str = "", before: str = "", limit: int = 200) -> Sequence[Incident]: ...
    def add_moment(self, moment: Moment) -> None: ...

    def moments(self, incident: str, *, limit: int = 1000) -> Sequence[Moment]:
        """The time line, oldest first."""
        ...

    def add_response(self, response: Response) -> None: ...
    def update_response(self, response: Response) -> None: ...
    def response(self, response_id: str) -> Response | None: ...

    def standing_response(self, identity: str, kind: str, *, incident: str | None = None) -> Response | None:
        """The newest response of this kind for the identity (and incident) that was not undone."""
        ...

    def responses(self, *, identity: str = "", before: str = "", limit: int = 200) -> Sequence[Response]: ...

    def responses_due(self, now: datetime, *, limit: int = 100) -> Sequence[Response]:
        """Those intended whose next try is due, oldest intent first."""
        ...

    def claim_response(self, response_id: str, *, attempts: int, now: datetime, until: datetime) -> bool:
        """Take one for an attempt, if it is intended, has `attempts` and is due.

        Sets `attempts + 1`, `next_try = until` and an empty `error`; tells whether it did.
        """
        ...

    def count_automatic(self, since: datetime) -> int:
        """Containing responses that were automatic and intended at or after `since`."""
        ...

    def count_contained(self, environment: str) -> int:
        """Identities of an environment that a containing response holds out of service now."""
        ...


class DefenseUnit(Unit, Protocol):
    """A unit of work that has defense's rows, the census of identities, and facts for detections."""

    @property
    def defense(self) -> DefenseRows: ...
    @property
    def identities(self) -> IdentityCensus: ...
    @property
    def facts(self) -> DetectionFacts: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAtStake:
    """A lease that a response would revoke."""

    id: str
    target: str
    principal: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedLease:
    """What became of a lease that a response revoked."""

    id: str
    principal: str
    proved: bool
    detail: str
    """The target's refusal, or why it could not be shown."""
    at: datetime | None
    """When the refusal was seen."""
    sessions_ended: int = 0


class Containment(Protocol):
    """The hands: what takes an identity out of service. Every verb may be called again after a crash."""

    async def leases_of(self, identity: str) -> Sequence[LeaseAtStake]:
        """Its leases that are not ended; changes nothing."""
        ...

    async def quarantine(self, identity: str, *, reason: str, incident: str, by: str) -> datetime | None:
        """Quarantine it and return when the local decision point denies it and issues it nothing more.

        The answer is the moment at which that point was seen to refuse it, `None` when nobody looked.
        An identity that is quarantined, suspended or retired already stays as it is.
        """
        ...

    async def revoke_leases(self, identity: str, *, reason: str, incident: str) -> Sequence[RevokedLease]:
        """Revoke everything that it holds; returns when each is revoked, proved or not.

        Those that ended since the incident began may be among the answers. Raises `Unavailable` when a target cannot
        be reached: the response is then tried again.
        """
        ...

    def restore(self, unit: DefenseUnit, identity: str, *, by: VerifiedPerson, reason: str) -> None:
        """Put it back into service, in the running unit of work, on a registered person's own word."""
        ...

    async def settled(self, identity: str) -> None:
        """Return when the local decision point knows the identity's present state."""
        ...


class Dependencies(Protocol):
    """Who would notice."""

    async def dependants(self, identity: str, *, limit: int = 100) -> Sequence[Dependant]: ...


class Poster(Protocol):
    """Sends a ticket to somebody else's system, once for each key."""

    async def post(self, body: Mapping[str, Json], *, key: str) -> None:
        """Raises `Unavailable` to be tried again, `Rejected` when the receiver will never take it."""
        ...
