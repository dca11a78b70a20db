"""AREA=inventory: what 100,000 grants of a PostgreSQL cost to discover, against `psql` printing the same catalogues."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

from bench.race import Row, scaled
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.postgres import PostgresConnector
from remit.inventory.connectors.testing import NOW, fingerprint
from remit.inventory.model import EdgeFact, Skipped
from remit.providers.postgres.client import connect
from remit.providers.postgres.local_server import LocalServer, local_server

TABLES, ROLES = scaled(1_000, 20), scaled(100, 5)
_SETUP = f"""
DO $$ BEGIN
  FOR n IN 1..{ROLES} LOOP EXECUTE format('CREATE ROLE r%s LOGIN', n); END LOOP;
  FOR n IN 1..{TABLES} LOOP EXECUTE format('CREATE TABLE public.t%s (id int)', n); END LOOP;
  EXECUTE 'GRANT SELECT ON ALL TABLES IN SCHEMA public TO '
          || (SELECT string_agg('r' || n, ', ') FROM generate_series(1, {ROLES}) n);
END $$
"""
_PRINT = """
SELECT * FROM pg_roles; SELECT * FROM pg_auth_members;
SELECT n.nspname, c.relname, c.relkind, g.rolname, a.privilege_type, a.is_grantable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     aclexplode(c.relacl) a JOIN pg_roles g ON g.oid = a.grantee;
SELECT n.nspname, p.proname, p.prosecdef FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace;
"""  # fmt: skip


def before_postgres(tell: Callable[[str], None]) -> Iterator[Row]:
    """Seconds for all grants on a real server, facts a second, and the memory of the process that read them."""
    grants = TABLES * ROLES
    tell(f"discovering {grants:,} PostgreSQL grants")
    with local_server(password=secrets.token_urlsafe(24)) as server:
        asyncio.run(_fill(server))
        printed = _printed(server)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        took, facts, edges = _discovered(server)
    grown = max(1.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)
    assert edges >= grants, "a grant was not seen"
    name = f"discovery of {grants:,} PostgreSQL grants"
    yield Row(
        name=f"{name} ({facts:,} facts)", ours=took, unit="s", against="psql, printing the same catalogues",
        theirs=printed or None, better="lower", bar=0.05,
    )  # fmt: skip
    yield Row(
        name=f"{name}, facts a second", ours=facts / took, unit="1/s", against="floor", theirs=10_000, better="higher",
        bar=1,
    )  # fmt: skip
    yield Row(
        name=f"{name}, growth of memory", ours=grown, unit="MiB", against="floor", theirs=300, better="lower", bar=1,
    )  # fmt: skip


async def _fill(server: LocalServer) -> None:
    connection = await connect(server.address(), server.password, application="bench")
    try:
        await connection.execute(_SETUP, timeout=300)
    finally:
        await connection.close()


def _discovered(server: LocalServer) -> tuple[float, int, int]:
    """Seconds, facts, and edges of one run of `fetch` and `translate`."""
    connector = PostgresConnector(server.address(), server.password)
    scan = Scan(now=NOW, fingerprint=fingerprint)
    began, facts, edges = time.perf_counter(), 0, 0
    connector.open()
    try:
        for raw in connector.fetch(scan):
            for fact in (raw,) if isinstance(raw, Skipped) else connector.translate(raw, scan):
                facts += 1
                edges += isinstance(fact, EdgeFact)
    finally:
        connector.close()
    return time.perf_counter() - began, facts, edges


def _printed(server: LocalServer) -> float | None:
    """Seconds that `psql` needs; `None` where there is none."""
    program = shutil.which("psql")
    if program is None:
        return None
    address = server.address()
    environment = {**os.environ, "PGPASSWORD": server.password}
    command = [
        program, "-XAtq", "-h", address.host, "-p", str(address.port), "-U", address.user, "-d", address.database,
        "-c", _PRINT,
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began
