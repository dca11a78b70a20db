"""The state at a past moment: what a credential, lease, token or identity could reach then, and who had approved it.

The registry's history says who there was and which systems let it in; the ledger says what we gave, by whose word. Each
thing that rests on the ledger names its leaf: `remit ledger prove LEAF` shows that the entry is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from remit.access.edges import OwnEdges, own_access
from remit.access.leases.model import HeldLease, LeaseFilter
from remit.access.past import GRANTS, LEASES, PastGrant, PastLease, Word, by_subject, grant_told, is_another, lease_then
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import Blast
from remit.inventory.graph.blast import blast as spread
from remit.inventory.graph.traits import IDENTITY, LABELS, WEIGHTS, class_of
from remit.inventory.records import CredentialRecord, IdentityRecord
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.ids import credential_name, is_id
from remit.wiring.own_edges import past_grants, past_leases, past_records
from remit.wiring.past_issued import PastIssued, anchors_of, blocking

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_MOST: Final = 200
_REACHED: Final = 50
_WORST: Final = {label: -WEIGHTS[label] for label in LABELS}
_EXCEPTION: Final = "governance.exception."
_ANSWERED: Final = tuple(f"{_EXCEPTION}{each}" for each in ("approved", "renewed", "refused", "revoked", "expired"))


@dataclass(slots=True, kw_only=True)
class _Then:
    """What one reading of the store found."""

    record: IdentityRecord | None
    thing: dict[str, Any]
    size: int
    start: str
    names: list[str] = field(default_factory=list)
    credentials: list[CredentialRecord] = field(default_factory=list)
    grants: list[PastGrant] = field(default_factory=list)
    leases: list[PastLease] = field(default_factory=list)
    issued: list[dict[str, Any]] = field(default_factory=list)
    exceptions: list[dict[str, Any]] = field(default_factory=list)
    blocked: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, Any] | None = None
    own: OwnEdges = field(default_factory=lambda: OwnEdges((), ()))


class PastDesk:
    """Answers what was."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def look(self, given: str, at: datetime) -> dict[str, Any]:
        """The state of what `given` names at `at`.

        An identity by any name, a credential by its fingerprint, a grant, a lease by its id or its login's name on the
        target, an SVID by its serial, or a token by its `jti`. Raises `NotFound` (`inventory.identity.unknown`,
        `access.past.unknown`), and `Conflict` (`access.past.altered`, `ledger.body.lost`) where the database lacks what
        the ledger tells of.
        """
        control, now, doubt = self._control, "", None
        try:
            now = await control.resolve(given)
        except (NotFound, Rejected) as error:
            doubt = error  # it may have been known then, or be no identity
        try:
            then = await control.store.read(lambda unit: _Reading(unit, at, control.instance).of(given, now))
        except NotFound:
            if isinstance(doubt, Rejected):
                raise doubt from None
            raise
        graph = await control.graphs.at(at, then.own if then.size else None)
        found, things = await asyncio.to_thread(_reach, graph, then)
        ways = [(each, found.path(each.node.name)) for each in things[:_REACHED]] if found else []
        named = _named(then.own, [edge.evidence for _, way in ways for edge in way])
        given_by = await control.store.read(lambda unit: _stories(unit, at, set(named.values())))
        reach = None if found is None else {
            "start": then.start, "resources": len(things), "score": found.score, "becomes": found.becomes_count,
            "by_sensitivity": found.by_sensitivity,
            "things": [_reached(found, each, way, named, given_by) for each, way in ways],
        }  # fmt: skip
        return _answer(given, at, then, reach, given_by)


def _answer(
    given: str, at: datetime, then: _Then, reach: dict[str, Any] | None, named: Mapping[str, PastGrant]
) -> dict[str, Any]:
    grants, leases, issued = then.grants[:_MOST], then.leases[:_MOST], then.issued[:_MOST]
    return {
        "asked": given, "at": at, "ledger_size": then.size, "thing": then.thing, "identity": then.record,
        "names": then.names, "policies": then.policies,
        "grants": [_grant_json(each, then.blocked) for each in grants], "grant_count": len(then.grants),
        "leases": [_lease_json(each) for each in leases], "lease_count": len(then.leases),
        "credentials": then.credentials[:_MOST], "credential_count": len(then.credentials),
        "issued": issued, "issued_count": len(then.issued), "exceptions": then.exceptions[:_MOST],
        "revocations": list({each["id"]: each for each in then.blocked.values()}.values())[:_MOST], "reach": reach,
        "leaves": sorted(_leaves(then, grants, leases, issued, named)),
    }  # fmt: skip


class _Reading:
    """Reads one moment within one transaction."""

    def __init__(self, unit: Any, at: datetime, instance: str) -> None:
        self._unit = unit
        self._at = at
        self._instance = instance
        self._issued = PastIssued(unit, at)

    def of(self, given: str, now: str) -> _Then:
        unit, at = self._unit, self._at
        identity, thing, start = self._meant(given, now)
        record = next(iter(unit.inventory.history.identities_at(at, [identity])), None) if identity else None
        then = _Then(record=record, thing=thing, size=unit.ledger.size_at(at), start=start)
        if identity:
            self._gather(then, identity)
        if not thing:
            then.thing = {"kind": "identity", "id": identity, "held": record is None or record.present}
            if record is None and not (then.grants or then.leases or then.issued):
                raise _unknown(given)
        then.own = own_access(past_records(unit, self._instance, at), unit.inventory.resolve)
        then.policies = self._policies()
        self._settle(then)
        return then

    def _gather(self, then: _Then, identity: str) -> None:
        """What the identity had, itself and by those that were joined to it by then."""
        unit, at = self._unit, self._at
        ids = self._joined(identity)
        then.names = sorted(self._names(ids) | ({then.record.name} if then.record else set()))
        then.grants, then.leases = past_grants(unit, at, ids), past_leases(unit, at, ids)
        held = unit.inventory.history.credentials_at(at, ids)
        then.credentials = [each for each in held if each.present]
        subjects = {*ids, *then.names}
        then.issued = self._issued.alive(subjects)
        given = self._issued.given(subjects) if then.issued else {}
        then.issued = [
            each | ({"given": given[each["grant"]]} if each.get("grant") in given else {}) for each in then.issued
        ]
        then.exceptions = self._exceptions(ids)
        wanted = {f"identity:{each}" for each in ids} | {each for each in then.names if each.startswith("spiffe://")}
        wanted |= {f"grant:{each.grant.id}" for each in then.grants}
        wanted |= {f"grant:{each}" for each in (then.thing.get("id"), *anchors_of(self._grants_given(then)))}
        then.blocked = blocking(unit, at, wanted)

    # -- what is meant

    def _meant(self, given: str, now: str) -> tuple[str, dict[str, Any], str]:
        """The identity, the thing where it is none itself, and the node at which its reach begins."""
        if is_id("gr", given):
            return self._a_grant(given)
        lease = next(iter(self._unit.access.leases_by_principal([given]).values()), None)
        if is_id("ls", given):
            lease = next(iter(self._unit.access.leases(LeaseFilter(ids=(given,)), 1)), None)
            if lease is None and self._unit.past.told(LEASES, subjects=[given], limit=1):
                raise _altered(given)
        if lease is not None:
            return self._a_lease(lease)
        if given.startswith(("sha256:", "hmac:")):
            return self._a_credential(given)
        if called := self._called(given, now):
            return called, {}, called
        if found := self._issued.find(given):
            thing, subject = found
            identity = self._called(subject, "") or subject
            if given_by := self._issued.grant(thing["grant"]) if is_id("gr", thing.get("grant", "")) else None:
                thing["given"] = given_by[0]
            return identity, {**thing, "held": bool(self._issued.standing([thing]))}, identity
        if given.startswith("spiffe://"):
            return given, {}, given
        raise NotFound(
            "access.past.unknown", f"nothing is called `{given[:200]}`, and no SVID or token of then was",
            next_step="name an identity, a fingerprint, a grant, a lease, a serial or a token's id",
        )  # fmt: skip

    def _called(self, given: str, now: str) -> str:
        """The identity of then: by its id, a name of its own, or what another name of it means now."""
        history = self._unit.inventory.history
        known = given if is_id("id", given) else history.identity_called(given, self._at) or now
        record = next(iter(history.identities_at(self._at, [known])), None) if known else None
        return (record.merged_into or record.id) if record else known

    def _a_grant(self, given: str) -> tuple[str, dict[str, Any], str]:
        stored = self._unit.access.grant(given)
        told = self._unit.past.told(GRANTS, subjects=[given])[::-1]
        if (stored is None and told) or (stored is not None and is_another(stored, told)):
            raise _altered(given)
        if stored is not None:
            found, identity = grant_told(stored, told, self._at), self._called(stored.grant.identity, "")
            return identity, {"kind": "grant", "id": given, "held": found is not None and not found.over}, identity
        if token := self._issued.grant(given):
            thing, subject = token
            identity = self._called(subject, "") or subject
            held = thing["at"] <= self._at < parse_rfc3339(thing["until"])
            return (
                identity,
                {"kind": "token grant", "id": given, "held": held, "given": thing, **_good_for(thing)},
                identity,
            )
        raise NotFound(
            "access.past.unknown", f"no grant `{given}` is known",
            next_step="name an identity, a fingerprint, a grant, a lease, a serial or a token's id",
        )  # fmt: skip

    def _a_lease(self, held: HeldLease) -> tuple[str, dict[str, Any], str]:
        told = self._unit.past.told(LEASES, subjects=[held.id])[::-1]
        found = lease_then(held, told, self._at)
        lease = found.held.lease if found else held.lease
        thing = {"kind": "lease", "id": lease.id, "principal": lease.principal, "held": found is not None}
        return self._called(lease.identity, ""), thing, ""

    def _a_credential(self, given: str) -> tuple[str, dict[str, Any], str]:
        found = next(iter(self._unit.inventory.history.credentials_named(self._at, [given])), None)
        if found is None:
            raise NotFound(
                "access.past.unknown", f"no credential `{given[:80]}` was known then",
                next_step="`remit show ID --at` lists those of an identity",
            )  # fmt: skip
        thing = {"kind": "credential", "id": given, "title": found.title, "state": found.state, "held": found.present}
        return self._called(found.identity, ""), thing, credential_name(given)

    def _joined(self, identity: str) -> list[str]:
        """The identity and those that were merged into it by then."""
        ids, fresh = {identity}, [identity]
        while fresh:
            told = self._unit.past.told(("inventory.identity.merged",), until=self._at, subjects=fresh)
            fresh = sorted({str(each.data["merged"]) for each in told} - ids)
            ids |= set(fresh)
        merged = self._unit.inventory.history.identities_at(self._at, ids - {identity})
        return sorted({identity} | {each.id for each in merged if each.merged_into == identity})

    def _names(self, ids: Sequence[str]) -> set[str]:
        """Their names, without what was an identity of its own then and is joined to them since."""
        inventory = self._unit.inventory
        names = {name for names in inventory.names_of_all(ids).values() for name in names}
        others = {name for name in names if is_id("id", name)} - set(ids)
        return {
            name for name in names - others - set(ids)
            if inventory.history.identity_called(name, self._at) in (None, *ids)
        }  # fmt: skip

    def _settle(self, then: _Then) -> None:
        """Whether the thing that was asked for was held, and where its reach begins."""
        thing = then.thing
        if thing["kind"] == "lease":
            begins = f"lease {thing['id']} "
            then.start = next(
                (edge.target for edge in then.own.edges() if edge.evidence.startswith(begins) and edge.actions), ""
            )
        given = self._grants_given(then)
        anchors = _stories(self._unit, self._at, set(anchors_of(given)))
        for each in given:
            anchor = anchors.get(each["anchor"])
            holds = anchor is not None and not anchor.over and f"grant:{each['anchor']}" not in then.blocked
            each["in_force"] = holds or not each["anchor"]
        if thing["kind"] in ("grant", "token grant"):
            others = [each for each in then.blocked if each.startswith("grant:") and each != f"grant:{thing['id']}"]
            thing["held"] = thing["held"] and len(others) == len(then.blocked)
        if thing["kind"] == "token grant":
            thing["held"] = thing["held"] and thing["given"]["in_force"]

    def _grants_given(self, then: _Then) -> list[dict[str, Any]]:
        """What gave the tokens, that which was asked for among them."""
        return [each["given"] for each in (then.thing, *then.issued) if "given" in each]

    # -- what held

    def _policies(self) -> dict[str, Any] | None:
        active = next(iter(self._unit.past.told(("access.policy.activated",), until=self._at, limit=1)), None)
        if active is None:
            return None
        told = self._unit.past.told(("access.policy.staged",), until=self._at, subjects=[active.subject], limit=1)
        staged = next(iter(told), None)
        return {
            "version": active.subject, "since": active.time, "activated_by": active.actor, "leaf": active.leaf_index,
            "staged_by": staged.actor if staged else "", "staged_leaf": staged.leaf_index if staged else None,
        }  # fmt: skip

    def _exceptions(self, ids: Collection[str]) -> list[dict[str, Any]]:
        """Those that were in force, with what was asked for then; of the rows nothing is taken."""
        past, at = self._unit.past, self._at
        asked = [
            each for each in past.told((f"{_EXCEPTION}requested",), until=at)
            if not set(ids).isdisjoint(each.data["identities"])
        ]  # fmt: skip
        told = by_subject(past.told(_ANSWERED, until=at, subjects=[each.subject for each in asked]))
        return [found for each in asked if (found := _exception(each, told.get(each.subject, ()), at)) is not None]


def _exception(asked: Any, told: Sequence[Any], at: datetime) -> dict[str, Any] | None:
    words = [each for each in told if each.type in _ANSWERED[:2]]
    if not words or len(words) < len(told):
        return None
    until = parse_rfc3339(str(words[-1].data["expires"]))
    if until <= at:
        return None
    said = {key: asked.data[key] for key in ("rule", "actions", "resource", "reason", "requester")}
    return {
        "id": asked.subject, **said, "approved_by": [each.actor for each in words], "since": words[0].time,
        "until": until, "leaf": words[-1].leaf_index, "leaves": [each.leaf_index for each in (asked, *words)],
    }  # fmt: skip


def _stories(unit: Any, at: datetime, grants: Collection[str]) -> dict[str, PastGrant]:
    """How grants had been given by then, whether or not they still held: a lease may outlast its own."""
    told = by_subject(unit.past.told(GRANTS, subjects=grants)) if grants else {}
    rows = [stored for each in grants if (stored := unit.access.grant(each)) is not None]
    found = {each.grant.id: grant_told(each, told.get(each.grant.id, ()), at) for each in rows}
    return {grant: story for grant, story in found.items() if story is not None}


def _unknown(given: str) -> NotFound:
    return NotFound(
        "inventory.identity.unknown", f"`{given[:200]}` was not known then", next_step="`remit ls --at` lists what was"
    )


def _altered(given: str) -> Conflict:
    return Conflict(
        "access.past.altered", f"the row of `{given}` is gone or is not what the ledger tells of",
        next_step=f"`remit ledger ls --subject {given}` shows what was recorded",
    )  # fmt: skip


# -- what it reached


def _reach(graph: AccessGraph, then: _Then) -> tuple[Blast | None, list[Any]]:
    """What the start reached, the worst first; nothing where it did not hold or is not known."""
    if not then.start or then.start not in graph or not then.thing["held"]:
        return None, []
    found = spread(graph, then.start)
    things = [each for each in found if class_of(each.node) < IDENTITY]
    things.sort(key=lambda each: (_badness(each.node), each.conditional, each.distance, each.node.title))
    return found, things


def _badness(node: Any) -> int:
    return _WORST[LABELS[class_of(node)]]


def _named(own: OwnEdges, evidence: Iterable[str]) -> dict[str, str]:
    """Evidence of our own that names a grant → that grant. What another system says names none, whatever it says."""
    wanted = set(evidence)
    found = {}
    for edge in own.edges():
        if edge.evidence in wanted:
            head, _, rest = edge.evidence.rpartition("grant ")
            grant = rest[:29]
            if is_id("gr", grant) and (not head or head.startswith("lease ls_")):
                found[edge.evidence] = grant
    return found


def _reached(
    found: Blast, each: Any, way: Sequence[Any], named: Mapping[str, str], grants: Mapping[str, PastGrant]
) -> dict[str, Any]:
    node = each.node
    ours = dict.fromkeys(named[edge.evidence] for edge in way if edge.evidence in named)
    return {
        "name": node.name, "title": node.title, "kind": node.kind,
        "sensitivity": node.sensitivity.value if node.sensitivity else None, "distance": each.distance,
        "conditional": each.conditional,
        "way": [
            {"relation": edge.relation.value, "to": _title(found, edge.target), "evidence": edge.evidence,
             "conditions": list(edge.conditions)}
            for edge in way
        ],
        "grants": [
            {"id": grant, "approved_by": [word.by for word in grants[grant].approved] if grant in grants else [],
             "given_by": _given_by(grants[grant]) if grant in grants else ""}
            for grant in ours
        ],
    }  # fmt: skip


def _title(found: Blast, node: str) -> str:
    return found.graph.node(node).title if node in found.graph else node


def _given_by(grant: PastGrant) -> str:
    return "persons" if grant.approved else "policy"


# -- as JSON


def _leaves(
    then: _Then, grants: Sequence[PastGrant], leases: Sequence[PastLease], issued: Sequence[dict[str, Any]],
    named: Mapping[str, PastGrant],
) -> set[int]:  # fmt: skip
    """The entries that prove what is shown."""
    found = {word.leaf for word in _words((*grants, *named.values()), leases)}
    found |= {each["leaf"] for each in (then.thing, *issued, *then.blocked.values()) if "leaf" in each}
    found |= {leaf for each in then.exceptions[:_MOST] for leaf in each["leaves"]}
    found |= {each["given"]["leaf"] for each in (then.thing, *issued) if "given" in each}
    policies = then.policies or {}
    return found | {policies[key] for key in ("leaf", "staged_leaf") if policies.get(key) is not None}


def _words(grants: Iterable[PastGrant], leases: Iterable[PastLease]) -> Iterable[Word]:
    for grant in grants:
        yield from (each for each in (grant.asked, grant.begun, *grant.approved, grant.ended) if each is not None)
    for lease in leases:
        yield from (each for each in (lease.issued, lease.ended) if each is not None)


def _good_for(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in ("subject", "aud", "scope")}


def _grant_json(past: PastGrant, blocked: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    grant = past.grant
    revoked = blocked.get(f"grant:{grant.id}") or blocked.get(f"identity:{grant.identity}")
    return {
        "id": grant.id, "task": grant.task, "needs": list(grant.needs), "reason": grant.reason,
        "kind": grant.terms.kind.value if grant.terms else "run", "since": past.since, "until": past.until,
        "asked": asdict(past.asked) if past.asked else None, "given_by": _given_by(past),
        "approved": [asdict(each) for each in past.approved],
        "decisions": [each for each in grant.decision.split(",") if each],
        "begun": asdict(past.begun), "ended": asdict(past.ended) if past.ended else None,
        "revoked": revoked["id"] if revoked else None,
    }  # fmt: skip


def _lease_json(past: PastLease) -> dict[str, Any]:
    lease = past.held.lease
    return {
        "id": lease.id, "principal": lease.principal, "target": lease.target, "need": lease.need, "grant": lease.grant,
        "task": lease.task, "since": past.issued.at, "revoking": past.revoking, "issued": asdict(past.issued),
        "ended": asdict(past.ended) if past.ended else None,
    }  # fmt: skip
