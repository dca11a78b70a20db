"""Network segments in one installation: planned, applied with a way back, following grants, and probed.

apply   1. commit what will hold and what held      2. put it there      3. try what should work and what should not
        4. commit it with its digest and its probe  — or put back what held, when anything failed
start   what was being applied when Remit stopped is put back
follow  rules of a segment that follows are rendered again whenever grants change, and replaced when they differ
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from remit.access.segments import Applied, Check, Form, Place, Probe, Segment, Verdict, build, render
from remit.access.segments.grounds import ClusterGround, HbaGround, NftGround
from remit.access.segments.model import SIGNED_AS, mark_of
from remit.access.segments.ports import Ground
from remit.kernel.canonical import Json, digest
from remit.kernel.errors import Conflict, Misconfigured, NotFound, RemitError
from remit.kernel.events import Event
from remit.providers.network import Nft
from remit.wiring.segment_facts import is_genuine, server_of, sign_place, situation, trial

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.segments")
ACTOR: Final = "system:segments"
_EVERY: Final = 15.0
_BATCH: Final = 0.02
"""Seconds that a change waits for others."""
_SETTLES: Final = 5.0
"""Seconds that a mint waits for rules that follow."""
_TRIES: Final = 10
_AGAIN: Final = 0.1
_MOVES: Final = ("access.grant.", "access.lease.", "access.task.", "access.target.", "access.segment.place")
"""Events after which rules that follow may be others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What would hold."""

    segment: Segment
    form: Form
    text: str


class Segments:
    """The verbs on segments, and the loop that lets some follow."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._nft = Nft()
        self._lock = asyncio.Lock()
        self._busy: asyncio.Task[Any] | None = None
        self._following: frozenset[str] = frozenset()
        """Targets with rules that follow."""

    # -- places

    async def place(self, place: Place, *, approval: Mapping[str, Json]) -> Place:
        """Register where a task comes from, or a target is, on a person's word; it replaces what was registered."""
        signed = replace(place, signature=sign_place(place, self._control.witness))

        def work(unit: Any) -> None:
            unit.segments.put_place(signed)
            data = {**signed.content(), "digest": digest(signed.content()), "approval": dict(approval)}
            unit.record("access.segment.placed", actor=signed.created_by, subject=signed.subject, data=data)

        await self._control.store.write(work)
        return signed

    async def displace(self, subject: str, *, actor: str) -> None:
        """Forget a place; `NotFound` (`access.segment.no_place`)."""

        def work(unit: Any) -> None:
            if not unit.segments.remove_place(subject):
                raise NotFound(
                    "access.segment.no_place", f"no place of `{subject[:96]}` is registered",
                    next_step="`remit segment places`",
                )  # fmt: skip
            unit.record("access.segment.place_removed", actor=actor, subject=subject)

        await self._control.store.write(work)

    async def places(self) -> Sequence[Place]:
        """Those that count."""
        rows = await self._control.store.read(lambda unit: unit.segments.places())
        return [one for one in rows if is_genuine(one, self._control.witness)]

    # -- plan, apply, remove

    async def plan(self, target: str, form: Form, *, running: bool = False) -> Planned:
        """What would hold; nothing changes. Raises as `render`, and `NotFound` for an unknown target."""
        found = await self._control.targets.get(target)
        facts = await situation(self._control, found, running=running)
        if form is Form.PG_HBA and found.system == "postgres":
            address, patterns = await (await server_of(self._control, target))[0].seen_from()
            facts = replace(facts, address=address, patterns=patterns)
        segment = build(facts)
        return Planned(segment=segment, form=form, text=render(segment, form))

    async def apply(
        self, target: str, form: Form, *, follow: bool, file: str, actor: str, approval: Mapping[str, Json]
    ) -> tuple[Applied, Probe]:
        """Let the plan hold, try it, and put everything back where what should work does not.

        Raises `Conflict` (`access.segment.rolled_back`) then, and what the place itself raises.
        """
        async with self._alone():
            planned = await self.plan(target, form, running=follow)
            done = await self._apply(planned, follow=follow, file=file, actor=actor, approval=approval, thorough=True)
        await self._note_followers()
        return done

    async def remove(self, target: str, form: Form, *, actor: str) -> None:
        """Take our rules away; what others wrote stays. `NotFound` (`access.segment.not_applied`)."""
        async with self._alone():
            held = await self._held(target, form)
            if held is None:
                raise NotFound(
                    "access.segment.not_applied", f"no {form.value} rules of `{target[:64]}` are applied",
                    next_step="`remit segment ls`",
                )  # fmt: skip
            await (await self._ground(target, form, held.file)).back(self._mark(target), "")

            def work(unit: Any) -> None:
                unit.segments.remove_applied(target, form)
                unit.record(
                    "access.segment.removed", actor=actor, subject=f"target:{target}", data={"form": form.value}
                )

            await self._control.store.write(work)
        await self._note_followers()

    async def _apply(
        self, planned: Planned, *, follow: bool, file: str, actor: str, approval: Mapping[str, Json], thorough: bool
    ) -> tuple[Applied, Probe]:
        segment, form = planned.segment, planned.form
        held = await self._held(segment.target, form)
        ground = await self._ground(segment.target, form, file)
        ground.require()
        beginning = Applied(
            target=segment.target, form=form, text=planned.text, follow=follow, file=file,
            before=held.text if held is not None else "", listing="", settled=False, actor=actor,
            time=self._control.clock.now(),
        )  # fmt: skip
        await self._keep(beginning, "access.segment.applying", {"approval": dict(approval)})
        try:
            await ground.put(segment.mark, planned.text)
        except RemitError as error:
            await self._note_undone(beginning, held, str(error))  # it changed nothing
            raise
        except BaseException:
            await self._undo(beginning, held, "it was broken off")
            raise
        try:
            checks = await self._tried(ground, segment, thorough=thorough)
            listing = await ground.listing(segment.mark)
        except BaseException as error:
            await self._undo(beginning, held, "it was broken off" if not isinstance(error, RemitError) else str(error))
            raise
        failed = next((one for one in checks if one.verdict is Verdict.FAIL), None)
        if failed is not None:
            why = f"{failed.what} should be {failed.expected}: {failed.detail}"
            await self._undo(beginning, held, why)
            raise Conflict(
                "access.segment.rolled_back", f"the rules of `{segment.target}` were put back: {why}"[:1000],
                next_step="see `remit segment plan`, and that the target answers",
            )  # fmt: skip
        applied = replace(beginning, settled=True, listing=listing)
        await self._keep(applied, "access.segment.applied", {})
        return applied, await self._keep_probe(segment.target, form, checks)

    async def _tried(self, ground: Ground, segment: Segment, *, thorough: bool) -> Sequence[Check]:
        checks: Sequence[Check] = ()
        for _ in range(_TRIES):  # a server reads its rules anew a moment after it was told to
            checks = await ground.checks(segment, thorough=thorough)
            if not any(one.verdict is Verdict.FAIL for one in checks):
                break
            await asyncio.sleep(_AGAIN)
        return checks

    async def _undo(self, beginning: Applied, held: Applied | None, why: str) -> None:
        """Put back what held; should that fail, the loop tries again until it is done."""
        ground = await self._ground(beginning.target, beginning.form, beginning.file)
        await asyncio.shield(ground.back(self._mark(beginning.target), beginning.before))
        await self._note_undone(beginning, held, why)

    async def _note_undone(self, beginning: Applied, held: Applied | None, why: str) -> None:
        ground = await self._ground(beginning.target, beginning.form, beginning.file)
        listing = await ground.listing(self._mark(beginning.target)) if beginning.before else ""

        def work(unit: Any) -> None:
            if beginning.before:
                kept = held or replace(beginning, text=beginning.before, actor=ACTOR)
                unit.segments.put_applied(self._signed(replace(kept, before="", settled=True, listing=listing)))
            else:
                unit.segments.remove_applied(beginning.target, beginning.form)
            data: dict[str, Json] = {"form": beginning.form.value, "why": why[:1000]}
            unit.record("access.segment.rolled_back", actor=ACTOR, subject=f"target:{beginning.target}", data=data)

        await self._control.store.write(work)

    async def require_none(self, target: str) -> None:
        """`Conflict` (`access.segment.holds`) while rules of ours hold around a target: it is needed to end them."""
        held = [one.form.value for one in (await self.state())[0] if one.target == target]
        if held:
            raise Conflict(
                "access.segment.holds", f"network rules of Remit hold around `{target[:64]}`: {', '.join(held)}",
                next_step=f"`remit segment rm {target[:64]} --for {held[0]}`, then try again",
            )  # fmt: skip

    # -- probe

    async def probe(self, target: str, form: Form, *, actor: str) -> Probe:
        """Try from here what should work and what should not, and whether the rules are those that were applied."""
        async with self._alone():
            held = await self._held(target, form)
            planned = await self.plan(target, form, running=held is not None and held.follow)
            ground = await self._ground(target, form, held.file if held is not None else "")
            checks = [*await ground.checks(planned.segment, thorough=True)]
            if held is not None:
                same = bool(held.listing) and await ground.listing(planned.segment.mark) == held.listing
                checks.append(_kept("the rules", same, "they are not those that were applied: somebody changed them"))
                checks.append(_kept("the openings", held.text == planned.text, "grants or tasks changed: apply again"))
            return await self._keep_probe(target, form, checks, actor=actor)

    async def state(self) -> tuple[Sequence[Applied], Sequence[Probe]]:
        """What holds, and the newest probe of each; rows that were changed outside are left out."""
        applied, probes = await self._control.store.read(
            lambda unit: (unit.segments.applied(), unit.segments.probes())
        )  # fmt: skip
        return [one for one in applied if self._is_ours(one)], [one for one in probes if self._is_ours(one)]

    # -- following

    async def run(self) -> None:
        """Put back what was broken off, and let rules follow, until cancelled."""
        async with self._control.bus.subscribe() as queue:
            while True:
                await self.look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY):
                        while not _moves(await queue.get()):
                            continue
                await asyncio.sleep(_BATCH)
                while not queue.empty():
                    queue.get_nowait()

    async def look(self) -> None:
        """Put back what was broken off, and let rules follow; a target that is away holds up no other."""
        await _surely(self._recover())
        await _surely(self._note_followers())
        for target in sorted(self._following):
            await _surely(self.refresh(target))

    async def settle(self, target: str) -> None:
        """Return when the rules of a target follow what is committed, or after 5 s: a mint comes next."""
        if target not in self._following or self._busy is asyncio.current_task():
            return
        try:
            async with asyncio.timeout(_SETTLES):
                await self.refresh(target)
        except (RemitError, TimeoutError) as error:
            _log.warning("the network rules of `%s` do not follow: %s", target, error)

    async def refresh(self, target: str) -> None:
        """Replace those rules of a target that follow and are not what grants say now."""
        async with self._alone():
            for held in (await self.state())[0]:
                if held.target != target or not held.follow or not held.settled:
                    continue
                planned = await self.plan(target, held.form, running=True)
                if planned.text != held.text:
                    await self._apply(
                        planned, follow=True, file=held.file, actor=ACTOR, approval={}, thorough=False
                    )  # fmt: skip

    async def _recover(self) -> None:
        async with self._alone():
            for one in (await self.state())[0]:
                if not one.settled:
                    await _surely(self._undo(one, None, "Remit stopped while it was being applied"))

    async def _note_followers(self) -> None:
        self._following = frozenset(one.target for one in (await self.state())[0] if one.follow)

    # -- parts

    def _mark(self, target: str) -> str:
        return mark_of(self._control.instance, target)

    async def _ground(self, target: str, form: Form, file: str) -> Ground:
        if form is Form.NFTABLES:
            return NftGround(self._nft)
        if form is Form.KUBERNETES:
            return ClusterGround()
        server, address, secret = await server_of(self._control, target)
        return HbaGround(server, address, secret, file=file, trial=partial(trial, self._control, target))

    async def _held(self, target: str, form: Form) -> Applied | None:
        rows = await self._control.store.read(lambda unit: unit.segments.applied())
        held = next((one for one in rows if (one.target, one.form) == (target, form)), None)
        if held is not None and not self._is_ours(held):
            raise Misconfigured(
                "access.segment.forged", f"the record of the rules of `{target[:64]}` was changed outside Remit",
                next_step="compare the rules that hold with `remit segment plan`",
            )  # fmt: skip
        return held

    def _signed(self, applied: Applied) -> Applied:
        return replace(applied, signature=self._control.witness.sign(SIGNED_AS, applied.as_json()))

    def _is_ours(self, row: Applied | Probe) -> bool:
        kind = SIGNED_AS if isinstance(row, Applied) else f"{SIGNED_AS}.probe"
        return self._control.witness.verify(kind, row.as_json(), row.signature)

    async def _keep(self, applied: Applied, event: str, more: Mapping[str, Json]) -> None:
        def work(unit: Any) -> None:
            unit.segments.put_applied(self._signed(applied))
            data: dict[str, Json] = {
                "form": applied.form.value, "text": applied.text, "follow": applied.follow, "file": applied.file,
                **more,
            }  # fmt: skip
            unit.record(event, actor=applied.actor, subject=f"target:{applied.target}", data=data)

        await self._control.store.write(work)

    async def _keep_probe(self, target: str, form: Form, checks: Sequence[Check], *, actor: str = ACTOR) -> Probe:
        def work(unit: Any) -> Probe:
            unsigned = Probe(target=target, form=form, time=unit.now, checks=tuple(checks))
            signature = self._control.witness.sign(f"{SIGNED_AS}.probe", unsigned.as_json())
            probe = replace(unsigned, signature=signature)
            unit.segments.put_probe(probe)
            data = {**probe.as_json(), "verdict": probe.verdict.value}
            unit.record("access.segment.probed", actor=actor, subject=f"target:{target}", data=data)
            return probe

        return await self._control.store.write(work)

    def _alone(self) -> _Alone:
        return _Alone(self)


class _Alone:
    """One verb at a time; a broker that a verb itself asks for does not wait for that verb."""

    def __init__(self, segments: Segments) -> None:
        self._of = segments

    async def __aenter__(self) -> None:
        await self._of._lock.acquire()
        self._of._busy = asyncio.current_task()

    async def __aexit__(self, *why: object) -> None:
        self._of._busy = None
        self._of._lock.release()


async def _surely(work: Awaitable[None]) -> None:
    try:
        await work
    except RemitError as error:
        _log.warning("network rules are put off: %s", error)


def _kept(what: str, same: bool, why: str) -> Check:
    verdict = Verdict.PASS if same else Verdict.FAIL
    return Check(what=what, expected="kept", verdict=verdict, detail="" if same else why)


def _moves(event: Event) -> bool:
    return event.type.startswith(_MOVES)
