"""One request and its answer, streamed: nothing goes on before it is permitted, nothing is held but a chunk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from remit.client.enforce.answers import DECISION, OWN_HEADERS
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.providers.http_forward import Pipe, connect, tls_context
from remit.surface.gateways.http.body import LAST_CHUNK, chunk_of, cut, read_body
from remit.surface.gateways.http.desk import Permit, Refusal
from remit.surface.gateways.http.head import (
    CHUNKED,
    ResponseHead,
    encode,
    end_to_end,
    parse_response,
)
from remit.surface.gateways.http.plan import Plan, outgoing, redactor
from remit.surface.gateways.http.redact import Redactor
from remit.surface.gateways.http.table import Bounds
from remit.surface.gateways.http.tunnel import pump

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_MAX_INTERIM: Final = 8
_ANSWER_FACTOR: Final = 16
_DROPPED: Final = (*OWN_HEADERS, "content-length", "alt-svc")
_NAMES: Final = {101: "Switching Protocols", 200: "OK"}


class Running(Protocol):
    """Who ends what is under way; `desk.Flows` does it by permits."""

    def running(self, decision: str, end: Callable[[str], None]) -> AbstractContextManager[None]: ...


class Exchange:
    """Serves one planned request between a client and its upstream."""

    def __init__(self, made: Plan, permit: Permit | None, client: Pipe, bounds: Bounds) -> None:
        self._plan = made
        self._permit = permit
        self._reader, self._writer = client
        self._bounds = bounds
        self._redactor = redactor(made, permit)
        self.begun = False
        """Whether a byte of the answer went to the client."""

    async def serve(self, flows: Running) -> bool:
        """Pass request and answer; whether the connection may serve another. Raises `Refusal`, and `RemitError`."""
        head = outgoing(self._plan, self._permit)
        pipe = await self._connect()
        up = pipe[1]

        def end(why: str) -> None:
            up.transport.abort()
            self._writer.transport.abort()

        running = flows.running(self._permit.decision, end) if self._permit is not None else contextlib.nullcontext()
        try:
            with running:
                if self._permit is not None and self._permit.secret:
                    self._require_fresh(self._permit)
                up.write(head)
                return await self._pass(pipe)
        except (OSError, EOFError):
            raise cut() from None
        finally:
            up.transport.abort()

    async def _connect(self) -> Pipe:
        upstream = self._plan.upstream
        tls = tls_context(upstream.ca) if upstream.tls else None
        try:
            return await connect(upstream.host, upstream.port, tls=tls, private=self._plan.private)
        except Unavailable as error:
            raise Refusal(status=502, reason=error.message, code=error.code, decision=self._decision) from None
        except RemitError as error:
            raise Refusal(status=403, reason=error.message, code=error.code, decision=self._decision) from None

    @property
    def _decision(self) -> str:
        return self._permit.decision if self._permit is not None else ""

    def _require_fresh(self, permit: Permit) -> None:
        if asyncio.get_running_loop().time() > permit.until:
            raise Refusal(
                status=503, reason="the upstream took too long to connect: the credential was given back",
                code="surface.gateway.lease", decision=permit.decision,
            )  # fmt: skip

    async def _pass(self, pipe: Pipe) -> bool:
        up_reader, up = pipe
        upload = asyncio.create_task(self._upload(up))
        answer = asyncio.create_task(self._answer(up_reader))
        try:
            await asyncio.wait({upload, answer}, return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and not upload.cancelled() and isinstance(upload.exception(), RemitError):
                raise _of(upload.exception())  # of an upstream that stops reading it may be that it has answered
            head = await answer
            if self._plan.upgrades:
                return await self._upgrade(head, pipe)
            whole = await self._download(head, up_reader)
            sent = upload.done() and not upload.cancelled() and upload.exception() is None
            return whole and sent and self._plan.request.persistent
        finally:
            for task in (upload, answer):
                task.cancel()
            await asyncio.gather(upload, answer, return_exceptions=True)

    async def _upload(self, up: asyncio.StreamWriter) -> None:
        request = self._plan.request
        if self._plan.upgrades or not request.length:
            await up.drain()
            return
        if request.values("expect"):
            self._writer.write(CONTINUE)
        body = read_body(
            self._reader, request.length, most=self._bounds.max_body, idle=self._bounds.idle_seconds
        )  # fmt: skip
        async for chunk in body:
            up.write(chunk_of(chunk) if request.length == CHUNKED else chunk)
            await self._drain(up)
        if request.length == CHUNKED:
            up.write(LAST_CHUNK)
        await self._drain(up)

    async def _answer(self, reader: asyncio.StreamReader) -> ResponseHead:
        for _ in range(_MAX_INTERIM):
            try:
                async with asyncio.timeout(self._bounds.answer_seconds):
                    head = parse_response(await reader.readuntil(b"\r\n\r\n"))
            except TimeoutError:
                raise self._failed(504, "the upstream did not answer in time") from None
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, Rejected):
                raise self._failed(502, "the upstream gave no answer of HTTP/1.1") from None
            if head.status >= 200 or head.status == 101:
                return head
        raise self._failed(502, "the upstream gave interim answers alone")

    def _failed(self, status: int, why: str) -> Refusal:
        return Refusal(status=status, reason=why, code="surface.gateway.upstream", decision=self._decision)

    async def _download(self, head: ResponseHead, reader: asyncio.StreamReader) -> bool:
        """Pass the answer; whether its end can be told without closing."""
        request, redact = self._plan.request, self._redactor
        try:
            length = head.length(request.method)
            fields = self._fields(head, redact)
        except Rejected as error:
            raise self._failed(502, f"the upstream's answer is refused: {error.message}") from None
        if head.status == 101:
            raise self._failed(502, "the upstream changes the protocol unasked")
        if redact is not None and any(value.lower() != "identity" for value in head.values("content-encoding")):
            raise self._failed(502, "the upstream compressed what may hold the credential")
        bodiless = request.method == "HEAD" or head.status in (204, 304)
        chunked = length < 0 and request.minor == 1
        if chunked:
            fields.append(("transfer-encoding", "chunked"))
        elif length >= 0 and not bodiless:
            fields.append(("content-length", str(length)))
        elif bodiless and (told := head.values("content-length")):
            fields.append(("content-length", told[0]))
        lasting = request.persistent and (length >= 0 or chunked)
        if not lasting:
            fields.append(("connection", "close"))
        self.begun = True
        self._writer.write(encode(f"HTTP/1.1 {head.status} {_NAMES.get(head.status, '')}".rstrip() + " ", fields))
        await self._drain(self._writer)
        if bodiless or length == 0:
            return lasting
        async for chunk in self._body(reader, length, redact):
            self._writer.write(chunk_of(chunk) if chunked else chunk)
            await self._drain(self._writer)
        if chunked:
            self._writer.write(LAST_CHUNK)
        await self._drain(self._writer)
        return lasting

    async def _body(self, reader: asyncio.StreamReader, length: int, redact: Redactor | None) -> AsyncIterator[bytes]:
        most, idle = self._bounds.max_body * _ANSWER_FACTOR, self._bounds.idle_seconds
        async for chunk in read_body(reader, length, most=most, idle=idle):
            shown = redact.feed(chunk) if redact is not None else chunk
            if shown:
                yield shown
        if redact is not None and (rest := redact.end()):
            yield rest

    def _fields(self, head: ResponseHead, redact: Redactor | None) -> list[tuple[str, str]]:
        kept = end_to_end(head.fields, _DROPPED)
        if redact is not None:
            kept = [(redact.text(name), redact.text(value)) for name, value in kept]
        return [*kept, *([(DECISION, self._decision)] if self._decision else [])]

    async def _upgrade(self, head: ResponseHead, pipe: Pipe) -> bool:
        if head.status != 101:
            await self._download(head, pipe[0])
            return False
        if head.values("upgrade") != ("websocket",) and [v.lower() for v in head.values("upgrade")] != ["websocket"]:
            raise self._failed(502, "the upstream changes to another protocol than it was asked for")
        fields = [*self._fields(head, self._redactor), ("connection", "Upgrade"), ("upgrade", "websocket")]
        self.begun = True
        self._writer.write(encode("HTTP/1.1 101 Switching Protocols", fields))
        await pump((self._reader, self._writer), pipe, idle=self._bounds.idle_seconds, redact=self._redactor)
        return False

    async def _drain(self, writer: asyncio.StreamWriter) -> None:
        """Wait until the other side has read: a slow reader slows the writer, one that stops is left."""
        try:
            async with asyncio.timeout(self._bounds.idle_seconds):
                await writer.drain()
        except TimeoutError:
            raise Unavailable("surface.http.idle", "the other side does not read") from None


def _of(error: BaseException | None) -> BaseException:
    assert error is not None
    return error
