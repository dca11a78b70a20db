"""What may it do, now? Policies, decisions, targets, tasks, leases, revocation."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec

from remit.access.grants import approval_content
from remit.access.leases.model import LIVE, LeaseFilter
from remit.access.model import Approval, Grant, GrantState, Lease, Target
from remit.access.policy import lifecycle
from remit.access.policy.compile import compile_policies
from remit.access.policy.replay import replay
from remit.access.targets import parse_need
from remit.access.tasks.command import measure, open_command
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.ids import name as urn
from remit.surface.api.route import Call, Route, Text
from remit.surface.views import decision_of, lease_rows, proof_text, with_titles

_TAG = "access"


class NewPolicies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cedar text that replaces the policies in force."""

    text: str
    source: str = ""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cedar text to try on past decisions."""

    text: str
    limit: int = 1000


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


class NewGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a task asks a person for, until when, and why."""

    task: str
    needs: list[str]
    reason: str
    seconds: int = 3600


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The digest of the grant that the approver was shown; or why it is denied."""

    digest: str = ""
    reason: str = ""


class Revoke(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease, an identity or a credential's fingerprint."""

    subject: str
    reason: str = ""
    dry_run: bool = False


# -- policies and decisions


async def apply_policies(call: Call) -> Any:
    body: NewPolicies = call.body
    by = f"person:{call.require_person('putting policies in force').name}"
    control = call.control
    several = await control.store.read(lambda unit: unit.governance.count_active_persons()) > 1

    def work(unit: Any) -> lifecycle.PolicyVersion:
        active = unit.access.active_policy_version()
        if active is not None and active.digest == lifecycle.text_digest(body.text):
            return cast(lifecycle.PolicyVersion, active)  # applying the same text again changes nothing
        staged = lifecycle.stage(unit, body.text, by=by)
        if several:
            return staged  # where there is a second person, one stages and the other puts in force
        return lifecycle.activate(unit, staged.id, by=by, attester=control.keys)

    version = await control.store.write(work)
    await control.changed()
    return {"id": version.id, "digest": version.digest, "state": version.state.value,
            "count": len(control.feed.cell.current().policies.policies)}  # fmt: skip


async def activate_policies(call: Call) -> Any:
    by = call.require_person("putting policies in force")
    control = call.control
    wanted = call.path["version"]

    def work(unit: Any) -> lifecycle.PolicyVersion:
        version = lifecycle.activate(unit, wanted, by=f"person:{by.name}", attester=control.keys, four_eyes=True)
        unit.record("governance.approval.signed", actor=f"person:{by.name}", subject=wanted,
                    data={"digest": version.digest, "approval": by.evidence()})  # fmt: skip
        return version

    version = await control.store.write(work)
    await control.changed()
    return {"id": version.id, "digest": version.digest, "state": version.state.value}


async def list_policies(call: Call) -> Any:
    versions = await call.control.store.read(lambda unit: unit.access.policy_versions(limit=50))
    return [{**msgspec.to_builtins(each), "text": each.text} for each in versions]


async def show_policies(call: Call) -> Any:
    version = await call.control.store.read(lambda unit: unit.access.active_policy_version())
    return (
        {"id": version.id, "text": version.text, "digest": version.digest}
        if version
        else {"id": "", "text": "", "digest": ""}
    )


async def replay_policies(call: Call) -> Any:
    body: Candidate = call.body
    records = await call.control.latest_decisions(limit=min(body.limit, 10_000))
    found = replay(
        (decision_of(each) for each in records), compile_policies(body.text), entities=call.control.feed.cell.current()
    )
    changes = [
        {**msgspec.to_builtins(each), "before": each.before.value, "after": each.after.value} for each in found.changes
    ]
    return {"replayed": found.asked, "unaffected": found.unaffected, "changes": changes}


async def decisions(call: Call) -> Any:
    limit, denied = call.integer("limit", 50, most=1000), call.flag("denied")
    return await with_titles(call.control, await call.control.latest_decisions(limit=limit, denied=denied))


async def decision(call: Call) -> Any:
    [found] = await with_titles(call.control, [await call.control.decision(call.path["decision"])])
    return found


# -- targets


async def add_target(call: Call) -> Any:
    from remit.providers.postgres.address import parse_url

    body: NewTarget = call.body
    if body.system != "postgres":
        call.control.targets.manifest(body.system)
    address = parse_url(body.url)
    options = {**({"sslmode": address.ssl_mode} if address.ssl_mode else {}), **body.options}
    target = Target(
        name=body.name, system=body.system, host=address.host, port=address.port, database=address.database,
        user=address.user, roles=body.roles, options=options,
    )  # fmt: skip
    checks = await call.control.targets.add(target, body.secret, actor=call.caller.actor)
    await call.control.reload()
    return {"target": target, "checks": checks}


async def list_targets(call: Call) -> Any:
    return await call.control.targets.list()


async def remove_target(call: Call) -> Any:
    await call.control.targets.remove(call.path["target"], actor=call.caller.actor)
    await call.control.reload()
    return {"removed": call.path["target"]}


async def install_sql(call: Call) -> Any:
    from remit.access.brokers.postgres import install_sql as script_of

    target = await call.control.targets.get(call.path["target"])
    return Text(body=script_of(target, call.control.instance), media_type="application/sql; charset=utf-8")


async def install(call: Call) -> Any:
    """Install the functions with the target's own admin credential; the installed login then needs no other right."""
    from remit.access.brokers.port import Installs

    name = call.path["target"]
    broker = await call.control.brokers.broker(name)
    if not isinstance(broker, Installs):
        raise Rejected("access.target.nothing_to_install", f"the broker of `{name}` installs nothing on its target")
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
         "program": {**each.program.as_json(), "path": each.program.script or each.program.executable}}
        for each in await call.control.tasks.list()
    ]  # fmt: skip


async def remove_task(call: Call) -> Any:
    by = call.require_person("removing a task")
    await call.control.tasks.remove(call.path["task"], actor=f"person:{by.name}")
    return {"removed": call.path["task"]}


# -- grants that a person approves


async def request_grant(call: Call) -> Any:
    body: NewGrant = call.body
    by = call.require_person("asking for a grant")
    definition = await call.control.tasks.get(body.task)
    if definition is None:
        raise NotFound(
            "access.task.missing", f"no task `{body.task}` is registered", next_step="`remit task add NAME -- CMD`"
        )
    needs = [parse_need(each) for each in body.needs]
    grant = await call.control.grants.request(
        definition, needs, life=timedelta(seconds=body.seconds), reason=body.reason, actor=f"person:{by.name}"
    )
    return _grant(grant)


async def list_grants(call: Call) -> Any:
    states = (GrantState.REQUESTED, GrantState.APPROVED) if not call.flag("all") else tuple(GrantState)
    found = await call.control.grants.list(states=states, limit=call.integer("limit", 100, most=1000))
    return [{**_grant(each.grant), "requested_by": each.requested_by} for each in found]


async def approve_grant(call: Call) -> Any:
    body: Answer = call.body
    by = call.require_person("approving a grant")
    control = call.control
    now = control.clock.now()
    approver = f"person:{by.name}"
    signature = control.keys.sign("approval", approval_content(approver, now, body.digest))
    approval = Approval(approver=approver, time=now, digest=body.digest, signature=signature)
    grant = await control.grants.approve(call.path["grant"], approval)
    # The person's own signature beside ours: it can be checked years later against the key that was enrolled.
    evidence: dict[str, Json] = {"digest": body.digest, "approval": by.evidence()}
    await control.store.write(
        lambda unit: unit.record("governance.approval.signed", actor=approver, subject=grant.id, data=evidence)
    )
    await control.synchronise()
    return _grant(grant)


async def deny_grant(call: Call) -> Any:
    body: Answer = call.body
    by = call.require_person("denying a grant")
    grant = await call.control.grants.deny(call.path["grant"], actor=f"person:{by.name}", reason=body.reason)
    return _grant(grant)


def _grant(grant: Grant) -> dict[str, Any]:
    return {**msgspec.to_builtins(grant), "digest": grant.digest}


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
    dependents = (await control.dependents(identity))["dependents"] if identity else []
    if body.dry_run:
        held = await control.store.read(
            lambda unit: unit.access.leases(LeaseFilter(ids=where.ids, identity=identity, states=LIVE))
        )
        would = [_row(each.lease) for each in held] + await control.static.preview(identity, body.subject)
        return {"dry_run": True, "revoked": would, "dependents": dependents}
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
        method="POST",
        path="/api/v1/policies",
        summary="Put policies in force",
        handler=apply_policies,
        body=NewPolicies,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/policies", summary="The policies in force", handler=show_policies, tag=_TAG),
    Route(method="GET", path="/api/v1/policies/versions", summary="Policy versions", handler=list_policies, tag=_TAG),
    Route(
        method="POST",
        path="/api/v1/policies/{version}/activate",
        summary="Put a staged version in force, as another person",
        handler=activate_policies,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/policies/replay",
        summary="Try policies on past decisions",
        handler=replay_policies,
        body=Candidate,
        tag=_TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/decisions",
        summary="The latest decisions",
        handler=decisions,
        query={"limit": "at most 1000", "denied": "1: only denials"},
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/decisions/{decision}", summary="One decision", handler=decision, tag=_TAG),
    Route(method="POST", path="/api/v1/targets", summary="Add a target", handler=add_target, body=NewTarget, tag=_TAG),
    Route(method="GET", path="/api/v1/targets", summary="Targets", handler=list_targets, tag=_TAG),
    Route(method="DELETE", path="/api/v1/targets/{target}", summary="Remove a target", handler=remove_target, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/targets/{target}/install",
        summary="SQL for the least privilege",
        handler=install_sql,
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
        method="POST", path="/api/v1/grants", summary="Ask for a grant", handler=request_grant, body=NewGrant, tag=_TAG
    ),
    Route(method="GET", path="/api/v1/grants", summary="Grants that wait or hold", handler=list_grants, tag=_TAG),
    Route(
        method="POST",
        path="/api/v1/grants/{grant}/approve",
        summary="Approve exactly this grant",
        handler=approve_grant,
        body=Answer,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/grants/{grant}/deny",
        summary="Deny a grant",
        handler=deny_grant,
        body=Answer,
        tag=_TAG,
    ),
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
