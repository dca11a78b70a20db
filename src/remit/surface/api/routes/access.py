"""What may it do, now? Policies, decisions, targets, tasks, leases, revocation."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import Lease, Target
from remit.access.tasks.command import measure, open_command
from remit.access.tasks.model import what_runs
from remit.kernel.errors import Conflict, Rejected
from remit.kernel.ids import name as urn
from remit.surface.api.route import Call, Route, Text
from remit.surface.views import explained, lease_rows, proof_text, rerun, with_titles

_TAG = "access"


class NewTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A system on which credentials are minted; `secret` is sealed and never shown again."""

    system: str
    name: str
    url: str
    secret: str
    roles: dict[str, str]
    options: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"NewTarget({self.system!r}, {self.name!r})"


class NewTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task: its name, its command, and the identity that it runs as."""

    name: str
    argv: list[str]
    identity: str = ""
    cwd: str = ""
    path: str = ""
    user: str = ""
    """Name or uid of the user who may run it; the caller's own where it is empty."""


class Revoke(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease, an identity or a credential's fingerprint."""

    subject: str
    reason: str = ""
    dry_run: bool = False


class Again(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other policies than those of its moment: Cedar text, or a version; neither: those of its moment."""

    text: str | None = None
    version: str = ""


# -- decisions


async def decisions(call: Call) -> Any:
    limit, denied = call.integer("limit", 50, most=1000), call.flag("denied")
    return await with_titles(call.control, await call.control.latest_decisions(limit=limit, denied=denied))


async def decision(call: Call) -> Any:
    [found] = await with_titles(call.control, [await explained(call.control, call.path["decision"])])
    return found


async def decide_again(call: Call) -> Any:
    body: Again = call.body
    return await rerun(call.control, call.path["decision"], text=body.text, version=body.version)


# -- targets


async def add_target(call: Call) -> Any:
    body: NewTarget = call.body
    where = call.control.targets.locate(body.system, body.url)
    target = Target(
        name=body.name, system=body.system, host=where.host, port=where.port, database=where.database,
        user=where.user, roles=body.roles, options={**where.options, **body.options},
    )  # fmt: skip
    checks = await call.control.targets.add(target, body.secret, actor=call.caller.actor)
    await call.control.reload()
    return {"target": target, "checks": checks}


async def list_targets(call: Call) -> Any:
    return await call.control.targets.list()


async def remove_target(call: Call) -> Any:
    await call.control.segments.require_none(call.path["target"])
    await call.control.engine.unspare(call.path["target"])
    await call.control.targets.remove(call.path["target"], actor=call.caller.actor)
    await call.control.reload()
    return {"removed": call.path["target"]}


async def install_script(call: Call) -> Any:
    from remit.access.brokers.port import Installs

    broker = call.control.targets.make(await call.control.targets.stored(call.path["target"]))
    if not isinstance(broker, Installs):
        raise _nothing_to_install(call.path["target"])
    return Text(body=broker.install_script(call.control.instance), media_type="text/plain; charset=utf-8")


async def install(call: Call) -> Any:
    """Install the functions with the target's own admin credential; the installed login then needs no other right."""
    from remit.access.brokers.port import Installs

    name = call.path["target"]
    broker = await call.control.brokers.broker(name)
    if not isinstance(broker, Installs):
        raise _nothing_to_install(name)
    databases = await broker.install(call.control.instance)
    await call.control.store.write(
        lambda unit: unit.record(
            "access.target.installed",
            actor=call.caller.actor,
            subject=f"target:{name}",
            data={"databases": list(databases)},
        )
    )
    return {"target": name, "databases": databases}


def _nothing_to_install(name: str) -> Rejected:
    return Rejected("access.target.nothing_to_install", f"the broker of `{name}` installs nothing on its target")


# -- tasks


async def add_task(call: Call) -> Any:
    body: NewTask = call.body
    by = call.require_person("registering a task")
    if not body.argv:
        raise Rejected("access.task.malformed", "no command is given", next_step="`remit task add NAME -- CMD…`")
    uid = _uid_of(body.user, call.caller.uid)
    identity = await call.control.task_identity(body.name, body.identity, owner=by)
    command = open_command(_absolute(body), body.path or os.defpath)
    try:
        program = measure(command)
    finally:
        command.close()
    return await call.control.tasks.register(
        body.name, identity=identity, program=program, actor=f"person:{by.name}", uid=uid
    )


def _uid_of(user: str, caller: int | None) -> int | None:
    if not user:
        return caller
    try:
        return int(user) if user.isdecimal() and len(user) < 11 else pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        raise Rejected("access.task.user_unknown", f"this machine has no user `{user[:64]}`") from None


def _absolute(body: NewTask) -> Sequence[str]:
    """The command as its caller sees it: a relative program is looked for where the caller stands."""
    first, *rest = body.argv
    if "/" in first and not first.startswith("/"):
        first = os.path.join(body.cwd or "/", first)
    return [first, *(_in(body.cwd, each) for each in rest)]


def _in(folder: str, argument: str) -> str:
    path = Path(folder) / argument
    return str(path) if folder and path.exists() else argument


async def list_tasks(call: Call) -> Any:
    return [
        {"name": each.name, "identity": each.identity, "created_by": each.created_by, "digest": each.digest,
         "uid": each.uid,
         "program": {"kind": "process", "path": what_runs(each.program), **each.program.as_json()}}
        for each in await call.control.tasks.list()
    ]  # fmt: skip


async def remove_task(call: Call) -> Any:
    by = call.require_person("removing a task")
    await call.control.tasks.remove(call.path["task"], actor=f"person:{by.name}")
    return {"removed": call.path["task"]}


# -- leases


async def leases(call: Call) -> Any:
    limit, target = call.integer("limit", 100, most=10_000), call.query.get("target", "")
    ended = call.flag("all")
    return await call.control.store.read(lambda unit: lease_rows(unit, ended=ended, target=target, limit=limit))


async def revoke(call: Call) -> Any:
    body: Revoke = call.body
    control = call.control
    if body.subject.startswith("ls_"):
        where, identity = LeaseFilter(ids=(body.subject,)), ""
    else:
        identity = await control.resolve(body.subject)
        where = LeaseFilter(identity=identity)
    found = await control.dependents(identity) if identity else {"dependents": []}
    dependents = found["dependents"]
    if body.dry_run:
        held = await control.store.read(
            lambda unit: unit.access.leases(LeaseFilter(ids=where.ids, identity=identity, states=LIVE))
        )
        would = [_row(each.lease) for each in held] + await control.static.preview(identity, body.subject)
        return {**found, "dry_run": True, "revoked": would}
    done = [
        _row(each)
        for each in await control.engine.revoke(
            where, actor=call.caller.actor, reason=body.reason, wait=timedelta(seconds=30)
        )
    ]
    if identity:
        done += await control.static.revoke(identity, body.subject, actor=call.caller.actor, reason=body.reason)
        await control.changed(identity)
    if not done:
        raise Conflict("access.revoke.nothing", f"nothing of `{body.subject[:100]}` can be revoked here",
                       next_step="`remit show` tells where its credentials are managed")  # fmt: skip
    return {"dry_run": False, "revoked": done, "dependents": dependents}


def _row(lease: Lease) -> dict[str, Any]:
    return {"id": lease.id, "what": lease.principal, "target": lease.target, "state": lease.state.value,
            "proof": proof_text(lease.proof)}  # fmt: skip


def task_name(name: str, instance: str) -> str:
    """The name of the identity that is made for a task."""
    return urn("remit", instance, "task", name)


ROUTES = [
    Route(
        method="GET",
        path="/api/v1/decisions",
        summary="The latest decisions",
        handler=decisions,
        query={"limit": "at most 1000", "denied": "1: only denials"},
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/decisions/{decision}",
        summary="One decision, explained",
        handler=decision,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/decisions/{decision}/rerun",
        summary="Run a past decision again",
        handler=decide_again,
        body=Again,
        tag=_TAG,
    ),
    Route(method="POST", path="/api/v1/targets", summary="Add a target", handler=add_target, body=NewTarget, tag=_TAG),
    Route(method="GET", path="/api/v1/targets", summary="Targets", handler=list_targets, tag=_TAG),
    Route(method="DELETE", path="/api/v1/targets/{target}", summary="Remove a target", handler=remove_target, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/targets/{target}/install",
        summary="The script for the least privilege",
        handler=install_script,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/targets/{target}/install",
        summary="Install the least privilege",
        handler=install,
        tag=_TAG,
    ),
    Route(method="POST", path="/api/v1/tasks", summary="Register a task", handler=add_task, body=NewTask, tag=_TAG),
    Route(method="GET", path="/api/v1/tasks", summary="Task definitions", handler=list_tasks, tag=_TAG),
    Route(method="DELETE", path="/api/v1/tasks/{task}", summary="Remove a task", handler=remove_task, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/leases",
        summary="Leases",
        handler=leases,
        query={"all": "1: ended ones too", "target": "of this target", "limit": "at most 10000"},
        tag=_TAG,
    ),
    Route(method="POST", path="/api/v1/revoke", summary="Revoke, and prove it", handler=revoke, body=Revoke, tag=_TAG),
]
