"""What governance needs of others: rows of its own, and a narrow view of the inventory's identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from remit.governance.directory import DirectoryRows
from remit.governance.model import Orphan, OrphanOutcome, Person, PolicyException, Team
from remit.inventory.model import OwnerFact, State
from remit.kernel.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord:
    """An identity as governance sees it."""

    id: str
    title: str
    state: State
    owner: str
    """`person:NAME`, `team:NAME`, or empty."""
    tier: int | None
    environment: str


class IdentityRows(Protocol):
    """The inventory's identities, in the running unit of work."""

    def get(self, identity_id: str) -> IdentityRecord | None: ...

    def set_state(self, identity_id: str, state: State, *, expected: State) -> bool:
        """Change the state if it still is `expected`; tell whether it was."""
        ...

    def set_owner(self, identity_id: str, owner: str) -> None: ...

    def list_by_owner(self, owner: str, *, after: str = "", limit: int = 500) -> Sequence[IdentityRecord]:
        """Those of exactly this owner, by id, from the first id greater than `after`."""
        ...

    def owner_facts(self, identity_id: str, *, limit: int = 200) -> Sequence[OwnerFact]:
        """The connectors' evidence of who answers for it, strongest first."""
        ...


class GovernanceRows(Protocol):
    """Governance's own state, in the running unit of work. Lists are by key, from the first greater than `after`."""

    def add_person(self, person: Person) -> None: ...
    def update_person(self, person: Person) -> None: ...
    def person(self, name: str) -> Person | None: ...
    def person_by_email(self, email: str) -> Person | None: ...
    def person_by_key(self, public_key: str) -> Person | None: ...
    def persons(self, *, after: str = "", limit: int = 500) -> Sequence[Person]: ...
    def count_active_persons(self) -> int: ...

    def add_team(self, team: Team) -> None: ...
    def update_team(self, team: Team) -> None: ...
    def team(self, name: str) -> Team | None: ...
    def teams(self, *, after: str = "", limit: int = 500) -> Sequence[Team]: ...
    def teams_led_by(self, person: str) -> Sequence[Team]: ...

    def burn_nonce(self, person: str, nonce: str, expires: datetime) -> bool:
        """Remember that `person` used `nonce`; `False` when that was known already."""
        ...

    def prune_nonces(self, before: datetime, *, limit: int = 1000) -> int:
        """Forget nonces that expired before `before`; returns how many."""
        ...

    def open_orphan(self, orphan: Orphan) -> None:
        """Open the case of one identity, replacing a closed one; an open one stays as it is."""
        ...

    def orphans(self, *, after: str = "", limit: int = 500) -> Sequence[Orphan]:
        """The open cases, by identity."""
        ...

    def orphans_due(self, now: datetime, *, limit: int = 500) -> Sequence[Orphan]:
        """The open cases whose deadline is reached, oldest deadline first."""
        ...

    def orphan(self, identity_id: str) -> Orphan | None: ...
    def close_orphan(self, identity_id: str, outcome: OrphanOutcome, at: datetime) -> None: ...

    def add_exception(self, exception: PolicyException) -> None: ...
    def update_exception(self, exception: PolicyException) -> None: ...
    def exception(self, exception_id: str) -> PolicyException | None: ...
    def exceptions(self, *, after: str = "", limit: int = 500) -> Sequence[PolicyException]: ...

    def exceptions_in_force(self, now: datetime) -> Sequence[PolicyException]:
        """Approved ones that expire after `now`."""
        ...

    def exceptions_lapsed(
        self, now: datetime, *, requested_before: datetime, limit: int = 500
    ) -> Sequence[PolicyException]:
        """Approved ones past their end, and requests made before `requested_before` that nobody answered."""
        ...


class GovernanceUnit(Unit, Protocol):
    """A unit of work that has governance's rows and the inventory's identities."""

    @property
    def governance(self) -> GovernanceRows: ...
    @property
    def identities(self) -> IdentityRows: ...
    @property
    def directory(self) -> DirectoryRows: ...
