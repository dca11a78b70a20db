"""The system account of NATS servers (servers, account JWTs, connections), and logins. Errors are ours, no secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.nats.nkeys import KeyPair

if TYPE_CHECKING:
    from nats.aio.client import Client

_SECONDS = 5.0
_PAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server, as clients reach it."""

    host: str
    port: int
    tls: bool = False
    ca: str = ""
    """A file of CA certificates; empty means those of the machine."""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A live connection of a user to one of the servers."""

    server: str
    """The server's own id."""
    number: int
    user: str
    """Its public key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a login."""

    admitted: bool
    words: str
    """The server's own."""


class System:
    """What the system account may ask of all servers at once; safe for concurrent calls."""

    def __init__(self, address: Address, jwt: str, key: KeyPair) -> None:
        self._address = address
        self._jwt = jwt
        self._key = key
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _hang_up(client)

    async def servers(self) -> frozenset[str]:
        """Ids of all servers of which the first to answer knows. Raises `Unavailable` when one of them is silent."""
        found: set[str] = set()

        def enough(answer: Mapping[str, Any]) -> bool:
            found.add(str(answer["server"]["id"]))
            return len(found) >= int(answer.get("statsz", {}).get("active_servers", 1))

        await self._ask("$SYS.REQ.SERVER.PING", b"", enough)
        return frozenset(found)

    async def lookup(self, account: str) -> str:
        """The account's JWT as one server has it."""
        client = await self._connected()
        with _translated(self._address):
            answer = await client.request(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", timeout=_SECONDS)
        if not answer.data:
            raise Misconfigured(
                "access.nats.account",
                f"no server at `{self._address.url}` knows the account",
                next_step="push it with `nsc push`, and see that the servers use a full resolver (`type: full`)",
            )
        return answer.data.decode()

    async def lookup_all(self, account: str, servers: frozenset[str]) -> list[str]:
        """The account's JWT as each of `servers` has it; they say no name with it."""
        found: list[str] = []

        def enough(answer: bytes) -> bool:
            found.append(answer.decode())
            return len(found) >= len(servers)

        await self._collect(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", enough)
        return found

    async def update(self, jwt: str, servers: frozenset[str]) -> None:
        """Push an account's JWT; every one of `servers` must take it. Raises `Rejected` (`access.nats.refused`)."""
        taken: set[str] = set()

        def enough(answer: Mapping[str, Any]) -> bool:
            if "error" in answer or int(answer.get("data", {}).get("code", 0)) != 200:
                why = answer.get("error", answer.get("data", {}))
                said = str(why.get("description", why.get("message", "")) if isinstance(why, dict) else why)
                raise Rejected("access.nats.refused", f"`{self._address.url}` refused the account: {said[:160]}")
            taken.add(str(answer["server"]["id"]))
            return taken >= servers

        await self._ask("$SYS.REQ.CLAIMS.UPDATE", jwt.encode(), enough)

    async def connections(self, account: str, servers: frozenset[str]) -> list[Connection]:
        """Every connection of the account, on all of `servers`."""
        found: list[Connection] = []
        offset, more = 0, True
        while more:
            heard: set[str] = set()
            fullest = 0

            def enough(answer: Mapping[str, Any], heard: set[str] = heard) -> bool:
                nonlocal fullest
                server, rows = str(answer["server"]["id"]), answer["data"].get("connections") or []
                heard.add(server)
                fullest = max(fullest, len(rows))
                for row in rows:
                    found.append(
                        Connection(server=server, number=int(row["cid"]), user=str(row.get("authorized_user", "")))
                    )
                return heard >= servers

            options = {"acc": account, "auth": True, "limit": _PAGE, "offset": offset}
            await self._ask("$SYS.REQ.SERVER.PING.CONNZ", json.dumps(options).encode(), enough)
            offset, more = offset + _PAGE, fullest >= _PAGE
        return found

    async def kick(self, connection: Connection) -> None:
        """Close one connection; nothing when it has gone."""
        from nats import errors

        client = await self._connected()
        with suppress(errors.Error, OSError, TimeoutError):
            subject = f"$SYS.REQ.SERVER.{connection.server}.KICK"
            await client.request(subject, json.dumps({"cid": connection.number}).encode(), timeout=_SECONDS)

    async def version(self) -> str:
        """Of the server that we talk to."""
        version = (await self._connected()).connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    async def max_payload(self) -> int:
        return (await self._connected()).max_payload

    async def _ask(self, subject: str, data: bytes, enough: Any) -> None:
        await self._collect(subject, data, lambda answer: enough(json.loads(answer)))

    async def _collect(self, subject: str, data: bytes, enough: Any) -> None:
        """Take answers of many servers until `enough`; `Unavailable` when they stop coming before."""
        from nats import errors

        client = await self._connected()
        inbox = client.new_inbox()
        with _translated(self._address):
            subscription = await client.subscribe(inbox)
            try:
                await client.publish(subject, data, reply=inbox)
                async with asyncio.timeout(_SECONDS):
                    while not enough((await subscription.next_msg(timeout=_SECONDS)).data):
                        pass
            finally:
                with suppress(errors.Error, OSError, TimeoutError):
                    await subscription.unsubscribe()

    async def _connected(self) -> Client:
        async with self._lock:
            if self._client is None or not self._client.is_connected:
                await self.close()
                with _translated(self._address):
                    self._client = await _connect(self._address, self._jwt, self._key)
            return self._client


async def login(address: Address, jwt: str, key: KeyPair | None) -> Attempt:
    """Log in once, without a JWT where there is no `key`. Raises `Unavailable`."""
    from nats import errors

    try:
        async with asyncio.timeout(_SECONDS):
            client = await _connect(address, jwt, key)
    except (errors.NoServersError, OSError, TimeoutError, errors.TimeoutError) as error:
        raise _unreachable(address, error) from None
    except errors.Error as error:
        return Attempt(admitted=False, words=_words(error))
    await _hang_up(client)
    return Attempt(admitted=True, words="PONG")


async def _connect(address: Address, jwt: str, key: KeyPair | None) -> Client:
    from nats.aio.client import Client

    async def heard(error: Exception) -> None:
        """nats-py would log it."""

    how: dict[str, Any] = {}
    if address.tls:
        how = {"tls": ssl.create_default_context(cafile=address.ca or None), "tls_hostname": address.host}
    if key is not None:
        how["user_jwt_cb"] = jwt.encode
        how["signature_cb"] = lambda nonce: base64.b64encode(key.sign(nonce.encode()))
    client = Client()
    try:
        await client.connect(
            [address.url],
            error_cb=heard,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(_SECONDS),
            name="remit",
            **how,
        )
    except BaseException:
        await _hang_up(client)
        raise
    return client


async def _hang_up(client: Client) -> None:
    """Close; what a dead server says to that is no news."""
    from nats import errors

    with suppress(errors.Error, OSError, TimeoutError):
        await client.close()


class _translated:
    """Turns nats-py's errors into ours."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from nats import errors

        if isinstance(error, errors.NoRespondersError):
            raise Misconfigured(
                "access.nats.system",
                f"nobody answers the system account at `{self._address.url}`",
                next_step="give the .creds of a user of the system account, and use `resolver: {type: full}`",
            ) from None
        # A dead server says nothing; a live one says why it refuses.
        dead = (errors.NoServersError, errors.TimeoutError, errors.ConnectionClosedError, errors.StaleConnectionError)
        if isinstance(error, (*dead, errors.OutboundBufferLimitError, TimeoutError, OSError)):
            raise _unreachable(self._address, error) from None
        if isinstance(error, errors.Error) and "authorization" in str(error).lower():
            raise Misconfigured(
                "access.nats.login",
                f"`{self._address.url}` refuses the broker: {_words(error)}",
                next_step="give the .creds of a user of the system account",
            ) from None
        if isinstance(error, errors.Error | ValueError | KeyError):
            raise Unavailable("access.nats.answer", f"`{self._address.url}` answers what is not understood") from None


def _unreachable(address: Address, error: BaseException) -> Unavailable:
    return Unavailable("access.nats.unreachable", f"`{address.url}` does not answer: {type(error).__name__}")


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).removeprefix("nats: ")[:200]
