"""MariaDB as a source: logins and roles, what is granted to them, code that runs in somebody's name, and use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Final, TypeVar

from remit.inventory.connectors.endpoint import Endpoint, endpoint, named
from remit.inventory.connectors.files.secret_record import SecretRead
from remit.inventory.connectors.mariadb_facts import Granted, Login, Member, Present, Raw, Translation, pick, reached
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.inventory.secrets.columns import ColumnScan, column_facts, rows_of, sample_option
from remit.providers.mariadb.client import Address
from remit.providers.mariadb.inventory import PLAIN_COLUMNS, About, Account, Code, Hidden, Live, Reader
from remit.providers.mariadb.sampling import samples

TABLES: Final = (
    "global_priv", "db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv", "roles_mapping", "proc", "event",
)  # fmt: skip
MANIFEST = ConnectorManifest(
    id="mariadb",
    record_of=("mariadb", "mysql"),
    title="MariaDB 10.6 and later",
    source="the name of a target, or mariadb://USER@HOST:PORT with the password in MYSQL_PWD",
    observes=(
        "logins: how each proves itself, empty and old passwords, locks, expiry, required TLS, powers, limits",
        "roles, who has them, default roles, and PUBLIC",
        "grants on the server, on databases, tables, columns and routines, and the right to become another (PROXY)",
        "routines, views and events that run in their definer's name, and who can make them run",
        "live sessions: user, address, and program where the Performance Schema is on",
    ),
    needs=(
        Permission(grant="CREATE USER remit_reader@'…' IDENTIFIED BY '…'", why="a login of its own"),
        *(
            Permission(grant=f"GRANT SELECT ON mysql.{table} TO remit_reader@'…'", why=why)
            for table, why in zip(
                TABLES,
                (
                    "logins and roles; stored hashes are compared on the server and never read",
                    "rights on databases",
                    "rights on tables",
                    "rights on columns",
                    "rights on routines",
                    "who may become whom at login",
                    "who has which role",
                    "definers of routines",
                    "definers of events",
                ),
                strict=True,
            )
        ),
        Permission(
            grant="GRANT PROCESS, SHOW VIEW, SHOW DATABASES ON *.* TO remit_reader@'…'",
            why="to see who uses which login, and definers of views",
        ),
        Permission(
            grant="GRANT SELECT ON performance_schema.session_connect_attrs TO remit_reader@'…'",
            why="the program of a session; without it the address alone is seen",
        ),
        Permission(
            grant=f"GRANT SELECT ({', '.join(PLAIN_COLUMNS)}) ON mysql.user TO remit_reader@'…'",
            why="instead of global_priv, where no reader may be able to see hashes: locks and kinds are then not seen",
        ),
    ),
    blind_to=(
        Blind(what="triggers", why="who may read them (TRIGGER) may also make them: they are seen only where granted"),
        Blind(what="use between two runs", why="MariaDB keeps no last login; only live sessions are seen"),
        Blind(what="what code with a definer does", why="its body is not analysed: the edge is marked as conditional"),
        Blind(what="passwords kept by PAM, GSSAPI or the host", why="they are not in the server"),
        Blind(what="which of several accounts of one name a client gets", why="it depends on the client's address"),
    ),
    options=(
        Option(name="tls", help="`true` asks for TLS, and checks the server's certificate"),
        Option(name="ca", help="a file of CA certificates for TLS; empty means those of the machine"),
        sample_option("GRANT SELECT ON DATABASE.TABLE TO remit_reader@'…'"),
    ),
    hazards=(
        "SELECT on mysql.global_priv shows stored hashes to whoever has the reader's password: guard it, or grant the "
        "columns of mysql.user instead",
    ),
)
_MOST_CODE: Final = 100_000
_MOST_EDGES: Final = 50
T = TypeVar("T")


def make(source: str, options: Mapping[str, str], secret: str) -> MariaConnector:
    """A connector on a URL, or on the target whose address the options have."""
    return MariaConnector(
        endpoint(source, options, plain=("mariadb", "mysql"), secure=("mariadbs", "mysqls"), port=3306), secret,
        sample=rows_of(options.get("sample", "")),
    )  # fmt: skip


class MariaConnector:
    """Reads one server, on one connection; for one thread."""

    manifest = MANIFEST
    scope = "server"

    def __init__(self, where: Endpoint, secret: str, *, sample: int = 0) -> None:
        """`sample` is the number of rows of each table in which secrets are looked for."""
        self._where = where
        self._sample = sample
        self._secret = secret
        self._reader: Reader | None = None
        self._about: About | None = None

    def __repr__(self) -> str:
        return f"MariaConnector({self._where})"

    @property
    def instance(self) -> str:
        """The server's own unique id, known after `open`."""
        assert self._about is not None, "open comes first"
        return self._about.instance

    def open(self) -> None:
        """Connect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self.close()
        self._reader = Reader(self._address(), self._secret)
        try:
            self._about = self._reader.about()
        except BaseException:
            self.close()
            raise

    def fetch(self, scan: Scan) -> Iterator[Raw | SecretRead | Skipped]:
        """Every record of the server; a table that may not be read is `Skipped`."""
        assert self._reader is not None and self._about is not None, "open comes first"
        yield self._about
        live: dict[str, list[Live]] = defaultdict(list)
        hidden: list[Hidden] = []
        for session in _split(self._reader.sessions(), hidden):
            live[session.user].append(session)
        yield from _skipped(hidden)
        accounts: set[str] = set()
        public = False
        present: list[tuple[str, str, Live]] = []
        for count, login in enumerate(self._logins(live, hidden := []), 1):
            who = login.account
            present += [(who.user, who.host, each) for each in login.live]
            public |= who.role and who.user == "PUBLIC"
            accounts.add(who.user if who.role else f"{who.user}@{who.host}")
            yield login
            if count % 500 == 0:
                scan.progress(count, f"accounts of {self._where.host}")
                if scan.stopped():
                    yield Skipped(what="rest of the server", reason="not-supported", detail="the run was stopped")
                    return
        yield from _skipped(hidden)
        if present:
            yield Present(life=self._reader.began(), sessions=tuple(present))
        if public:
            yield from (Member(account=each) for each in sorted(accounts) if "@" in each)
        yield from self._rights(accounts, scan)
        if self._sample and not scan.stopped():
            yield from self._secrets(scan)

    def translate(self, raw: Raw | SecretRead, scan: Scan) -> Iterable[Fact]:
        """Turn one record into facts; pure but for the moment and the fingerprinter of `scan`."""
        assert self._about is not None, "open comes first"
        if isinstance(raw, SecretRead):
            return column_facts(raw, named("mariadb", self.instance, "table", raw.spot.within), scan)
        return Translation(self._about, scan, self._where.called()).facts(raw)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _address(self) -> Address:
        where = self._where
        return Address(host=where.host, port=where.port, user=where.user, tls=where.tls, ca=where.ca)

    def _secrets(self, scan: Scan) -> Iterator[SecretRead | Skipped]:
        secrets = ColumnScan("mariadb", self.instance, scan)
        for count, sample in enumerate(samples(self._address(), self._secret, self._sample), 1):
            if isinstance(sample, Hidden):
                yield from _skipped([sample])
                continue
            yield from secrets.of(f"{sample.database}.{sample.table}", sample.columns, sample.rows)
            scan.progress(count, f"samples of {self._where.host}")
            if scan.stopped():
                yield Skipped(what="rest of the samples", reason="not-supported", detail="the run was stopped")
                return

    def _logins(self, live: Mapping[str, list[Live]], hidden: list[Hidden]) -> Iterator[Login]:
        assert self._reader is not None
        first: dict[str, str] = {}
        for user, group in groupby(_split(self._reader.accounts(), hidden), lambda account: account.user):
            peers = list(group)
            logins = [account for account in peers if not account.role]
            used: dict[str, list[Live]] = defaultdict(list)
            for session in live.get(user, ()):
                if (mine := pick(session.address, logins)) is not None:
                    used[mine.host].append(session)
            for account in peers:
                yield Login(
                    account=account, alone=len(logins) == 1, live=tuple(used.get(account.host, ())[:1000]),
                    same_as=_same(account, first),
                )  # fmt: skip

    def _rights(self, accounts: set[str], scan: Scan) -> Iterator[Raw | Skipped]:
        assert self._reader is not None
        code: dict[str, list[Code]] = defaultdict(list)
        hidden: list[Hidden] = []
        count = 0
        for count, one in enumerate(_split(self._reader.code(), hidden), 1):
            if count > _MOST_CODE:
                yield Skipped(what="rest of the code with a definer", reason="too-large", detail=f"{_MOST_CODE:,} read")
                break
            code[one.schema].append(one)
            yield replace(one, orphan=one.definer not in accounts)
        for grant in _split(self._reader.grants(), hidden):
            count += 1
            if count % 1000 == 0:
                scan.progress(count, f"grants of {self._where.host}")
                if scan.stopped():
                    yield Skipped(what="rest of the grants", reason="not-supported", detail="the run was stopped")
                    return
            yield Granted(grant=grant, definers=tuple(reached(grant, code))[:_MOST_EDGES])
        yield from _split(self._reader.proxies(), hidden)
        yield from _split(self._reader.mappings(), hidden)
        yield from _skipped(hidden)


def _same(account: Account, first: dict[str, str]) -> str:
    """Another user's account whose password is the same: the older methods store it without salt."""
    me = f"{account.user}@{account.host}"
    for method in account.methods:
        if method.digest and method.plugin in ("mysql_native_password", "ed25519", "mysql_old_password"):
            other = first.setdefault(method.digest, me)
            if other.rpartition("@")[0] != account.user:
                return other
    return ""


def _split(rows: Iterable[T | Hidden], hidden: list[Hidden]) -> Iterator[T]:
    for row in rows:
        if isinstance(row, Hidden):
            hidden.append(row)
        else:
            yield row


def _skipped(hidden: Iterable[Hidden]) -> Iterator[Skipped]:
    for each in hidden:
        reason = "too-large" if each.why == "too-large" else "not-permitted"
        yield Skipped(what=each.what, reason=reason, detail=each.why)
