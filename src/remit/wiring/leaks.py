"""Leaks driven to their end: finding → identity → owner told → dependants → ended → old value refused → closed.

Each step is committed with its ledger entry before the next begins; what has an effect outside is committed as an
intent first, so that a drive which was killed anywhere goes on where it was. Nobody's login is ended that did not
admit the leaked secret a moment before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.model import Proved, Unproved
from remit.access.rotation.model import FINAL, Phase
from remit.defense.responses.instructions import instruction_for
from remit.defense.responses.leak import OPEN, Intent, Leak, Stage, Way
from remit.governance import lifecycle
from remit.governance.escalation import AskStatus
from remit.governance.signatures import Approver
from remit.inventory.model import Severity
from remit.inventory.records import CredentialRecord, FindingRecord
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, NotFound, Rejected, RemitError
from remit.kernel.ids import credential_name, parse_name
from remit.wiring.leak_trial import Footing, LeakTrials, Trial
from remit.wiring.standing_logins import Admitted

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.leaks")
ACTOR: Final = "system:leaks"
MOST_LISTED: Final = 5_000
_EVERY: Final = timedelta(seconds=20)
_TRY_AGAIN: Final = timedelta(minutes=5)
_LOOK_AGAIN: Final = timedelta(days=1)
_AT_ONCE: Final = 20
"""Leaks that one round of the background tries again."""
_ROTATION: Final = timedelta(minutes=10)
_RANK: Final = {severity.value: rank for rank, severity in enumerate(Severity)}
_LOW_ROLES: Final = ("test", "example", "documentation", "vendor")
_UNDER_WAY: Final = (Stage.ENDING, Stage.ENDED, Stage.REFUSED)


@dataclass(slots=True)
class _Work:
    """One drive: what it knows, and the secret for as long as it lasts."""

    leak: Leak
    footing: Footing
    actor: str
    quiet: bool
    """Whether nobody asked: then nothing is ended, and nothing written that is not news."""
    trial: Trial | None = None
    over: bool = False


class Leaks:
    """The verbs, and what goes on by itself."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._trials = LeakTrials(control)
        self._driving: dict[str, asyncio.Task[Leak]] = {}
        self._tried: dict[str, datetime] = {}

    # -- what surfaces ask

    async def listing(self, *, closed: bool = False, limit: int = 500) -> list[Leak]:
        """Leaks that are open, those nobody has begun to drive included; `closed` adds the others. Worst first."""
        limit = min(limit, MOST_LISTED)
        stages = frozenset(Stage) if closed else OPEN

        def look(unit: Any) -> list[Leak]:
            kept = list(unit.leaks.all(stages, limit=limit))
            fresh = unit.leaks.untouched(limit=limit)
            return kept + _opened(unit, fresh)

        found = await self._control.store.read(look)
        return sorted(found, key=lambda each: (each.stage is Stage.CLOSED, -_RANK[each.severity], each.found))[:limit]

    async def get(self, given: str) -> Leak:
        """The leak of a credential: by fingerprint, the beginning of one, or the name of its node.

        Raises `NotFound` (`defense.leak.unknown`), `Rejected` (`defense.leak.ambiguous`).
        """
        return await self._control.store.read(lambda unit: _find(unit, given))

    def is_busy(self, fingerprint: str) -> bool:
        """Whether it is being driven this moment."""
        return fingerprint in self._driving

    async def preview(self, given: str) -> dict[str, Any]:
        """What `drive` would do, and who would notice. Nothing is changed, nobody is told, no login is tried."""
        leak = await self.get(given)
        record = await self._record(leak.fingerprint)
        footing = await self._trials.footing(record)
        intent, why = await self._trials.way(footing, None)
        seen = await self._control.dependents(record.identity)
        owner, title = await self._control.store.read(lambda unit: _whose(unit, record.identity))
        asked = [] if owner else [each.owner for each in await self._control.owners.chain(record.identity)][:1]
        return {
            **leak.as_json(),
            "dry_run": True,
            "identity": record.identity,
            "identity_title": title,
            "owner": owner,
            "would_tell": [owner] if owner else asked,
            "would": intent.as_json(),
            "why": why,
            "instruction": await self._instruction(record) if intent.way is Way.INSTRUCTION else "",
            "dependents": seen["dependents"],
            "dependents_count": len(seen["dependents"]),
            "unmeasured": seen["unmeasured"],
            "blind_spots": seen["blind_spots"],
            "said": seen["said"],
        }

    async def drive(self, given: str, *, actor: str, wait: float = 0.0) -> Leak:
        """Drive it on until it is closed or waits for somebody; goes on by itself after `wait` seconds."""
        leak = await self.get(given)
        task = self._driving.get(leak.fingerprint) or self._begin(leak.fingerprint, actor=actor)
        await asyncio.wait({task}, timeout=wait)
        if task.done():
            return task.result()
        return await self.get(leak.fingerprint)

    async def close_by_hand(self, given: str, *, by: Approver, reason: str) -> Leak:
        """Take a registered person's word that it is over; it is never shown as contained.

        Raises `Conflict` (`defense.leak.closed`, `defense.leak.busy`), `Rejected` for no reason.
        """
        reason = lifecycle.require_reason(reason)
        leak = await self.get(given)
        if leak.stage is Stage.CLOSED:
            raise Conflict("defense.leak.closed", "this leak is closed", next_step=f"`remit leak show {given[:80]}`")
        if self.is_busy(leak.fingerprint) or leak.stage in (Stage.ENDING, Stage.REFUSED):
            raise Conflict(
                "defense.leak.busy", "this leak is being driven", next_step=f"`remit leak drive {given[:80]}` goes on"
            )
        now = self._control.clock.now()
        if leak.revision == 0:
            leak = replace(leak, opened=now, opened_by=f"person:{by.name}")
        done = leak.dismiss(now, by=f"person:{by.name}", reason=reason)
        return await self._save(leak, done, actor=f"person:{by.name}", more={"approval": by.evidence()})

    # -- what goes on by itself

    async def run(self) -> None:
        """Go on with what was interrupted, try what waits, and look again at what is closed, until cancelled."""
        try:
            while True:
                try:
                    await self._round()
                except RemitError as error:
                    _log.warning("leaks are looked at later: %s", error)
                await asyncio.sleep(_EVERY.total_seconds())
        finally:
            driving = [*self._driving.values()]
            for task in driving:
                task.cancel()
            await asyncio.gather(*driving, return_exceptions=True)

    async def _round(self) -> None:
        store, now = self._control.store, self._control.clock.now()
        for leak in await store.read(lambda unit: unit.leaks.all(_UNDER_WAY, limit=_AT_ONCE)):
            if not self.is_busy(leak.fingerprint):
                self._begin(leak.fingerprint, actor=ACTOR)
        waiting = await store.read(lambda unit: unit.leaks.all((Stage.WAITING,), limit=MOST_LISTED))
        closed = await store.read(lambda unit: unit.leaks.all((Stage.CLOSED,), limit=MOST_LISTED))
        due = [(leak, _TRY_AGAIN) for leak in waiting] + [(leak, _LOOK_AGAIN) for leak in closed if leak.proof]
        stale = [
            leak.fingerprint for leak, every in due if self._tried.get(leak.fingerprint, leak.moved) + every <= now
        ]
        for fingerprint in stale[:_AT_ONCE]:
            self._tried[fingerprint] = now
            if not self.is_busy(fingerprint):
                await asyncio.wait({self._begin(fingerprint, actor=ACTOR, quiet=True)})

    def _begin(self, fingerprint: str, *, actor: str, quiet: bool = False) -> asyncio.Task[Leak]:
        task = asyncio.create_task(self._drive(fingerprint, actor=actor, quiet=quiet), name="remit-leak")
        self._driving[fingerprint] = task

        def over(done: asyncio.Task[Leak]) -> None:
            self._driving.pop(fingerprint, None)
            if not done.cancelled() and (error := done.exception()) is not None:
                said = error if isinstance(error, RemitError) else type(error).__name__  # its words may show a secret
                _log.error("the leak %s waits: %s", fingerprint[:20], said)

        task.add_done_callback(over)
        return task

    # -- the way of one leak

    async def _drive(self, fingerprint: str, *, actor: str, quiet: bool) -> Leak:
        leak = await self.get(fingerprint)
        if leak.revision == 0:
            now = self._control.clock.now()
            leak = await self._save(leak, replace(leak, opened=now, opened_by=actor), actor=actor, always=True)
        record = await self._record(fingerprint)
        work = _Work(leak=leak, footing=await self._trials.footing(record), actor=actor, quiet=quiet)
        if leak.stage is Stage.CLOSED:
            await self._look_again(work)
        try:
            while not work.over and work.leak.stage is not Stage.CLOSED:
                await self._step(work)
        except RemitError as error:
            if error.code == "defense.leak.raced":
                raise
            await self._to(work, replace(work.leak, trouble=error.message[:500]))
        return work.leak

    async def _step(self, work: _Work) -> None:
        match work.leak.stage:
            case Stage.FOUND | Stage.REOPENED:
                await self._bind(work)
            case Stage.BOUND:
                await self._tell(work)
            case Stage.TOLD:
                seen = await self._control.dependents(work.leak.identity or work.footing.record.identity)
                await self._to(
                    work, work.leak.map(self._now, dependents=seen["dependents"], unmeasured=seen["unmeasured"])
                )
            case Stage.MAPPED | Stage.WAITING:
                await self._try_then_end(work)
            case Stage.ENDING:
                await self._end(work)
            case Stage.ENDED:
                await self._prove(work)
            case Stage.REFUSED:
                await self._to(work, work.leak.close(self._now, work.actor))
            case Stage.CLOSED:
                work.over = True

    async def _bind(self, work: _Work) -> None:
        identity = work.footing.record.identity
        owner, title = await self._control.store.read(lambda unit: _whose(unit, identity))
        known = await self._control.store.read(lambda unit: _is_somebody(unit, identity))
        await self._to(
            work,
            work.leak.bind(self._now, identity=identity if known else "", title=title if known else "", owner=owner),
        )

    async def _tell(self, work: _Work) -> None:
        """Tell the owner, or ask whoever the evidence names; twice after a crash, never not at all."""
        leak, identity = work.leak, work.footing.record.identity
        who, how = leak.owner, "owner"
        if not who:
            who, how = await self._ask(identity)
        subject = leak.identity_title or "a credential of which nobody knows whose it is"
        body = (
            f"{leak.title}\nat: {leak.place[:300]}\nof: {subject}\n"
            f"{'you answer for it' if how == 'owner' else 'do you answer for it?'}: {who or 'nobody is known'}\n"
            f"what happens now, and what it takes: `remit leak show {leak.fingerprint[:24]}`"
        )
        took, failed = await self._send(f"Remit: leaked ({leak.severity}): {leak.title[:120]}", body)
        said: dict[str, Json] = {
            "who": who, "how": how, "channels": took, "failed": failed, "at": rfc3339(self._now),
        }  # fmt: skip
        await self._to(work, leak.tell(self._now, [said]))

    async def _ask(self, identity: str) -> tuple[str, str]:
        asked = await self._control.store.read(lambda unit: unit.directory.ask(identity))
        if asked is not None and asked.status is AskStatus.OPEN:
            return asked.asked, "asked"
        try:
            return (await self._control.owners.ask(identity)).asked, "asked"
        except RemitError:
            return "", "nobody is known who could be asked"

    async def _send(self, title: str, body: str) -> tuple[list[Json], list[Json]]:
        try:
            answers = await self._control.grant_keeper.messenger().tell(title, body)
        except RemitError as error:
            _log.error("nobody is told of a leak: %s", error)
            return [], ["the file of channels"]
        return [name for name, ok in answers.items() if ok], [name for name, ok in answers.items() if not ok]

    async def _try_then_end(self, work: _Work) -> None:
        trial = await self._attempt(work)
        match trial.result:
            case Proved():
                await self._refused(work, trial.result)
            case Unproved():
                await self._wait(work, trial.result.why)
            case Admitted():
                work.leak = work.leak.seen_live(self._now)
                intent, why = await self._trials.way(work.footing, trial.secret)
                if intent.way is Way.INSTRUCTION:
                    await self._wait(work, why)
                elif work.quiet:
                    work.over = True
                else:
                    await self._to(work, work.leak.begin(self._now, intent))

    async def _end(self, work: _Work) -> None:
        """Carry out the intent; after a crash once more, which changes nothing where it was done."""
        intent = work.leak.intent
        assert intent is not None
        try:
            if intent.way is Way.ROTATION:
                await self._rotate(work, intent)
            else:
                await self._revoke(work, intent)
        except RemitError as error:
            await self._wait(work, error.message)
            return
        await self._to(work, work.leak.end(self._now))

    async def _revoke(self, work: _Work, intent: Intent) -> None:
        control, record = self._control, work.footing.record
        target = await control.targets.get(intent.target)
        if work.trial is None:
            await self._attempt(work)  # resumed: what was held is read again
        secret = work.trial.secret if work.trial else None
        reason = f"leaked: {work.leak.title[:200]}"
        done = await control.static.end(
            record.identity, target, intent.principal, [record], secret, actor=work.actor, reason=reason
        )
        if not done.gone:
            raise Conflict("defense.leak.stuck", "a session of the login would not end", next_step="drive it again")

    async def _rotate(self, work: _Work, intent: Intent) -> None:
        rotations, since = self._control.rotations, work.leak.moved
        if work.trial is None:
            await self._attempt(work)
        begun = [run for run in await rotations.engine.runs(intent.plan, limit=20) if run.started >= since]
        if not begun and work.trial is not None and isinstance(work.trial.result, Proved):
            return  # it was ended before we were killed, and the run is out of sight
        run = begun[0] if begun else await rotations.begin(
            intent.plan, actor=work.actor, reason=f"leaked: {work.leak.fingerprint[:24]}"
        )  # fmt: skip
        until = self._now + _ROTATION
        while run.phase not in FINAL and run.phase is not Phase.STUCK and self._now < until:
            run = await rotations.wait(run.id, seconds=5)
            if run.phase not in FINAL:
                await asyncio.sleep(0.2)
        if run.phase is not Phase.DONE:
            why = run.turning or run.trouble or "it takes long"
            raise Conflict(
                "defense.leak.rotation", f"the rotation `{intent.plan}` is {run.phase.value}: {why[:300]}",
                next_step=f"`remit rotate show {run.id}`",
            )  # fmt: skip

    async def _prove(self, work: _Work) -> None:
        trial = await self._attempt(work)
        match trial.result:
            case Proved():
                await self._refused(work, trial.result)
            case Admitted():
                work.leak = work.leak.seen_live(self._now)
                await self._wait(work, "it was ended, and its own system admits it still")
            case Unproved():
                proof = await self._proved_by_rotation(work)
                if proof is not None:
                    await self._refused(work, proof)
                else:
                    await self._wait(work, f"it was ended, and that is not proved: {trial.result.why}")

    async def _proved_by_rotation(self, work: _Work) -> Proved | None:
        """What the rotation itself proved, where the consumer that it rewrote was the only place of the secret."""
        intent, ended = work.leak.intent, work.leak.moved
        if intent is None or intent.way is not Way.ROTATION or work.leak.admitted is None:
            return None
        for run in await self._control.rotations.engine.runs(intent.plan, limit=20):
            said = run.proof.get("refusal")
            if run.phase is Phase.DONE and work.leak.admitted <= run.started <= ended and isinstance(said, str):
                return Proved(refusal=said, control=str(run.proof.get("control", "")))
        return None

    async def _look_again(self, work: _Work) -> None:
        """A closed leak is tried once more: whatever its system admits is open, whoever said otherwise."""
        trial = await self._attempt(work)
        if isinstance(trial.result, Admitted):
            await self._to(work, work.leak.reopen(self._now, "its own system admits it again"))
        work.over = work.leak.stage is Stage.CLOSED

    async def _attempt(self, work: _Work) -> Trial:
        held = work.trial.secret if work.trial else None
        work.trial = await self._trials.attempt(work.leak, work.footing, held)
        return work.trial

    async def _refused(self, work: _Work, proof: Proved) -> None:
        await self._to(work, work.leak.refuse(self._now, refusal=proof.refusal, control=proof.control))

    async def _wait(self, work: _Work, trouble: str) -> None:
        instruction = await self._instruction(work.footing.record)
        waiting = work.leak.wait(self._now, instruction=instruction, trouble=trouble)
        work.over = True
        if work.quiet and waiting.stage is work.leak.stage and waiting.trouble == work.leak.trouble:
            return
        await self._to(work, waiting)

    async def _instruction(self, record: CredentialRecord) -> str:
        known = await self._control.store.read(lambda unit: unit.inventory.identities([record.identity]))
        text = instruction_for(_provider(record, known.get(record.identity)), record.kind)
        return f"{text}; then `remit leak drive {record.fingerprint[:24]}` tries the old one"

    # -- rows

    @property
    def _now(self) -> datetime:
        return self._control.clock.now()

    async def _record(self, fingerprint: str) -> CredentialRecord:
        found = await self._control.store.read(lambda unit: unit.inventory.credentials([fingerprint]))
        if fingerprint not in found:
            raise _unknown(fingerprint)
        record: CredentialRecord = found[fingerprint]
        return record

    async def _to(self, work: _Work, leak: Leak) -> None:
        work.leak = await self._save(work.leak, leak, actor=work.actor)

    async def _save(
        self, before: Leak, leak: Leak, *, actor: str, always: bool = False, more: Mapping[str, Json] | None = None
    ) -> Leak:
        """Commit one step with its entry in the ledger; `Conflict` when somebody else drives it."""
        expected = before.revision
        made = replace(leak, revision=expected + 1)

        def write(unit: Any) -> Leak:
            if not unit.leaks.put(made, expected=expected):
                raise Conflict(
                    "defense.leak.raced", "this leak is driven by somebody else", next_step="`remit leak ls` shows it"
                )
            if always or made.stage is not before.stage:
                data = {**_entry(made), **(more or {})}
                unit.record(f"defense.leak.{made.stage.value.replace('-', '_')}", actor=actor,
                            subject=credential_name(made.fingerprint), data=data)  # fmt: skip
            _mark(unit, made)
            return made

        return await self._control.store.write(write)


def _entry(leak: Leak) -> dict[str, Json]:
    """What the ledger keeps of a step."""
    told = leak.as_json()
    keys = ["fingerprint", "title", "severity", "identity", "owner", "trouble"]
    match leak.stage:
        case Stage.TOLD:
            keys += ["told"]
        case Stage.MAPPED:
            keys += ["dependents_count", "dependents", "unmeasured"]
        case Stage.ENDING | Stage.ENDED:
            keys += ["intent", "admitted"]
        case Stage.WAITING:
            keys += ["instruction", "admitted"]
        case Stage.REFUSED | Stage.CLOSED:
            keys += ["proof", "reason", "contained_in_ms", "found"]
    return {key: told[key] for key in keys if told[key] not in ("", None)}


def _mark(unit: Any, leak: Leak) -> None:
    """Let the registry say of the credential what its own system said."""
    if leak.stage not in (Stage.REFUSED, Stage.REOPENED):
        return
    record = unit.inventory.credentials([leak.fingerprint]).get(leak.fingerprint)
    if record is None:
        return
    at = rfc3339(unit.now)
    about = {**record.attributes, "probed_at": at} | ({"revoked_at": at} if leak.stage is Stage.REFUSED else {})
    unit.inventory.put_credentials([replace(record, attributes=about)])
    unit.inventory.set_credential_state(leak.fingerprint, "revoked" if leak.stage is Stage.REFUSED else "active")


def _find(unit: Any, given: str) -> Leak:
    given = given.rstrip("…")  # as a narrow table shows it
    parsed = parse_name(given)
    fingerprint = f"{parsed[1]}:{parsed[3]}" if parsed is not None and parsed[0] == "credential" else given
    kept = unit.leaks.get(fingerprint)
    if kept is not None:
        leak: Leak = kept
        return leak
    if fingerprint not in unit.inventory.credentials([fingerprint]):
        near = unit.leaks.starting(fingerprint) if len(fingerprint) >= 10 and ":" in fingerprint else []
        if len(near) > 1:
            raise Rejected(
                "defense.leak.ambiguous", f"several credentials begin with `{given[:80]}`", next_step="give more of it"
            )
        if not near:
            raise _unknown(given)
        return _find(unit, near[0])
    record = unit.inventory.credentials([fingerprint])[fingerprint]
    if not record.exposed:
        raise NotFound(
            "defense.leak.unknown", "this credential lies nowhere outside of a manager, as far as sources show",
            next_step="`remit leak ls`",
        )  # fmt: skip
    return _opened(unit, [record])[0]


def _opened(unit: Any, records: Sequence[CredentialRecord]) -> list[Leak]:
    """A leak of each credential, as its findings tell it."""
    nodes = {credential_name(each.fingerprint): each for each in records}
    told: dict[str, list[FindingRecord]] = {node: [] for node in nodes}
    names = list(nodes)
    for at in range(0, len(names), 400):
        for finding in unit.inventory.findings(subjects=names[at : at + 400], limit=MOST_LISTED):
            if finding.subject in told:
                told[finding.subject].append(finding)
    titles = unit.inventory.identities({each.identity for each in records})
    return [_leak(record, told[node], titles.get(record.identity)) for node, record in nodes.items()]


def _leak(record: CredentialRecord, findings: list[FindingRecord], identity: Any) -> Leak:
    worst = max(findings, key=lambda each: _RANK[each.severity], default=None)
    fallback = "low" if record.attributes.get("role") in _LOW_ROLES else "medium"
    found = min((each.first_seen for each in findings), default=record.first_seen)
    is_known = identity is not None and identity.kind.value != "unbound"
    return Leak(
        fingerprint=record.fingerprint,
        found=min(found, record.first_seen),
        moved=record.first_seen,
        title=record.title[:200],
        rule=worst.rule if worst else "",
        kind=record.kind,
        provider=_provider(record, identity),
        severity=worst.severity if worst else fallback,
        place=worst.place if worst else "",
        places=len(findings),
        identity=record.identity if is_known else "",
        identity_title=identity.title if is_known else "",
        owner=(identity.owner or "") if identity is not None else "",
    )


def _provider(record: CredentialRecord, identity: Any) -> str:
    """Who issued it: what its binding says, else the system of the identity that it proves."""
    said = record.attributes.get("provider") or record.attributes.get("system")
    if isinstance(said, str) and said:
        return said
    return identity.system if identity is not None and identity.kind.value != "unbound" else ""


def _whose(unit: Any, identity: str) -> tuple[str, str]:
    record = unit.inventory.identities([identity]).get(identity)
    return (record.owner or "", record.title) if record is not None else ("", "")


def _is_somebody(unit: Any, identity: str) -> bool:
    record = unit.inventory.identities([identity]).get(identity)
    return record is not None and record.kind.value != "unbound"


def _unknown(given: str) -> NotFound:
    return NotFound(
        "defense.leak.unknown", f"no leaked credential is called `{given[:100]}`", next_step="`remit leak ls`"
    )
