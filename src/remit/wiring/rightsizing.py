"""Right-sizing of one installation: granted against used, the proposal with its replay, and its way into force.

Intent before effect: each phase is signed, kept and in the ledger before the target is touched, each effect may be
done again, and what was refused since takes the change back by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.governance.rightsizing.languages.postgres import Login, matches
from remit.governance.rightsizing.model import Confidence, Draft, Judge, Replay, admitted
from remit.governance.rightsizing.radius import Radius, radius
from remit.governance.rightsizing.replay import replay
from remit.governance.rightsizing.rhythm import Fit, fit
from remit.governance.rightsizing.stages import IN_FORCE, Change, Phase, forged
from remit.inventory.records import IdentityRecord
from remit.inventory.use.judge import together, window_of
from remit.inventory.use.model import UNCLEAR, Deed
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import parse_rfc3339, rfc3339
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, RemitError
from remit.wiring import rightsizing_decisions as decisions
from remit.wiring.paths import WAITING, Queue
from remit.wiring.rightsizing_sources import Granted, Sources
from remit.wiring.use import names_watched

if TYPE_CHECKING:
    from remit.governance.signatures import Approver
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.rightsizing")
_SECONDS: Final = 10.0
_PUT_OFF: Final = "; not given back yet: "
_LARGEST_TOLD: Final = 24_000
_FRESH_SECONDS: Final = 10.0
MOST_TOP: Final = 200
"""Identities that the list of the whole estate looks at."""
MOST_WINDOW: Final = 400
MOST_MINUTES: Final = 7 * 24 * 60
_WATCHED: Final = timedelta(days=30)
"""For how long a refusal takes a change back by itself; later a person decides."""
_RISK: Final = {Confidence.HIGH: 0.05, Confidence.MEDIUM: 0.2, Confidence.LOW: 0.5, Confidence.NONE: 1.0}
"""Of breakage, by how far the logs bear out that nothing else is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """One identity: what it holds and uses, the proposal, and what the replay says."""

    record: IdentityRecord
    granted: Granted
    draft: Draft
    judge: Judge
    deeds: tuple[Deed, ...]
    beyond: int
    fit: Fit
    replay: Replay
    now: Radius | None
    after: Radius | None

    @property
    def risk(self) -> float:
        """That something breaks, from 0 to 1."""
        if self.replay.refused:
            return 1.0
        hidden = 0.0 if self.replay.proven else 0.3
        return min(1.0, _RISK[self.fit.confidence] + hidden)

    @property
    def worth(self) -> float:
        """How much of the radius goes, times how likely nothing breaks: by which candidates are ordered."""
        cut = self.now.score - self.after.score if self.now and self.after else 0
        return (cut + self.draft.ratio) * (1 - self.risk)

    def as_json(self, *, texts: bool = True) -> dict[str, Any]:
        draft = self.draft
        found: dict[str, Any] = {
            "identity": self.record.id, "title": self.record.title, "system": self.record.system,
            "owner": self.record.owner, "language": self.granted.holding.language, "source": self.granted.source,
            "enforced_by": f"target {self.granted.target}" if self.granted.target else "",
            "digest": draft.digest, "granted": draft.granted, "used": draft.used, "ratio": draft.ratio,
            "removed": len(draft.removed), "confidence": self.fit.confidence.value, "why": self.fit.why,
            "rhythm": {
                "name": self.fit.rhythm.name, "period_days": self.fit.rhythm.period, "seen": self.fit.rhythm.seen,
            },
            "window_days": self.fit.window_days, "needed_days": self.fit.needed_days,
            "radius_now": self.now.as_json() if self.now else None,
            "radius_after": self.after.as_json() if self.after else None,
            "risk": round(self.risk, 3), "worth": round(self.worth, 3), "replay": self.replay.as_json(),
            "changes": bool(draft.commands),
        }  # fmt: skip
        if texts:
            found |= {
                "notes": [*self.granted.notes, *draft.notes],
                "texts": [
                    {"name": text.name, "before": text.before, "after": text.after, "diff": text.diff()}
                    for text in draft.texts
                ],
                "commands": list(draft.commands), "inverse": list(draft.inverse),
                "removed_rights": [
                    {"action": each.action, "resource": each.resource, "via": each.via} for each in draft.removed[:500]
                ],
                "deeds": [
                    {"action": each.action, "resource": each.resource, "count": each.count, "refused": each.refused,
                     "first": each.first, "last": each.last, "days": len(each.days), "wide": each.wide}
                    for each in sorted(self.deeds, key=lambda one: -one.count)[:200]
                ],
            }  # fmt: skip
        return found


class Rightsizing:
    """The verbs of right-sizing as surfaces ask for them."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._alone = asyncio.Lock()
        self._queue = Queue(2, WAITING)
        self._top: tuple[int, float, tuple[list[Sized], list[str]]] | None = None
        self._canaries = decisions.DecisionCanaries(control)
        self.sources = Sources(control)

    # -- looking

    async def size(self, given: str, *, window: int = 0, source: str = "", data_events: bool = False) -> Sized:
        """Granted against used for the identity so named; changes nothing.

        `window` looks at so many last days alone. Raises what `Sources.granted` raises, and as `Queue.turn`.
        """
        async with self._queue.turn():
            return await self._size(given, window=window, source=source, data_events=data_events)

    async def _size(self, given: str, *, window: int = 0, source: str = "", data_events: bool = False) -> Sized:
        identity = await self._control.resolve(given)
        record, names, deeds, beyond, days, seen = await self._control.store.read(lambda unit: _used(unit, identity))
        granted = await self.sources.granted(record, names, source=source, data_events=data_events)
        since, until = seen
        if granted.deeds is not None:
            deeds, beyond = list(granted.deeds), 0
            days = sorted({day for deed in deeds for day in deed.days})
            since, until = granted.since, self._control.clock.now()
        if window and until is not None:
            start = until - timedelta(days=min(window, MOST_WINDOW))
            since = max(since, start) if since else start
            deeds = [deed for deed in deeds if deed.last >= start]
            days = [day for day in days if day >= start.date().isoformat()]
        strange = sorted({deed.action for deed in deeds if deed.action != UNCLEAR and granted.unread(deed)})
        if strange:
            deeds = [replace(deed, action=UNCLEAR) if deed.action in strange else deed for deed in deeds]
            shown = ", ".join(strange[:5]) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            note = f"the log names what is no action of the reference: {shown}; look at what they need"
            granted = replace(granted, notes=(*granted.notes, note))
        draft, judge = await asyncio.to_thread(granted.holding.draft, deeds)
        done = (
            await asyncio.to_thread(granted.replayed, draft)
            if granted.replayed is not None
            else await asyncio.to_thread(replay, deeds, granted.holding, judge, beyond=beyond)
        )
        now, after = await self._radii(identity, granted, judge)
        return Sized(
            record=record, granted=granted, draft=draft, judge=judge, deeds=tuple(deeds), beyond=beyond,
            fit=fit(deeds, days, since, until, record.created), replay=done, now=now, after=after,
        )  # fmt: skip

    async def top(self, limit: int = 20) -> tuple[list[Sized], list[str]]:
        """Candidates of the whole estate, the most worth first; and what could not be looked at, in sentences.

        Each is a look at its source: an answer serves all who ask within a few seconds of it.
        """
        async with self._queue.turn():
            size = await self._control.store.read(lambda unit: unit.ledger.size())
            if self._top is None or self._top[0] != size or time.monotonic() - self._top[1] > _FRESH_SECONDS:
                self._top = (size, time.monotonic(), await self._all())
            found, untold = self._top[2]
            return found[:limit], untold

    async def _all(self) -> tuple[list[Sized], list[str]]:
        known = await self._control.store.read(_identities_with_deeds)
        found, untold = [], []
        for identity in known[:MOST_TOP]:
            try:
                found.append(await self._size(identity))
            except RemitError as error:
                untold.append(f"{identity}: {error.message}")
        if len(known) > MOST_TOP:
            untold.append(f"{len(known) - MOST_TOP} more identities act, and were not looked at")
        found.sort(key=lambda one: (-one.worth, one.record.id))
        return found, untold

    async def prove(self, given: str, **how: Any) -> dict[str, Any]:
        """The replay with its evidence, put into the ledger under the proposal's digest."""
        sized = await self.size(given, **how)
        told = _proof(sized)
        await self._control.store.write(
            lambda unit: unit.record(
                "governance.rightsizing.replayed", actor="system:rightsizing", subject=sized.record.id, data=told
            )
        )
        return sized.as_json()

    async def _radii(self, identity: str, granted: Granted, judge: Judge) -> tuple[Radius | None, Radius | None]:
        graph = await self._control.graphs.now()
        if identity not in graph:
            return None, None
        now = await asyncio.to_thread(radius, graph, identity)
        kept = granted.keeps(judge)
        return now, await asyncio.to_thread(radius, graph, identity, *kept) if kept else None

    # -- stages

    async def changes(self, given: str = "") -> Sequence[Change]:
        """The newest first; of one identity where it is given."""
        identity = await self._control.resolve(given) if given else ""
        found: Sequence[Change] = await self._control.store.read(lambda unit: unit.rightsizing.changes(identity))
        return found

    async def shadow(self, given: str, *, by: Approver, source: str = "", data_events: bool = False) -> Change:
        """Keep a proposal, change nothing, and count from now on what it would refuse."""
        async with self._alone:
            sized = await self._size(given, source=source, data_events=data_events)
            if not sized.draft.commands:
                raise Conflict("governance.rightsizing.nothing", "it holds no right that it does not use")
            open_ = [each for each in await self.changes(sized.record.id) if each.phase is not Phase.RESTORED]
            if open_:
                raise _wrong_phase(open_[0])

            def work(unit: Any) -> Change:
                made = self._signed(
                    Change(
                        id=unit.new_id("rz"), identity=sized.record.id, language=sized.granted.holding.language,
                        target=sized.granted.target, login=sized.granted.login, phase=Phase.SHADOW, revision=0,
                        started=unit.now, moved=unit.now, actor=f"person:{by.name}", proposed_by=f"person:{by.name}",
                        digest=sized.draft.digest, commands=sized.draft.commands, inverse=sized.draft.inverse,
                        replay=_proof(sized), approval=by.evidence(),
                    )
                )  # fmt: skip
                unit.rightsizing.insert(made)
                unit.record("governance.rightsizing.shadow", actor=made.actor, subject=made.identity, data=_told(made))
                return made

            made: Change = await self._control.store.write(work)
            return made

    async def shadowed(self, change: Change) -> Replay:
        """What the proposal of a change would have refused since it was made: acts that came new into the logs."""
        _, _, deeds, beyond, _, _ = await self._control.store.read(lambda unit: _used(unit, change.identity))
        sized = await self._size(change.identity)
        if sized.granted.deeds is not None:
            deeds, beyond = list(sized.deeds), 0
        before = [deed for deed in deeds if deed.first <= change.started]
        _, judge = await asyncio.to_thread(sized.granted.holding.draft, before)
        since = [deed for deed in deeds if deed.last > change.started]
        return await asyncio.to_thread(replay, since, sized.granted.holding, judge, beyond=beyond)

    async def canary(self, given: str, *, by: Approver, minutes: int = 15, share: int = 0) -> Change:
        """Put the proposal in force for a short time; it is taken back by itself at the end, or at a refusal.

        Where we decide ourselves, for `share` per cent of the consumers (0: the usual share).
        """
        if not 1 <= minutes <= MOST_MINUTES:
            raise Rejected("governance.rightsizing.minutes", f"a canary takes 1 to {MOST_MINUTES} minutes")
        async with self._alone:
            current = await self._newest(given)
            if current.phase is not Phase.SHADOW:
                raise _wrong_phase(current)
            share = decisions.share_of(current.language, share)
            ends = rfc3339(self._control.clock.now() + timedelta(minutes=minutes))
            return await self._enter(current, Phase.CANARYING, Phase.CANARY, by, ends=ends, share=share)

    async def enforce(self, given: str, *, by: Approver) -> Change:
        """Put the proposal in force, by somebody else than who proposed it where there is somebody."""
        async with self._alone:
            current = await self._newest(given)
            if current.phase is Phase.ENFORCED:
                return current
            # What was interrupted (`enforcing`) is taken back first: made anew, it would forget what there was before.
            if current.phase not in (Phase.SHADOW, Phase.CANARY):
                raise _wrong_phase(current)
            if self._control.standing.person_count > 1 and current.proposed_by == f"person:{by.name}":
                raise Denied(
                    "governance.rightsizing.own", "who proposed it does not put it in force alone",
                    next_step=f"another person runs `remit rightsize stage {current.identity} enforce`",
                )  # fmt: skip
            if current.language == decisions.LANGUAGE:
                decisions.require_in_force(await self._size(current.identity))
                self._canaries.end(current)
                current = await self._save(current, Phase.ENFORCING, by=by, ends="", share=100)
                return await self._save(current, Phase.ENFORCED)
            if current.phase is Phase.CANARY:
                # It is in force: what there is to take back stays as it was noted.
                current = await self._save(current, Phase.ENFORCING, by=by, ends="")
                return await self._save(current, Phase.ENFORCED)
            return await self._enter(current, Phase.ENFORCING, Phase.ENFORCED, by, ends="")

    async def back(self, given: str, *, by: Approver | None = None, why: str = "") -> Change:
        """Give back what was taken; again changes nothing."""
        async with self._alone:
            current = await self._newest(given)
            return await self._back(current, by=by, why=why)

    async def _enter(
        self, current: Change, during: Phase, done: Phase, by: Approver, *, ends: str, share: int = 100
    ) -> Change:
        sized = await self._size(current.identity)
        if sized.replay.refused:
            raise Conflict(
                "governance.rightsizing.would-break", sized.replay.said,
                next_step="take it back, and propose anew: `remit rightsize stage ID back`, then `shadow`",
            )  # fmt: skip
        if current.phase is Phase.SHADOW and sized.draft.digest != current.digest:
            raise Conflict(
                "governance.rightsizing.moved", "what it uses or holds changed since it was proposed",
                next_step="`remit rightsize stage ID back`, then `shadow`: the proposal is made anew",
            )  # fmt: skip
        if current.language == decisions.LANGUAGE:
            entered = await self._save(current, during, by=by, ends=ends, share=share, refused=())
            self._canaries.begin(entered, sized)
            return await self._save(entered, done)
        if not current.target:
            raise Conflict(
                "governance.rightsizing.by-hand", "Remit holds no connection that could put this in force",
                next_step="`remit rightsize ID --out DIR` writes the change; apply it, then read the source again",
            )  # fmt: skip
        target = await self._control.targets.get(current.target)
        from remit.providers.postgres import rightsizing as server

        taken = tuple(sorted({f"{each.action}: {each.resource.partition('.')[2]}" for each in sized.draft.removed}))
        async with self.sources.connected(target) as connection:
            end = await server.log_end(connection)
            objects = await server.objects_of(connection, {each.partition(": ")[2] for each in taken})
        log: dict[str, Json] = {} if end is None else {"file": end[0], "at": end[1]}
        log["objects"] = dict(objects)
        log["refused"] = sum(deed.refused for deed in sized.deeds)
        current = await self._save(
            current, during, by=by, ends=ends, log=log, refused=(), commands=sized.draft.commands,
            inverse=sized.draft.inverse, taken=taken,
        )  # fmt: skip
        return await self._apply(current, done, sized)

    async def _apply(self, current: Change, done: Phase, sized: Sized) -> Change:
        from remit.providers.postgres import rightsizing as server

        target = await self._control.targets.get(current.target)
        try:
            async with self.sources.connected(target) as connection:
                await server.change(connection, current.login, current.commands, _tables(sized))
        except Conflict as error:
            await self._back(current, by=None, why=error.message)
            raise
        saved = await self._save(current, done)
        await self._control.changed(current.identity)
        return saved

    async def _back(self, current: Change, *, by: Approver | None, why: str) -> Change:
        if current.phase is Phase.RESTORED:
            return current
        if current.phase is Phase.SHADOW:
            return await self._save(current, Phase.RESTORED, by=by, trouble=why)
        if current.phase is not Phase.RESTORING:
            current = await self._save(current, Phase.RESTORING, by=by, trouble=why)
        if current.language == decisions.LANGUAGE:
            return await self._policies_back(current)
        from remit.providers.postgres import rightsizing as server

        known: Any = current.log.get("objects") or {}
        try:
            target = await self._control.targets.get(current.target)
            async with self.sources.connected(target) as connection:
                left = await server.undo(
                    connection, current.login, current.inverse, current.taken,
                    {str(path): int(oid) for path, oid in known.items()},
                )  # fmt: skip
        except RemitError as error:
            await self._put_off(current, error)
            raise
        trouble = "; ".join((*filter(None, (current.trouble.partition(_PUT_OFF)[0],)), *left))[:1000]
        saved = await self._save(current, Phase.RESTORED, trouble=trouble, ends="")
        await self._control.changed(current.identity)
        return saved

    async def _policies_back(self, current: Change) -> Change:
        """End the canary; what people put in force as a policy, people take back, and until then it says so."""
        self._canaries.end(current)
        if await decisions.rule_in_force(self._control, current.identity):
            by_hand = Conflict("governance.rightsizing.by-hand", "a person runs `remit policy rollback`")
            await self._put_off(current, by_hand)
            return await self._current(current.id) or current
        trouble = current.trouble.partition(_PUT_OFF)[0]
        return await self._save(current, Phase.RESTORED, trouble=trouble, ends="")

    async def _put_off(self, current: Change, error: RemitError) -> None:
        """Say once, in the ledger too, that rights are not back yet: it is tried again until they are."""
        trouble = f"{current.trouble.partition(_PUT_OFF)[0][:600]}{_PUT_OFF}{error.message}"[:1000]
        if trouble != current.trouble:
            await self._save(current, Phase.RESTORING, trouble=trouble)

    # -- looking after what is in force

    async def run(self) -> None:
        """Look every ten seconds until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                await self.look()
            except RemitError as error:
                _log.warning("right-sizing is looked at later: %s", error)

    async def look(self) -> None:
        """Go on with what was interrupted, end canaries, and take back what refuses."""
        for change in await self._control.store.read(lambda unit: unit.rightsizing.under_way()):
            try:
                async with self._alone:
                    await self._look_at(self._verified(change))
            except RemitError as error:
                _log.warning("right-sizing of %s is put off: %s", change.identity, error)

    async def _look_at(self, change: Change) -> None:
        current = await self._current(change.id)
        if current is None or current.revision != change.revision:
            return
        current = self._verified(current)
        if current.phase in (Phase.CANARYING, Phase.ENFORCING):
            # Killed between the intent and its effect: whoever agreed agrees again, from what was.
            await self._back(current, by=None, why="interrupted")
            return
        if current.phase is Phase.RESTORING:
            await self._back(current, by=None, why=current.trouble)
            return
        if current.phase is Phase.ENFORCED and self._control.clock.now() - current.moved > _WATCHED:
            return
        if current.language == decisions.LANGUAGE:
            if current.phase is Phase.CANARY:
                why = self._canaries.over(current)
            else:
                refused = await decisions.refused_by_rule(self._control, current)
                why = f"refused: {refused[0]}" if refused else ""
            if why.startswith("refused: "):
                current = await self._save(current, current.phase, refused=(why.removeprefix("refused: "),))
            if why:
                await self._back(current, by=None, why=why)
            return
        if current.ends and self._control.clock.now() >= parse_rfc3339(current.ends):
            await self._back(current, by=None, why="the canary's time is over")
            return
        refused, log = await self._refused(current)
        if refused:
            current = await self._save(current, current.phase, refused=refused, log=log)
            await self._back(current, by=None, why=f"refused: {refused[0]}")
        elif log != current.log:
            await self._save(current, current.phase, log=log, quiet=True)

    async def _refused(self, change: Change) -> tuple[tuple[str, ...], dict[str, Json]]:
        """What was refused since: as the server's log says, or the logs that were read."""
        from remit.providers.postgres import rightsizing as server

        log = dict(change.log)
        told: tuple[str, ...] = ()
        if change.target and log.get("file"):
            target = await self._control.targets.get(change.target)
            async with self.sources.connected(target) as connection:
                file, at = str(log["file"]), int(str(log["at"]))
                told, log["at"] = await server.denied_since(connection, change.login, file, at, change.taken)
                end = await server.log_end(connection)
                if end is not None and end[0] != file:  # it was rotated
                    more, log["at"] = await server.denied_since(connection, change.login, end[0], 0, change.taken)
                    told, log["file"] = (*told, *more), end[0]
        try:
            _, _, deeds, _, _, _ = await self._control.store.read(lambda unit: _used(unit, change.identity))
        except NotFound:
            deeds = []  # it was joined with another: the server's log speaks alone
        read: list[str] = []
        if sum(deed.refused for deed in deeds) > int(str(log.get("refused", 0))):
            fresh = (deed for deed in deeds if deed.refused and deed.last > change.moved)
            read = [f"{deed.action} on {deed.resource}" for deed in fresh]
        return tuple(dict.fromkeys((*told, *read)))[:20], log

    # -- rows

    async def _newest(self, given: str) -> Change:
        found = await self.changes(given)
        if not found:
            raise NotFound(
                "governance.rightsizing.none", "nothing was proposed for it yet",
                next_step="`remit rightsize stage ID shadow`",
            )  # fmt: skip
        return self._verified(found[0])

    async def _current(self, change_id: str) -> Change | None:
        found: Change | None = await self._control.store.read(lambda unit: unit.rightsizing.change(change_id))
        return found

    def _verified(self, change: Change) -> Change:
        if not self._control.witness.verify("rightsizing", change.as_json(), change.signature):
            raise forged(change.id)
        return change

    def _signed(self, change: Change) -> Change:
        return replace(change, signature=self._control.witness.sign("rightsizing", change.as_json()))

    async def _save(
        self, current: Change, to: Phase, *, by: Approver | None = None, quiet: bool = False, **values: Any
    ) -> Change:
        who = {"actor": f"person:{by.name}", "approval": by.evidence()} if by is not None else {}

        def work(unit: Any) -> Change:
            made = self._signed(current.step(to, unit.now, **who, **values))
            if quiet:
                made = self._signed(replace(made, moved=current.moved))
            if not unit.rightsizing.save(made, expected=current.revision):
                raise Conflict(
                    "governance.rightsizing.moved", f"`{current.id}` was moved on by somebody else meanwhile"
                )
            if not quiet:
                unit.record(
                    f"governance.rightsizing.{to.value}", actor=made.actor, subject=made.identity, data=_told(made)
                )
            return made

        saved: Change = await self._control.store.write(work)
        return saved


def _used(
    unit: Any, identity: str
) -> tuple[IdentityRecord, list[str], list[Deed], int, list[str], tuple[datetime | None, datetime | None]]:
    """What an identity is called and did, on which days, and from when to when logs tell of it."""
    record: IdentityRecord | None = unit.inventory.identities([identity]).get(identity)
    if record is None:
        raise NotFound("governance.rightsizing.identity", f"no identity `{identity[:64]}` is known (any more)")
    names = names_watched(unit, identity)
    books = unit.rightsizing.deeds(names)
    deeds = [deed for book in books.values() for deed in book.rows.values()]
    whole = together(list(unit.use.of(names).values()))
    window = window_of(names, unit.use.windows())
    seen = (window.since, window.until) if window is not None else (None, None)
    return record, names, deeds, sum(book.beyond for book in books.values()), list(whole.days if whole else ()), seen


def _identities_with_deeds(unit: Any) -> list[str]:
    found: dict[str, None] = {}
    after = ""
    while part := unit.rightsizing.names(after):
        after = part[-1]
        found.update(dict.fromkeys(unit.inventory.resolve(part).values()))
        if len(found) > 10 * MOST_TOP:
            break
    return list(found)


def _tables(sized: Sized) -> list[tuple[str, str]]:
    """What the server is asked about before a change is committed: each table privilege that is in use."""
    holding = sized.granted.holding
    if not isinstance(holding, Login):
        return []
    acts = admitted(sized.deeds)
    found = {
        (deed.action, each.path.partition(".")[2])
        for each in holding.privileges if each.kind == "table" and "(" not in each.action
        for deed in acts if not deed.wide and matches(deed, each) and deed.action != "EXECUTE"
    }  # fmt: skip
    return sorted(found)


def _proof(sized: Sized) -> dict[str, Json]:
    done = sized.replay
    return {
        "digest": sized.draft.digest, "observed": done.observed, "refusals": done.refusals, "outside": done.outside,
        "unclear": done.unclear, "beyond": done.beyond, "proven": done.proven, "said": done.said,
        "confidence": sized.fit.confidence.value, "why": sized.fit.why,
    }  # fmt: skip


def _told(made: Change) -> dict[str, Json]:
    """For the ledger; of more statements than an entry holds, their digest."""
    said = made.as_json()
    texts = {key: said[key] for key in ("commands", "inverse", "taken")}
    if sum(len(each.encode()) for part in (made.commands, made.inverse, made.taken) for each in part) > _LARGEST_TOLD:
        said = {key: value for key, value in said.items() if key not in texts and key != "log"}
        said["statements"] = digest(texts)
    return {**said, "in_force": made.phase in IN_FORCE}


def _wrong_phase(current: Change) -> Conflict:
    return Conflict(
        "governance.rightsizing.phase", f"`{current.id}` is `{current.phase.value}`",
        next_step="`remit rightsize stage ID canary`, `enforce` or `back` goes on with it",
    )  # fmt: skip
