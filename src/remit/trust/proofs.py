"""The proof desk: where a workload or a node shows what it has, and each proof counts once.

    present   one or several proofs → evidence, or a question that only the holder of a key can answer
    answer    the answers → evidence

All proofs of a presentation must be good; together they are one piece of evidence. A proof that may be shown once is
spent durably before its evidence is returned, so that neither a restart nor another node takes it again. What fails is
told to the ledger, counted, so that a flood does not fill it.

Methods belong to the event loop. Sessions live in the memory of this node for one minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from remit.kernel.canonical import Json, canonical
from remit.kernel.clock import Clock
from remit.kernel.errors import Rejected, RemitError, Unavailable
from remit.kernel.strict import fits
from remit.kernel.unit import Store
from remit.trust.entries import attestors_by_id
from remit.trust.model import Evidence
from remit.trust.ports import Challenge, ProofAttestor
from remit.trust.spent import SpentProofs, SpentUnit

_R = TypeVar("_R")
MAX_PROOFS: Final = 8
MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""Of all proofs, or answers, of one call together."""
MAX_DEPTH: Final = 8
SESSION_LIFE: Final = timedelta(seconds=60)
MAX_SESSIONS: Final = 1_000
MAX_SESSIONS_OF_SOURCE: Final = 32
MAX_AT_ONCE: Final = 64
TIME: Final = timedelta(seconds=20)
"""For all attestors of one call, the issuers that they ask included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a caller shows to one attestor."""

    attestor: str
    payload: Mapping[str, Json] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the caller must answer, at most a minute from now."""

    session: str = field(repr=False)
    questions: Mapping[str, Mapping[str, Json]]
    """By attestor."""
    expires: datetime


class Refusals(Protocol):
    """Hears of every presentation that failed; `detail` holds no secret. It must not raise."""

    async def __call__(self, attestor: str, code: str, detail: str, source: str) -> None: ...


class Admit(Protocol):
    """Says whether a source may present now; `Unavailable` when it has done so too often."""

    def __call__(self, source: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    source: str
    done: tuple[Evidence, ...]
    asked: Mapping[str, Challenge]
    order: tuple[str, ...]
    ends: float


async def _unheard(attestor: str, code: str, detail: str, source: str) -> None:
    """Nobody listens."""


def _anyone(source: str) -> None:
    """Everybody may."""


class ProofDesk:
    """Verifies what is presented, by the attestors that the operator configured.

    `new_session` gives names that nobody can guess. `source` of each call is the address or process that the listener
    saw, never what a caller says of itself: limits and sessions belong to it.
    """

    def __init__(
        self,
        store: Store[SpentUnit],
        attestors: Iterable[ProofAttestor],
        *,
        clock: Clock,
        new_session: Callable[[], str],
        refused: Refusals = _unheard,
        admit: Admit = _anyone,
        capacity: int = 1_000_000,
    ) -> None:
        self._attestors = attestors_by_id(attestors)
        self._clock = clock
        self._new_session = new_session
        self._refused = refused
        self._admit = admit
        self._spent = SpentProofs(store, clock=clock, capacity=capacity)
        self._sessions: dict[str, _Session] = {}
        self._busy = 0

    @property
    def attestors(self) -> Mapping[str, ProofAttestor]:
        """Those that are configured, by id."""
        return self._attestors

    async def present(self, proofs: Sequence[Proof], *, source: str) -> Evidence | Question:
        """Verify proofs of one workload or node, each of another attestor; all must be good.

        Raises `Rejected` (`trust.proof.…`), `Unavailable` (`trust.proof.busy`, `.slow`, `.full`, or an attestor's own).
        """
        return await self._reported(source, lambda at: self._present(proofs, source, at))

    async def answer(self, session: str, answers: Mapping[str, Mapping[str, Json]], *, source: str) -> Evidence:
        """Verify the answers to a question, by attestor. A session can be answered once, whether well or not.

        Raises `Rejected` (`trust.proof.session` and what attestors say), `Unavailable`.
        """
        return await self._reported(source, lambda at: self._answer(session, answers, source, at))

    async def tend(self) -> None:
        """Forget sessions and spent proofs that have ended: now and then, by the composition root."""
        self._sweep()
        await self._spent.forget()

    # One presentation.

    async def _present(self, proofs: Sequence[Proof], source: str, at: _At) -> Evidence | Question:
        self._check(proofs)
        now = self._clock.now()
        done: list[Evidence] = []
        asked: dict[str, Challenge] = {}
        for proof in proofs:
            at.attestor = proof.attestor
            result = await self._attestors[proof.attestor].begin(proof.payload, now)
            if isinstance(result, Evidence):
                done.append(_own(proof.attestor, result))
            else:
                asked[proof.attestor] = result
        order = tuple(proof.attestor for proof in proofs)
        if asked:
            return self._ask(_Session(source=source, done=tuple(done), asked=asked, order=order, ends=self._end()), now)
        return await self._settle(done, order)

    async def _answer(self, session: str, answers: Mapping[str, Mapping[str, Json]], source: str, at: _At) -> Evidence:
        # Taken before anything else: whatever happens, it is not there a second time.
        found = self._sessions.pop(session, None) if len(session) <= 256 else None
        if found is None or found.source != source or self._clock.monotonic() >= found.ends:
            raise Rejected(
                "trust.proof.session",
                "the question is unknown, answered, or older than a minute",
                next_step="present the proof again",
            )
        _check_size(answers)
        if answers.keys() != found.asked.keys() or not all(isinstance(one, Mapping) for one in answers.values()):
            raise _malformed("each question has one answer, by attestor")
        now = self._clock.now()
        done = list(found.done)
        for name, challenge in found.asked.items():
            at.attestor = name
            done.append(_own(name, await self._attestors[name].finish(challenge, answers[name], now)))
        return await self._settle(done, found.order)

    async def _settle(self, done: Sequence[Evidence], order: Sequence[str]) -> Evidence:
        """Spend what may be shown once, durably, then let the evidence count, in the order of presentation."""
        await self._spent.spend(done)
        return Evidence.joined(sorted(done, key=lambda one: order.index(one.attestor)))

    def _check(self, proofs: Sequence[Proof]) -> None:
        if not 1 <= len(proofs) <= MAX_PROOFS or len({one.attestor for one in proofs}) != len(proofs):
            raise _malformed(f"1 to {MAX_PROOFS} proofs are presented at once, each to another attestor")
        for proof in proofs:
            if proof.attestor not in self._attestors:
                raise Rejected(
                    "trust.proof.unknown",
                    f"no proof attestor is called `{ascii(proof.attestor)[1:-1][:40]}`",
                    next_step=f"use one of: {', '.join(self._attestors) or 'none is configured'}",
                )
        _check_size({proof.attestor: proof.payload for proof in proofs})

    # Sessions.

    def _ask(self, session: _Session, now: datetime) -> Question:
        self._sweep()
        of_source = sum(1 for one in self._sessions.values() if one.source == session.source)
        if len(self._sessions) >= MAX_SESSIONS or of_source >= MAX_SESSIONS_OF_SOURCE:
            raise _busy("too many questions are open")
        name = self._new_session()
        assert name not in self._sessions, "a name of a session was guessed by ourselves"
        self._sessions[name] = session
        questions = {attestor: challenge.question for attestor, challenge in session.asked.items()}
        return Question(session=name, questions=questions, expires=now + SESSION_LIFE)

    def _end(self) -> float:
        return self._clock.monotonic() + SESSION_LIFE.total_seconds()

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for name in [name for name, one in self._sessions.items() if one.ends <= now]:
            del self._sessions[name]

    # Limits and reports.

    async def _reported(self, source: str, work: Callable[[_At], Awaitable[_R]]) -> _R:
        at = _At()
        try:
            self._admit(source)
            if self._busy >= MAX_AT_ONCE:
                raise _busy("too many proofs are being verified")
            self._busy += 1
            try:
                async with asyncio.timeout(TIME.total_seconds()):
                    return await work(at)
            except TimeoutError:
                raise Unavailable(
                    "trust.proof.slow",
                    "the proof could not be verified in time",
                    next_step="see whether the platform's issuer answers",
                    retry_after=timedelta(seconds=30),
                ) from None
            finally:
                self._busy -= 1
        except RemitError as error:
            await self._refused(at.attestor, error.code, error.message, source)
            raise


class _At:
    """How far a presentation came: the attestor that looks at it."""

    attestor = ""


def _own(attestor: str, evidence: Evidence) -> Evidence:
    """An attestor speaks for itself alone."""
    assert evidence.attestor == attestor
    assert all(one.attestor == attestor for one in evidence.selectors)
    return evidence


def _check_size(content: Mapping[str, Mapping[str, Json]]) -> None:
    if not fits(content, MAX_DEPTH + 1):
        raise _malformed(f"it is nested deeper than {MAX_DEPTH}")
    try:
        size = len(canonical(content))
    except Rejected as why:
        raise _malformed(why.message) from None
    if size > MAX_PAYLOAD_BYTES:
        raise _malformed(f"it is larger than {MAX_PAYLOAD_BYTES} bytes")


def _malformed(why: str) -> Rejected:
    return Rejected("trust.proof.malformed", f"this is no proof that we accept: {why}")


def _busy(why: str) -> Unavailable:
    return Unavailable("trust.proof.busy", f"no proof is taken just now: {why}", retry_after=timedelta(seconds=10))
