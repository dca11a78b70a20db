"""What grants ask of governance: who may approve, and whether what was approved is still what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from remit.access.model import Approval, Grant, Need
from remit.access.tasks.model import TaskDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What policy says of a request before anybody answers it."""

    requires: tuple[str, ...] = ()
    """Who must approve, by each permit; none: anyone but the asker."""
    automatic: bool = False
    """Policy itself approves it, now."""
    allowed: bool = True
    """Whether it would be allowed once it is approved, as far as that is known now."""
    why: str = ""


class GrantJudge(Protocol):
    """Judges grants in a running unit of work (`unit` has access's, governance's and the inventory's rows)."""

    def policies(self) -> str:
        """Digest of the policies in force."""
        ...

    def subject(self, unit: Any, identity: str) -> str:
        """Digest of what the identity is now: its names and its keys."""
        ...

    def outlook(self, unit: Any, grant: Grant, definition: TaskDefinition, needs: Sequence[Need]) -> Outlook: ...

    def admit(self, unit: Any, grant: Grant, approval: Approval) -> None:
        """Raises `Denied` when this person's word does not count for this grant, or not now."""
        ...

    def complete(self, unit: Any, grant: Grant) -> bool:
        """Whether those who approved are all who must."""
        ...

    def spent(self, grant_id: str) -> bool:
        """Whether a run had it already, whatever its row says now."""
        ...

    def changed(self, unit: Any, grant: Grant) -> str:
        """What is not as it was when it was asked for; empty when nothing."""
        ...
