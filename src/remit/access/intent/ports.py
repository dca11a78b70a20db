"""What intents need: their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remit.access.intent.model import ApprovedTool, Session, StoredIntent
from remit.kernel.unit import Unit


class IntentRows(Protocol):
    """Rows of intents, sessions and approved tools."""

    def intents(self, limit: int) -> Sequence[StoredIntent]:
        """Newest first."""
        ...

    def intent(self, intent_id: str) -> StoredIntent | None: ...
    def approved_for(self, task: str) -> Sequence[StoredIntent]:
        """Approved ones of a task, newest first."""
        ...

    def add(self, stored: StoredIntent) -> None: ...
    def change(self, stored: StoredIntent) -> None: ...
    def session(self, intent_id: str) -> Session | None: ...
    def open_sessions(self) -> Sequence[Session]:
        """Those that have not ended."""
        ...

    def put_session(self, session: Session) -> None: ...
    def tools(self) -> Sequence[ApprovedTool]: ...
    def put_tool(self, tool: ApprovedTool) -> None: ...
    def remove_tool(self, name: str) -> bool: ...


class IntentUnit(Unit, Protocol):
    """A unit of work with the rows of intents."""

    @property
    def intents(self) -> IntentRows: ...
