"""What the life cycle of policies needs: rows of policy versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remit.access.policy.lifecycle import PolicyVersion
from remit.kernel.unit import Unit


class PolicyRows(Protocol):
    """Policy versions, in the running unit of work."""

    def insert_policy_version(self, version: PolicyVersion) -> None: ...

    def change_policy_version(self, version: PolicyVersion) -> None:
        """Write state, serial, signature and activation of the row with this id; what it says never changes."""
        ...

    def policy_version(self, version_id: str) -> PolicyVersion | None: ...

    def active_policy_version(self) -> PolicyVersion | None:
        """The one whose state is active."""
        ...

    def policy_versions(self, *, limit: int = 100) -> Sequence[PolicyVersion]:
        """Newest first, by creation."""
        ...

    def highest_policy_serial(self) -> int:
        """The highest serial of any version, 0 without one."""
        ...


class PolicyUnit(Unit, Protocol):
    """A unit of work with policy versions among the rows of access."""

    @property
    def access(self) -> PolicyRows: ...
