"""Who answers for it? People, owners, life cycle, exceptions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from remit.governance import exceptions, lifecycle, ownership, people
from remit.governance.controls import controls_of
from remit.governance.model import ExceptionDraft
from remit.inventory.model import State
from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route

_TAG = "governance"


class NewPerson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person with a public key of their own (Ed25519, 64 hex characters)."""

    name: str
    email: str
    public_key: str


class NewOwner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A registered person or team."""

    owner: str


class NewState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state of the life cycle, and why."""

    state: str
    reason: str


class NewException(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is excepted, for whom, why, and for how long."""

    control: str
    identities: list[str]
    reason: str
    days: int = 30
    actions: list[str]
    resource: str
    compensating: list[str] = []


class Approve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The digest of the exception that the approver was shown."""

    digest: str


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: str = ""


async def about(call: Call) -> Any:
    persons = await call.control.store.read(lambda unit: unit.governance.count_active_persons())
    return {"instance": call.control.instance, "persons": persons}


async def enrol(call: Call) -> Any:
    body: NewPerson = call.body
    # Only the owner of the data directory, by the kernel's word, may enrol without being a registered person.
    # A database without persons is no new installation when we remember having enrolled some.
    if call.caller.approver is None and (call.caller.via != "admin.sock" or call.control.standing.has_persons):
        call.require_person("registering a person")
    by = call.caller.approver or people.LocalOwner()
    person = await call.control.store.write(
        lambda unit: people.enroll(unit, name=body.name, email=body.email, public_key=body.public_key, by=by)
    )
    await call.control.synchronise()
    return person


async def list_people(call: Call) -> Any:
    return await call.control.store.read(lambda unit: unit.governance.persons())


async def proposals(call: Call) -> Any:
    identity = await call.control.resolve(call.path["identity"])

    def read(unit: Any) -> dict[str, Any]:
        record = unit.inventory.identities([identity])[identity]
        return {"owner": record.owner, "proposals": unit.inventory.proposals(unit.inventory.names_of(identity))}

    return await call.control.store.read(read)


async def assign(call: Call) -> Any:
    body: NewOwner = call.body
    by = call.require_person("assigning an owner")
    identity = await call.control.resolve(call.path["identity"])
    record = await call.control.store.write(
        lambda unit: ownership.assign(unit, identity, body.owner, by=f"person:{by.name}")
    )
    await call.control.changed(identity)
    return record


async def claim(call: Call) -> Any:
    by = call.require_person("claiming an identity")
    identity = await call.control.resolve(call.path["identity"])
    record = await call.control.store.write(lambda unit: ownership.claim(unit, identity, by.name))
    await call.control.changed(identity)
    return record


async def set_state(call: Call) -> Any:
    body: NewState = call.body
    by = call.require_person("a change of the life cycle")
    identity = await call.control.resolve(call.path["identity"])
    try:
        state = State(body.state)
    except ValueError:
        known = ", ".join(each.value for each in State)
        raise Rejected(
            "governance.lifecycle.unknown", f"`{body.state}` is no state", next_step=f"use one of {known}"
        ) from None
    record = await call.control.store.write(
        lambda unit: lifecycle.transition(unit, identity, state, by=f"person:{by.name}", reason=body.reason)
    )
    await call.control.changed(identity)
    return record


async def request_exception(call: Call) -> Any:
    body: NewException = call.body
    by = call.require_person("asking for an exception")
    identities = [await call.control.resolve(each) for each in body.identities]
    draft = ExceptionDraft(
        rule=body.control,
        identities=tuple(identities),
        actions=tuple(body.actions),
        resource=body.resource,
        reason=body.reason,
        expires=call.control.clock.now() + timedelta(days=body.days),
        compensating=tuple(body.compensating),
    )
    return await call.control.store.write(lambda unit: exceptions.request(unit, draft, requester=f"person:{by.name}"))


async def approve_exception(call: Call) -> Any:
    by = call.require_person("approving an exception")
    body: Approve = call.body
    approved = await call.control.store.write(
        lambda unit: exceptions.approve(
            unit, call.path["exception"], by=by, digest=body.digest, attester=call.control.keys
        )
    )
    await call.control.synchronise()
    return approved


async def revoke_exception(call: Call) -> Any:
    body: Reason = call.body
    by = call.require_person("ending an exception")
    ended = await call.control.store.write(
        lambda unit: exceptions.revoke(unit, call.path["exception"], by=f"person:{by.name}", reason=body.reason)
    )
    await call.control.changed()
    return ended


async def list_exceptions(call: Call) -> Any:
    found = await call.control.store.read(lambda unit: unit.governance.exceptions())
    (_, probes), now = await call.control.segments.state(), call.control.clock.now()
    return [
        {
            **msgspec.to_builtins(each),
            "digest": each.digest,
            "controls": msgspec.to_builtins(controls_of(each, probes, now)),
        }
        for each in found
    ]


ROUTES = [
    Route(
        method="GET",
        path="/api/v1/people/about",
        summary="Which installation, and is anybody registered?",
        handler=about,
        tag=_TAG,
    ),
    Route(method="POST", path="/api/v1/people", summary="Register a person", handler=enrol, body=NewPerson, tag=_TAG),
    Route(method="GET", path="/api/v1/people", summary="Registered persons", handler=list_people, tag=_TAG),
    Route(
        method="GET",
        path="/api/v1/identities/{identity:path}/owner",
        summary="Owner and proposals",
        handler=proposals,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/owner",
        summary="Assign an owner",
        handler=assign,
        body=NewOwner,
        tag=_TAG,
    ),
    Route(
        method="POST", path="/api/v1/identities/{identity:path}/claim", summary="Answer for it", handler=claim, tag=_TAG
    ),
    Route(
        method="POST",
        path="/api/v1/identities/{identity:path}/state",
        summary="Change the life-cycle state",
        handler=set_state,
        body=NewState,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/exceptions",
        summary="Ask for an exception",
        handler=request_exception,
        body=NewException,
        tag=_TAG,
    ),
    Route(method="GET", path="/api/v1/exceptions", summary="Exceptions", handler=list_exceptions, tag=_TAG),
    Route(
        method="POST",
        path="/api/v1/exceptions/{exception}/approve",
        summary="Approve an exception",
        handler=approve_exception,
        body=Approve,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/exceptions/{exception}/revoke",
        summary="End an exception",
        handler=revoke_exception,
        body=Reason,
        tag=_TAG,
    ),
]
