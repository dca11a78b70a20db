"""RabbitMQ as a source: users, permissions, live connections, and the passwords of other servers in its parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from remit.inventory.connectors.endpoint import LOOPBACK, Endpoint, endpoint
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.connectors.rabbitmq_facts import (
    About,
    Login,
    Parameter,
    Present,
    Raw,
    Right,
    Translation,
    Vhost,
    uris,
)
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Rejected
from remit.providers.rabbitmq.inventory import Hidden, Reader

MANIFEST = ConnectorManifest(
    id="rabbitmq",
    record_of=("rabbitmq",),
    title="RabbitMQ 3.10 and later",
    source="the name of a target, or http(s)://USER@HOST:PORT of the management API, with RABBITMQ_PASSWORD",
    observes=(
        "users: tags, hashing of the password, limits; `guest` as it was installed",
        "permissions and topic permissions by virtual host",
        "live connections: user, client's name, product and address",
        "passwords of other servers in shovels and federation upstreams",
    ),
    needs=(
        Permission(grant="rabbitmqctl add_user remit_reader '…'", why="a user of its own"),
        Permission(
            grant="rabbitmqctl set_user_tags remit_reader monitoring",
            why="virtual hosts, limits, and the users that are connected or limited; it reads no message",
        ),
        Permission(
            grant="rabbitmqctl set_user_tags remit_reader administrator",
            why="instead, for every user, tags, permissions and parameters: RabbitMQ has no tag that only reads them",
        ),
    ),
    blind_to=(
        Blind(
            what="tags, hashing, parameters, users without permission", why="the tag `monitoring` does not show them"
        ),
        Blind(what="use between two runs", why="RabbitMQ keeps no last login; only live connections are seen"),
        Blind(what="users in LDAP, OAuth 2 or HTTP backends", why="they are not in the server, but for live ones"),
        Blind(what="definitions files and rabbitmq.conf", why="files are read by the connector `files`"),
    ),
    options=(
        Option(name="management", help="port of the management API of a target, or its URL; 15672, or 15671 with TLS"),
        Option(name="amqp", help="host:port by which clients call it, where that differs from its listeners"),
        Option(name="tls", help="`true` asks for TLS, and checks the server's certificate"),
        Option(name="ca", help="a file of CA certificates for TLS; empty means those of the machine"),
    ),
    hazards=("the tag `administrator` is every right: guard the reader's password as an administrator's",),
)
_MOST_LIVE: Final = 1000
T = TypeVar("T")


def make(source: str, options: Mapping[str, str], secret: str) -> RabbitConnector:
    """A connector on a URL, or on the target whose address the options have."""
    management = options.get("management", "")
    if "host" in options:
        where = endpoint("", options, plain=("http",), port=5672)
        clients = where.called()
        if "://" in management:
            where = endpoint(management, {"ca": where.ca}, plain=("http",), secure=("https",), port=15672)
            user = options.get("user", "")
        else:
            if management and not management.isdecimal():
                raise Rejected("inventory.source.unfit", "`management` is neither a port nor a URL", next_step="fix it")
            usual = "15671" if where.tls else "15672"
            where = endpoint("", {**options, "port": management or usual}, plain=("http",), port=15672)
            user = where.user
        return RabbitConnector(where, secret, user=user, clients=clients)
    where = endpoint(source, options, plain=("http",), secure=("https",), port=15672)
    if urlsplit(source).path not in ("", "/"):
        raise Rejected("inventory.source.unfit", "the source has a path", next_step="write http(s)://USER@HOST:PORT")
    return RabbitConnector(where, secret, user=where.user, clients=tuple(filter(None, (options.get("amqp", ""),))))


class RabbitConnector:
    """Reads one cluster through one node's management API; for one thread."""

    manifest = MANIFEST
    scope = "cluster"

    def __init__(self, where: Endpoint, secret: str, *, user: str, clients: tuple[str, ...] = ()) -> None:
        self._where = where
        self._user = user
        self._secret = secret
        self._clients = clients
        self._reader: Reader | None = None
        self._about: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"RabbitConnector({self._where})"

    @property
    def instance(self) -> str:
        """The cluster's name, known after `open`."""
        return str(self._about.get("cluster_name") or f"{self._where.host}:{self._where.port}")[:200]

    def open(self) -> None:
        """Connect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self.close()
        host = f"[{self._where.host}]" if ":" in self._where.host else self._where.host
        if not self._where.tls and self._where.host not in LOOPBACK:
            raise Rejected(
                "inventory.rabbitmq.plain", "the password would go over the network in clear",
                next_step="use https, or `--set tls=true`",
            )  # fmt: skip
        url = f"{'https' if self._where.tls else 'http'}://{host}:{self._where.port}"
        self._reader = Reader(url, self._user, self._secret, ca=self._where.ca)
        try:
            self._reader.tags()
            self._about = self._reader.overview()
        except BaseException:
            self.close()
            raise

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Every record of the cluster; what our tags do not show is `Skipped`."""
        assert self._reader is not None, "open comes first"
        hidden: list[Hidden] = []
        yield About(overview=self._about)
        live: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in _split(self._reader.connections(), hidden):
            mine = live[str(row.get("user") or "")]
            if len(mine) < _MOST_LIVE:
                mine.append(row)
        yield Present(connections=tuple(row for user, rows in live.items() if user for row in rows))
        limits = self._reader.user_limits()
        seen: set[str] = set()
        makers: set[str] = set()
        for user in _split(self._reader.users(), hidden):
            seen.add(user.name)
            if "policymaker" in user.tags:
                makers.add(user.name)
            yield Login(name=user.name, user=user, limits=limits.get(user.name, {}), live=tuple(live[user.name]))
            if len(seen) % 1000 == 0:
                scan.progress(len(seen), f"users of {self._where.host}")
                if scan.stopped():
                    yield Skipped(what="rest of the cluster", reason="not-supported", detail="the run was stopped")
                    return
        yield from self._rights(seen, limits, live, hidden, makers)
        for row in _split(self._reader.parameters(), hidden):
            where = (str(row.get("component", "")), str(row.get("vhost", "")), str(row.get("name", "")))
            yield Parameter(component=where[0], vhost=where[1], name=where[2], uris=tuple(uris(row.get("value"))))
        yield from (Skipped(what=each.what, reason="not-permitted", detail="by our tags") for each in hidden)

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """Turn one record into facts; pure but for the moment and the fingerprinter of `scan`."""
        return Translation(self.instance, scan, self._called()).facts(raw)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _rights(
        self,
        seen: set[str],
        limits: Mapping[str, dict[str, int]],
        live: Mapping[str, list[Mapping[str, Any]]],
        hidden: list[Hidden],
        makers: set[str],
    ) -> Iterator[Raw]:
        """Virtual hosts and permissions, and the users that only a permission, a limit or a connection shows."""
        assert self._reader is not None
        for row in _split(self._reader.vhosts(), hidden):
            yield Vhost(name=str(row.get("name", "")), described=row)
        for topic, rows in ((False, self._reader.permissions()), (True, self._reader.topics())):
            for right in _split(rows, hidden):
                user = str(right.get("user", ""))
                if user not in seen:  # made while we read, or of another backend
                    seen.add(user)
                    yield Login(name=user, user=None, limits=limits.get(user, {}), live=tuple(live.get(user, ())))
                yield Right(
                    user=user, vhost=str(right.get("vhost", "")),
                    exchange=str(right.get("exchange", "")) if topic else None,
                    configure=str(right.get("configure", "")), write=str(right.get("write", "")),
                    read=str(right.get("read", "")), policymaker=not topic and user in makers,
                )  # fmt: skip
        for user in sorted({*live, *limits} - seen - {""}):
            yield Login(name=user, user=None, limits=limits.get(user, {}), live=tuple(live.get(user, ())))

    def _called(self) -> tuple[str, ...]:
        """How clients call it: by the host that we call, on each port where AMQP is spoken."""
        listeners = self._about.get("listeners")
        found = dict.fromkeys(self._clients)
        for each in listeners if isinstance(listeners, list) else ():
            if isinstance(each, dict) and each.get("protocol") in ("amqp", "amqp/ssl"):
                found |= dict.fromkeys(self._where.called(int(each.get("port") or 5672)))
        return tuple(found)


def _split(rows: Iterable[T | Hidden], hidden: list[Hidden]) -> Iterator[T]:
    for row in rows:
        if isinstance(row, Hidden):
            hidden.append(row)
        else:
            yield row
