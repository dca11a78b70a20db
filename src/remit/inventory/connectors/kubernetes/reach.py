"""What one subject's rights amount to, one by one; rights that need each other are judged in `pairs` and `binding`."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from remit.inventory.connectors.kubernetes.admission import REFUSED
from remit.inventory.connectors.kubernetes.binding import bound_anyway
from remit.inventory.connectors.kubernetes.edges import grant_edge
from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.names import EVERY, Names
from remit.inventory.connectors.kubernetes.pairs import pair_edges
from remit.inventory.connectors.kubernetes.powers import Hit, admin_scopes, hits
from remit.inventory.connectors.kubernetes.rules import Grant, Rule, Rules, Subject
from remit.inventory.model import EdgeFact, Fact, Place, Relation, ResourceFact, Sensitivity, Skipped
from remit.kernel.ids import Name

_LARGE = 64
_SHARED = 8
_MAX_SHARED = 500_000
_MAX_PLAIN = 20_000
_KINDS = {"account": "ServiceAccount", "secret": "Secret"}


class Reached(NamedTuple):
    relation: Relation
    target: Name
    conditions: tuple[str, ...] = ()


def subject_facts(estate: Estate, subject: Subject) -> Iterator[Fact]:
    """Everything that a subject can reach or become by the rules it holds."""
    source, own = estate.identity(subject), estate.held.get(subject, [])
    effective = estate.effective(subject)
    derived, gained = bound_anyway(estate, source, effective)
    edges = [fact for fact in gained if isinstance(fact, EdgeFact)]
    yield from (fact for fact in gained if isinstance(fact, Skipped))
    admins = admin_scopes([*effective, *derived])
    for namespace, grant in admin_scopes([*own, *derived]).items():
        rule = grant.rules.everything
        reason = "every verb on everything"
        edges.append(
            grant_edge(
                source, Relation.CAN_REACH, estate.names.admin(namespace), grant, rule=rule, actions=("*",), why=reason
            )
        )
    if EVERY not in admins:
        rest = [grant for grant in (*own, *derived) if grant.namespace not in admins]
        small = [grant for grant in rest if not is_shared(estate, grant)]
        for grant in rest:
            if is_shared(estate, grant):
                hub = estate.names.rights(grant.role, grant.namespace)
                edges.append(grant_edge(source, Relation.MEMBER_OF, hub, grant, why="all its rules"))
        edges.extend(_powers(estate, source, small))
        edges.extend(pair_edges(estate, source, [*effective, *derived]))
        yield from _plain(source, small, estate.names)
    yield from best(edges)


def large_grants(estate: Estate) -> Iterator[Fact]:
    """The rights of roles with very many rules or holders: once for each role and namespace."""
    done: set[Name] = set()
    count = 0
    for given in estate.held.values():
        for grant in given:
            hub = estate.names.rights(grant.role, grant.namespace)
            if hub in done or grant.rules.everything or not is_shared(estate, grant):
                continue
            done.add(hub)
            count += len(_keys(grant.rules))
            if count > _MAX_SHARED:
                detail = (
                    f"more than {_MAX_SHARED} rights of roles with very many rules or holders: the rest is not shown"
                )
                yield Skipped(what="rights of roles", reason="too-large", detail=detail)
                return
            place, title = grant.binding.place, f"what {grant.role} gives in {grant.namespace}"
            yield ResourceFact(name=hub, kind="kubernetes-scope", title=title[:200], place=place, sensitivity=_PUBLIC)
            for fact in (*best(_powers(estate, hub, [grant])), *_plain(hub, [grant], estate.names)):
                yield _of_role(fact, grant) if isinstance(fact, EdgeFact) else fact
            if len(_keys(grant.rules)) >= _MAX_PLAIN:
                yield Skipped(
                    what=f"{grant.role} ({place.path})",
                    reason="too-large",
                    detail=f"it speaks of more than {_MAX_PLAIN} kinds and names of objects: the first ones are shown",
                )


_PUBLIC = Sensitivity.PUBLIC


def _of_role(edge: EdgeFact, grant: Grant) -> EdgeFact:
    """An edge that is the role's and no single binding's."""
    kind, _, local = grant.role.partition(" ")
    within = ["-n", grant.namespace] if kind == "Role" else []
    evidence = f"{grant.role}{edge.evidence.removeprefix(grant.evidence)}"
    return replace(edge, evidence=evidence, cut=shlex.join(["kubectl", "edit", kind.lower(), local, *within]))


def is_shared(estate: Estate, grant: Grant) -> bool:
    """Tell whether a role has too many rules, or too many holders, to show its rules for each of them."""
    holders = estate.holders[grant.role, grant.namespace]
    if grant.within or not holders:
        return False
    if holders > _SHARED:
        return True
    return len(hits(grant.rules)) > _LARGE or len(_keys(grant.rules)) > _LARGE


def best(edges: list[EdgeFact] | Iterator[EdgeFact]) -> Iterator[EdgeFact]:
    """One edge for each relation and target: one without conditions where there is one, else the first."""
    found: dict[tuple[Relation, Name], EdgeFact] = {}
    for edge in edges:
        key = (edge.relation, edge.target)
        if key not in found or (found[key].conditions and not edge.conditions):
            found[key] = edge
    yield from found.values()


def _powers(estate: Estate, source: Name, held: Sequence[Grant]) -> Iterator[EdgeFact]:
    for grant in held:
        for hit in hits(grant.rules):
            actions = tuple(f"{verb} {hit.power.resource}" for verb in hit.verbs)
            for relation, target, conditions in _targets(estate, hit, grant):
                yield grant_edge(
                    source,
                    relation,
                    target,
                    grant,
                    rule=hit.rule,
                    actions=actions,
                    why=hit.power.why,
                    conditions=conditions,
                )


def _targets(estate: Estate, hit: Hit, grant: Grant) -> Iterator[Reached]:
    power, namespace = hit.power, grant.namespace
    if power.cluster and (namespace != EVERY or grant.within):
        return
    if hit.rule.names and power.named:
        yield from _named(estate, hit, namespace)
        return
    for scope, unknown in _scopes(estate, hit, namespace):
        conditions = (*unknown, *power.conditions)
        for relation, target in power.gives:
            yield Reached(relation, getattr(estate.names, target)(scope), conditions)
        if power.node:
            yield from _machines(estate, power.node, scope, conditions)


def _machines(estate: Estate, method: str, scope: str, conditions: tuple[str, ...]) -> Iterator[Reached]:
    verdict = estate.admission.privileged(scope)
    if verdict.admitted:
        every = method == "machines" or scope == EVERY
        target = estate.names.machines() if every else estate.names.node(scope)
        yield Reached(Relation.CAN_REACH, target, (*conditions, *verdict.conditions))


def _scopes(estate: Estate, hit: Hit, namespace: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where the power works: who may change and not create needs something to change."""
    power, names = hit.power, hit.rule.names
    if not power.kind or "create" in hit.verbs:
        yield namespace, ()
        return
    found = estate.present(power.kind, namespace, names)
    if power.cluster:
        found = [EVERY] if found else []
    yield from ((scope, ()) for scope in found)
    if not found and not estate.listed(power.kind):
        which = f"`{names[0][:60]}`" if names else "one"
        yield namespace, (f"a {power.kind} is there ({which})",)


def _named(estate: Estate, hit: Hit, namespace: str) -> Iterator[Reached]:
    """The power over the objects that the rule names."""
    names, power = estate.names, hit.power
    for local in hit.rule.names:
        if power.named == "node":
            targets = [names.inside(local)] if local in estate.machines else []
        elif power.named == "pod":
            spaces = [namespace] if namespace != EVERY else estate.where_named("Pod", local)
            pods = [pod for space in spaces for pod in estate.cluster.get("Pod", space, local)]
            targets = [estate.workload(pod) for pod in pods]
            if power.node:
                yield from _pod_machines(estate, [pod.namespace for pod in pods], power.conditions)
        else:
            kind = _KINDS[power.named]
            spaces = [namespace] if namespace != EVERY else estate.where_named(kind, local)
            targets = [getattr(names, power.named)(space, local) for space in spaces]
        for target in targets:
            for relation, _ in power.gives:
                yield Reached(relation, target, power.conditions)


def _pod_machines(estate: Estate, spaces: list[str], conditions: tuple[str, ...]) -> Iterator[Reached]:
    """The machine of a pod: which one is left open."""
    for space in dict.fromkeys(spaces):
        verdict = estate.admission.privileged(space)
        if verdict is not REFUSED and verdict.admitted:
            yield Reached(Relation.CAN_REACH, estate.names.node(), (*conditions, *verdict.conditions))


def _keys(rules: Rules) -> dict[tuple[str, str, str], tuple[tuple[str, ...], Rule]]:
    """Group, resource and name → the verbs that any rule gives, and the first rule that does; found once."""
    if "plain" not in rules.known:
        verbs: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
        first: dict[tuple[str, str, str], Rule] = {}
        for key, rule in _pieces(rules):
            if len(first) >= _MAX_PLAIN and key not in first:
                break
            verbs[key].update(dict.fromkeys(rule.verbs))
            first.setdefault(key, rule)
        rules.known["plain"] = {key: (tuple(sorted(verbs[key])), first[key]) for key in first}
    found: dict[tuple[str, str, str], tuple[tuple[str, ...], Rule]] = rules.known["plain"]
    return found


def _pieces(rules: Rules) -> Iterator[tuple[tuple[str, str, str], Rule]]:
    for rule in rules:
        for group in rule.groups:
            for resource in rule.resources:
                for local in rule.names or ("",):
                    yield (group, resource, local), rule


def _plain(source: Name, held: Sequence[Grant], names: Names) -> Iterator[Fact]:
    """One edge for each kind of object in each namespace, with all verbs that any rule gives."""
    verbs: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    first: dict[tuple[str, str, str, str], tuple[Grant, Rule]] = {}
    for grant in held:
        for key, (allowed, rule) in _keys(grant.rules).items():
            verbs[grant.namespace, *key].update(allowed)
            first.setdefault((grant.namespace, *key), (grant, rule))
    for full, (grant, rule) in first.items():
        target = _api(names, grant.binding.place, *full)
        yield target
        yield grant_edge(source, Relation.CAN_REACH, target.name, grant, rule=rule, actions=tuple(sorted(verbs[full])))


def _api(names: Names, place: Place, namespace: str, group: str, resource: str, local: str) -> ResourceFact:
    full = f"{resource}.{group}" if group else resource
    title = f"{'everything' if resource == '*' else full} in {'any namespace' if namespace == EVERY else namespace}"
    return ResourceFact(
        name=names.of("api", "/".join(filter(None, (namespace, full, local)))),
        kind="kubernetes-api",
        title=f"{local} ({title})" if local else title,
        place=place,
        sensitivity=Sensitivity.CONFIDENTIAL if resource == "*" else None,
    )
