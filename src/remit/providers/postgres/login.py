"""One attempt to log in, and what the server said: the evidence on which proofs of revocation rest.

asyncpg hides whether a server asked for a password at all, and that is what tells a refusal from `trust`. So this
is a small client of its own: start-up, SCRAM, first answer, goodbye. It never sends a password in clear or as MD5.

Spec: PostgreSQL documentation, "Message Flow" and "Message Formats" (protocol 3.0).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from remit.kernel.errors import Rejected
from remit.providers.postgres.address import Address
from remit.providers.postgres.scram import Salted, ScramClient
from remit.providers.postgres.transport import ssl_context

_MAX_MESSAGE_BYTES = 1 << 16
_GOODBYE_SECONDS = 1.0
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The server let us in. `asked` is false where it wanted no password at all (trust, peer, certificate)."""

    asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The server answered, and refused."""

    sqlstate: str
    message: str
    routine: str
    """The server's own function that refused: `auth_failed`, `ClientAuthentication`, `InitializeSessionUserId`, …"""
    asked: bool

    @property
    def is_authentication(self) -> bool:
        """Whether a password was asked for and found wrong: the only refusal that proves something of a credential."""
        return self.asked and self.sqlstate == "28P01"

    def __str__(self) -> str:
        return f"{self.sqlstate} {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached:
    """Nothing that speaks PostgreSQL answered in time, or in a way that we may follow."""

    why: str


Attempt: TypeAlias = Admitted | Refused | Unreached


async def login(
    address: Address,
    password: str,
    *,
    over: Connecting | None = None,
    known: Salted | None = None,
    within: timedelta = timedelta(seconds=10),
    randomness: Callable[[int], bytes] = os.urandom,
) -> Attempt:
    """Try to log in as `address.user` with `password`, and leave again. Never raises for what the server does.

    `over` is a connection that was begun early, `known` the password as it was salted a moment ago: both save time.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            reader, writer = await (over.take() if over is not None else _open(address))
            try:
                return await _converse(reader, writer, address, ScramClient(password, randomness(18), known))
            finally:
                writer.close()
    except TimeoutError:
        return Unreached(why=f"no answer within {within.total_seconds():g} s")
    except ssl.SSLError as error:
        return Unreached(why=f"TLS failed: {error.reason or 'no reason given'}".lower())
    except (OSError, asyncio.IncompleteReadError, struct.error) as error:
        return Unreached(why=f"the connection failed ({type(error).__name__})")
    except _NotFollowed as error:
        return Unreached(why=str(error))
    except Rejected as error:
        return Unreached(why=error.message)


class Connecting:
    """A connection that a server may be made ready for while the login is not there yet; taken once, or hung up."""

    def __init__(self, address: Address) -> None:
        self._task = asyncio.create_task(_open(address))

    async def take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection, for whoever closes it. Raises what opening it raised."""
        return await self._task

    async def __aenter__(self) -> Connecting:
        return self

    async def __aexit__(self, *why: object) -> None:
        self._task.cancel()
        (opened,) = await asyncio.gather(self._task, return_exceptions=True)
        if not isinstance(opened, BaseException):
            opened[1].close()
            with suppress(OSError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await opened[1].wait_closed()


class _NotFollowed(Exception):
    """The server wants something that this client does not do."""


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.is_local_socket:
        return await asyncio.open_unix_connection(address.socket_path)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    context = ssl_context(address)
    if context is not None:
        writer.write(_SSL_REQUEST)
        if await reader.readexactly(1) != b"S":
            writer.close()
            raise _NotFollowed("the server offers no TLS")
        await writer.start_tls(context, server_hostname=address.host)
    return reader, writer


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address, scram: ScramClient
) -> Attempt:
    parameters = {"user": address.user, "database": address.database, "application_name": "remit"}
    body = b"".join(f"{key}\0{value}\0".encode() for key, value in parameters.items()) + b"\0"
    writer.write(struct.pack("!II", len(body) + 8, 196608) + body)
    asked = settled = False
    while True:
        kind, payload = await _read(reader)
        if kind == b"E":
            return _refused(payload, asked)
        if kind == b"K" or kind == b"Z":
            # Only a session that came to stand counts: `AuthenticationOk` alone may still be followed by a refusal.
            writer.write(b"X" + struct.pack("!I", 4))
            return Admitted(asked=asked)
        if kind != b"R":
            continue
        (code,) = struct.unpack_from("!I", payload)
        if code == 0:
            if asked and not settled:
                raise _NotFollowed("the server did not prove that it knows the credential")
        elif code == 10 and b"SCRAM-SHA-256" in payload[4:].split(b"\0"):
            asked = True
            first = scram.first()
            _answer(writer, b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
        elif code == 11 and asked:
            _answer(writer, await asyncio.to_thread(scram.final, payload[4:]))
        elif code == 12 and asked:
            settled = scram.verify(payload[4:])
        elif code in (3, 5):
            raise _NotFollowed("the server asks for a password in clear or as md5, which is never sent")
        else:
            raise _NotFollowed(f"the server asks for authentication of kind {code}")


def _answer(writer: asyncio.StreamWriter, payload: bytes) -> None:
    writer.write(b"p" + struct.pack("!I", len(payload) + 4) + payload)


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!I", head[1:])
    if not 4 <= length <= _MAX_MESSAGE_BYTES:
        raise _NotFollowed("what answers does not speak PostgreSQL")
    return head[:1], await reader.readexactly(length - 4)


def _refused(payload: bytes, asked: bool) -> Refused:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in payload.split(b"\0") if part}
    return Refused(
        sqlstate=fields.get(b"C", "")[:5],
        message=fields.get(b"M", "")[:300],
        routine=fields.get(b"R", "")[:64],
        asked=asked,
    )
