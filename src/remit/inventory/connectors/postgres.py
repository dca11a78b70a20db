"""PostgreSQL as a source: roles, memberships, grants, admission rules, SECURITY DEFINER functions, and use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from remit.inventory.connectors.files.secret_record import SecretRead
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.connectors.postgres_facts import Raw, Translation
from remit.inventory.connectors.postgres_grants import Inside
from remit.inventory.connectors.postgres_paths import Standing
from remit.inventory.connectors.postgres_rights import Rights
from remit.inventory.model import Fact, Skipped
from remit.inventory.secrets.columns import ColumnScan, column_facts, rows_of, sample_option
from remit.kernel.errors import Misconfigured, Rejected, RemitError
from remit.kernel.ids import name
from remit.providers.postgres.access_lists import MOST_OBJECTS, Cluster, cluster_of, contents_of
from remit.providers.postgres.address import Address, parse_url, password_from_file
from remit.providers.postgres.catalogue import HbaRule, Hidden, Record, Role, cluster, contents
from remit.providers.postgres.client import Connection, Server, close, connect, databases, describe, translated_errors
from remit.providers.postgres.sampling import Sample, samples

MANIFEST = ConnectorManifest(
    id="postgres",
    record_of=("postgres",),
    title="PostgreSQL 13 and later",
    source="the name of a target, or postgres://USER@HOST:PORT/DATABASE with the password in PGPASSFILE or PGPASSWORD",
    observes=(
        "roles, their attributes, expiry and kind of password",
        "memberships with INHERIT, SET and ADMIN",
        "owners and grants of databases, schemas, tables, views and columns",
        "SECURITY DEFINER functions and who may execute them",
        "default privileges",
        "user mappings of foreign servers: as whom a role logs in elsewhere, never the password",
        "triggers, untrusted languages, parameters and functions by which a role becomes another or the host's account",
        "rules of pg_hba.conf",
        "live sessions: application and address",
        "owners in comments (`owner=…`)",
    ),
    needs=(
        Permission(
            grant="CREATE ROLE remit_reader LOGIN PASSWORD '…'", why="the catalogues are readable to every login"
        ),
        Permission(grant="GRANT pg_monitor TO remit_reader", why="to see who uses which role"),
        Permission(grant="GRANT SELECT ON pg_hba_file_rules TO remit_reader", why="to judge who is admitted and how"),
        Permission(grant="GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO remit_reader", why="the view calls it"),
        Permission(
            grant="GRANT CONNECT ON DATABASE … TO remit_reader",
            why="grants on tables are read from within each database",
        ),
    ),
    blind_to=(
        Blind(
            what="kind of stored password",
            why="pg_authid is a superuser's; a login that can read it could steal verifiers",
        ),
        Blind(
            what="what a SECURITY DEFINER function does",
            why="its body is not analysed: the edge is marked as conditional",
        ),
        Blind(what="use between two runs", why="PostgreSQL keeps no last login; only live sessions are seen"),
        Blind(
            what="grants on types, tablespaces and large objects",
            why="types and tablespaces reach no data; large objects are too many, and named by numbers",
        ),
        Blind(what="views, publications and subscriptions as ways to other tables", why="only the grants count"),
    ),
    options=(
        Option(name="passfile", help="a .pgpass file to take the password from (PGPASSFILE)"),
        sample_option("GRANT SELECT ON TABLE … TO remit_reader"),
    ),
    hazards=("a superuser's credential given for reading reads every table: give it a login of its own",),
)

T = TypeVar("T")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make(source: str, options: Mapping[str, str], secret: str) -> PostgresConnector:
    """A connector on a URL, or on the target whose address the options have."""
    sample = rows_of(options.get("sample", ""))
    if "host" not in options:
        environment = {"PGPASSWORD": secret} if secret else {"PGPASSFILE": options.get("passfile", "")}
        return connector_from(source, environment, sample=sample)
    address = Address(
        host=options["host"], port=int(options["port"]), user=options["user"], database=options["database"],
        ssl_mode=options.get("sslmode", ""), ssl_root=options.get("sslrootcert", ""),
    )  # fmt: skip
    return PostgresConnector(address, secret, sample=sample)


def connector_from(source: str, environment: Mapping[str, str], *, sample: int = 0) -> PostgresConnector:
    """A connector for a URL without password; the password comes from PGPASSWORD, or from PGPASSFILE."""
    address = parse_url(source)
    password = environment.get("PGPASSWORD")
    if password is None and (path := environment.get("PGPASSFILE")):
        password = password_from_file(Path(path), address)
        if password is None:
            raise Misconfigured(
                "inventory.postgres.no_password",
                f"the file in PGPASSFILE has no line for `{address}`",
                next_step="add HOST:PORT:DATABASE:USER:PASSWORD; `*` as DATABASE lets every database be read",
            )
    return PostgresConnector(address, password or "", sample=sample)


def _called(address: Address) -> tuple[str, ...]:
    """How clients on this machine call the server: every name of the loopback is the same server."""
    if address.is_local_socket:
        hosts: tuple[str, ...] = (address.host, *_LOOPBACK)
    else:
        hosts = _LOOPBACK if address.host in _LOOPBACK else (address.host,)
    return tuple(f"{host}:{address.port}" for host in hosts)


class PostgresConnector:
    """Reads one server. It runs its own event loop: call it from a thread or process that has none."""

    manifest = MANIFEST
    scope = "cluster"

    def __init__(self, address: Address, password: str, *, sample: int = 0) -> None:
        """`sample` is the number of rows of each table in which secrets are looked for."""
        self._address = address
        self._sample = sample
        self._password = password
        self._runner: asyncio.Runner | None = None
        self._connection: Connection | None = None
        self._server: Server | None = None
        self._cluster: Cluster | None = None

    def __repr__(self) -> str:
        return f"PostgresConnector({self._address})"

    @property
    def instance(self) -> str:
        """The server's fingerprint: its system identifier, known after `open`."""
        assert self._server is not None, "open comes first"
        return self._server.instance

    def open(self) -> None:
        """Connect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self.close()
        self._runner = asyncio.Runner()
        try:
            self._run(self._open())
        except BaseException:
            self.close()
            raise

    def fetch(self, scan: Scan) -> Iterator[Raw | SecretRead | Skipped]:
        """Every record of the server, database by database; a database that cannot be entered is `Skipped`."""
        assert self._connection is not None and self._server is not None, "open comes first"
        count = 0
        secrets = ColumnScan("postgres", self.instance, scan)
        yield from self._roles()
        for database in self._run(self._databases()):
            if scan.stopped():
                yield Skipped(what=f"database {database}", reason="not-supported", detail="the run was stopped")
                continue
            for record in self._database(database):
                if isinstance(record, Sample):
                    yield from secrets.of(f"{record.database}.{record.table}", record.columns, record.rows)
                    if scan.stopped():
                        yield Skipped(
                            what=f"samples of {database}", reason="not-supported", detail="the run was stopped"
                        )
                        break
                    continue
                count += 1
                if count % 1000 == 0:
                    scan.progress(count, f"{database} of {self._address}")
                    if scan.stopped():
                        yield Skipped(what=f"rest of {database}", reason="not-supported", detail="the run was stopped")
                        break
                yield record

    def translate(self, raw: Raw | SecretRead, scan: Scan) -> Iterable[Fact]:
        """Turn one record into facts; pure but for the moment and the fingerprinter of `scan`."""
        assert self._server is not None, "open comes first"
        if isinstance(raw, SecretRead):
            return column_facts(raw, name("postgres", self.instance, "table", raw.spot.within), scan)
        return Translation(self._server, scan, addresses=_called(self._address)).facts(raw)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        runner, self._runner = self._runner, None
        connection, self._connection = self._connection, None
        if runner is not None:
            if connection is not None:
                runner.run(close(connection))
            runner.close()

    async def _open(self) -> None:
        self._connection = await connect(self._address, self._password, application="remit discover")
        self._server = await describe(self._connection, self._address)

    async def _databases(self) -> list[str]:
        with translated_errors(self._address):
            return await databases(self._connection)

    def _roles(self) -> Iterator[Record | Standing | Skipped]:
        """What holds in the whole server; how its roles become each other comes last."""
        assert self._server is not None, "open comes first"
        self._cluster = read = self._run(self._read_cluster(self._server.version))
        rights = Rights(read)
        rules: list[HbaRule] = []
        for record in self._drain(lambda: cluster(self._connection), self._address):
            if isinstance(record, HbaRule):
                rules.append(record)
            yield replace(record, powers=rights.powers(record.name)) if isinstance(record, Role) else record
        yield Standing(cluster=read, rules=tuple(rules))

    async def _read_cluster(self, version: int) -> Cluster:
        with translated_errors(self._address):
            return await cluster_of(self._connection, version)

    def _database(self, database: str) -> Iterator[Record | Inside | Sample | Skipped]:
        if database == self._address.database:
            yield from self._contents(self._connection, database, self._address)
            return
        address = replace(self._address, database=database)
        try:
            connection = self._run(connect(address, self._password, application="remit discover"))
        except RemitError as error:
            reason = "not-permitted" if isinstance(error, (Rejected, Misconfigured)) else "unreachable"
            yield Skipped(what=f"database {database}", reason=reason, detail=error.message)
            return
        try:
            yield from self._contents(connection, database, address)
        finally:
            self._run(close(connection))

    def _contents(
        self, connection: Connection, database: str, address: Address
    ) -> Iterator[Record | Inside | Sample | Skipped]:
        yield from self._drain(lambda: contents(connection, database), address)
        yield from self._drain(lambda: self._access(connection, database), address)
        if self._sample:
            yield from self._drain(lambda: samples(connection, database, self._sample), address)

    async def _access(self, connection: Connection, database: str) -> AsyncIterator[Inside | Skipped]:
        assert self._cluster is not None, "the roles come first"
        found = await contents_of(connection, database)
        for kind in found.cut_short:
            yield Skipped(what=f"access to {kind}s of {database}", reason="too-large", detail=f"over {MOST_OBJECTS:,}")
        yield Inside(cluster=self._cluster, contents=found)

    def _drain(
        self, start: Callable[[], AsyncIterator[Record | Inside | Sample | Hidden | Skipped]], address: Address
    ) -> Iterator[Any]:
        """Walk an asynchronous iterator from here, one record at a time."""
        records = start()

        async def step() -> Record | Inside | Sample | Hidden | Skipped | None:
            with translated_errors(address):
                return await anext(records, None)

        try:
            while (record := self._run(step())) is not None:
                if isinstance(record, Hidden):
                    yield Skipped(what=record.what, reason="not-permitted", detail=f"as `{address.user}`")
                else:
                    yield record
        except RemitError as error:
            # One database that fails does not hide the others.
            yield Skipped(what=f"rest of {address.database}", reason="unreachable", detail=error.message)
        finally:
            if self._runner is not None:
                self._run(records.aclose())  # type: ignore[attr-defined]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._runner is not None, "open comes first"
        return self._runner.run(work)
