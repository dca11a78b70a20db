"""Scream tests of one installation: held back for a moment, listened for, and restored whatever happens.

Intent before effect: what is restored is signed, kept and in the ledger before the target is touched. A test that this
process did not begin is restored at once, or at its end where another node may be at it; a restoration that fails is
tried again until it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.governance.dependencies.breaks import pulse_of
from remit.governance.dependencies.ports import Means, Outlook, Told
from remit.governance.dependencies.scream import (
    LEAST_SECONDS,
    MOST_SECONDS,
    STRICT_TIERS,
    Phase,
    Scream,
    outcome_of,
    together,
)
from remit.governance.lifecycle import require_reason
from remit.inventory.model import State
from remit.inventory.records import IdentityRecord
from remit.inventory.use import judge
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected, RemitError
from remit.wiring.live_sessions import login_of
from remit.wiring.scream_means import DecisionMeans, PostgresMeans, RedisMeans
from remit.wiring.use import names_watched

if TYPE_CHECKING:
    from remit.governance.signatures import Approver
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.scream")
_SECONDS: Final = 0.5
_FLOOR: Final = 1
"""Of an environment so many may always be held back, or a small one could never be tested."""
_LAPSES: Final = timedelta(hours=1)
"""A proposal that nobody begins for so long is none any more."""
_IN_SERVICE: Final = (State.ACTIVE, State.ROTATING)


class Screams:
    """The verbs of scream tests as surfaces ask for them."""

    def __init__(self, control: ControlPlane, means: Mapping[str, Means] | None = None) -> None:
        self._control = control
        self._alone = asyncio.Lock()
        self._mine: set[str] = set()
        """Tests that this process holds."""
        self._begun = control.clock.now()
        self._means: Mapping[str, Means] = means or {
            "decision": DecisionMeans(control), "postgres": PostgresMeans(control), "redis": RedisMeans(control),
        }  # fmt: skip

    # -- looking

    async def tests(self, given: str = "") -> Sequence[Scream]:
        """Tests, the newest first; of one identity where it is given."""
        identity = await self._control.resolve(given) if given else ""
        found: Sequence[Scream] = await self._control.store.read(lambda unit: unit.screams.tests(identity))
        return found

    async def get(self, test_id: str) -> Scream:
        """One test; `NotFound` (`governance.scream.unknown`)."""
        found: Scream | None = await self._control.store.read(lambda unit: unit.screams.test(test_id))
        if found is None:
            raise NotFound(
                "governance.scream.unknown", f"no scream test is called `{test_id[:60]}`",
                next_step="`remit scream status` lists them",
            )  # fmt: skip
        return found

    async def preview(self, given: str, *, share: int, seconds: int, means: str = "") -> dict[str, Any]:
        """What `start` would do, who would notice, and what stands in the way; changes nothing."""
        draft = await self._draft(given, share=share, seconds=seconds, means=means, reason="")
        outlook = await self._means[draft.means].look(draft)
        barred = await self._control.store.read(lambda unit: self._barred(unit, draft))
        found = await self._control.dependencies.find(draft.identity, live=True)
        persons = self._control.standing.person_count
        return {
            **draft.as_json(), "dry_run": True, "does": outlook.does, "fails_safe": outlook.fails_safe,
            "obstacles": [*outlook.obstacles, *barred], "four_eyes": persons > 1,
            "notes": [*outlook.notes, *await self._rhythm(draft)],
            "stops_at_first": draft.tier in STRICT_TIERS, "dependents": found["dependents"],
            "unmeasured": found["unmeasured"], "blind_spots": found["blind_spots"], "said": found["said"],
        }  # fmt: skip

    # -- beginning and ending

    async def start(
        self, given: str, *, by: Approver, reason: str, share: int = 10, seconds: int = 60, means: str = ""
    ) -> Scream:
        """Hold an identity back for a moment, or propose it, where there is somebody else to begin it.

        The second person signs the very terms that were proposed, within an hour. Raises `Rejected`
        (`governance.scream.terms`), `Conflict` (`governance.scream.obstacle`, `governance.scream.differs`), `Denied`
        (`governance.scream.own`, `governance.scream.limited`).
        """
        async with self._alone:
            identity = await self._control.resolve(given)
            text = require_reason(reason)
            draft = await self._draft(identity, share=share, seconds=seconds, means=means, reason=text)
            if (proposed := await self._proposed(identity, by)) is not None:
                _require_same(proposed, draft)
                await self._require_another(proposed, by)
                return await self._begin(proposed, by)
            persons = self._control.standing.person_count
            await self._require_clear(draft)
            made = await self._propose(draft, by)
            return made if persons > 1 else await self._begin(made, by)

    async def stop(self, given: str, *, actor: str) -> Scream:
        """End a test now, by its id or its identity's, and restore; again changes nothing."""
        async with self._alone:
            if given.startswith("sc_"):
                current = await self.get(given)
            else:
                tests = await self.tests(given)
                if not tests:
                    raise NotFound("governance.scream.unknown", f"`{given[:100]}` was never tested")
                current = tests[0]
            current = self._verified(current)
            if current.phase is Phase.PROPOSED:
                return await self._save(current, Phase.WITHDRAWN, outcome="withdrawn", actor=actor)
            if current.phase in (Phase.RESTORED, Phase.WITHDRAWN):
                return current
            return await self._restore(current, "stopped", actor=actor)

    # -- looking after what is held back

    async def run(self) -> None:
        """Look twice a second until cancelled; then let go of everything that this process holds."""
        try:
            while True:
                try:
                    await self.look()
                except RemitError as error:
                    _log.warning("scream tests are looked at later: %s", error)
                await asyncio.sleep(_SECONDS)
        finally:
            # No await may be lost here: what cannot be restored now is by the target, or by the next start.
            if self._mine:
                await asyncio.shield(self._let_go())

    async def look(self) -> None:
        """Listen, end what is over, and restore what was interrupted."""
        for test in await self._control.store.read(lambda unit: unit.screams.under_way()):
            try:
                async with self._alone:
                    await self._look_at(self._verified(test))
            except RemitError as error:
                _log.warning("the scream test %s of %s is put off: %s", test.id, test.identity, error)

    async def _look_at(self, seen: Scream) -> None:
        current = await self.get(seen.id)
        if current.revision != seen.revision:
            return
        now = self._control.clock.now()
        if current.phase is Phase.RESTORING:
            await self._restore(current, current.outcome or "interrupted")
        elif current.id not in self._mine:
            if current.moved < self._begun or current.is_over(now):
                await self._restore(current, "interrupted")
        else:
            current = await self._listen(current)
            if current.strict is not None:
                await self._restore(current, "screamed")
            elif current.is_over(now):
                await self._restore(current, "heard" if current.heard else "quiet")

    async def _listen(self, current: Scream) -> Scream:
        told = await self._means[current.means].listen(current)
        if not told.heard and not told.tries and dict(told.log) == dict(current.log):
            return current
        heard, beyond = together(current.heard, told.heard)
        fresh = {each.who for each in heard} - {each.who for each in current.heard}
        return await self._save(
            current, current.phase, quiet=not fresh, event="heard", heard=heard, beyond=current.beyond + beyond,
            log=dict(told.log), tries=current.tries + told.tries,
        )  # fmt: skip

    async def _let_go(self) -> None:
        for test_id in tuple(self._mine):
            try:
                async with self._alone:
                    current = await self.get(test_id)
                    if current.phase in (Phase.HOLDING, Phase.HELD, Phase.RESTORING):
                        await self._restore(self._verified(current), "interrupted")
            except RemitError as error:
                _log.warning("the scream test %s is restored by the next start: %s", test_id, error)

    # -- steps

    async def _begin(self, current: Scream, by: Approver) -> Scream:
        """The intent with its way back, then the effect."""
        outlook = await self._require_clear(current)
        ends = rfc3339(self._control.clock.now() + timedelta(seconds=current.seconds))
        self._mine.add(current.id)
        current = await self._save(
            current, Phase.HOLDING, by=by, ends=ends, before=dict(outlook.before), log=dict(outlook.log),
            limited=True,
        )  # fmt: skip
        try:
            await self._means[current.means].hold(current)
        except RemitError as error:
            await self._restore(current, "failed", trouble=error.message)
            raise
        return await self._save(current, Phase.HELD)

    async def _restore(
        self, current: Scream, outcome: str, *, actor: str = "system:scream", trouble: str = ""
    ) -> Scream:
        if current.phase is not Phase.RESTORING:
            current = await self._save(current, Phase.RESTORING, outcome=outcome, trouble=trouble, actor=actor)
        means = self._means[current.means]
        left = await means.restore(current)
        deaf = ""
        try:
            told = await means.listen(current)  # what came in while it was restored
        except RemitError as error:
            told, deaf = Told(log=current.log), error.message
        heard, beyond = together(current.heard, told.heard)
        saved = await self._save(
            current, Phase.RESTORED, heard=heard, beyond=current.beyond + beyond, tries=current.tries + told.tries,
            trouble="; ".join(filter(None, (current.trouble, left, deaf)))[:1000],
            outcome="heard" if heard and current.outcome == "quiet" else current.outcome,
        )  # fmt: skip
        self._mine.discard(current.id)
        return saved

    async def _propose(self, draft: Scream, by: Approver) -> Scream:
        def work(unit: Any) -> Scream:
            made = self._signed(
                replace(
                    draft, id=unit.new_id("sc"), actor=f"person:{by.name}", proposed_by=f"person:{by.name}",
                    approval=by.evidence(), started=unit.now, moved=unit.now,
                )
            )  # fmt: skip
            unit.screams.insert(made)
            unit.record("governance.scream.proposed", actor=made.actor, subject=made.identity, data=_told(made))
            return made

        made: Scream = await self._control.store.write(work)
        return made

    # -- what is required

    async def _draft(self, given: str, *, share: int, seconds: int, means: str, reason: str) -> Scream:
        if not 1 <= share <= 100 or not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            raise Rejected(
                "governance.scream.terms",
                f"a share is 1 to 100 percent, a window {LEAST_SECONDS} to {MOST_SECONDS} seconds",
            )
        identity = await self._control.resolve(given)
        record: IdentityRecord = (
            await self._control.store.read(lambda unit: unit.inventory.identities([identity]))
        )[identity]  # fmt: skip
        record = self._control.standing.judge(record)  # a tier that only a source says loosens nothing
        login = await login_of(self._control, identity) if means != "decision" else None
        if means not in ("", "decision") and (login is None or login[0].system != means):
            raise NotFound(
                "governance.scream.target", f"no target of Remit is the {means[:20]} on which it is a login",
                next_step="`remit target add`, or `--by decision`",
            )  # fmt: skip
        now = self._control.clock.now()
        return Scream(
            id="", identity=identity, means=login[0].system if login else "decision",
            target=login[0].name if login else "", login=login[1] if login else "",
            environment=record.environment or "", tier=record.tier, phase=Phase.PROPOSED, revision=0, started=now,
            moved=now, share=share, seconds=seconds, reason=reason, actor="", proposed_by="",
        )  # fmt: skip

    async def _require_clear(self, draft: Scream) -> Outlook:
        outlook = await self._means[draft.means].look(draft)
        barred = await self._control.store.read(lambda unit: self._barred(unit, draft))
        if barred:
            raise Denied("governance.scream.limited", barred[0], next_step="`remit scream status` tells what runs")
        if outlook.obstacles:
            raise Conflict(
                "governance.scream.obstacle", outlook.obstacles[0],
                next_step="`remit scream start ID --dry-run` tells all of them",
            )  # fmt: skip
        return outlook

    def _barred(self, unit: Any, draft: Scream) -> list[str]:
        """Why this identity may not be held back now."""
        defense = self._control.settings.defense
        record: IdentityRecord = unit.inventory.identities([draft.identity])[draft.identity]
        found = []
        if record.state not in _IN_SERVICE:
            found.append(f"the identity is {record.state.value}")
        if draft.identity in defense.never_contain:
            found.append("it is on the list of identities that are never contained")
        if any(each.id != draft.id and each.identity == draft.identity for each in unit.screams.under_way()):
            found.append("it is being tested at this moment")
        held = unit.screams.held_in(draft.environment)
        most = max(_FLOOR, unit.identities.count_in(draft.environment) * defense.contain_share // 100)
        if held >= most:
            where = draft.environment or "unknown"
            found.append(f"{held} identities of environment `{where}` are held back already, and {most} is the most")
        return found

    async def _proposed(self, identity: str, by: Approver) -> Scream | None:
        """The proposal that waits for a second person; one that is too old is withdrawn."""
        for each in await self.tests(identity):
            if each.phase is Phase.PROPOSED:
                if self._control.clock.now() - each.started <= _LAPSES:
                    return self._verified(each)
                await self._save(self._verified(each), Phase.WITHDRAWN, by=by, outcome="lapsed")
        return None

    async def _require_another(self, proposed: Scream, by: Approver) -> None:
        persons = self._control.standing.person_count
        if persons > 1 and proposed.proposed_by == f"person:{by.name}":
            raise Denied(
                "governance.scream.own", "who proposed it does not begin it alone",
                next_step=f"another person repeats the command for {proposed.identity}, with the same terms",
            )  # fmt: skip

    async def _rhythm(self, draft: Scream) -> list[str]:
        """Whether a window of this length could show anything."""

        def look(unit: Any) -> Any:
            names = names_watched(unit, draft.identity)
            return judge.together(list(unit.use.of(names).values()))

        whole = await self._control.store.read(look)
        if whole is None:
            return ["no log shows how often it is used: a quiet test would prove little"]
        rhythm = pulse_of(whole.days, whole.last, self._control.clock.now(), measured=True).rhythm
        if rhythm.period > 1:
            return [f"it is used {rhythm.name}: in a window of {draft.seconds} s most of its consumers do not come"]
        return []

    # -- rows

    def _verified(self, test: Scream) -> Scream:
        if not self._control.witness.verify("scream", test.as_json(), test.signature):
            raise Misconfigured(
                "governance.scream.forged", f"the record of `{test.id[:60]}` was changed outside Remit",
                next_step="restore the database; what the target holds back is in the ledger",
            )  # fmt: skip
        return test

    def _signed(self, test: Scream) -> Scream:
        return replace(test, signature=self._control.witness.sign("scream", test.as_json()))

    async def _save(
        self, current: Scream, to: Phase, *, by: Approver | None = None, quiet: bool = False, event: str = "",
        limited: bool = False, **values: Any,
    ) -> Scream:  # fmt: skip
        who = {"actor": f"person:{by.name}", "approval": by.evidence()} if by is not None else {}

        def work(unit: Any) -> Scream:
            if limited and (barred := self._barred(unit, current)):
                raise Denied("governance.scream.limited", barred[0])
            made = current.step(to, unit.now, **who, **values)
            if to is current.phase:
                made = replace(made, moved=current.moved)
            made = self._signed(made)
            if not unit.screams.save(made, expected=current.revision):
                raise Conflict("governance.scream.moved", f"`{current.id}` was moved on by somebody else meanwhile")
            if not quiet:
                kind = f"governance.scream.{event or to.value}"
                unit.record(kind, actor=made.actor, subject=made.identity, data=_told(made))
            return made

        saved: Scream = await self._control.store.write(work)
        return saved


def _require_same(proposed: Scream, draft: Scream) -> None:
    if (proposed.share, proposed.seconds, proposed.means) != (draft.share, draft.seconds, draft.means):
        raise Conflict(
            "governance.scream.differs",
            f"it was proposed with {proposed.share} % for {proposed.seconds} s by {proposed.means}",
            next_step=f"`remit scream start {proposed.identity} --share {proposed.share} --seconds {proposed.seconds} "
            f"--by {proposed.means}`, or withdraw it: `remit scream stop {proposed.id}`",
        )


def shown(test: Scream) -> dict[str, Any]:
    """As surfaces show a test."""
    return {**test.as_json(), "said": outcome_of(test) if test.phase is Phase.RESTORED else test.phase.value}


def _told(test: Scream) -> dict[str, Json]:
    """What the ledger keeps."""
    return {key: value for key, value in test.as_json().items() if key not in ("identity", "log", "actor")}
