"""What a MariaDB server tells of accounts, live sessions, and the code that accounts left on it.

Spec: MariaDB "mysql.global_priv Table", "Information Schema PROCESSLIST/VIEWS/TRIGGERS/EVENTS/ROUTINES Table".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from remit.providers.mariadb.client import Session

_KINDS = (
    ("EVENT", "SELECT event_schema, event_name, definer FROM information_schema.events"),
    ("TRIGGER", "SELECT trigger_schema, trigger_name, definer FROM information_schema.triggers"),
    ("VIEW", "SELECT table_schema, table_name, definer FROM information_schema.views"),
    ("routine", "SELECT routine_schema, routine_name, definer, routine_type FROM information_schema.routines"),
)
_XID = re.compile(
    r"(?:'[^'\\\s]{0,128}'|X'[0-9A-Fa-f]{0,256}')(?:,(?:'[^'\\\s]{0,128}'|X'[0-9A-Fa-f]{0,256}'))?(?:,\d+)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A login as the server keeps it."""

    user: str
    host: str
    locked: bool

    def __str__(self) -> str:
        return f"{name(self.user)}@{name(self.host)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A connection."""

    id: int
    """Never used again by the same run of the server."""
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An event, trigger, view or routine that runs in somebody's name."""

    kind: str
    """`EVENT`, `TRIGGER`, `VIEW`, `FUNCTION`, `PROCEDURE`, `PACKAGE` …, as `DROP` wants it."""
    schema: str
    name: str
    definer: str
    """The account's name without its host; a role's has none."""
    of_role: bool

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.schema}.{self.name}"

    @property
    def drop(self) -> str:
        return f"DROP {self.kind} IF EXISTS {name(self.schema)}.{name(self.name)}"


def name(text: str) -> str:
    """An identifier, quoted."""
    if "\0" in text:
        raise ValueError(text)
    return "`" + text.replace("`", "``") + "`"


def accounts(session: Session, users: Sequence[str] | None = None) -> list[Account]:
    """Those of `users`, or all; roles are none."""
    where = f" AND user IN ({', '.join(['%s'] * len(users))})" if users else ""  # placeholders alone
    rows = session.rows(_ACCOUNTS + where, users or ())
    return [Account(user=str(user), host=str(host), locked=str(locked) in ("1", "true")) for user, host, locked in rows]


def live_sessions(session: Session) -> list[Live]:
    """Every connection, ours included; one that has not logged in yet is `unauthenticated user`."""
    return [Live(id=int(one), user=str(user)) for one, user in session.rows(_LIVE)]


_ACCOUNTS = (
    "SELECT user, host, COALESCE(JSON_VALUE(priv, '$.account_locked'), 0) FROM mysql.global_priv "
    "WHERE COALESCE(JSON_VALUE(priv, '$.is_role'), 0) = 0"
)
_LIVE = "SELECT id, user FROM information_schema.processlist"
UNAUTHENTICATED = "unauthenticated user"


def uptime(session: Session) -> int:
    """Seconds for which the server runs."""
    return int(session.rows("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1])


def grants_of_role(session: Session, role: str) -> list[str]:
    """What a role holds, with what it holds through other roles. Needs the role to be ours."""
    session.rows(f"SET ROLE {name(role)}")
    try:
        return [str(row[0]) for row in session.rows("SHOW GRANTS FOR CURRENT_ROLE")]
    finally:
        session.rows("SET ROLE NONE")


def code_of(session: Session, users: Sequence[str], roles: Sequence[str]) -> list[Code]:
    """What runs in the name of `users` or `roles`, as far as we and each of `roles` see it; events first."""
    found: dict[Code, None] = {}
    for role in (None, *roles):
        session.rows("SET ROLE NONE" if role is None else f"SET ROLE {name(role)}")
        for kind, statement in _KINDS:
            for row in session.rows(statement):
                definer, _, host = str(row[2]).rpartition("@")
                definer, of_role = (definer, not host) if "@" in str(row[2]) else (str(row[2]), True)
                if definer in (roles if of_role else users):
                    real = str(row[3]) if kind == "routine" else kind
                    found[Code(kind=real, schema=str(row[0]), name=str(row[1]), definer=definer, of_role=of_role)] = (
                        None
                    )
    session.rows("SET ROLE NONE")
    return sorted(found, key=lambda one: one.kind != "EVENT")


def prepared(session: Session) -> set[str]:
    """The XA transactions that wait for their second phase, as `XA ROLLBACK` names them. Nobody can tell whose."""
    return {str(row[3]) for row in session.rows("XA RECOVER FORMAT='SQL'")}


def roll_back(session: Session, transaction: str) -> None:
    """`XA ROLLBACK`, of a name that the server gave."""
    if not _XID.fullmatch(transaction):
        raise ValueError(transaction)
    session.rows(f"XA ROLLBACK {transaction}")
