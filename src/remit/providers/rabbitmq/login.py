"""A login over AMQP 0-9-1, as any client makes one; told apart: admitted, refused, not reached."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from remit.kernel.errors import Unavailable

_SECONDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where clients come in."""

    host: str
    port: int
    vhost: str
    tls: bool = False
    ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a login."""

    admitted: bool
    words: str = field(default="")
    """The server's own, with its code."""


async def login(door: Door, user: str, secret: str) -> Attempt:
    """Log in once. A user that may not open the virtual host is admitted all the same. Raises `Unavailable`."""
    return await asyncio.to_thread(_login, door, user, secret)


def _login(door: Door, user: str, secret: str) -> Attempt:
    import pika
    from pika import exceptions

    # It logs every refusal as an error, with a trace; a refusal is what we ask for.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    how: dict[str, Any] = {}
    if door.tls:
        import ssl

        how["ssl_options"] = pika.SSLOptions(ssl.create_default_context(cafile=door.ca or None), door.host)
    parameters = pika.ConnectionParameters(
        host=door.host,
        port=door.port,
        virtual_host=door.vhost,
        credentials=pika.PlainCredentials(user, secret),
        connection_attempts=1,
        socket_timeout=_SECONDS,
        stack_timeout=_SECONDS,
        blocked_connection_timeout=_SECONDS,
        heartbeat=0,
        **how,
    )
    try:
        connection = pika.BlockingConnection(parameters)
    except (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError) as error:
        return Attempt(admitted=False, words=_words(error))
    except (exceptions.ProbableAccessDeniedError, exceptions.ConnectionClosedByBroker) as error:
        words = _words(error)
        return Attempt(admitted="ACCESS_REFUSED" not in words, words=words)
    except (exceptions.AMQPError, OSError) as error:
        raise Unavailable(
            "access.rabbitmq.unreachable", f"`{door.host}:{door.port}` does not answer: {type(error).__name__}"
        ) from None
    with suppress(exceptions.AMQPError, OSError):
        connection.close()
    return Attempt(admitted=True, words="OK")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:240]
