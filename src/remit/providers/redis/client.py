"""Typed commands of a Redis server's administration: users, connections, nodes. Errors are ours, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.kernel.errors import Misconfigured, Rejected, Unavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SECONDS = 5.0
_CONNECTIONS = 8
_FIELD = re.compile(r"([a-z-]+)=(\S*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One server and the user that connects. Never holds a password."""

    host: str
    """A host name, an address, or the absolute path of a Unix socket."""
    port: int
    user: str
    tls: bool = False
    ca: str = ""
    """A file of CA certificates; empty means those of the machine."""

    def __str__(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}"

    def settings(self) -> dict[str, str]:
        """How clients name it, without a password."""
        settings = {"host": self.host, "port": str(self.port), "user": self.user}
        return settings | ({"tls": "true"} if self.tls else {}) | ({"ca": self.ca} if self.ca else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A connection to the server, as `CLIENT LIST` shows it."""

    id: int
    """Never used again by the same run of the server."""
    user: str
    command: str
    age: int
    """Seconds."""
    name: str
    address: str


class Server:
    """Administration of one server; safe for concurrent calls."""

    def __init__(self, address: Address, secret: str) -> None:
        self.address = address
        # redis-py declares no types of `execute_command`.
        self._redis: Any = _redis(address, secret, connections=_CONNECTIONS)

    async def close(self) -> None:
        await _hang_up(self._redis)

    async def run(self, *command: str | int) -> Any:
        """One command. Raises `Unavailable`, `Rejected` (`access.redis.refused`) or `Misconfigured`."""
        with translated(self.address):
            return await self._redis.execute_command(*command)

    async def run_all(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """All of them in one round trip; the first error is raised after all were carried out."""
        if not commands:
            return []
        with translated(self.address):
            async with self._redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(await pipe.execute(raise_on_error=True))

    async def users(self) -> set[str]:
        return set(await self.run("ACL", "USERS"))

    async def clients(self) -> list[Client]:
        """Every connection, our own included."""
        with translated(self.address):
            rows = await self._redis.execute_command("CLIENT", "LIST")
        return [_client(row) for row in (rows if isinstance(rows, list) else _rows(rows))]

    async def info(self, section: str) -> dict[str, str]:
        """One section of INFO."""
        said = await self.run("INFO", section)
        if isinstance(said, dict):
            return {str(key): str(value) for key, value in said.items()}
        lines = (line.partition(":") for line in str(said).splitlines() if ":" in line)
        return {key: value for key, _, value in lines}

    async def peers(self) -> list[tuple[str, int]]:
        """Other servers of which this one tells: its replicas, and the nodes of its cluster."""
        if (await self.info("cluster")).get("cluster_enabled") == "1":
            return _cluster(await self.run("CLUSTER", "NODES"))
        role: Any = await self.run("ROLE")
        kind = role[0]
        if kind != "master":
            raise Misconfigured(
                "access.redis.replica",
                f"`{self.address}` is a replica",
                next_step="add the primary: the broker finds its replicas from there",
            )
        return [(str(host), int(port)) for host, port, *_ in role[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a login."""

    admitted: bool
    words: str
    """The server's own, with its code."""
    anonymous: bool = False
    """The server serves whoever shows no secret at all, so that a refusal means nothing."""


async def login(address: Address, secret: str) -> Attempt:
    """Log in as `address.user`; then, where that was refused, try a command without login. Raises `Unavailable`."""
    from redis.exceptions import AuthenticationError, ResponseError

    redis: Any = _redis(Address(host=address.host, port=address.port, user="", tls=address.tls, ca=address.ca), "")
    try:
        with translated(address):
            async with redis.client() as client:
                try:
                    await client.execute_command("AUTH", address.user, secret)
                except (AuthenticationError, ResponseError) as error:
                    words = _coded(error)
                else:
                    return Attempt(admitted=True, words="OK")
                try:
                    await client.execute_command("PING")
                except (AuthenticationError, ResponseError):
                    return Attempt(admitted=False, words=words)
                return Attempt(admitted=False, words=words, anonymous=True)
    finally:
        await _hang_up(redis)


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn redis-py's errors into ours; never with a command's arguments."""
    from redis import exceptions

    try:
        yield
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise Misconfigured(
            "access.redis.login",
            f"`{address}` refuses the broker: {str(error)[:160]}",
            next_step="see the user's ACL on the server, and its password",
        ) from None
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, OSError) as error:
        raise Unavailable("access.redis.unreachable", f"`{address}` does not answer: {type(error).__name__}") from None
    except exceptions.ResponseError as error:
        raise Rejected("access.redis.refused", f"`{address}` refused: {str(error)[:200]}") from None


async def _hang_up(redis: Any) -> None:
    from redis.exceptions import RedisError

    # A server that is gone needs no farewell.
    with suppress(RedisError, OSError):
        await redis.aclose()


def _redis(address: Address, secret: str, *, connections: int = 1) -> Redis:
    from redis.asyncio import (
        BlockingConnectionPool,
        Connection,
        Redis,
        SSLConnection,
        UnixDomainSocketConnection,
    )
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    how: dict[str, Any] = {
        "username": address.user or None,
        "password": secret or None,
        "socket_timeout": _SECONDS,
        "decode_responses": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 1),
    }
    kind: type[Any] = Connection
    if address.host.startswith("/"):
        kind = UnixDomainSocketConnection
        how["path"] = address.host
    else:
        how |= {"host": address.host, "port": address.port, "socket_connect_timeout": _SECONDS}
        if address.tls:
            kind = SSLConnection
            how |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
            how |= {"ssl_ca_certs": address.ca} if address.ca else {}
    pool = BlockingConnectionPool(max_connections=connections, timeout=_SECONDS, connection_class=kind, **how)
    return Redis.from_pool(pool)


def _coded(error: Exception) -> str:
    from redis.exceptions import AuthenticationError

    words = " ".join(str(error).split())[:200]
    wrong = isinstance(error, AuthenticationError) and not words.startswith("WRONGPASS")
    return f"WRONGPASS {words}" if wrong else words


def _rows(text: object) -> list[dict[str, str]]:
    return [dict(_FIELD.findall(line)) for line in str(text).splitlines() if line]


def _client(row: Any) -> Client:
    return Client(
        id=int(row["id"]),
        user=str(row.get("user", "")),
        command=str(row.get("cmd", "")),
        age=int(row.get("age", 0)),
        name=str(row.get("name", "")),
        address=str(row.get("addr", "")),
    )


def _cluster(said: Any) -> list[tuple[str, int]]:
    """`CLUSTER NODES`, as text or as redis-py reads it; our own node is left out."""
    if isinstance(said, dict):
        rows = [(str(key), str(value.get("flags", ""))) for key, value in said.items()]
    else:
        rows = [(fields[1], fields[2]) for line in str(said).splitlines() if len(fields := line.split()) > 2]
    found = []
    for where, flags in rows:
        host, _, port = where.partition("@")[0].rpartition(":")
        if host and port.isdecimal() and not {"myself", "noaddr", "handshake"} & set(flags.split(",")):
            found.append((host, int(port)))
    return found
