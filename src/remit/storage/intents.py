"""Rows of intents, their sessions, and approved tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from remit.access.intent.document import read_intent
from remit.access.intent.model import ApprovedTool, IntentState, Session, SessionState, StoredIntent, ToolClass
from remit.inventory.model import Sensitivity
from remit.storage.schema.access_intents import access_intent, access_intent_session, access_tool


class IntentRows:
    """Implements `access.intent.ports.IntentRows` on one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def intents(self, limit: int) -> Sequence[StoredIntent]:
        table = access_intent
        query = select(table).order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)
        return [_to_intent(row) for row in self._conn.execute(query)]

    def intent(self, intent_id: str) -> StoredIntent | None:
        row = self._conn.execute(select(access_intent).where(access_intent.c.id == intent_id)).one_or_none()
        return None if row is None else _to_intent(row)

    def approved_for(self, task: str) -> Sequence[StoredIntent]:
        table = access_intent
        query = select(table).where(table.c.task == task, table.c.state == IntentState.APPROVED.value)
        return [_to_intent(row) for row in self._conn.execute(query.order_by(table.c.created.desc()).limit(100))]

    def add(self, stored: StoredIntent) -> None:
        row = {"id": stored.intent.id, **_intent_row(stored)}
        self._conn.execute(insert(access_intent), row)

    def change(self, stored: StoredIntent) -> None:
        query = update(access_intent).where(access_intent.c.id == stored.intent.id)
        self._conn.execute(query.values(**_intent_row(stored)))

    def session(self, intent_id: str) -> Session | None:
        table = access_intent_session
        row = self._conn.execute(select(table).where(table.c.intent == intent_id)).one_or_none()
        return None if row is None else _to_session(row)

    def open_sessions(self) -> Sequence[Session]:
        table = access_intent_session
        return [_to_session(row) for row in self._conn.execute(select(table).where(table.c.ended.is_(None)))]

    def put_session(self, session: Session) -> None:
        table, body = access_intent_session, session.as_json()
        values = {
            "body": body, "started": session.state.started, "tainted": session.state.tainted, "ended": session.ended,
            "signature": session.signature,
        }  # fmt: skip
        if not self._conn.execute(update(table).where(table.c.intent == session.intent).values(**values)).rowcount:
            self._conn.execute(insert(table), {"intent": session.intent, **values})

    def tools(self) -> Sequence[ApprovedTool]:
        return [_to_tool(row) for row in self._conn.execute(select(access_tool).order_by(access_tool.c.name))]

    def put_tool(self, tool: ApprovedTool) -> None:
        self.remove_tool(tool.name)
        row = {
            "name": tool.name, "definition": tool.definition, "kind": tool.kind.value, "label": tool.label.value,
            "clearance": tool.clearance.value, "trusted": tool.trusted, "approved": tool.approved,
            "approved_by": tool.approved_by, "signature": tool.signature,
        }  # fmt: skip
        self._conn.execute(insert(access_tool), row)

    def remove_tool(self, name: str) -> bool:
        return self._conn.execute(delete(access_tool).where(access_tool.c.name == name)).rowcount > 0


def _intent_row(stored: StoredIntent) -> dict[str, Any]:
    intent = stored.intent
    return {
        "task": intent.task,
        "agent": intent.agent,
        "state": stored.state.value,
        "body": intent.as_json(),
        "expires": intent.expires,
        "requested_by": stored.requested_by,
        "created": stored.created,
        "approver": stored.approver,
        "approved": stored.approved,
        "reason": stored.reason,
        "signature": stored.signature,
    }


def _to_intent(row: Row[Any]) -> StoredIntent:
    return StoredIntent(
        intent=read_intent(row.body, expires=row.expires),
        state=IntentState(row.state),
        requested_by=row.requested_by,
        created=row.created,
        approver=row.approver,
        approved=row.approved,
        signature=row.signature,
        reason=row.reason,
    )


def _to_session(row: Row[Any]) -> Session:
    body = row.body
    state = SessionState(
        started=row.started,
        label=Sensitivity(body["label"]),
        tainted=row.tainted,
        state=body["state"],
        calls=body["calls"],
        bytes=body["bytes"],
        by_tool=body["by_tool"],
        rows=body.get("rows", 0),
        amount=body.get("amount", 0),
    )
    return Session(
        intent=row.intent,
        state=state,
        gateways=body["gateways"],
        ended=row.ended,
        why=body["why"],
        signature=row.signature,
    )


def _to_tool(row: Row[Any]) -> ApprovedTool:
    return ApprovedTool(
        name=row.name,
        definition=row.definition,
        kind=ToolClass(row.kind),
        label=Sensitivity(row.label),
        clearance=Sensitivity(row.clearance),
        trusted=row.trusted,
        approved=row.approved,
        approved_by=row.approved_by,
        signature=row.signature,
    )
