"""Conversions of one installation: a standing login becomes a role that tasks lease, with a way back.

Intent before effect: each phase is signed, kept and in the ledger before the target is touched, and each effect may be
done again. The server believes no caller that the role serves: it looks for a lease of the role in its own rows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import LeaseState, Proved, Target
from remit.access.rotation.targets.postgres import PostgresRotatorFactory
from remit.governance.standing.artifacts import (
    commands_text,
    policy_text,
    readme_text,
    workload_change,
)
from remit.governance.standing.conversion import Conversion, Phase
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected, RemitError
from remit.kernel.ids import parse_name

if TYPE_CHECKING:
    from remit.governance.signatures import Approver
    from remit.providers.postgres.client import Connection
    from remit.providers.postgres.conversion import Holding
    from remit.wiring.control import ControlPlane

SYSTEM: Final = "postgres"
_MOST_FILE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a conversion would do."""

    conversion: Conversion
    files: Mapping[str, str]
    notes: tuple[str, ...]
    obstacles: tuple[str, ...]
    policy: str

    def as_json(self) -> dict[str, Any]:
        return {
            **self.conversion.as_json(), "need": self.conversion.need, "files": dict(self.files),
            "notes": list(self.notes), "obstacles": list(self.obstacles), "policy": self.policy,
        }  # fmt: skip


class Conversions:
    """The verbs of conversion as surfaces ask for them."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._alone = asyncio.Lock()

    async def plan(self, given: str, *, task: str = "", role: str = "", command: Sequence[str] = ()) -> Plan:
        """What would be done for the identity so named; changes nothing.

        Raises `Rejected` (`governance.conversion.system`), `NotFound` (`governance.conversion.target`,
        `governance.conversion.login`) saying what is missing.
        """
        identity = await self._control.resolve(given)
        target, login = await self._login(identity)
        now = self._control.clock.now()
        draft = Conversion(
            id="", identity=identity, target=target.name, login=login, role=role or _word(login), group=_group(login),
            task=task or _word(login), phase=Phase.PLANNED, revision=0, started=now, moved=now, actor="",
        )  # fmt: skip
        async with self._connected(target) as connection:
            from remit.providers.postgres.conversion import give_statements

            held = await self._holding(connection, login)
            draft = replace(draft, statements=give_statements(held, login, draft.group))
        obstacles = _obstacles(held, target, draft)
        policy = policy_text(draft)
        notes = _notes(held, draft)
        files = {
            "role.sql": "".join(f"{statement};\n" for statement in draft.statements),
            "policy.cedar": policy,
            "commands.sh": commands_text(draft, command),
            "workload.diff": await self._changes(identity, draft),
        }
        files["README.md"] = readme_text(draft, [*notes, *(f"in the way: {each}" for each in obstacles)], files)
        return Plan(conversion=draft, files=files, notes=notes, obstacles=obstacles, policy=policy)

    async def list(self, given: str = "") -> Sequence[Conversion]:
        """Conversions, the newest first; of one identity where it is given."""
        identity = await self._control.resolve(given) if given else ""
        found: Sequence[Conversion] = await self._control.store.read(lambda unit: unit.standing.conversions(identity))
        return found

    async def prepare(self, given: str, *, task: str, role: str, by: Approver) -> Conversion:
        """Make the group on the target and map it, or go on with what was begun; the login still stands."""
        async with self._alone:
            current = await self._current(await self._control.resolve(given))
            if current is None or current.phase is Phase.UNDONE:
                plan = await self.plan(given, task=task, role=role)
                if plan.obstacles:
                    raise Conflict(
                        "governance.conversion.obstacle", plan.obstacles[0],
                        next_step="`remit convert ID --dry-run` tells all of them",
                    )  # fmt: skip
                current = await self._begin(plan.conversion, by)
            if current.phase is Phase.UNDOING:
                raise _wrong_phase(current)
            if current.phase is Phase.PLANNED:
                current = await self._prepare(current)
            return current

    async def finish(self, conversion_id: str, *, by: Approver) -> Conversion:
        """End the login, once a run under a lease of the role is on record, and show that it is refused."""
        async with self._alone:
            current, _ = await self._require(conversion_id)
            if current.phase is Phase.PREPARED:
                current = await self._intend_removal(current, by)
            if current.phase is not Phase.REMOVING:
                if current.phase is Phase.DONE:
                    return current
                raise _wrong_phase(current)
            return await self._remove(current)

    async def undo(self, conversion_id: str, *, by: Approver) -> Conversion:
        """Give the login back as it was and take the role away; `Conflict` when it is undone."""
        async with self._alone:
            current, sealed = await self._require(conversion_id)
            if current.phase is Phase.UNDONE:
                return current
            if current.phase is not Phase.UNDOING:
                current = await self._save(current, Phase.UNDOING, actor=f"person:{by.name}", approval=by.evidence())
            return await self._undo(current, sealed)

    # -- steps

    async def _begin(self, draft: Conversion, by: Approver) -> Conversion:
        def work(unit: Any) -> Conversion:
            made = replace(
                draft, id=unit.new_id("cv"), started=unit.now, moved=unit.now, actor=f"person:{by.name}",
                approval=by.evidence(),
            )  # fmt: skip
            made = self._signed(made)
            unit.standing.insert_conversion(made, b"")
            unit.record("governance.conversion.begun", actor=made.actor, subject=made.identity, data=_told(made))
            return made

        conversion: Conversion = await self._control.store.write(work)
        return conversion

    async def _prepare(self, current: Conversion) -> Conversion:
        from remit.providers.postgres.conversion import make_group

        target = await self._control.targets.get(current.target)
        async with self._connected(target) as connection:
            await make_group(connection, current.group, current.id, current.statements)
        await self._control.targets.remap(
            current.target, {**target.roles, current.role: current.group}, actor=current.actor
        )
        await self._control.reload()
        return await self._save(current, Phase.PREPARED)

    async def _intend_removal(self, current: Conversion, by: Approver) -> Conversion:
        from remit.providers.postgres.conversion import way_back

        evidence = await self._evidence(current)
        target = await self._control.targets.get(current.target)
        async with self._connected(target) as connection:
            back = await way_back(connection, current.login)
        sealed = self._control.keys.seal(json.dumps(back).encode(), context=_context(current.id))
        return await self._save(
            current, Phase.REMOVING, sealed=sealed, evidence=evidence, actor=f"person:{by.name}", approval=by.evidence()
        )

    async def _remove(self, current: Conversion) -> Conversion:
        from remit.providers.postgres.conversion import leave_groups

        control = self._control
        target, secret = await control.targets.credential(current.target)
        old = await control.static.read_back(current.identity)
        rotator = PostgresRotatorFactory().make(target, secret)
        done = await rotator.retire(current.login, old)
        if not done.gone:
            return await self._save(current, Phase.REMOVING, trouble="a session of the login would not end")
        if old is not None and not isinstance(done.proof, Proved):
            return await self._save(current, Phase.REMOVING, trouble=f"the refusal is not proved: {done.proof.why}")
        _, sealed = await self._require(current.id)
        async with self._connected(target) as connection:
            await leave_groups(connection, current.login, self._unsealed(current, sealed))
        proof: dict[str, Json] = (
            {"refusal": done.proof.refusal, "control": done.proof.control}
            if isinstance(done.proof, Proved)
            else {"why": done.proof.why}
        )
        saved = await self._save(
            current, Phase.DONE, proof={**proof, "sessions_ended": done.sessions_ended}, trouble=""
        )
        await control.store.write(lambda unit: _mark_credentials(unit, current.identity, "revoked"))
        await control.changed(current.identity)
        await control.privilege.observe()
        return saved

    async def _undo(self, current: Conversion, sealed: bytes) -> Conversion:
        from remit.providers.postgres.conversion import restore, unmake_group

        control = self._control
        target = await control.targets.get(current.target)
        async with self._connected(target) as connection:
            if sealed:
                await restore(connection, current.login, self._unsealed(current, sealed))
        await self._end_leases(current)
        if target.roles.get(current.role) == current.group and len(target.roles) > 1:
            kept = {role: group for role, group in target.roles.items() if role != current.role}
            await control.targets.remap(current.target, kept, actor=current.actor)
            await control.reload()
        async with self._connected(target) as connection:
            left = await unmake_group(connection, current.group, current.id, current.login, current.statements)
        await control.store.write(lambda unit: _mark_credentials(unit, current.identity, "active"))
        saved = await self._save(current, Phase.UNDONE, left=left, sealed=b"", trouble="")
        await control.changed(current.identity)
        await control.privilege.observe()
        return saved

    async def _end_leases(self, current: Conversion) -> None:
        where = LeaseFilter(target=current.target, states=LIVE)
        held = await self._control.store.read(lambda unit: unit.access.leases(where))
        ids = tuple(each.id for each in held if each.role == current.group)
        if ids:
            await self._control.engine.revoke(
                LeaseFilter(ids=ids), actor=current.actor, reason=f"the conversion {current.id} is undone"
            )

    async def _evidence(self, current: Conversion) -> dict[str, Json]:
        """A lease of the role that a task of the identity had since then, refused when the task had ended."""

        def look(unit: Any) -> Any:
            where = LeaseFilter(identity=current.identity, target=current.target)
            leases = unit.access.newest_leases(where, 200)
            for held in leases:
                lease = held.lease
                fits = held.role == current.group and held.issued is not None and lease.created >= current.started
                if fits and lease.state is LeaseState.REVOKED and lease.task.startswith(current.task):
                    return lease
            return None

        lease = await self._control.store.read(look)
        if lease is None:
            raise Conflict(
                "governance.conversion.untried",
                f"no task of the identity has leased `{current.need}` and been refused afterwards",
                next_step="run the workload, or the probe, under `remit run` first; then repeat the command",
            )
        return {"lease": lease.id, "task": lease.task, "principal": lease.principal, "proof": dict(lease.proof)}

    # -- rows

    async def _current(self, identity: str) -> Conversion | None:
        found = await self._control.store.read(lambda unit: unit.standing.conversions(identity, limit=1))
        return self._verified(found[0]) if found else None

    async def _require(self, conversion_id: str) -> tuple[Conversion, bytes]:
        found = await self._control.store.read(lambda unit: unit.standing.conversion(conversion_id))
        if found is None:
            raise NotFound(
                "governance.conversion.unknown", f"no conversion is called `{conversion_id[:60]}`",
                next_step="`remit convert` lists them",
            )  # fmt: skip
        return self._verified(found[0]), found[1]

    def _verified(self, conversion: Conversion) -> Conversion:
        if not self._control.witness.verify("conversion", conversion.as_json(), conversion.signature):
            raise Misconfigured(
                "governance.conversion.forged", f"the record of `{conversion.id[:60]}` was changed outside Remit",
                next_step="restore the database, or undo by hand with `role.sql`",
            )  # fmt: skip
        return conversion

    def _signed(self, conversion: Conversion) -> Conversion:
        return replace(conversion, signature=self._control.witness.sign("conversion", conversion.as_json()))

    async def _save(self, current: Conversion, to: Phase, *, sealed: bytes | None = None, **changes: Any) -> Conversion:
        def work(unit: Any) -> Conversion:
            made = self._signed(current.step(to, unit.now, **changes))
            if not unit.standing.save_conversion(made, sealed, expected=current.revision):
                raise Conflict("governance.conversion.moved", f"`{current.id}` was moved on by somebody else meanwhile")
            unit.record(
                f"governance.conversion.{_EVENTS[to]}", actor=made.actor, subject=made.identity, data=_told(made)
            )
            return made

        saved: Conversion = await self._control.store.write(work)
        return saved

    def _unsealed(self, current: Conversion, sealed: bytes) -> dict[str, Any]:
        back: dict[str, Any] = json.loads(self._control.keys.unseal(sealed, context=_context(current.id)))
        return back

    # -- the target

    async def _login(self, identity: str) -> tuple[Target, str]:
        names = await self._control.store.read(lambda unit: unit.inventory.names_of(identity))
        parsed = [found for each in names if (found := parse_name(each)) is not None]
        systems = {found[0] for found in parsed if found[2] in ("role", "user")}
        if SYSTEM not in systems:
            known = ", ".join(sorted({found[0] for found in parsed} - {"remit"})) or "nothing"
            raise Rejected(
                "governance.conversion.system",
                f"it is an identity of {known}: Remit converts logins of PostgreSQL",
                next_step="for other systems: `remit target add`, map a role, `remit task add`, then `remit revoke`",
            )
        for target in await self._control.targets.list():
            for system, instance, kind, local in parsed:
                if system != target.system or kind != "role":
                    continue
                at = (target.instance, f"{target.host}:{target.port}")
                if instance in at or await self._is_instance(target, instance):
                    return await self._control.targets.get(target.name), local
        raise NotFound(
            "governance.conversion.target", "no target is the server that this login is on",
            next_step="`remit target add postgres --name NAME --url … --role ROLE=GROUP --password-stdin`",
        )  # fmt: skip

    async def _is_instance(self, target: Target, instance: str) -> bool:
        try:
            broker = await self._control.brokers.broker(target.name)
        except RemitError:
            return False
        return getattr(broker, "instance", None) == instance

    @asynccontextmanager
    async def _connected(self, target: Target) -> AsyncIterator[Connection]:
        from remit.providers.postgres.address import Address
        from remit.providers.postgres.client import connected, translated_errors

        _, secret = await self._control.targets.credential(target.name)
        address = Address(
            host=target.host, port=target.port, user=target.user, database=target.database,
            ssl_mode=target.options.get("sslmode", ""), ssl_root=target.options.get("sslrootcert", ""),
        )  # fmt: skip
        async with connected(address, secret) as connection:
            with translated_errors(address):
                yield connection

    async def _holding(self, connection: Connection, login: str) -> Holding:
        from remit.providers.postgres.conversion import holding

        held = await holding(connection, login)
        if held is None:
            raise NotFound(
                "governance.conversion.login", f"`{login[:63]}` is no login on the server (any more)",
                next_step="`remit standing ls` lists what stands",
            )  # fmt: skip
        if held.administers:
            raise Denied(
                "governance.conversion.administers",
                f"`{login[:63]}` administers the server: no role of a task may hold that",
                next_step="take SUPERUSER, CREATEROLE, REPLICATION and BYPASSRLS from it first",
            )
        return held

    async def _changes(self, identity: str, draft: Conversion) -> str:
        secret = await self._control.static.read_back(identity)
        diffs = []
        for path, lines in await self._control.static.places_of(identity):
            try:
                raw = await asyncio.to_thread(path.read_bytes)
            except OSError:
                continue
            if len(raw) <= _MOST_FILE:
                text = raw.decode("utf-8", "replace")
                diffs.append(workload_change(text, str(path), [secret] if secret else [], lines, draft))
        return "".join(diffs)


_EVENTS: Final[Mapping[Phase, str]] = {
    Phase.PLANNED: "begun", Phase.PREPARED: "prepared", Phase.REMOVING: "removing", Phase.DONE: "finished",
    Phase.UNDOING: "undoing", Phase.UNDONE: "undone",
}  # fmt: skip


def _told(made: Conversion) -> dict[str, Json]:
    shown = made.as_json()
    return {**shown, "statements": len(made.statements)}


def _context(conversion_id: str) -> str:
    return f"governance_conversion/{conversion_id}/way-back"


def _wrong_phase(current: Conversion) -> Conflict:
    return Conflict(
        "governance.conversion.phase", f"`{current.id}` is `{current.phase.value}`",
        next_step="`remit convert ID --apply` goes on with it, `--undo` takes it back",
    )  # fmt: skip


def _word(login: str) -> str:
    """A plain word for a role or a task, from a name that may be anything."""
    word = "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "-" for char in login.lower())
    return word.strip("-_")[:40] or "login"


def _group(login: str) -> str:
    return login.encode()[:50].decode("utf-8", "ignore") + "_task"


def _obstacles(held: Holding, target: Target, draft: Conversion) -> tuple[str, ...]:
    found = []
    if draft.login == target.user:
        found.append(f"`{draft.login}` is the login by which Remit works on `{target.name}`")
    if draft.role in target.roles and target.roles[draft.role] != draft.group:
        found.append(f"the target maps a role `{draft.role}` already: choose another with `--role`")
    if held.elsewhere:
        found.append(
            f"it is granted {held.elsewhere} objects in other databases or of kinds that are not copied:"
            f" grant them to `{draft.group}` by hand, then revoke them from `{draft.login}`"
        )
    return tuple(found)


def _notes(held: Holding, draft: Conversion) -> tuple[str, ...]:
    notes = ["whether each right is used is not known: the role holds what the login holds"]
    if held.owns:
        notes.append(f"it owns {held.owns} objects: the group becomes a member of `{draft.login}`, which stays NOLOGIN")
    if held.settings:
        notes.append(
            f"{held.settings} settings (ALTER ROLE … SET) do not follow into a group: set them in the workload"
        )
    return tuple(notes)


def _mark_credentials(unit: Any, identity: str, state: str) -> None:
    at = rfc3339(unit.now)
    records = [each for each in unit.inventory.credentials_of([identity]) if each.kind in ("password", "secret")]
    for each in records:
        if state == "revoked" or each.attributes.get("converted_at"):
            marks = {key: value for key, value in each.attributes.items() if key not in ("converted_at", "revoked_at")}
            if state == "revoked":
                marks |= {"converted_at": at, "revoked_at": at}
            unit.inventory.put_credentials([replace(each, attributes=marks)])
            unit.inventory.set_credential_state(each.fingerprint, state)
