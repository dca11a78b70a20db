"""Redis as a source: users, what their rules allow, who is connected, and what was refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from remit.inventory.connectors.endpoint import LOOPBACK, Endpoint, endpoint
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.connectors.redis_acl import Commands, table_of
from remit.inventory.connectors.redis_facts import About, Login, Present, Refused, Translation
from remit.inventory.connectors.redis_rights import Keyspaces
from remit.inventory.model import Fact, Skipped
from remit.providers.redis.client import Address
from remit.providers.redis.inventory import REFUSED, Client, Reader, Refusal, User, permitted

RULES: Final = "resetkeys resetchannels -@all +info +command +acl|list +acl|log +client|list"
MANIFEST = ConnectorManifest(
    id="redis",
    record_of=("redis",),
    title="Redis 6 and later, Valkey",
    source="the name of a target, or redis://USER@HOST:PORT (rediss for TLS) with the password in REDISCLI_AUTH",
    observes=(
        "users: enabled, without password, number of passwords, passwords that two of them share",
        "commands, keys, channels and selectors as entitlements",
        "live connections: user, client's name, library and address; replicas",
        "refusals of ACL LOG: failed logins, commands and keys that were denied",
    ),
    needs=(
        Permission(
            grant=f"ACL SETUSER remit_reader on >… {RULES}",
            why="users and their rules, what commands mean, who is connected, what was refused; no key can be read",
        ),
    ),
    blind_to=(
        Blind(what="redis.conf, users.acl, masteruser and masterauth", why="files are read by the connector `files`"),
        Blind(what="users of other nodes", why="each node keeps its own users: read each one"),
        Blind(what="use between two runs", why="Redis keeps no last login; only live connections are seen"),
        Blind(what="which keys a user really touched", why="Redis does not record it"),
    ),
    options=(
        Option(name="tls", help="`true` asks for TLS, and checks the server's certificate"),
        Option(name="ca", help="a file of CA certificates for TLS; empty means those of the machine"),
    ),
    hazards=("ACL LIST shows unsalted SHA-256 of every password: guard the reader's password",),
)
Raw: TypeAlias = "About | Login | Refused | Present | Keyspaces"
_MOST_PATTERNS: Final = 20_000
"""Patterns of keys that are held against each other."""


def make(source: str, options: Mapping[str, str], secret: str) -> RedisConnector:
    """A connector on a URL, or on the target whose address the options have."""
    return RedisConnector(
        endpoint(source, options, plain=("redis", "valkey"), secure=("rediss", "valkeys"), port=6379), secret
    )


@dataclass(slots=True)
class _Seen:
    """What is needed of all users to tell of one."""

    live: Mapping[str, list[Client]]
    first: dict[str, str]
    default_on: bool


class RedisConnector:
    """Reads one server. It runs its own event loop: call it from a thread or process that has none."""

    manifest = MANIFEST
    scope = "server"

    def __init__(self, where: Endpoint, secret: str) -> None:
        self._where = where
        self._secret = secret
        self._reader: Reader | None = None
        self._info: dict[str, str] = {}
        self._commands: Commands | None = None

    def __repr__(self) -> str:
        return f"RedisConnector({self._where})"

    @property
    def instance(self) -> str:
        """`host:port`: Redis has no identity of its own that outlives a restart."""
        host = "127.0.0.1" if self._where.host in LOOPBACK or self._where.host.startswith("/") else self._where.host
        return f"{host}:{self._port()}"

    def open(self) -> None:
        """Connect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self.close()
        where = self._where
        address = Address(host=where.host, port=where.port, user=where.user, tls=where.tls, ca=where.ca)
        self._reader = Reader(address, self._secret)
        try:
            self._info = self._reader.info()
        except BaseException:
            self.close()
            raise

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Every user of the server; a command that may not be given is `Skipped`."""
        assert self._reader is not None, "open comes first"
        yield About(info=self._info)
        try:
            self._commands = table_of(self._reader.commands())
        except REFUSED as error:
            detail = "COMMAND was refused: rules are evaluated by the table of Redis 7"
            yield Skipped(what="table of commands", reason=permitted(error), detail=detail)
        live: dict[str, list[Client]] = defaultdict(list)
        try:
            for client in self._reader.clients():
                live[client.user].append(client)
        except REFUSED as error:
            yield Skipped(what="connections", reason=permitted(error), detail="CLIENT LIST was refused")
        try:
            users: list[User | str] = self._reader.users()
        except REFUSED as error:
            yield Skipped(what="users", reason=permitted(error), detail="ACL LIST was refused")
            users = []
        known = {each.name for each in users if isinstance(each, User)}
        default_on = any(isinstance(each, User) and each.name == "default" and each.enabled for each in users)
        yield from self._logins(users, _Seen(live=live, first={}, default_on=default_on), scan)
        patterns = {
            each.partition("~")[2]: None
            for user in users if isinstance(user, User)
            for rules in (user.rules, *user.selectors) for each in rules.keys
        }  # fmt: skip
        yield Keyspaces(patterns=tuple(patterns)[:_MOST_PATTERNS])
        if len(patterns) > _MOST_PATTERNS:
            yield Skipped(what="keyspaces within keyspaces", reason="too-large", detail=f"{len(patterns)} patterns")
        life = self._info.get("run_id", "")
        yield Present(life=life, clients=tuple(each for user in sorted(known) for each in live.get(user, ())))
        try:
            refusals = self._reader.refusals()
        except REFUSED as error:
            yield Skipped(what="refusals", reason=permitted(error), detail="ACL LOG was refused")
            return
        together: dict[tuple[str, str], list[Refusal]] = defaultdict(list)
        for each in refusals:
            together[each.user if each.user in known else "", each.reason].append(each)
        yield Present(life=life, clients=_refused(refusals, known), admitted=False)
        for (user, reason), several in sorted(together.items()):
            yield Refused(user=user, reason=reason, refusals=tuple(several))

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """Turn one record into facts; pure but for the moment and the fingerprinter of `scan`."""
        major = self._info.get("redis_version", "").partition(".")[0]
        version = int(major) if major.isdecimal() else 7
        called = self._where.called(self._port())
        return Translation(self.instance, scan, called, self._commands, version).facts(raw)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(OSError):
                reader.close()

    def _port(self) -> int:
        said = self._info.get("tcp_port", "") if self._where.host.startswith("/") else ""
        return int(said) if said.isdecimal() else self._where.port

    def _logins(self, users: list[User | str], seen: _Seen, scan: Scan) -> Iterator[Raw | Skipped]:
        for count, user in enumerate(users, 1):
            if isinstance(user, str):
                yield Skipped(what="a user's rules", reason="malformed", detail=f"line {count} of ACL LIST")
                continue
            same = ""
            for each in user.hashes:
                other = seen.first.setdefault(each, user.name)
                same = same or (other if other != user.name else "")
            yield Login(
                user=user, live=tuple(seen.live.get(user.name, ())[:1000]), same_as=same, alone=len(users) == 1,
                default_on=seen.default_on,
            )  # fmt: skip
            if count % 1000 == 0:
                scan.progress(count, f"users of {self._where.host}")
                if scan.stopped():
                    yield Skipped(what="rest of the users", reason="not-supported", detail="the run was stopped")
                    return


def _refused(refusals: Iterable[Refusal], known: set[str]) -> tuple[Client, ...]:
    """Clients that were refused as a user that there is: others could write names without end."""
    found = [(each, each.client) for each in refusals if each.user in known and each.client is not None]
    return tuple(replace(client, user=each.user, age=int(each.age)) for each, client in found)
