"""The rotation engine: each effect is preceded by a committed row that names it, and may be carried out again.

    planned       1. both versions and what each place holds are sealed and committed: from here all can be put back
    publishing    2. the new version is made to count on the target, and logs in once
    switching     3. each consumer: commit `publishing`, write, read back, commit `published`
    verifying     4. probe, consumers, use on the target, health command; the first that is broken turns it round
    revoking      5. the old version is ended and refused, while the new one is admitted; then `done`
    rolling_back  places are put back in order, then the new version is ended and refused

A row has a revision: whoever resumes takes it over, and the writes of a driver that was thought dead change nothing.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import msgspec

from remit.access.model import Proved
from remit.access.rotation.model import FINAL, FORWARD, Login, Mode, Phase, Plan, Run, next_login
from remit.access.rotation.plans import Plans
from remit.access.rotation.ports import Consumer, Places, RotationUnit, Rotator, Tried, Withdrawn
from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Misconfigured, NotFound, RemitError, Unavailable
from remit.kernel.ids import is_id
from remit.kernel.unit import Attester, Sealer, Store

SIGNED_AS: Final = "access.rotation.run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the engine keeps time."""

    poll: timedelta = timedelta(milliseconds=500)
    """Between two looks at use and health."""
    attempts: int = 5
    """How often an effect is tried while the world does not answer, before everything is rolled back."""
    backoff: timedelta = timedelta(seconds=1)


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run is secret."""

    old: str | None
    new: str
    captured: list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a rotation would do, and what stands against it."""

    plan: Plan
    new: str
    consumers: tuple[str, ...]
    knows_old: bool
    sessions: int | None
    obstacles: tuple[str, ...]
    captured: tuple[bytes, ...] = field(repr=False)
    old: str | None = field(repr=False)


@dataclass(slots=True)
class _Work:
    """One run, opened."""

    run: Run
    plan: Plan
    rotator: Rotator
    consumers: Sequence[Consumer]
    old: Login | None
    new: Login
    captured: Sequence[bytes]


class _Broken(Conflict):
    """A consumer does not work with the new version: everything is rolled back."""


class RotationEngine:
    """Rotates, resumes and rolls back. All verbs are safe for concurrent calls on one event loop."""

    def __init__(
        self, *, store: Store[RotationUnit], sealer: Sealer, attester: Attester, plans: Plans, places: Places,
        clock: Clock, entropy: Callable[[int], bytes], pace: Pace | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._plans = plans
        self._places = places
        self._clock = clock
        self._entropy = entropy
        self._pace = pace or Pace()
        self._locks: dict[str, asyncio.Lock] = {}

    # -- what callers ask

    async def preview(self, name: str) -> Preview:
        """What `begin` would do; nothing is changed."""
        plan, sealed = await self._store.read(lambda unit: self._plans.require(unit, name))
        consumers = [self._places.consumer(spec) for spec in plan.consumers]
        captured = [await each.capture() for each in consumers]
        old = self._plans.unseal(plan, sealed) if sealed else _recalled(plan, consumers, captured)
        new = next_login(plan.principal, plan.mode)
        rotator, _ = await self._places.rotator(plan)
        now = self._clock.now()
        try:
            survey = await rotator.survey(plan.principal, new, plan.mode)
            use = await rotator.use(plan.principal, new, plan.mode, now, now=now) if survey.exists else None
        finally:
            await rotator.close()
        obstacles = list(survey.obstacles)
        if not survey.exists:
            obstacles.append(f"`{plan.principal}` does not exist on the target")
        if survey.taken and new not in plan.known:
            obstacles.append(f"`{new}` exists on the target and is not of this rotation")
        if plan.mode is Mode.IN_PLACE and old is None:
            obstacles.append("the present secret is not known, so that nothing could be rolled back")
        return Preview(
            plan=plan,
            new=new,
            consumers=tuple(each.label for each in consumers),
            knows_old=old is not None,
            sessions=None if use is None else use.old + (use.new if new == plan.principal else 0),
            obstacles=tuple(obstacles),
            captured=tuple(captured),
            old=old,
        )

    async def begin(self, name: str, *, actor: str, reason: str) -> Run:
        """Commit a planned rotation with all that it takes to put everything back; `drive` carries it out.

        Raises `Conflict`: `access.rotation.busy` while another is under way, `access.rotation.obstacle`.
        """
        seen = await self.preview(name)
        if seen.obstacles:
            raise Conflict(
                "access.rotation.obstacle",
                f"`{name}` cannot be rotated: {seen.obstacles[0][:300]}",
                next_step=f"`remit rotate {name} --dry-run` lists what stands against it",
            )
        plan = seen.plan
        secret = base64.urlsafe_b64encode(self._entropy(32)).rstrip(b"=").decode()
        bundle = _Sealed(old=seen.old, new=secret, captured=list(seen.captured))

        def work(unit: RotationUnit) -> Run:
            now, _ = self._plans.require(unit, name)
            if now != plan or any(run.plan == name for run in unit.rotations.unfinished()):
                raise Conflict(
                    "access.rotation.busy",
                    f"a rotation of `{name}` is under way",
                    next_step=f"`remit rotate show {name}`",
                )
            run = Run(
                id=unit.new_id("ro"), plan=name, phase=Phase.PLANNED, revision=1, old=plan.principal, new=seen.new,
                places=("waiting",) * len(plan.consumers), started=unit.now, actor=actor, reason=reason[:500],
                moved=unit.now, seen={"sessions_before": seen.sessions},
            )  # fmt: skip
            unit.rotations.insert_run(self._signed(run), self._seal(run.id, bundle))
            unit.record("access.rotation.planned", actor=actor, subject=f"rotation:{name}", data=run.as_json())
            return run

        return await self._store.write(work)

    async def drive(self, run_id: str, *, back: str = "", accept: str = "") -> Run:
        """Carry a rotation on until it is done, rolled back, or waits for the world or for a person.

        `back` says why it is to be rolled back; `Conflict` (`access.rotation.too_late`) once the old one is revoked.
        `accept` names the person who takes a revocation that cannot be proved for done: it is kept as *not proved*.
        """
        first, _ = await self._load(run_id)
        async with self._locks.setdefault(first.plan, asyncio.Lock()):
            run, sealed = await self._load(run_id)
            if back and run.phase not in FORWARD | {Phase.ROLLING_BACK} and not run.turning:
                raise Conflict(
                    "access.rotation.too_late",
                    f"`{run_id}` is `{run.phase.value}`: the old credential does not count any more",
                    next_step=f"`remit rotate {run.plan}` rotates once more",
                )
            if run.phase in FINAL:
                return run
            work = await self._open(run, sealed)
            try:
                await self._take_over(work, back)
                return await self._go(work, accept)
            finally:
                await work.rotator.close()

    async def run(self, run_id: str) -> Run:
        """`NotFound` (`access.rotation.run_unknown`), `Misconfigured` (`access.rotation.forged`)."""
        return (await self._load(run_id))[0]

    async def runs(self, plan: str = "", *, limit: int = 50) -> Sequence[Run]:
        return await self._store.read(lambda unit: unit.rotations.runs(plan, limit=limit))

    async def unfinished(self) -> Sequence[Run]:
        return await self._store.read(lambda unit: unit.rotations.unfinished())

    # -- the way of one run

    async def _take_over(self, work: _Work, back: str) -> None:
        run = work.run
        if run.phase is Phase.STUCK:
            run = run.step(Phase.ROLLING_BACK if run.turning else Phase.REVOKING)
        if back and run.phase in FORWARD:
            run = run.step(Phase.ROLLING_BACK, turning=back[:500])
        await self._commit(work, run)

    async def _go(self, work: _Work, accept: str) -> Run:
        failures = 0
        while work.run.phase not in FINAL | {Phase.STUCK}:
            before = work.run
            try:
                await self._advance(work)
                failures = 0
            except Unavailable as error:
                failures += 1
                if before.phase in FORWARD and failures >= self._pace.attempts:
                    await self._turn(work, error.message)
                elif failures >= self._pace.attempts:
                    await self._commit(work, replace(work.run, trouble=error.message[:500]))
                    return work.run
                else:
                    await asyncio.sleep(self._pace.backoff.total_seconds())
            except RemitError as error:
                if error.code == "access.rotation.raced":
                    raise
                await self._broken(work, error.message)
            except Exception as error:  # a plug-in's own, whose words may show a secret: its kind says enough
                await self._broken(work, f"it failed in a way that nobody expects: {type(error).__name__}")
        if accept and work.run.phase is Phase.STUCK and "why" in work.run.proof:
            run = replace(work.run, proof={**work.run.proof, "accepted_by": accept})
            back = Phase.ROLLING_BACK if run.turning else Phase.REVOKING
            await self._commit(work, run.step(back))
            await (self._turned(work) if run.turning else self._finish(work))
        return work.run

    async def _broken(self, work: _Work, why: str) -> None:
        """Everything is put back while that can be; later a person is waited for."""
        if work.run.phase in FORWARD:
            await self._turn(work, why)
        else:
            await self._commit(work, work.run.step(Phase.STUCK, trouble=why[:500]))

    async def _advance(self, work: _Work) -> None:
        run = work.run
        match run.phase:
            case Phase.PLANNED:
                await self._commit(work, run.step(Phase.PUBLISHING, published=self._clock.now()))
            case Phase.PUBLISHING:
                await work.rotator.publish(run.old, work.new, work.plan.mode)
                await self._require_login(work)
                await self._commit(work, run.step(Phase.SWITCHING))
            case Phase.SWITCHING:
                await self._switch(work)
            case Phase.VERIFYING:
                await self._verify(work)
            case Phase.REVOKING:
                await self._revoke(work)
            case Phase.ROLLING_BACK:
                await self._roll_back(work)
            case _:
                raise AssertionError(run.phase)

    async def _require_login(self, work: _Work) -> Tried:
        tried = await work.rotator.attempt(work.new)
        if not tried.admitted:
            raise _Broken("access.rotation.broken", f"the new credential is refused: {tried.words[:200]}")
        return tried

    async def _switch(self, work: _Work) -> None:
        for number, consumer in enumerate(work.consumers):
            if work.run.places[number] == "published":
                continue
            await self._commit(work, work.run.with_place(number, "publishing"))
            await consumer.publish(work.new)
            seen = await consumer.verify(work.new)
            if not seen.ok:
                raise _Broken("access.rotation.broken", f"{consumer.label} does not hold the new one: {seen.detail}")
            await self._commit(work, work.run.with_place(number, "published"))
        await self._commit(work, work.run.step(Phase.VERIFYING))

    async def _verify(self, work: _Work) -> None:
        seen: dict[str, Json] = dict(work.run.seen)
        seen["probe"] = (await self._require_login(work)).words[:200]
        unmeasured = []
        for consumer in work.consumers:
            read = await consumer.verify(work.new)
            if not read.ok:
                raise _Broken("access.rotation.broken", f"{consumer.label} does not hold the new one: {read.detail}")
            if not read.measured:
                unmeasured.append(consumer.label)
        seen["not_read_back"] = list(unmeasured)
        seen["health"] = await self._until_healthy(work)
        seen["use"] = await self._until_used(work)
        await self._commit(work, work.run.step(Phase.REVOKING, seen=seen))

    async def _until_healthy(self, work: _Work) -> str:
        if not work.plan.health:
            return "no health command"
        until = asyncio.get_running_loop().time() + work.plan.deadline_seconds
        while True:
            healthy, words = await self._places.healthy(work.plan.health)
            if healthy:
                return "healthy"
            if asyncio.get_running_loop().time() >= until:
                raise _Broken("access.rotation.broken", f"the health command fails: {words[:200]}")
            await asyncio.sleep(self._pace.poll.total_seconds())

    async def _until_used(self, work: _Work) -> Json:
        """Wait until nobody uses the old version, and where it was in use before, until somebody uses the new."""
        run, plan = work.run, work.plan
        if not plan.observe:
            return "not asked for"
        until = asyncio.get_running_loop().time() + plan.deadline_seconds
        while True:
            use = await work.rotator.use(run.old, run.new, plan.mode, run.published or run.moved, now=self._clock.now())
            if use is None:
                return "not measured: the target does not tell the two apart"
            if not use.old and (use.new or not run.seen.get("sessions_before")):
                return {"old": use.old, "new": use.new}
            if asyncio.get_running_loop().time() >= until:
                why = f"{use.old} sessions still use the old one" if use.old else "nobody is seen to use the new one"
                raise _Broken("access.rotation.broken", f"{why} after {plan.deadline_seconds} s")
            await asyncio.sleep(self._pace.poll.total_seconds())

    async def _revoke(self, work: _Work) -> None:
        run = work.run
        done = await work.rotator.withdraw(
            run.old, work.old.secret if work.old else None, keep=work.new, mode=work.plan.mode,
            since=run.published or run.moved,
        )  # fmt: skip
        proof = proof_of(done)
        if not done.gone or not isinstance(done.proof, Proved):
            stuck = run.step(Phase.STUCK, trouble=f"not proved: {proof.get('why', 'it is still there')}"[:500])
            await self._commit(work, replace(stuck, proof=proof))
            return
        await self._commit(work, replace(run, proof=proof))
        await self._finish(work)

    async def _finish(self, work: _Work) -> None:
        run = work.run
        plan = self._plans.sign(
            replace(
                work.plan, principal=run.new, version=work.plan.version + 1, rotated=self._clock.now(),
                known=tuple(sorted({*work.plan.known, run.old, run.new})),
            )
        )  # fmt: skip
        await self._commit(work, run.step(Phase.DONE, ended=self._clock.now(), trouble=""), plan=plan)

    async def _roll_back(self, work: _Work) -> None:
        for number, consumer in enumerate(work.consumers):
            if work.run.places[number] in ("publishing", "published"):
                await consumer.restore(work.captured[number], work.old)
                await self._commit(work, work.run.with_place(number, "restored"))
        run = work.run
        if run.published is None:
            await self._commit(work, run.step(Phase.ROLLED_BACK, ended=self._clock.now()))
            return
        done = await work.rotator.withdraw(
            run.new, work.new.secret, keep=work.old, mode=work.plan.mode, since=run.published
        )
        proof = proof_of(done)
        if not done.gone or not isinstance(done.proof, Proved):
            stuck = run.step(Phase.STUCK, trouble=f"not proved: {proof.get('why', 'it is still there')}"[:500])
            await self._commit(work, replace(stuck, proof=proof))
            return
        await self._commit(work, replace(run, proof=proof))
        await self._turned(work)

    async def _turned(self, work: _Work) -> None:
        known = tuple(sorted({*work.plan.known, work.run.old, work.run.new}))
        plan = self._plans.sign(replace(work.plan, known=known))
        run = work.run.step(Phase.ROLLED_BACK, ended=self._clock.now(), trouble="")
        await self._commit(work, run, plan=plan)

    async def _turn(self, work: _Work, why: str) -> None:
        await self._commit(work, work.run.step(Phase.ROLLING_BACK, turning=why[:500]))

    # -- rows

    async def _commit(self, work: _Work, run: Run, *, plan: Plan | None = None) -> None:
        expected, moved = work.run.revision, run.phase is not work.run.phase
        made = replace(run, revision=expected + 1, moved=self._clock.now() if moved else run.moved)
        made = self._signed(made)
        sealed = b"" if made.phase in FINAL else None
        secret = self._plans.seal(plan, work.new.secret) if plan and made.phase is Phase.DONE else None

        def write(unit: RotationUnit) -> None:
            if not unit.rotations.save_run(made, sealed, expected=expected):
                raise Conflict(
                    "access.rotation.raced",
                    f"`{made.id}` is driven by somebody else",
                    next_step=f"`remit rotate show {made.id}`",
                )
            if plan is not None:
                _, held = self._plans.require(unit, plan.name)
                unit.rotations.put_plan(plan, held if secret is None else secret)
            if moved:
                unit.record(
                    f"access.rotation.{made.phase.value}", actor=made.actor, subject=f"rotation:{made.plan}",
                    data=made.as_json(),
                )  # fmt: skip

        await self._store.write(write)
        work.run = made
        if plan is not None:
            work.plan = plan

    async def _open(self, run: Run, sealed: bytes) -> _Work:
        plan = await self._plans.get(run.plan)
        if len(plan.consumers) != len(run.places):
            raise _forged(run.id)
        bundle = msgspec.json.decode(
            self._sealer.unseal(sealed, context=f"access_rotation_run/{run.id}/sealed"), type=_Sealed
        )
        consumers = [self._places.consumer(spec) for spec in plan.consumers]
        rotator, where = await self._places.rotator(plan)
        old = None if bundle.old is None else replace(where, user=run.old, secret=bundle.old)
        return _Work(
            run=run, plan=plan, rotator=rotator, consumers=consumers, old=old,
            new=replace(where, user=run.new, secret=bundle.new), captured=bundle.captured,
        )  # fmt: skip

    async def _load(self, run_id: str) -> tuple[Run, bytes]:
        found = await self._store.read(lambda unit: unit.rotations.run(run_id)) if is_id("ro", run_id) else None
        if found is None:
            raise NotFound(
                "access.rotation.run_unknown", f"no rotation `{run_id[:64]}` was made", next_step="`remit rotate ls`"
            )
        if not self._attester.verify(SIGNED_AS, found[0].as_json(), found[0].signature):
            raise _forged(run_id)
        return found

    def _signed(self, run: Run) -> Run:
        return replace(run, signature=self._attester.sign(SIGNED_AS, run.as_json()))

    def _seal(self, run_id: str, bundle: _Sealed) -> bytes:
        return self._sealer.seal(msgspec.json.encode(bundle), context=f"access_rotation_run/{run_id}/sealed")


def _recalled(plan: Plan, consumers: Sequence[Consumer], captured: Sequence[bytes]) -> str | None:
    """The present secret, as the first consumer has it that can be read: and has it for the very login."""
    for consumer, held in zip(consumers, captured, strict=True):
        found = consumer.recall(held)
        if found.get("secret") and found.get("user", plan.principal) == plan.principal:
            return found["secret"]
    return None


def proof_of(done: Withdrawn) -> dict[str, Json]:
    """What the ledger keeps of it."""
    if isinstance(done.proof, Proved):
        return {"refusal": done.proof.refusal, "control": done.proof.control, "sessions_ended": done.sessions_ended}
    return {"why": done.proof.why, "sessions_ended": done.sessions_ended}


def _forged(run_id: str) -> Misconfigured:
    return Misconfigured(
        "access.rotation.forged",
        f"the record of the rotation `{run_id}` was changed outside Remit",
        next_step="`remit ledger ls` tells what was done; put the target and the consumers right by hand",
    )
