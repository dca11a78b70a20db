"""Facts of the cluster as a whole: the nodes that stand for many things, shared and undeclared accounts, groups.

A right over a whole namespace would be one edge for each object in it; it is one edge to a hub, and the hub has one
edge for each object: linear, however many hold the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from remit.inventory.connectors.kubernetes.labels import environment_of
from remit.inventory.connectors.kubernetes.names import EVERY, Names
from remit.inventory.connectors.kubernetes.objects import Cluster, Object
from remit.inventory.connectors.kubernetes.powers import admin_scopes
from remit.inventory.connectors.kubernetes.rules import Holding, Subject
from remit.inventory.connectors.kubernetes.workloads import account_of
from remit.inventory.model import (
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
    Severity,
)
from remit.kernel.ids import Name

_ANONYMOUS = ("system:anonymous", "system:unauthenticated")


def translate_hubs(names: Names, namespaces: Sequence[str], place: Place) -> Iterator[Fact]:
    """The hubs of the cluster and of each namespace, and how they hang together."""
    yield _resource(names.node(), "kubernetes-nodes", "the nodes of the cluster", Sensitivity.RESTRICTED, place)
    yield _edge(names.node(), Relation.ASSUME, names.workloads(EVERY), "a node holds the pods that run on it", place)
    yield _edge(names.admin(EVERY), Relation.CAN_REACH, names.node(), "an administrator runs privileged pods", place)
    for namespace in (EVERY, *namespaces):
        yield from _hub(names, namespace, place)
        if namespace != EVERY:
            for of in (names.accounts, names.secrets, names.workloads):
                relation = Relation.CAN_REACH if of == names.secrets else Relation.ASSUME
                yield _edge(of(EVERY), relation, of(namespace), f"{namespace} is a namespace of the cluster", place)


def _hub(names: Names, namespace: str, place: Place) -> Iterator[Fact]:
    inside = "the cluster" if namespace == EVERY else namespace
    hub, none = "kubernetes-scope", Sensitivity.PUBLIC
    yield _resource(names.accounts(namespace), hub, f"any service account of {inside}", none, place)
    yield _resource(names.secrets(namespace), hub, f"any secret of {inside}", none, place)
    yield _resource(names.workloads(namespace), hub, f"any running pod of {inside}", none, place)
    title = f"administrator of {inside}"
    yield _resource(names.admin(namespace), "kubernetes-admin", title, Sensitivity.RESTRICTED, place)
    admin = names.admin(namespace)
    yield _edge(admin, Relation.ASSUME, names.accounts(namespace), "an administrator makes tokens", place)
    yield _edge(admin, Relation.CAN_REACH, names.secrets(namespace), "an administrator reads secrets", place)
    yield _edge(admin, Relation.ASSUME, names.workloads(namespace), "an administrator enters pods", place)


def account_edge(names: Names, namespace: str, local: str, place: Place) -> EdgeFact:
    """The hub of a namespace leads to each of its service accounts."""
    target = names.account(namespace, local)
    return _edge(names.accounts(namespace), Relation.ASSUME, target, f"{local} is in {namespace}", place)


def secret_edge(names: Names, secret: Object) -> EdgeFact:
    target, place = names.secret(secret.namespace, secret.name), secret.place
    hub = names.secrets(secret.namespace)
    return _edge(hub, Relation.CAN_REACH, target, f"{secret.name} is in {secret.namespace}", place)


def workload_edge(names: Names, item: Object) -> EdgeFact:
    target = names.of(item.kind.lower(), item.local)
    hub = names.workloads(item.namespace)
    return _edge(hub, Relation.ASSUME, target, f"{item.name} runs in {item.namespace}", item.place)


def translate_subject(subject: Subject, identity: Name, place: Place) -> Iterator[Fact]:
    """The identity of a bound user or group; people (names with an `@`) are no machine identities."""
    if subject.kind == "Group":
        yield IdentityFact(name=identity, kind=IdentityKind.GROUP, title=f"group {subject.name}", place=place)
    elif subject.kind == "User" and "@" not in subject.name:
        yield IdentityFact(
            name=identity,
            kind=IdentityKind.SERVICE_ACCOUNT,
            title=f"user {subject.name}",
            place=place,
            attributes={"authentication": "outside the cluster: certificate, token or OIDC"},
        )


def rights_findings(subject: Subject, identity: Name, held: Sequence[Holding]) -> Iterator[FindingFact]:
    """What is wrong with the rights of one subject."""
    for namespace, holding in admin_scopes(held).items():
        if subject.name == "system:masters":
            continue
        whole = namespace == EVERY
        yield FindingFact(
            rule="kubernetes.wildcard-rights",
            severity=Severity.CRITICAL if whole else Severity.HIGH,
            title=f"{subject.kind} {subject.local} has every right in {'the cluster' if whole else namespace}",
            detail=f"{holding.evidence}: all verbs on all resources",
            next_step="list the verbs and resources that it uses, and bind a role with those",
            place=holding.binding.place,
            subject=identity,
        )
    if subject.name in _ANONYMOUS:
        yield FindingFact(
            rule="kubernetes.anonymous-rights",
            severity=Severity.CRITICAL,
            title=f"{subject.name} holds rights: callers without any identity",
            detail="; ".join(sorted({holding.evidence for holding in held})[:5]),
            next_step="delete the binding, or bind the service account that needs it",
            place=held[0].binding.place if held else Place(system="kubernetes", path=""),
            subject=identity,
        )
    if subject.kind == "ServiceAccount" and subject.name == "default" and held:
        yield FindingFact(
            rule="kubernetes.default-account-rights",
            severity=Severity.MEDIUM,
            title=f"the default service account of {subject.namespace} holds rights",
            detail="every pod of the namespace that names no account gets them",
            next_step="give the workload that needs them an account of its own",
            place=held[0].binding.place,
            subject=identity,
        )


def shared_account_findings(
    workloads: Sequence[Object], cluster: Cluster, names: Names, held: Mapping[Subject, Sequence[Holding]]
) -> Iterator[FindingFact]:
    """One account under several workloads: nobody can tell who acted, and one compromise takes them all (NHI9)."""
    users: dict[tuple[str, str], list[Object]] = {}
    for item in workloads:
        users.setdefault((item.namespace, account_of(item)), []).append(item)
    for (namespace, account), items in users.items():
        distinct = sorted({f"{item.kind.lower()} {item.name}" for item in items})
        if len(distinct) < 2:
            continue
        environments = {environment_of(item, cluster) for item in items} - {None}
        rights = bool(held.get(Subject("ServiceAccount", namespace, account)))
        severity = Severity.HIGH if len(environments) > 1 else Severity.MEDIUM if rights else Severity.LOW
        yield FindingFact(
            rule="kubernetes.shared-account",
            severity=severity,
            title=f"service account {namespace}/{account} is shared by {len(distinct)} workloads",
            detail=", ".join(distinct[:10]) + (f" and {len(distinct) - 10} more" if len(distinct) > 10 else ""),
            next_step="give each workload a service account of its own",
            place=items[0].place,
            subject=names.account(namespace, account),
        )


def _resource(name: Name, kind: str, title: str, sensitivity: Sensitivity, place: Place) -> ResourceFact:
    return ResourceFact(name=name, kind=kind, title=title, place=place, sensitivity=sensitivity)


def _edge(source: Name, relation: Relation, target: Name, evidence: str, place: Place) -> EdgeFact:
    return EdgeFact(source=source, relation=relation, target=target, evidence=evidence, place=place)
