"""What single rights amount to: whom their holder can become, whose secrets it reads, what else it reaches.

The catalogue alone; `reach` judges it for one subject, `pairs` and `binding` judge rights that are harmless alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.rules import Grant, Rule, Rules
from remit.inventory.model import Relation


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Any of `verbs` on the resource gives `relation` to what `target` (a method of `Names`) stands for."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    gives: tuple[tuple[Relation, str], ...]
    why: str
    named: str = ""
    """What a rule's names are names of, where the power is limited to them: `account`, `secret`, `pod`, `node`."""
    cluster: bool = False
    """The resource is in no namespace: a role binding never gives it."""
    kind: str = ""
    """The kind of which one must be there, where the holder may change it and not create it."""
    node: str = ""
    """The method of `Names` for the machines that are reached where admission lets a privileged container in."""
    conditions: tuple[str, ...] = ()


_RUN_WHY: Final = "a pod runs as any service account, and mounts any secret, of its namespace"
_CHANGE: Final = ("create", "update", "patch")
_ADMISSION: Final = "admissionregistration.k8s.io"
_INSIDE: Final = ((Relation.ASSUME, "workloads"),)


def _runs(group: str, resource: str, kind: str, verbs: tuple[str, ...] = _CHANGE) -> Power:
    gives = ((Relation.ASSUME, "accounts"), (Relation.CAN_REACH, "secrets"))
    return Power(group=group, resource=resource, verbs=verbs, gives=gives, why=_RUN_WHY, kind=kind, node="machines")


RUNS: Final = (
    _runs("", "pods", "Pod", ("create",)),
    _runs("", "replicationcontrollers", "ReplicationController"),
    _runs("apps", "deployments", "Deployment"),
    _runs("apps", "statefulsets", "StatefulSet"),
    _runs("apps", "daemonsets", "DaemonSet"),
    _runs("apps", "replicasets", "ReplicaSet"),
    _runs("batch", "jobs", "Job", ("create",)),
    _runs("batch", "cronjobs", "CronJob"),
)
"""Whoever may do one of these runs a pod of its own making."""

POWERS: Final = (
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
    *RUNS,
    Power(
        group="",
        resource="pods",
        verbs=("update", "patch"),
        gives=_INSIDE,
        why="puts another image into a running pod",
        named="pod",
    ),
    Power(
        group="",
        resource="pods/exec",
        verbs=("create", "get"),
        gives=_INSIDE,
        why="runs commands inside pods",
        named="pod",
    ),
    Power(
        group="",
        resource="pods/attach",
        verbs=("create", "get"),
        gives=_INSIDE,
        why="attaches to running containers",
        named="pod",
        conditions=("the main process of a container reads commands from its standard input",),
    ),
    Power(
        group="",
        resource="pods/ephemeralcontainers",
        verbs=("update", "patch"),
        gives=_INSIDE,
        why="puts debug containers into pods",
        named="pod",
        node="node",
    ),
    Power(
        group="",
        resource="nodes/proxy",
        verbs=("create", "get"),
        gives=_INSIDE,
        why="runs commands in any pod through the kubelet",
        named="node",
        cluster=True,
    ),
    *(
        Power(
            group="",
            resource=resource,
            verbs=("update", "patch"),
            gives=_INSIDE,
            why="drives pods from one node to another",
            cluster=True,
            conditions=("it controls a node on which the pods that it drives away are started again",),
        )
        for resource in ("nodes", "nodes/status")
    ),
    Power(
        group=_ADMISSION,
        resource="mutatingwebhookconfigurations",
        verbs=_CHANGE,
        gives=((Relation.CAN_REACH, "admin"),),
        why="changes what others write: pods, roles, bindings",
        cluster=True,
        kind="MutatingWebhookConfiguration",
        conditions=("the API server reaches its webhook, and somebody with more rights writes an object after",),
    ),
    Power(
        group=_ADMISSION,
        resource="validatingwebhookconfigurations",
        verbs=_CHANGE,
        gives=((Relation.CAN_REACH, "secrets"),),
        why="is shown every secret that is written",
        cluster=True,
        kind="ValidatingWebhookConfiguration",
        conditions=("the API server reaches its webhook, and the secret is written after",),
    ),
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that gives a power, and the verbs by which it does."""

    power: Power
    rule: Rule
    verbs: tuple[str, ...]


def hits(rules: Rules) -> tuple[Hit, ...]:
    """Every power that the rules of a role give; found once for each role."""
    if "powers" not in rules.known:
        rules.known["powers"] = tuple(_hits(rules))
    found: tuple[Hit, ...] = rules.known["powers"]
    return found


def _hits(rules: Rules) -> Iterable[Hit]:
    for power in POWERS:
        seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        for rule in rules:
            verbs = effective(rule, power.resource, rule.allows(power.group, power.resource, power.verbs))
            if verbs and (verbs, rule.names) not in seen:
                seen.add((verbs, rule.names))
                yield Hit(power, rule, verbs)


def effective(rule: Rule, resource: str, verbs: tuple[str, ...]) -> tuple[str, ...]:
    """Without `create` where the rule names objects: what is created has no name yet when it is authorized."""
    if rule.names and "/" not in resource:
        return tuple(verb for verb in verbs if verb != "create")
    return verbs


def admin_scopes(held: Iterable[Grant]) -> dict[str, Grant]:
    """Where a subject holds every right: namespaces, or `*`."""
    return {grant.namespace: grant for grant in held if grant.rules.everything is not None}


def is_cluster_admin(held: Iterable[Grant]) -> bool:
    """Tell whether one binding gives every right everywhere."""
    return EVERY in admin_scopes(held)
