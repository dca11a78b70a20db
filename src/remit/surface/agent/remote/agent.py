"""The agent far from the control plane: proves its node, keeps in step, serves its workloads, and outlives a cut.

1. the node proves itself, or comes back with the certificate of before; the server MUST be our control plane;
2. a stream says what the node has, and each change; SVIDs are fetched ahead, with keys that never leave this process;
3. while the control plane is away everything that has not expired is served on, and the agent says so;
4. when it says that this agent was evicted, banned or replaced, nothing is served any more, from that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.clock import Clock
from remit.kernel.errors import Denied, Misconfigured, RemitError, Unavailable
from remit.surface.agent.remote import wire
from remit.surface.agent.remote.fetch import Fetcher, bundles_of
from remit.surface.agent.remote.identity import Keep, NodeIdentity
from remit.surface.agent.remote.reports import Reports
from remit.surface.agent.remote.server import Server
from remit.surface.agent.remote.source import RemoteSource
from remit.surface.agent.remote.status import Status, write_status
from remit.trust.bundle import Bundle
from remit.trust.model import Evidence, JwtSvid, Selector, X509Svid
from remit.trust.ports import Attestor
from remit.trust.spiffe import TrustDomain

if TYPE_CHECKING:
    from remit.trust.attestors.provers import Prover

_log = logging.getLogger("remit.agent")
_ENDED = ("trust.agent.evicted", "trust.agent.banned", "trust.agent.replaced", "trust.agent.stranger")
"""What the control plane says when this agent is none any more."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_TEND_SECONDS = 30.0
_REPORT_SECONDS = 0.5
"""How long what was handed out may wait for company; a revocation is acknowledged at once."""
_STATUS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What the command line asked for."""

    data: Path
    host: str
    port: int
    trust_domain: TrustDomain
    bundle: Path | None = None
    provers: Sequence[Prover] = ()
    software: str = ""
    socket: Path


@dataclass(slots=True)
class _Link:
    """How it stands with the control plane."""

    state: str
    since: datetime
    reason: str = ""
    revocations: int = -1
    acknowledged: int = -1
    """The version that the control plane was told; -1 when it is to be told."""
    first: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the node's state came for the first time."""


class RemoteAgent:
    """One agent process's work. `run` until cancelled, or until the control plane ends it."""

    def __init__(
        self, options: AgentOptions, *, clock: Clock, attestors: Sequence[Attestor], random: Callable[[], float]
    ) -> None:
        self._options = options
        self._clock = clock
        self._random = random
        self._keep = Keep(options.data)
        bundle = self._keep.load_bundle(options.trust_domain, options.bundle)
        self._server = Server(options.host, options.port, now=clock.now, software=options.software)
        self._reports = Reports()
        self._link = _Link(state="joining", since=clock.now())
        self._applied = asyncio.Event()
        self._identity: NodeIdentity | None = None
        self._stream: asyncio.Task[None] | None = None
        self._renewing = asyncio.Lock()
        self._fetcher = Fetcher(self._server, clock=clock, connected=lambda: self._link.state == "connected")
        self.source = RemoteSource(
            bundle,
            attestors=attestors,
            clock=clock,
            fetch_x509=self._fetcher.x509,
            fetch_jwt=self._fetcher.jwt,
            handed=self._handed,
        )
        self._fetcher.source = self.source

    async def run(self, ready: Callable[[], None]) -> None:
        """Join, then keep in step; `ready` is called when the node's state has come for the first time.

        Raises `Denied` (`trust.agent.evicted`, `.banned`, `.replaced`, `.stranger`) when it is over, and what the
        control plane says of a proof that it does not accept.
        """
        try:
            await self._join()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._tend())
                group.create_task(self._stay())
                group.create_task(self._report())
                group.create_task(self._tell())
                await self._link.first.wait()
                ready()
        except* RemitError as errors:
            error = _first(errors)
            self._end(error)
            raise error from None
        finally:
            self._server.close()

    # 1. Joining.

    async def _join(self) -> None:
        """Come back with the certificate of before, or prove the node."""
        kept = self._keep.load_identity()
        if kept is not None and kept.expires > self._clock.now() and _is_of(kept, self._options.trust_domain):
            self._become(kept)
            return
        self._server.trust(self.source.bundle, None)
        await self._patiently(self._attest)

    async def _attest(self) -> None:
        if not self._options.provers:
            raise Misconfigured(
                "agent.proof.missing",
                "the agent has no certificate that is still good, and no proof to show",
                next_step="give `--join-token-file` or `--attest`",
            )
        key = ec.generate_private_key(ec.SECP256R1())
        audience = f"spiffe://{self._options.trust_domain}/remit/server"
        found = await self._server.attest({one.id: await one.payload(audience) for one in self._options.provers}, key)
        if isinstance(found, wire.Question):
            answers = {one.id: await one.answer(found.questions[one.id]) for one in self._options.provers
                       if one.id in found.questions}  # fmt: skip
            found = await self._server.answer(found.session, answers, key)
        self._welcome(found, key)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Repeat while the control plane is away; any other word of it is final."""
        attempt = 0
        while True:
            try:
                await work()
            except Unavailable as error:
                self._note("joining", error.message)
                await asyncio.sleep(self._pause(attempt, error.retry_after))
                attempt += 1
            else:
                return

    def _welcome(self, found: wire.Welcome, key: ec.EllipticCurvePrivateKey) -> None:
        identity = NodeIdentity(
            agent=found.agent,
            name=found.name,
            spiffe_id=found.spiffe_id,
            key=key,
            chain=tuple(found.chain),
            authority=found.authority,
            issued=found.issued,
            expires=found.expires,
            renews=found.renews,
        )
        self._keep.save_identity(identity)
        self._believe(Bundle.parse(self._options.trust_domain, found.bundle))
        self._keep.save_bundle(self.source.bundle)
        self._become(identity)
        _log.info("this node is %s", identity.spiffe_id)

    def _become(self, identity: NodeIdentity) -> None:
        self._identity = identity
        self._server.trust(self.source.bundle, identity)
        if self._stream is not None:
            self._stream.cancel()

    # 2. Keeping in step.

    async def _follow(self) -> None:
        attempt = 0
        while True:
            before = self._identity
            try:
                self._stream = asyncio.create_task(self._read_stream())
                await self._stream
            except asyncio.CancelledError:
                if self._identity is before or _is_cancelled():
                    raise
                continue  # with the new certificate
            except Unavailable as error:
                attempt = 0 if self._link.state == "connected" else attempt
                self._note("away", error.message)
            except Misconfigured as error:
                self._note("away", error.message)
            except Denied as error:
                if await self._is_renewed(before):
                    continue  # the certificate of before is refused because we have another one
                if error.code in _ENDED or not await self._recover(error):
                    raise
            await asyncio.sleep(self._pause(attempt))
            attempt += 1

    async def _is_renewed(self, before: NodeIdentity | None) -> bool:
        """Whether there is another certificate than this; a renewal that is under way is waited for."""
        async with self._renewing:
            return self._identity is not before

    async def _read_stream(self) -> None:
        async for state in self._server.follow():
            self._apply(state)
            self._note("connected")
            self._link.first.set()

    async def _recover(self, error: Denied) -> bool:
        """Prove the node again when its certificate does not count any more; tells whether that may help."""
        if error.code not in ("surface.proof.refused", "surface.proof.missing", "trust.agent.expired"):
            return False
        self._note("away", error.message)
        if self._options.provers:
            with contextlib.suppress(Unavailable):
                self._server.trust(self.source.bundle, None)
                await self._attest()
        return True

    def _apply(self, state: wire.State) -> None:
        if state.bundle is not None:
            self._believe(Bundle.parse(self._options.trust_domain, state.bundle))
        self.source.update(
            node=frozenset(map(Selector.parse, state.node)) if state.node is not None else None,
            entries=[one.read() for one in state.entries] if state.entries is not None else None,
            foreign=bundles_of(state.federated) if state.federated is not None else None,
            crls=state.crls,
            authorities=state.authorities,
        )
        if state.revocations is not None:
            self._link.revocations = state.revocations
            self._applied.set()

    def _believe(self, bundle: Bundle) -> None:
        """Hold the server to its newest bundle; one without roots would trust nobody, and is passed over."""
        if not bundle.x509_roots or bundle == self.source.bundle:
            return
        self.source.update_bundle(bundle)
        self._keep.save_bundle(bundle)
        if self._identity is not None:
            self._server.trust(bundle, self._identity)

    async def _tend(self) -> None:
        """Keep an SVID ready for every entry, and let go of what has expired."""
        while True:
            seen = self.source.version
            self.source.expire()
            pause = await self._fetcher.ahead()
            due = self.source.next_due()
            if due is not None:
                pause = min(pause, (due - self._clock.now()).total_seconds())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.2, pause)):
                    await self.source.changed(seen)

    async def _stay(self) -> None:
        """Renew the agent's own certificate at half of its life, or when its authority is to be replaced."""
        while True:
            await asyncio.sleep(max(0.5, min(_TEND_SECONDS, self._left())))
            if self._left() > 0 or self._link.state != "connected":
                continue
            try:
                async with self._renewing:
                    await self._renew()
            except (Unavailable, Misconfigured) as error:
                _log.warning("the agent's certificate is not renewed yet: %s", error)
                await asyncio.sleep(self._pause(3))

    async def _renew(self) -> None:
        assert self._identity is not None
        if not self._identity.renews:
            await self._attest()
            return
        key = ec.generate_private_key(ec.SECP256R1())
        self._welcome(await self._server.renew(key), key)

    def _left(self) -> float:
        assert self._identity is not None
        if self.source.is_replaced(self._identity.authority):
            return 0.0
        return (self._identity.due - self._clock.now()).total_seconds()

    # 3. Saying so.

    def _handed(self, evidence: Evidence, svids: Sequence[X509Svid | JwtSvid]) -> None:
        offline = self._link.state != "connected"
        self._reports.note(evidence, svids, at=self._clock.now(), offline=offline)

    async def _report(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    await self._applied.wait()
            self._applied.clear()
            link, batch = self._link, self._reports.batch()
            if link.state != "connected" or not (batch or link.acknowledged != link.revocations):
                continue
            version = link.revocations
            try:
                await self._server.report(wire.Report(handed=batch, revocations=version))
            except (Unavailable, Misconfigured) as error:
                _log.info("reports wait: %s", error)
                await asyncio.sleep(self._pause(3))
                continue
            except Denied:
                continue  # the stream says why
            self._reports.told(len(batch))
            link.acknowledged = version

    def _note(self, state: str, reason: str = "") -> None:
        link = self._link
        if state == link.state:
            return
        link.state, link.since, link.reason = state, self._clock.now(), reason
        if state == "away":
            until = self._serves_until()
            _log.warning(
                "the control plane is away (%s); %d SVIDs are served until they expire, the last at %s",
                reason, len(self.source.svids), until.isoformat() if until else "no time: there are none",
            )  # fmt: skip
        elif state == "connected":
            link.acknowledged = -1  # one that was started anew asks everybody again
            _log.info("in step with the control plane")
        elif state == "ended":
            _log.error("this agent serves nothing any more: %s", reason)
        self._write_status()

    async def _tell(self) -> None:
        while True:
            self._write_status()
            await asyncio.sleep(_STATUS_SECONDS)

    def _write_status(self) -> None:
        link, identity = self._link, self._identity
        status = Status(
            pid=os.getpid(),
            state=link.state,
            since=link.since,
            reason=link.reason,
            server=f"{self._options.host}:{self._options.port}",
            socket=str(self._options.socket),
            agent=identity.agent if identity else "",
            name=identity.name if identity else "",
            spiffe_id=identity.spiffe_id if identity else "",
            expires=identity.expires if identity else None,
            entries=len(self.source.entries),
            svids=len(self.source.svids),
            serves_until=self._serves_until(),
            revocations=link.revocations,
            handed=self._reports.handed,
            unreported=len(self._reports),
            lost_reports=self._reports.lost,
            updated=self._clock.now(),
        )
        try:
            write_status(self._options.data, status)
        except OSError as error:
            _log.warning("the status cannot be written: %s", error.strerror)

    def _serves_until(self) -> datetime | None:
        return max((one.expires for one in self.source.svids.values()), default=None)

    # 4. The end.

    def _end(self, error: RemitError) -> None:
        if isinstance(error, Denied) and error.code in _ENDED:
            self.source.end()
            self._keep.forget_identity()
        self._note("ended", error.message)

    def _pause(self, attempt: int, least: timedelta | None = None) -> float:
        """Seconds until the next attempt: longer each time, and never the same for two agents."""
        pause: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt, 10)) * (0.5 + self._random() / 2)
        return max(pause, least.total_seconds() if least else 0.0)


def _first(errors: BaseExceptionGroup[RemitError]) -> RemitError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, RemitError)
    return found


def _is_cancelled() -> bool:
    """Whether it is this very task that is to end, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_of(identity: NodeIdentity, trust_domain: TrustDomain) -> bool:
    return identity.spiffe_id.startswith(f"{trust_domain.id}/")
