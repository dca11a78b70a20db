"""What a subject's rules amount to: whom it can become, whose secrets it can read, what else it can reach.

Rules are judged together, over all bindings of a subject: two harmless ones can make a dangerous pair.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from remit.inventory.connectors.kubernetes.names import EVERY, Names, where
from remit.inventory.connectors.kubernetes.rules import Holding
from remit.inventory.model import EdgeFact, Fact, Place, Relation, ResourceFact, Sensitivity
from remit.kernel.ids import Name

_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Any of `verbs` on the resource gives `relation` to what `target` (a method of `Names`) stands for."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    gives: tuple[tuple[Relation, str], ...]
    why: str
    named: str = ""
    """The method of `Names` for one object, where the rule names objects and the power is limited to them."""


_RUN = ((Relation.ASSUME, "accounts"), (Relation.CAN_REACH, "secrets"))
_RUN_WHY = "a pod runs as any service account, and mounts any secret, of its namespace"
_CHANGE = ("create", "update", "patch")
POWERS = (
    Power(
        group="",
        resource="secrets",
        verbs=("get", "list", "watch"),
        gives=((Relation.CAN_REACH, "secrets"),),
        why="reads the values of secrets",
        named="secret",
    ),
    Power(
        group="",
        resource="serviceaccounts/token",
        verbs=("create",),
        gives=((Relation.ASSUME, "accounts"),),
        why="makes tokens for service accounts",
        named="account",
    ),
    Power(
        group="",
        resource="serviceaccounts",
        verbs=("impersonate",),
        gives=((Relation.IMPERSONATE, "accounts"),),
        why="impersonates service accounts",
        named="account",
    ),
    Power(group="", resource="pods", verbs=("create",), gives=_RUN, why=_RUN_WHY),
    Power(group="", resource="replicationcontrollers", verbs=_CHANGE, gives=_RUN, why=_RUN_WHY),
    Power(group="apps", resource="deployments", verbs=_CHANGE, gives=_RUN, why=_RUN_WHY),
    Power(group="apps", resource="statefulsets", verbs=_CHANGE, gives=_RUN, why=_RUN_WHY),
    Power(group="apps", resource="daemonsets", verbs=_CHANGE, gives=_RUN, why=_RUN_WHY),
    Power(group="apps", resource="replicasets", verbs=_CHANGE, gives=_RUN, why=_RUN_WHY),
    Power(group="batch", resource="jobs", verbs=("create",), gives=_RUN, why=_RUN_WHY),
    Power(group="batch", resource="cronjobs", verbs=_CHANGE, gives=_RUN, why=_RUN_WHY),
    Power(
        group="",
        resource="pods/exec",
        verbs=("create", "get"),
        gives=((Relation.ASSUME, "workloads"),),
        why="runs commands inside pods",
    ),
    Power(
        group="",
        resource="pods/attach",
        verbs=("create", "get"),
        gives=((Relation.ASSUME, "workloads"),),
        why="attaches to running containers",
    ),
    Power(
        group="",
        resource="pods/ephemeralcontainers",
        verbs=("update", "patch"),
        gives=((Relation.ASSUME, "workloads"),),
        why="puts debug containers into pods",
    ),
    Power(
        group="",
        resource="nodes/proxy",
        verbs=("create", "get"),
        gives=((Relation.ASSUME, "workloads"),),
        why="runs commands in any pod through the kubelet",
    ),
)

_PAIRS = (
    ("roles", "escalate", "roles", ("create", "update", "patch"), "may write any right into roles (`escalate`)"),
    ("clusterroles", "escalate", "clusterroles", _CHANGE, "may write any right into cluster roles (`escalate`)"),
    ("roles", "bind", "rolebindings", _CHANGE, "may bind any role (`bind`)"),
    ("clusterroles", "bind", "rolebindings", _CHANGE, "may bind any cluster role (`bind`)"),
    ("clusterroles", "bind", "clusterrolebindings", _CHANGE, "may bind any cluster role (`bind`)"),
)


def admin_scopes(held: Iterable[Holding]) -> dict[str, Holding]:
    """Where a subject holds every right: namespaces, or `*`."""
    return {holding.namespace: holding for holding in held if holding.rule.everything}


def reach_edges(source: Name, held: Sequence[Holding], names: Names) -> Iterator[Fact]:
    """Everything that `source` can reach or become by the rules it holds."""
    admins = admin_scopes(held)
    for namespace, holding in admins.items():
        yield _edge(source, Relation.CAN_REACH, names.admin(namespace), holding, ("*",), "every verb on everything")
    rest = [h for h in held if EVERY not in admins and h.namespace not in admins]
    yield from _escalations(source, rest, names)
    yield from _powers(source, rest, names)
    yield from _impersonations(source, rest, names)
    yield from _plain(source, rest, names)


def _powers(source: Name, held: Sequence[Holding], names: Names) -> Iterator[EdgeFact]:
    done: set[tuple[Relation, Name]] = set()
    for power in POWERS:
        for holding in held:
            verbs = holding.rule.allows(power.group, power.resource, power.verbs)
            if not verbs:
                continue
            action = tuple(f"{verb} {power.resource}" for verb in verbs)
            for relation, target in _targets(power, holding, names):
                if (relation, target) not in done:
                    done.add((relation, target))
                    yield _edge(source, relation, target, holding, action, power.why)


def _targets(power: Power, holding: Holding, names: Names) -> Iterator[tuple[Relation, Name]]:
    if holding.rule.names and power.named and holding.namespace != EVERY:
        for relation, _ in power.gives:
            for local in holding.rule.names:
                yield relation, getattr(names, power.named)(holding.namespace, local)
    elif not (holding.rule.names and power.verbs == ("create",)):
        # `create` with resourceNames never matches: the name is not known when it is authorised.
        for relation, target in power.gives:
            yield relation, getattr(names, target)(holding.namespace)


def _escalations(source: Name, held: Sequence[Holding], names: Names) -> Iterator[EdgeFact]:
    done: set[str] = set()
    for resource, verb, changed, changes, why in _PAIRS:
        for first in held:
            if not first.rule.allows(_RBAC, resource, (verb,)):
                continue
            for second in held:
                scope = second.namespace if changed in ("roles", "rolebindings") else EVERY
                if changed.startswith("cluster") and second.namespace != EVERY:
                    continue
                reachable = first.namespace in (EVERY, scope)
                if scope not in done and reachable and second.rule.allows(_RBAC, changed, changes):
                    done.add(scope)
                    action = (f"{verb} {resource}", f"change {changed}")
                    yield _edge(source, Relation.CAN_REACH, names.admin(scope), first, action, why)


def _impersonations(source: Name, held: Sequence[Holding], names: Names) -> Iterator[EdgeFact]:
    """Users and groups are cluster-wide; to impersonate any of them is to be `system:masters`."""
    for holding in held:
        if holding.namespace != EVERY:
            continue
        for resource, named in (("users", names.user), ("groups", names.group)):
            if not holding.rule.allows("", resource, ("impersonate",)):
                continue
            action = (f"impersonate {resource}",)
            if holding.rule.names:
                for local in holding.rule.names:
                    yield _edge(source, Relation.IMPERSONATE, named(local), holding, action, f"impersonates {resource}")
            else:
                why = "impersonates anybody, `system:masters` included"
                yield _edge(source, Relation.CAN_REACH, names.admin(EVERY), holding, action, why)


def _plain(source: Name, held: Sequence[Holding], names: Names) -> Iterator[Fact]:
    """One edge for each kind of object in each namespace, with all verbs that any rule gives."""
    verbs: dict[tuple[str, str, str, str], dict[str, None]] = defaultdict(dict)
    first: dict[tuple[str, str, str, str], Holding] = {}
    for holding in held:
        for group in holding.rule.groups:
            for resource in holding.rule.resources:
                for local in holding.rule.names or ("",):
                    key = (holding.namespace, group, resource, local)
                    verbs[key].update(dict.fromkeys(holding.rule.verbs))
                    first.setdefault(key, holding)
    for key, allowed in verbs.items():
        target = _api(names, first[key].binding.place, *key)
        yield target
        yield _edge(source, Relation.CAN_REACH, target.name, first[key], tuple(sorted(allowed)), "")


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


def _edge(
    source: Name, relation: Relation, target: Name, holding: Holding, actions: tuple[str, ...], why: str
) -> EdgeFact:
    scope = where(holding.namespace)
    within = ["-n", holding.binding.namespace] if holding.binding.namespace else []
    return EdgeFact(
        source=source,
        relation=relation,
        target=target,
        evidence=f"{holding.evidence} in {scope}" + (f": {why}" if why else ""),
        place=holding.binding.place,
        actions=actions,
        cut=shlex.join(["kubectl", "delete", holding.binding.kind.lower(), holding.binding.name, *within]),
    )
