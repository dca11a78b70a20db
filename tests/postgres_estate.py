"""A random estate of PostgreSQL: roles, memberships with options, owners and grants, for tests against the server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from remit.inventory.connectors.postgres_rights import actions_of

PREDEFINED = ("pg_read_all_data", "pg_write_all_data", "pg_monitor", "pg_maintain", "pg_execute_server_program")


@dataclass(frozen=True, slots=True)
class Estate:
    """A random estate as SQL; statements that the server refuses are left out of it."""

    pick: random.Random
    version: int
    supers: float = 0.08
    """The share of superusers."""
    closed: bool = False
    """Whether not everybody may connect."""

    def statements(self) -> Iterator[str]:
        roles = [f"r{n}" for n in range(12)]
        for role in roles:
            inherit = "" if self.pick.random() < 0.75 else " NOINHERIT"
            yield f"CREATE ROLE {role}{inherit}{' SUPERUSER' if self.pick.random() < self.supers else ''}"
            if self.pick.random() < 0.5:
                yield f"ALTER ROLE {role} LOGIN"
            if self.pick.random() < 0.06:
                yield f"ALTER ROLE {role} CREATEROLE"
        yield from self._memberships(roles)
        for n in range(5):
            yield f"CREATE SCHEMA s{n} AUTHORIZATION {self.pick.choice(roles)}"
        for n in range(14):
            schema = f"s{n % 5}"
            yield f"CREATE TABLE {schema}.t{n} (a int, b int, c int)"
            yield f"ALTER TABLE {schema}.t{n} OWNER TO {self.pick.choice(roles)}"
        yield "ALTER TABLE s0.t0 DROP COLUMN c"
        for n in range(4):
            yield f"CREATE SEQUENCE s{n}.q{n}"
            yield f"CREATE FUNCTION s{n}.f{n}() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'"
            yield f"ALTER FUNCTION s{n}.f{n}() OWNER TO {self.pick.choice(roles)}"
            yield f"CREATE DOMAIN s{n}.d{n} AS int"
        yield "CREATE FOREIGN DATA WRAPPER w0"
        yield "CREATE SERVER v0 FOREIGN DATA WRAPPER w0"
        yield f"ALTER SERVER v0 OWNER TO {self.pick.choice(roles)}"
        for database in ("postgres", "other"):
            yield f"ALTER DATABASE {database} OWNER TO {self.pick.choice(roles)}"
        targets = [*roles, "PUBLIC", "pg_database_owner", "pg_monitor"]
        things = [("TABLE", f"s{n % 5}.t{n}", "table") for n in range(14)] * 3
        things += [("SCHEMA", f"s{n}", "schema") for n in range(5)] * 3
        for n in range(4):
            things += [("SEQUENCE", f"s{n}.q{n}", "sequence"), ("FUNCTION", f"s{n}.f{n}()", "function")]
            things += [("TYPE", f"s{n}.d{n}", "type")]
        things += [("DATABASE", "postgres", "database"), ("DATABASE", "other", "database")] * 3
        things += [("LANGUAGE", "plpgsql", "language"), ("FOREIGN SERVER", "v0", "server")] * 2
        things += [("FOREIGN DATA WRAPPER", "w0", "wrapper"), ("TABLESPACE", "pg_default", "tablespace")] * 2
        things += [("PARAMETER", "archive_command", "parameter"), ("PARAMETER", "work_mem", "parameter")] * 2
        for _ in range(260):
            yield self._grant(*self.pick.choice(things), roles, targets)
        if self.closed:
            yield "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC"

    def _memberships(self, roles: list[str]) -> Iterator[str]:
        for _ in range(22):
            role, member = self.pick.sample(roles, 2)
            admin = self.pick.random() < 0.3
            if self.version >= 160000:
                inherit, may_set = self.pick.choice(("TRUE", "FALSE")), self.pick.choice(("TRUE", "FALSE"))
                yield f"GRANT {role} TO {member} WITH INHERIT {inherit}, SET {may_set}, ADMIN {admin}"
            else:
                yield f"GRANT {role} TO {member}{' WITH ADMIN OPTION' if admin else ''}"
        for role in PREDEFINED:
            yield f"GRANT {role} TO {self.pick.choice(roles)}"

    def _grant(self, word: str, what: str, kind: str, roles: list[str], targets: list[str]) -> str:
        action = self.pick.choice([*sorted(actions_of(kind, self.version)), "ALL"])
        if kind == "table" and action in ("SELECT", "INSERT", "UPDATE", "REFERENCES") and self.pick.random() < 0.4:
            action += f" ({self.pick.choice('abc')})"
        target = self.pick.choice(targets)
        by = f"SET ROLE {self.pick.choice(roles)}; " if self.pick.random() < 0.3 else ""
        if self.pick.random() < 0.2:
            return f"{by}REVOKE {action} ON {word} {what} FROM {target}"
        option = " WITH GRANT OPTION" if target != "PUBLIC" and self.pick.random() < 0.35 else ""
        return f"{by}GRANT {action} ON {word} {what} TO {target}{option}"


async def build(owner: Any, estate: Estate) -> int:
    """Play the estate on a server; returns how many statements the server took."""
    await owner.execute("CREATE DATABASE other")
    done = 0
    for statement in estate.statements():
        try:
            await owner.execute(statement)
            done += 1
        except asyncpg.PostgresError:
            pass
        await owner.execute("RESET ROLE")
    return done
