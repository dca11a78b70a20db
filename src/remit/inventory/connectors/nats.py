"""NATS as a source: operators, accounts and users by their public keys, what each may publish and hear, and use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from remit.inventory.connectors.endpoint import LOOPBACK
from remit.inventory.connectors.nats_facts import Account, Chain, Live, Operator, Translation, User
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Rejected
from remit.providers.nats.store import Claims, Monitor, Present, Unread, tokens

MANIFEST = ConnectorManifest(
    id="nats",
    record_of=("nats",),
    title="NATS with operators, accounts and users by JWT",
    source="the directory of a server's resolver, or the `stores` directory of nsc",
    observes=(
        "operator, accounts and their signing keys, by public key",
        "users: what they may publish, hear and answer, from where, until when; bearer tokens; revocations",
        "with `monitor`: who is connected, with which program and from where, and users whose JWT is in no store",
    ),
    needs=(
        Permission(grant="read access to the directory", why="it holds JWTs and no seeds"),
        Permission(grant="http: 127.0.0.1:8222 in nats-server.conf", why="only with `monitor`: who is connected"),
    ),
    blind_to=(
        Blind(what="users whose JWT is kept by nobody", why="a server asks for it at login; seen while connected"),
        Blind(what="users written into nats-server.conf", why="files are read by the connector `files`"),
        Blind(what="use between two runs", why="only live connections are seen"),
    ),
    options=(
        Option(name="monitor", help="the monitoring endpoint of a server, such as http://127.0.0.1:8222"),
        Option(name="ca", help="a file of CA certificates for an https endpoint; empty means those of the machine"),
        Option(name="operator", help="the operator's public key (O…): what others signed is then left out"),
    ),
    hazards=("the monitoring endpoint asks for no login and shows every user's JWT: bind it to the loopback",),
)
Raw: TypeAlias = "Operator | Account | User | Live"
_MOST_LIVE: Final = 1000


def make(source: str, options: Mapping[str, str], secret: str) -> NatsConnector:
    """A connector on a directory, with a server's monitoring endpoint where one is named."""
    monitor = options.get("monitor", "").rstrip("/")
    if monitor:
        _require_endpoint(monitor)
    return NatsConnector(source, monitor=monitor, ca=options.get("ca", ""), operator=options.get("operator", ""))


def _require_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    if not host or not secure or parts.username or parts.query or parts.path:
        raise Rejected(
            "inventory.source.unfit",
            "`monitor` is no http endpoint of this machine, and no https endpoint",
            next_step="write http://127.0.0.1:8222, or https://HOST:PORT",
        )


class NatsConnector:
    """Reads one directory, and one server where its endpoint is named; for one thread."""

    manifest = MANIFEST

    def __init__(self, directory: str, *, monitor: str = "", ca: str = "", operator: str = "") -> None:
        self._directory = str(Path(directory).absolute())
        self._monitor_url = monitor
        self._ca = ca
        self._given = operator
        self._monitor: Monitor | None = None
        self._chain: Chain | None = None
        self._life = ""
        self._unread: list[Unread] = []
        self._users: list[Claims] = []

    def __repr__(self) -> str:
        return f"NatsConnector({self._directory!r})"

    @property
    def scope(self) -> str:
        """The directory."""
        return self._directory[:900]

    @property
    def instance(self) -> str:
        """The operator's public key, known after `open`; of a directory that names none, the key of its issuer."""
        assert self._chain is not None, "open comes first"
        return self._chain.operator

    def open(self) -> None:
        """Read who signs for whom; raises `Rejected`, `Unavailable` or `Misconfigured`."""
        self.close()
        operators: list[Claims] = []
        accounts: list[Claims] = []
        self._unread, self._users = [], []
        for each in tokens(self._directory):
            if isinstance(each, Unread):
                self._unread.append(each)
            elif each.kind in ("operator", "account"):
                (operators if each.kind == "operator" else accounts).append(each)
            elif each.kind == "user":
                self._users.append(each)
        self._chain = Chain.of(operators, accounts, given=self._given)
        if self._monitor_url:
            self._monitor = Monitor(self._monitor_url, ca=self._ca)
            try:
                about = self._monitor.about()
                self._life = f"{about['server_id']} {about.get('start')}"[:200]
            except BaseException:
                self.close()
                raise

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """The operator, its accounts, then the users of both sources, each once."""
        assert self._chain is not None, "open comes first"
        chain = self._chain
        for unread in self._unread:
            yield Skipped(what=unread.path[:400], reason=unread.reason, detail="a JWT of NATS was expected")
        yield from (Operator(claims=each.claims, path=each.path) for each in chain.operators)
        for account in chain.accounts.values():
            yield Account(claims=account.claims, path=account.path)
        for path in chain.strange:
            yield Skipped(what=path[:400], reason="not-permitted", detail="signed by nobody whom the operator names")
        live = self._live()
        yield Live(sessions=tuple(each for mine in live.values() for each in mine), life=self._life)
        seen: set[tuple[str, str]] = set()
        for count, user in enumerate(self._users, 1):
            account_key = chain.account_of(user.claims)
            if account_key is None:
                yield Skipped(
                    what=user.path[:400], reason="not-permitted", detail="signed by no account of the operator"
                )
                continue
            key = (account_key, str(user.claims.get("sub")))
            seen.add(key)
            yield User(account=account_key, claims=user.claims, path=user.path, live=tuple(live.get(key, ())))
            if count % 1000 == 0:
                scan.progress(count, f"users of {self._directory}")
                if scan.stopped():
                    yield Skipped(what="rest of the users", reason="not-supported", detail="the run was stopped")
                    return
        for key in sorted(live.keys() - seen):
            shown = next((each.claims for each in live[key] if each.claims is not None), None)
            if shown is None:
                yield Skipped(what=f"user {key[1][:60]}", reason="unreadable", detail="connected; its JWT is not shown")
            else:
                yield User(account=key[0], claims=shown, path="connz", live=tuple(live[key]))

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """Turn one record into facts; pure but for the moment of `scan`."""
        assert self._chain is not None, "open comes first"
        return Translation(self._chain, scan).facts(raw)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()

    def _live(self) -> dict[tuple[str, str], list[Present]]:
        """Connections by account and user; those whose JWT no account of the operator signed are left out."""
        found: dict[tuple[str, str], list[Present]] = {}
        assert self._chain is not None
        for each in self._monitor.present() if self._monitor else ():
            account = (self._chain.account_of(each.claims) if each.claims else each.account) or ""
            if account in self._chain.accounts and each.user.startswith("U"):
                mine = found.setdefault((account, each.user), [])
                if len(mine) < _MOST_LIVE:
                    mine.append(each)
        return found
