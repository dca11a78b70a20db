"""What policies see: identities, resources, actions and context as Cedar entities and values.

Facts are small (a million of them are held in memory); the views that policies read are made from them when a request
asks, and kept while nothing that they rest on changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from remit.access.model import Grant, GrantKind, GrantState, Request
from remit.access.policy.entities import NOTHING, EntityView
from remit.access.policy.extensions import CONSTRUCTORS, Datetime, IpRange
from remit.access.policy.schema import ACTION, IDENTITY, PROVEN, RESOURCE, Kind, Vocabulary
from remit.access.policy.values import LONG_MAX, LONG_MIN, CedarSet, Uid, Value
from remit.inventory.model import Sensitivity, State
from remit.kernel.canonical import Json

STRICTEST_TIER = 0
UNCOUNTED = 1_000_000_000
"""The blast radius of what was not counted yet: beyond every limit, so that a policy refuses rather than guesses."""
CLOCK_SKEW_SECONDS = 60
"""An attestation may lie this far in our future before it counts as none."""

_EMPTY_SET = CedarSet(())
_SETS = frozenset(name for name, kind in PROVEN.items() if kind is Kind.STRINGS and name != "selectors")
"""Proven sets that a context need not have."""


class IdentityFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An identity as the decision point knows it. `tier` None is the strictest tier."""

    id: str
    name: str
    kind: str
    state: str = State.ACTIVE
    owner: str | None = None
    owner_active: bool = False
    tier: int | None = None
    environment: str | None = None
    service: str | None = None
    purpose: str | None = None
    autonomy: str | None = None
    system: str | None = None
    privileged: bool = False
    risk: int = 0
    """0–100."""
    blast_radius: int = 0
    """How many resources whoever has it can get; `UNCOUNTED` while that is not known."""
    names: tuple[str, ...] = ()
    """Every other name and merged id."""
    groups: tuple[str, ...] = ()
    """Ids of the groups of which it is a direct member."""
    partner: str | None = None
    """The foreign trust domain whose SPIFFE ID it has: the bounds of that relation hold for it."""
    partner_id: str | None = None
    """That SPIFFE ID."""
    labels: tuple[tuple[str, str], ...] = ()
    """Confirmed labels, which policies see as tags."""


class ResourceFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resource as the decision point knows it. A sensitivity that nobody confirmed counts as restricted."""

    name: str
    kind: str
    system: str | None = None
    sensitivity: str = Sensitivity.RESTRICTED
    environment: str | None = None
    owner: str | None = None
    names: tuple[str, ...] = ()
    """Other names; a target is called `target/NAME`."""
    parents: tuple[str, ...] = ()
    """Names of the resources of which it is part."""
    labels: tuple[tuple[str, str], ...] = ()


class GrantFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A grant whose signature was verified by whoever put it here."""

    id: str
    identity: str
    digest: str
    """Computed from the grant as it stands."""
    approved: tuple[str, ...]
    """The digests that people approved; empty when policy alone allowed it."""
    usable: bool
    expires: datetime
    task: str = ""
    task_digest: str = ""
    answered: tuple[str, ...] = ("*",)
    """The requirements of `approval` that its approvals fill; `*`: any."""
    policies: str = ""
    """Digest of the policies under which it was approved; empty where it does not hang on them."""
    changed: str = ""
    """What is not as it was approved; empty when nothing."""
    scope: tuple[str, ...] = ("*",)
    """What was asked for: `target/NAME` and `target/NAME#ROLE`; `*`: nobody asked beforehand."""

    @classmethod
    def of(cls, grant: Grant, changed: str = "") -> GrantFacts:
        """Take what the decision point needs of a grant; `changed` says what is not as it was approved."""
        terms = grant.terms
        emergency = terms is not None and terms.kind is GrantKind.BREAK_GLASS
        return cls(
            id=grant.id,
            identity=grant.identity,
            digest=grant.digest,
            approved=tuple(approval.digest for approval in grant.approvals),
            usable=grant.state is GrantState.APPROVED,
            expires=grant.expires,
            task=grant.task,
            task_digest=grant.task_digest,
            answered=("*",) if emergency else () if terms is None else terms.requires,
            policies="" if terms is None else terms.policies,
            changed=changed,
            scope=("*",) if terms is None else _scope_of(grant.needs),
        )

    def within(self, request: Request) -> GrantFacts:
        """The grant as it counts for this request: what was approved for one target is no approval of another.

        Needs name targets alone: for other resources it is the task and its policy that were approved.
        """
        if self.scope == ("*",) or request.resource.type != "target":
            return self
        place, role = f"{request.resource.type}/{request.resource.id}", request.proven.get("role")
        if (place if role is None else f"{place}#{role}") in self.scope:
            return self
        return msgspec.structs.replace(self, approved=(), answered=())


def _scope_of(needs: Sequence[str]) -> tuple[str, ...]:
    """Needs are written `SYSTEM://TARGET[/DATABASE]?role=ROLE`."""
    found: dict[str, None] = {}
    for need in needs:
        place, _, role = need.partition("://")[2].partition("?role=")
        name = f"target/{place.partition('/')[0]}"
        found |= {name: None, f"{name}#{role}": None}
    return tuple(found)


class ExceptionFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An approved deviation from `rule` for some identities, actions and one resource (or a prefix, ending in `*`)."""

    id: str
    rule: str
    identities: frozenset[str]
    actions: frozenset[str]
    resource: str
    expires: datetime

    def covers(self, action: str, resource: EntityView, now: datetime) -> bool:
        """Tell whether it holds now for this action on this resource, by any of its names."""
        if now >= self.expires or action not in self.actions:
            return False
        names = [uid.id for uid in resource.ancestors]
        if self.resource.endswith("*"):
            return any(name.startswith(self.resource[:-1]) for name in names)
        return self.resource in names


class Seen(msgspec.Struct, frozen=True, gc=False):
    """An entity as policies see it, and the same as JSON for the record."""

    view: EntityView
    json: dict[str, Json]


def see_identity(facts: IdentityFacts, *, groups: Iterable[str], quarantined: bool) -> Seen:
    """The principal of a request; `groups` is the closure of its memberships."""
    attributes: dict[str, Any] = {
        "name": facts.name,
        "kind": str(facts.kind),
        "state": str(facts.state),
        "owner_active": facts.owner_active,
        "tier": STRICTEST_TIER if facts.tier is None else facts.tier,
        "privileged": facts.privileged,
        "quarantined": quarantined or facts.state == State.QUARANTINED,
        "risk": facts.risk,
        "blast_radius": facts.blast_radius,
    }
    optional = {
        "owner": facts.owner,
        "environment": facts.environment,
        "service": facts.service,
        "purpose": facts.purpose,
        "autonomy": facts.autonomy,
        "system": facts.system,
        "partner": facts.partner,
        "partner_id": facts.partner_id,
    }
    return _seen(IDENTITY, facts.id, attributes, optional, (facts.name, *facts.names, *groups), facts.labels)


def see_resource(facts: ResourceFacts, *, parents: Iterable[str], known: bool = True) -> Seen:
    """The resource of a request; `parents` is the closure of what it is part of."""
    attributes: dict[str, Any] = {
        "name": facts.name,
        "kind": facts.kind,
        "known": known,
        "sensitivity": str(facts.sensitivity),
    }
    optional = {"system": facts.system, "environment": facts.environment, "owner": facts.owner}
    return _seen(RESOURCE, facts.name, attributes, optional, (*facts.names, *parents), facts.labels)


def see_unknown_resource(kind: str, name: str) -> Seen:
    """A resource that the registry does not know: called `TYPE/ID`, restricted, not known."""
    return see_resource(ResourceFacts(name=f"{kind}/{name}", kind=kind), parents=(), known=False)


def _seen(
    kind: str,
    name: str,
    attributes: dict[str, Any],
    optional: Mapping[str, str | None],
    above: Iterable[str],
    labels: tuple[tuple[str, str], ...],
) -> Seen:
    for attribute, value in optional.items():
        if value is not None:
            attributes[attribute] = str(value)
    names = {name, *above}
    ancestors = frozenset([Uid(kind, each) for each in names])
    tags: Mapping[str, Value] = dict(labels) if labels else NOTHING
    view = EntityView(uid=Uid(kind, name), ancestors=ancestors, attributes=attributes, tags=tags)
    json: dict[str, Json] = {"id": name, "in": sorted(names), "attributes": attributes}
    if labels:
        json["labels"] = dict(labels)
    return Seen(view, json)


def view_from_json(kind: str, json: Mapping[str, Any]) -> EntityView:
    """The inverse of `Seen.json`, for replays and explanations of recorded decisions."""
    return EntityView(
        uid=Uid(kind, json["id"]),
        ancestors=frozenset(Uid(kind, name) for name in (json["id"], *json["in"])),
        attributes=dict(json["attributes"]),
        tags=dict(json.get("labels", {})),
    )


@lru_cache(maxsize=4096)
def action_view(action: str, vocabulary_groups: tuple[str, ...]) -> EntityView:
    """An action and its groups."""
    names = (action, *vocabulary_groups)
    return EntityView(uid=Uid(ACTION, action), ancestors=frozenset(Uid(ACTION, name) for name in names))


class MalformedFact(ValueError):
    """A proven fact has not the type that the schema promises."""


def context_json(
    request: Request, *, now_seconds: int, exceptions: Sequence[str], vocabulary: Vocabulary
) -> dict[str, Json]:
    """The context as JSON, without `time`: proven facts, exceptions in force, and the claims that are declared.

    Raises `MalformedFact` when an enforcement point proves something of a wrong type.
    """
    context: dict[str, Json] = {"attested": False, "selectors": []}
    for name, value in request.proven.items():
        if type(value) is not _PLAIN.get(name):
            kind = PROVEN.get(name)
            if kind is None or value is None:
                continue
            if not _is_kind(value, kind):
                raise MalformedFact(f"`{name}` is no {kind}")
        context[name] = value
    if "attested_at" in context:
        _date_attestation(context, now_seconds)
    if exceptions:
        context["exception"], context["exceptions"] = True, sorted(exceptions)
    else:
        context["exception"], context["exceptions"] = False, []
    said = request.claimed or request.subject.properties or request.resource.properties
    context["claimed"] = _claims(request, vocabulary.claims) if said else {}
    return context


def context_values(context: Mapping[str, Json], stamp: float) -> dict[str, Value]:
    """The same context as Cedar values, with `time`; `stamp` is seconds since 1970."""
    values: dict[str, Value] = dict(context)
    selectors, exceptions, claims = context["selectors"], context["exceptions"], context["claimed"]
    values["selectors"] = CedarSet(selectors) if selectors else _EMPTY_SET  # type: ignore[arg-type]
    values["exceptions"] = CedarSet(exceptions) if exceptions else _EMPTY_SET  # type: ignore[arg-type]
    if not _SETS.isdisjoint(context):
        for name in _SETS & context.keys():
            values[name] = CedarSet(context[name])  # type: ignore[arg-type]
    if claims and list in map(type, claims.values()):  # type: ignore[union-attr]
        values["claimed"] = {
            name: CedarSet(value) if type(value) is list else value
            for name, value in claims.items()  # type: ignore[union-attr]
        }
    if "source_address" in values:
        values["source_address"] = _address(values["source_address"])
    values["time"] = _moment(int(stamp * 1000))
    return values


@lru_cache(maxsize=4)
def _moment(ms: int) -> Datetime:
    """Many requests are decided within one millisecond."""
    return Datetime(ms)


def _date_attestation(context: dict[str, Json], now_seconds: int) -> None:
    """Compute the age of an attestation; one that lies in the future beyond clock skew is none."""
    attested_at = context.get("attested_at")
    if isinstance(attested_at, int):
        if attested_at > now_seconds + CLOCK_SKEW_SECONDS:
            context["attested"] = False
        context["attestation_age"] = max(0, now_seconds - attested_at)


def _claims(request: Request, declared: Mapping[str, Kind]) -> dict[str, Json]:
    claims: dict[str, Json] = {}
    for name, value in request.claimed.items():
        kind = declared.get(name)
        if kind is not None and ((kind is _STRING and type(value) is str) or _is_kind(value, kind)):
            claims[name] = value
    for prefix, entity in (("subject_", request.subject), ("resource_", request.resource)):
        if entity.properties:
            for name, value in entity.properties.items():
                kind = declared.get(prefix + name)
                if kind is not None and _is_kind(value, kind):
                    claims[prefix + name] = value
    return claims


_STRING = Kind.STRING
"""Most claims are strings."""


def _is_kind(value: object, kind: Kind) -> bool:
    if kind is Kind.STRING:
        return type(value) is str
    if kind is Kind.BOOL:
        return type(value) is bool
    if kind is Kind.LONG:
        return type(value) is int and LONG_MIN <= value <= LONG_MAX
    if kind is Kind.STRINGS:
        return isinstance(value, (list, tuple)) and all(type(item) is str for item in value)
    if kind is Kind.IP:
        return type(value) is str and _is_address(value)
    return False


_PLAIN: Mapping[str, type] = {
    name: {Kind.STRING: str, Kind.BOOL: bool}[kind] for name, kind in PROVEN.items() if kind in (Kind.STRING, Kind.BOOL)
}
"""Proven facts whose Python type says it all."""


@lru_cache(maxsize=4096)
def _address(text: str) -> IpRange:
    address: IpRange = CONSTRUCTORS["ip"](text)
    return address


def _is_address(text: str) -> bool:
    try:
        _address(text)
    except ValueError:
        return False
    return True
