"""Listeners of a gateway: connections, one request after the other, each proved, decided and passed on, or refused.

A refusal is `application/problem+json` with the reason and the id of the decision.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from remit.client.enforce.answers import DECISION, REASON, speakable
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.providers.http_forward import Pipe, connect
from remit.providers.tls import peer_chain
from remit.surface.gateways.http.desk import Desk, Flows, Refusal
from remit.surface.gateways.http.exchange import Exchange
from remit.surface.gateways.http.head import RequestHead, encode, malformed, parse_request
from remit.surface.gateways.http.peers import holder_of
from remit.surface.gateways.http.plan import plan, question
from remit.surface.gateways.http.table import GatewayTable
from remit.surface.gateways.http.tunnel import pump
from remit.surface.problem import status_of

_log = logging.getLogger("remit.gateway")
HEAD_SECONDS: Final = 20.0
_LINGER_SECONDS: Final = 1.0
_MOST_DISCARDED: Final = 1 << 20
_LIMIT: Final = 64 * 1024
_STATUS: Final = {"surface.http.too_large": 413, "surface.http.idle": 408}
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    pipe: Pipe
    proof: dict[str, Any]


class Door:
    """One listener's connections. Belongs to the event loop."""

    def __init__(self, table: GatewayTable, desk: Desk, flows: Flows, *, forward: bool) -> None:
        self._table = table
        self._desk = desk
        self._flows = flows
        self._forward = forward
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None, "a connection is served in a task"
        if len(self._open) >= self._table.bounds.connections:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            proof = await self._proof(writer)
            client = _Client(pipe=(reader, writer), proof=proof)
            while await self._one(client):
                pass
            writer.close()
            async with asyncio.timeout(5):
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # the gateway stops
        except Exception:
            # A bug must end one connection, and never pass for a permit.
            _log.exception("a connection was dropped")
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """End every connection."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _proof(self, writer: asyncio.StreamWriter) -> dict[str, Any]:
        tls = writer.get_extra_info("ssl_object")
        if tls is not None:
            if "certificate" not in self._table.subjects:
                return {}
            return {"chain": [base64.b64encode(one).decode() for one in peer_chain(tls)]}
        if "process" not in self._table.subjects:
            return {}
        found = await asyncio.to_thread(
            holder_of, writer.get_extra_info("socket"), writer.get_extra_info("peername"),
            writer.get_extra_info("sockname"),
        )  # fmt: skip
        return {"process": {"pid": found.pid, "start_ticks": found.start_ticks}} if found is not None else {}

    async def _one(self, client: _Client) -> bool:
        """One request; whether another may come."""
        reader = client.pipe[0]
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                raw = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, TimeoutError):
            return False
        except asyncio.LimitOverrunError:
            await tell(client.pipe, Refusal(status=431, reason="the head is too long", code="surface.http.malformed"))
            return False
        try:
            request = parse_request(raw)
            if request.method == "CONNECT" and self._forward:
                await self._tunnel(request, client)
                return False
            return await self._exchange(request, client)
        except Refusal as refusal:
            await tell(client.pipe, self._as_proxy(refusal))
        except RemitError as error:
            status = _STATUS.get(error.code) or (400 if isinstance(error, Rejected) else status_of(error))
            await tell(client.pipe, Refusal(status=status, reason=error.message, code=error.code))
        return False

    async def _exchange(self, request: RequestHead, client: _Client) -> bool:
        made = plan(request, self._table, forward=self._forward)
        permit = None
        if not made.matched.public:
            permit = await self._desk.ask(question(made, self._table.subjects, client.proof))
        exchange = Exchange(made, permit, client.pipe, self._table.bounds)
        try:
            return await exchange.serve(self._flows)
        except (Refusal, RemitError) as error:
            if exchange.begun:
                _log.warning("an answer was cut off: %s", error)
                client.pipe[1].transport.abort()
                return False
            if isinstance(error, Refusal) or permit is None or isinstance(error, Rejected):
                raise
            raise Refusal(
                status=502 if isinstance(error, Unavailable) else status_of(error), reason=error.message,
                code=error.code, decision=permit.decision,
            ) from None  # fmt: skip

    async def _tunnel(self, request: RequestHead, client: _Client) -> None:
        host, port = _target(request)
        said = self._table.tunnel(host, port)
        named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        kind, _, name = (said.resource if said is not None else "").partition("/")
        permit = await self._desk.ask(
            {
                "method": "CONNECT", "host": request.host, "target": named,
                "action": said.action if said is not None else "connect", "kind": kind or "host",
                "name": name or named, **client.proof,
            }
        )  # fmt: skip
        try:
            upstream = await connect(host, port, tls=None, private=said is not None and said.private)
        except Unavailable as error:
            raise Refusal(status=502, reason=error.message, code=error.code, decision=permit.decision) from None
        except RemitError as error:
            raise Refusal(status=403, reason=error.message, code=error.code, decision=permit.decision) from None
        writer = client.pipe[1]

        def end(why: str) -> None:
            writer.transport.abort()
            upstream[1].transport.abort()

        with self._flows.running(permit.decision, end):
            writer.write(_ESTABLISHED + f"{DECISION}: {permit.decision}\r\n\r\n".encode("ascii"))
            await pump(client.pipe, upstream, idle=self._table.bounds.idle_seconds)

    def _as_proxy(self, refusal: Refusal) -> Refusal:
        """A proxy asks for proof in fields of its own (RFC 9110 §11.7)."""
        if self._forward and refusal.status == 401:
            refusal.status = 407
            refusal.headers = {
                "proxy-authenticate" if name == "www-authenticate" else name: value
                for name, value in refusal.headers.items()
            }
        return refusal


def _target(request: RequestHead) -> tuple[str, int]:
    """Host and port of CONNECT (authority-form, RFC 9112 §3.2.3)."""
    parts = urlsplit(f"//{request.target}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    plain = request.target.rpartition("@")[0] == "" and "/" not in request.target
    if not host or not port or not plain or any(mark in request.target for mark in "?#\\"):
        raise malformed("CONNECT takes HOST:PORT")
    if request.host not in (request.target.lower(), host):
        raise malformed("its `Host` is not that of its target")
    if request.length:
        raise malformed("CONNECT has no body")
    return _plain(host.lower().rstrip(".")), port


def _plain(host: str) -> str:
    """One spelling of an address."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


async def tell(pipe: Pipe, refusal: Refusal) -> None:
    """Refuse, and end the connection: what is left of the request is thrown away, so that the answer arrives."""
    reader, writer = pipe
    body = msgspec.json.encode(
        {
            "type": f"urn:remit:error:{refusal.code}", "title": refusal.reason, "status": refusal.status,
            "code": refusal.code, "decision": refusal.decision,
            "next_step": f"`remit explain {refusal.decision}`" if refusal.decision else "see docs/gateways.md",
        }
    )  # fmt: skip
    fields = {
        **{name: speakable(value) if name == REASON else value for name, value in refusal.headers.items()},
        "content-type": "application/problem+json", "cache-control": "no-store", REASON: speakable(refusal.reason),
        **({DECISION: refusal.decision} if refusal.decision else {}),
        "content-length": str(len(body)), "connection": "close",
    }  # fmt: skip
    writer.write(encode(f"HTTP/1.1 {refusal.status} {_phrase(refusal.status)}", fields.items()) + body)
    async with asyncio.timeout(5):
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    left = _MOST_DISCARDED
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0 and (chunk := await reader.read(_LIMIT)):
                left -= len(chunk)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
