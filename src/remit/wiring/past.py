"""The state at a past moment: what a credential, lease, token or identity could reach then, and who had approved it.

The registry's history says who there was and which systems let it in; the ledger says what we gave, by whose word. Each
thing that rests on the ledger names its leaf: `remit ledger prove LEAF` shows that the entry is there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from remit.access.edges import OwnEdges, own_access
from remit.access.past import PastGrant, PastLease, Word
from remit.governance.model import PolicyException
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.blast import Blast
from remit.inventory.graph.blast import blast as spread
from remit.inventory.graph.traits import IDENTITY, LABELS, WEIGHTS, class_of
from remit.inventory.records import CredentialRecord, IdentityRecord
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound
from remit.kernel.ids import credential_name, is_id
from remit.wiring.own_edges import past_grants, past_leases, past_records

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_LONGEST: Final = timedelta(hours=4)
"""No SVID or token lives longer."""
_MOST: Final = 200
_MOST_ISSUED: Final = 20_000
_REACHED: Final = 50
_GRANT: Final = re.compile(r"\bgr_[0-9A-HJKMNP-TV-Z]{26}\b")
_WORST: Final = {label: -WEIGHTS[label] for label in LABELS}


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
        `access.past.unknown`).
        """
        control, now = self._control, ""
        try:
            now = await control.resolve(given)
        except NotFound:
            pass  # it may have been known then, or be no identity
        then = await control.store.read(lambda unit: _Reading(unit, at, control.instance).of(given, now))
        graph = await control.graphs.at(at)
        reach = await asyncio.to_thread(_reach, graph, then)
        leaves = {word.leaf for word in _words(then)} | {each["leaf"] for each in (*then.issued, *then.exceptions)}
        leaves |= {leaf for key in ("leaf", "staged_leaf") if (leaf := (then.policies or {}).get(key)) is not None}
        leaves |= {each["given"]["leaf"] for each in then.issued if "given" in each}
        return {
            "asked": given, "at": at, "ledger_size": then.size, "thing": then.thing, "identity": then.record,
            "names": then.names, "policies": then.policies,
            "grants": [_grant_json(each) for each in then.grants[:_MOST]], "grant_count": len(then.grants),
            "leases": [_lease_json(each) for each in then.leases[:_MOST]], "lease_count": len(then.leases),
            "credentials": then.credentials[:_MOST], "issued": then.issued[:_MOST], "issued_count": len(then.issued),
            "exceptions": then.exceptions[:_MOST], "reach": reach, "leaves": sorted(leaves),
        }  # fmt: skip


class _Reading:
    """Reads one moment within one transaction."""

    def __init__(self, unit: Any, at: datetime, instance: str) -> None:
        self._unit = unit
        self._at = at
        self._instance = instance
        self._size: int = unit.ledger.size_at(at)

    def of(self, given: str, now: str) -> _Then:
        unit, at = self._unit, self._at
        identity, thing, start = self._meant(given, now)
        record = next(iter(unit.inventory.history.identities_at(at, [identity])), None) if identity else None
        if record is None and not thing:
            raise NotFound(
                "inventory.identity.unknown", f"`{given[:200]}` was not known then",
                next_step="`remit ls --at` lists what was",
            )  # fmt: skip
        then = _Then(record=record, thing=thing or {"kind": "identity", "id": identity}, size=self._size, start=start)
        then.own = own_access(past_records(unit, self._instance, at), unit.inventory.resolve)
        then.policies = self._policies()
        if not identity:
            return then
        then.grants, then.leases = past_grants(unit, at, identity), past_leases(unit, at, identity)
        then.credentials = list(unit.inventory.history.credentials_at(at, [identity]))
        then.names = sorted({*unit.inventory.names_of(identity), *([record.name] if record else [])})
        then.issued = self._issued([identity, *then.names])
        then.exceptions = self._exceptions(identity)
        self._settle(then)
        return then

    # -- what is meant

    def _meant(self, given: str, now: str) -> tuple[str, dict[str, Any], str]:
        """The identity, the thing where it is none itself, and the node at which its reach begins."""
        unit, history = self._unit, self._unit.inventory.history
        if is_id("gr", given) and (stored := unit.access.grant(given)) is not None:
            return stored.grant.identity, {"kind": "grant", "id": given}, stored.grant.identity
        lease = next(iter(unit.access.leases_by_principal([given]).values()), None)
        if is_id("ls", given):
            lease = next(iter(unit.access.leases(_lease_filter(given), 1)), None)
        if lease is not None:
            thing = {"kind": "lease", "id": lease.id, "principal": lease.lease.principal}
            return lease.lease.identity, thing, ""
        if given.startswith(("sha256:", "hmac:")):
            found = next((each for each in history.credentials_named(self._at, [given])), None)
            if found is None:
                raise NotFound(
                    "access.past.unknown", f"no credential `{given[:80]}` was known then",
                    next_step="`remit show ID --at` lists those of an identity",
                )  # fmt: skip
            thing = {"kind": "credential", "id": given, "title": found.title, "state": found.state}
            return found.identity, thing, credential_name(given)
        called = history.identity_called(given, self._at) or now
        if called:
            return called, {}, called
        return self._token(given)

    def _token(self, given: str) -> tuple[str, dict[str, Any], str]:
        """An SVID or token that was alive: by its serial or `jti`."""
        first = self._unit.ledger.size_at(self._at - _LONGEST)
        for kind, key in (("trust.token.issued", "jti"), ("trust.svid.issued", "serial")):
            for each in self._unit.ledger.latest(_MOST_ISSUED, before=self._size, since=first, type_prefix=kind):
                if each.data.get(key) == given:
                    one = _issued_json(each)
                    identity = each.subject if is_id("id", each.subject) else ""
                    return identity, {**one, "held": parse_rfc3339(one["expires"]) > self._at}, identity
        raise NotFound(
            "access.past.unknown", f"nothing is called `{given[:200]}`, and no SVID or token of then was",
            next_step="name an identity, a fingerprint, a grant, a lease, a serial or a token's id",
        )  # fmt: skip

    def _settle(self, then: _Then) -> None:
        """Whether the thing that was asked for was held, and where its reach begins."""
        thing = then.thing
        if thing["kind"] == "grant":
            thing["held"] = any(each.grant.id == thing["id"] for each in then.grants)
        elif thing["kind"] == "lease":
            thing["held"] = any(each.held.id == thing["id"] for each in then.leases)
            begins = f"lease {thing['id']} "
            then.start = next(
                (edge.target for edge in then.own.edges() if edge.evidence.startswith(begins) and edge.actions), ""
            )
        elif thing["kind"] in ("identity", "credential"):
            thing["held"] = True
        else:
            alive = next((each for each in then.issued if each["id"] == thing["id"]), None)
            then.thing = {**(alive or thing), "held": alive is not None}

    # -- what held

    def _policies(self) -> dict[str, Any] | None:
        active = next(iter(self._latest("access.policy.activated")), None)
        if active is None:
            return None
        staged = next(iter(self._latest("access.policy.staged", active.subject)), None)
        return {
            "version": active.subject, "since": active.time, "activated_by": active.actor, "leaf": active.leaf_index,
            "staged_by": staged.actor if staged else "", "staged_leaf": staged.leaf_index if staged else None,
        }  # fmt: skip

    def _latest(self, kind: str, subject: str | None = None) -> list[Any]:
        found: list[Any] = self._unit.ledger.latest(1, before=self._size, type_prefix=kind, subject=subject)
        return found

    def _issued(self, subjects: Sequence[str]) -> list[dict[str, Any]]:
        """SVIDs and tokens that were alive: issued, not expired, and fallen under no revocation."""
        first = self._unit.ledger.size_at(self._at - _LONGEST)
        alive = [
            _issued_json(each) for kind in ("trust.svid.issued", "trust.token.issued")
            for each in self._unit.ledger.latest(
                _MOST_ISSUED, before=self._size, since=first, type_prefix=kind, subject=subjects
            )
            if parse_rfc3339(str(each.data.get("expires", "1970-01-01T00:00:00Z"))) > self._at
        ]  # fmt: skip
        fallen = self._fallen(first) if alive else set()
        given = self._given(subjects) if alive else {}
        return [
            each | ({"given": given[each["grant"]]} if each.get("grant") in given else {})
            for each in alive if each["id"] not in fallen and each["authority"] not in fallen
        ]  # fmt: skip

    def _given(self, subjects: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The grants of tokens by id: which decisions gave them, and on what approved grant they rest."""
        told = self._unit.ledger.latest(
            _MOST_ISSUED, before=self._size, type_prefix="trust.token.granted", subject=subjects
        )
        return {
            str(each.data["id"]): {
                "leaf": each.leaf_index, "at": each.time, "decisions": list(each.data["decisions"]),
                "anchor": each.data["anchor"], "until": each.data["expires"],
            }
            for each in told if "decisions" in each.data
        }  # fmt: skip

    def _fallen(self, first: int) -> set[str]:
        """The serials, token ids and authorities that were revoked."""
        ended = set()
        for kind in ("trust.revocation.made", "trust.revocation.spread", "trust.token.returned"):
            for each in self._unit.ledger.latest(_MOST_ISSUED, before=self._size, since=first, type_prefix=kind):
                ended |= {str(one[0]) for one in each.data.get("fallen", ())}
                ended.add(str(each.data.get("subject", "")).partition(":")[2])
        return ended

    def _exceptions(self, identity: str) -> list[dict[str, Any]]:
        rows = [each for each in _exceptions(self._unit) if identity in each.identities]
        return [found for each in rows if (found := self._exception(each)) is not None]

    def _exception(self, row: PolicyException) -> dict[str, Any] | None:
        told = self._unit.ledger.latest(_MOST, before=self._size, type_prefix="governance.exception.", subject=row.id)
        words = [each for each in reversed(told) if "expires" in each.data and "signature" in each.data]
        last = told[0].type.rpartition(".")[2] if told else ""
        if not words or last in ("revoked", "expired") or parse_rfc3339(str(words[-1].data["expires"])) <= self._at:
            return None
        return {
            "id": row.id, "rule": row.rule, "actions": row.actions, "resource": row.resource, "reason": row.reason,
            "requester": row.requester, "approved_by": [each.actor for each in words], "since": words[0].time,
            "until": parse_rfc3339(str(words[-1].data["expires"])), "leaf": words[-1].leaf_index,
        }  # fmt: skip


def _exceptions(unit: Any) -> Iterable[PolicyException]:
    after = ""
    while page := unit.governance.exceptions(after=after):
        yield from page
        after = page[-1].id


def _lease_filter(lease: str) -> Any:
    from remit.access.leases.model import LeaseFilter

    return LeaseFilter(ids=(lease,))


def _issued_json(entry: Any) -> dict[str, Any]:
    """An SVID or token as its entry has it."""
    data = entry.data
    token = entry.type == "trust.token.issued"
    said = ("aud", "scope", "act", "client", "details", "cnf", "grant") if token else ("audience", "spiffe_id", "agent")
    return {
        "kind": data.get("kind", ""), "id": data.get("jti" if token else "serial", ""), "issued": entry.time,
        "expires": data.get("expires", "1970-01-01T00:00:00Z"), "subject": data.get("sub", data.get("spiffe_id", "")),
        "proof": data.get("proof" if token else "evidence", ""), "leaf": entry.leaf_index,
        "authority": data.get("authority", ""),
        **{key: data[key] for key in said if data.get(key)},
    }  # fmt: skip


# -- what it reached


def _reach(graph: AccessGraph, then: _Then) -> dict[str, Any] | None:
    """What the start reached, the worst first, each with its way and who had approved what lies on it."""
    if not then.start or then.start not in graph or not then.thing.get("held", True):
        return None
    found = spread(graph, then.start)
    by_id = {each.grant.id: each for each in then.grants}
    things = [each for each in found if class_of(each.node) < IDENTITY]
    things.sort(key=lambda each: (_badness(each.node), each.conditional, each.distance, each.node.title))
    return {
        "start": then.start, "resources": len(things), "score": found.score, "becomes": found.becomes_count,
        "by_sensitivity": found.by_sensitivity,
        "things": [_reached(found, each, by_id) for each in things[:_REACHED]],
    }  # fmt: skip


def _badness(node: Any) -> int:
    return _WORST[LABELS[class_of(node)]]


def _reached(found: Blast, each: Any, grants: dict[str, PastGrant]) -> dict[str, Any]:
    node, way = each.node, found.path(each.node.name)
    named = dict.fromkeys(grant for edge in way for grant in _GRANT.findall(edge.evidence))
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
            for grant in named
        ],
    }  # fmt: skip


def _title(found: Blast, node: str) -> str:
    return found.graph.node(node).title if node in found.graph else node


def _given_by(grant: PastGrant) -> str:
    return "persons" if grant.approved else "policy"


# -- as JSON


def _words(then: _Then) -> Iterable[Word]:
    for grant in then.grants:
        yield from (each for each in (grant.asked, grant.begun, *grant.approved, grant.ended) if each is not None)
    for lease in then.leases:
        yield from (each for each in (lease.issued, lease.ended) if each is not None)


def _grant_json(past: PastGrant) -> dict[str, Any]:
    grant = past.grant
    return {
        "id": grant.id, "task": grant.task, "needs": list(grant.needs), "reason": grant.reason,
        "kind": grant.terms.kind.value if grant.terms else "run", "since": past.since, "until": past.until,
        "asked": asdict(past.asked) if past.asked else None, "given_by": _given_by(past),
        "approved": [asdict(each) for each in past.approved],
        "decisions": [each for each in grant.decision.split(",") if each],
        "begun": asdict(past.begun), "ended": asdict(past.ended) if past.ended else None,
    }  # fmt: skip


def _lease_json(past: PastLease) -> dict[str, Any]:
    lease = past.held.lease
    return {
        "id": lease.id, "principal": lease.principal, "target": lease.target, "need": lease.need, "grant": lease.grant,
        "task": lease.task, "since": past.issued.at, "revoking": past.revoking, "issued": asdict(past.issued),
        "ended": asdict(past.ended) if past.ended else None,
    }  # fmt: skip
