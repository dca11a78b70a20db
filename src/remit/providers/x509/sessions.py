"""Sessions of client certificates on a PostgreSQL: found by their serial, and ended."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from remit.kernel.errors import Unavailable
from remit.providers.x509.logins import Server

_SECONDS = 10.0
_FIND = """
SELECT s.client_serial::text AS serial, s.pid
FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
WHERE s.client_serial = ANY ($1::text[]::numeric[]) AND s.issuer_dn = $2
"""
_RIGHTS = """
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS pg_read_all_stats,
       pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS pg_signal_backend,
       has_function_privilege('pg_reload_conf()', 'EXECUTE') AS "EXECUTE ON pg_reload_conf()",
       rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user
"""
_MINE = "SELECT issuer_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass(slots=True)
class Desk:
    """A connection of the administrator, who came by a certificate too."""

    connection: Any
    issuer: str

    async def reload(self) -> None:
        """Have the server read its list; it does so when it gets round to it."""
        await self.connection.execute("SELECT pg_reload_conf()")

    async def find(self, serials: Collection[int]) -> list[tuple[int, int]]:
        """`(serial, pid)` of every session of these."""
        rows = await self.connection.fetch(_FIND, [str(one) for one in serials], self.issuer)
        return [(int(row["serial"]), int(row["pid"])) for row in rows]

    async def end(self, pids: Collection[int]) -> None:
        """End these sessions."""
        for pid in pids:
            await self.connection.execute("SELECT pg_terminate_backend($1)", pid)

    async def rights(self) -> tuple[list[str], str]:
        """What the administrator lacks, and what it is beyond what it needs."""
        row = dict(await self.connection.fetchrow(_RIGHTS))
        broad = "a superuser" if row.pop("rolsuper") else "a maker of roles" if row.pop("rolcreaterole") else ""
        row.pop("rolcreaterole", None)
        return [name for name, has in row.items() if not has], broad

    async def close(self) -> None:
        self.connection.terminate()


async def open_desk(server: Server, context: ssl.SSLContext, *, user: str, database: str) -> Desk:
    """Log in. Raises `Unavailable` (`access.x509.admin`) with the server's words."""
    import asyncpg

    try:
        async with asyncio.timeout(_SECONDS):
            connection = await asyncpg.connect(
                host=server.host, port=server.port, user=user, database=database, ssl=context, timeout=_SECONDS
            )
            return Desk(connection, str(await connection.fetchval(_MINE)))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(
            "access.x509.admin",
            f"the server does not admit `{user[:63]}` by a certificate of the target's authority: {str(error)[:200]}",
            next_step="map the unit `remit` to it in pg_ident.conf, and see that ssl_crl_file is the target's list",
        ) from None
