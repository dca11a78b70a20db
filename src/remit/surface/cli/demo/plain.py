"""What a plain `DROP ROLE` leaves behind: the way that most tools end a lease, done by hand on the same database."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from remit.kernel.errors import RemitError
from remit.providers.postgres.client import Connection, connected, translated_errors
from remit.surface.cli.demo import shop
from remit.surface.cli.demo.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What was seen after `DROP ROLE`."""

    reads: bool
    writes: bool
    """The session that had done SET ROLE still does so."""
    nameless: bool
    """Its name in pg_stat_activity is empty: nobody finds it by name."""
    refused: bool
    """A role that made a table could not be dropped …"""
    admitted: bool
    """… and still logs in."""


async def drop_plainly(stage: Stage) -> Leftover:
    """Make two credentials by hand, end them by DROP ROLE, and look; everything of them is removed afterwards."""
    server, password = stage.server, secrets.token_urlsafe(18)
    user = server.address(user="plain_lease", database=shop.DATABASE)
    maker = server.address(user="plain_maker", database=shop.DATABASE)
    async with shop.admin(server) as admin:
        for role in ("plain_lease", "plain_maker"):
            await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}' IN ROLE app_rw")
        async with connected(maker, password) as session:
            await session.execute("CREATE TABLE scratch.plain_loot (person text)")
        async with connected(user, password) as session:
            await session.execute("SET ROLE app_rw")
            await admin.execute("DROP ROLE plain_lease")
            reads = not await shop.works(session, user, "SELECT count(*) FROM app.orders")
            writes = not await shop.works(session, user, "INSERT INTO app.orders VALUES (1000001, 1)")
            query = "SELECT usename FROM pg_stat_activity WHERE pid = $1"
            nameless = await admin.fetchval(query, session.get_server_pid()) is None
        refused = not await _dropped(admin, stage)
        admitted = await shop.is_admitted(server, "plain_maker", password)
        await admin.execute("DELETE FROM app.orders WHERE id = 1000001")
        if refused:
            await admin.execute("DROP OWNED BY plain_maker; DROP ROLE plain_maker")
    return Leftover(reads=reads, writes=writes, nameless=nameless, refused=refused, admitted=admitted)


async def _dropped(admin: Connection, stage: Stage) -> bool:
    try:
        with translated_errors(stage.server.address(database=shop.DATABASE)):
            await admin.execute("DROP ROLE plain_maker")
    except RemitError:
        return False
    return True
