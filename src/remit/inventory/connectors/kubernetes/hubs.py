"""Facts of the cluster as a whole: the nodes that stand for many things, shared and undeclared accounts, groups.

A right over a whole namespace would be one edge for each object in it; it is one edge to a hub, and the hub has one
edge for each object: linear, however many hold the right.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from remit.inventory.connectors.kubernetes.authorizer import implied_groups
from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.labels import environment_of
from remit.inventory.connectors.kubernetes.names import EVERY, Names
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, text
from remit.inventory.connectors.kubernetes.powers import admin_scopes
from remit.inventory.connectors.kubernetes.rules import Grant, Subject
from remit.inventory.connectors.kubernetes.secrets import SERVICE_ACCOUNT_TOKEN
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

_AGGREGATION = "system:controller:clusterrole-aggregation-controller"
_ANONYMOUS = ("system:anonymous", "system:unauthenticated")


def translate_hubs(estate: Estate, namespaces: Sequence[str], place: Place) -> Iterator[Fact]:
    """The hubs of the cluster and of each namespace, and how they hang together."""
    names = estate.names
    why = "an administrator runs privileged pods"
    yield _edge(names.admin(EVERY), Relation.CAN_REACH, names.machines(), why, place)
    for namespace in (EVERY, *namespaces):
        yield from _hub(names, namespace, place)
        if namespace != EVERY:
            for of in (names.accounts, names.secrets, names.workloads):
                relation = Relation.CAN_REACH if of == names.secrets else Relation.ASSUME
                yield _edge(of(EVERY), relation, of(namespace), f"{namespace} is a namespace of the cluster", place)
            why = "an administrator of a namespace takes its pod security label away and runs privileged pods"
            conditions = estate.admission.relabelled(namespace).conditions
            yield replace(
                _edge(names.admin(namespace), Relation.CAN_REACH, names.machines(), why, place), conditions=conditions
            )
    yield from _users(estate, place)
    yield from _controllers(estate, place)


def _users(estate: Estate, place: Place) -> Iterator[Fact]:
    """The groups of users and of groups: everybody whom the API server knows is authenticated."""
    for subject in estate.held:
        if subject.kind == "ServiceAccount":
            continue
        for group in implied_groups(subject):
            if group in estate.groups:
                source, why = estate.identity(subject), f"the API server puts {subject.name} into {group}"
                yield _edge(source, Relation.MEMBER_OF, estate.names.group(group), why, place)


def _controllers(estate: Estate, place: Place) -> Iterator[Fact]:
    """Every cluster binds accounts of kube-system to roles without bound; manifests seldom show them."""
    if estate.cluster.get("ClusterRoleBinding", "", _AGGREGATION):
        return
    why = "clusterrole-aggregation-controller may write any right into cluster roles (`escalate`)"
    hub = estate.names.accounts("kube-system")
    if "kube-system" not in estate.cluster.namespaces():
        yield _resource(hub, "kubernetes-scope", "any service account of kube-system", Sensitivity.PUBLIC, place)
    edge = _edge(hub, Relation.CAN_REACH, estate.names.admin(EVERY), why, place)
    condition = "the controllers of the cluster run with service accounts of their own, as they do by default"
    yield replace(edge, conditions=(condition,))


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


def token_edge(names: Names, secret: Object) -> EdgeFact | None:
    """A Secret with the token of a service account is that account, be its value read or not."""
    account = secret.annotations.get("kubernetes.io/service-account.name", "")
    if text(secret.body.get("type")) != SERVICE_ACCOUNT_TOKEN or not account:
        return None
    why = f"Secret {secret.local} holds a token of service account {account}, which the cluster keeps there"
    cut = shlex.join(["kubectl", "delete", "secret", secret.name, "-n", secret.namespace])
    source, target = names.secret(secret.namespace, secret.name), names.account(secret.namespace, account)
    return replace(_edge(source, Relation.ASSUME, target, why, secret.place), cut=cut)


def workload_edge(names: Names, item: Object) -> EdgeFact:
    target = names.of(item.kind.lower(), item.local)
    hub = names.workloads(item.namespace)
    return _edge(hub, Relation.ASSUME, target, f"{item.name} runs in {item.namespace}", item.place)


def translate_subject(subject: Subject, identity: Name, place: Place, aliases: tuple[Name, ...] = ()) -> Iterator[Fact]:
    """The identity of a bound user or group; people (names with an `@`) are no machine identities."""
    if subject.kind == "Group":
        title = f"group {subject.name}"
        yield IdentityFact(name=identity, kind=IdentityKind.GROUP, title=title, place=place, aliases=aliases)
    elif subject.kind == "User" and "@" not in subject.name:
        yield IdentityFact(
            name=identity,
            kind=IdentityKind.SERVICE_ACCOUNT,
            title=f"user {subject.name}",
            place=place,
            aliases=aliases,
            attributes={"authentication": "outside the cluster: certificate, token or OIDC"},
        )


def rights_findings(subject: Subject, identity: Name, held: Sequence[Grant]) -> Iterator[FindingFact]:
    """What is wrong with the rights of one subject."""
    for namespace, grant in admin_scopes(held).items():
        if subject.name == "system:masters":
            continue
        whole = namespace == EVERY
        yield FindingFact(
            rule="kubernetes.wildcard-rights",
            severity=Severity.CRITICAL if whole else Severity.HIGH,
            title=f"{subject.kind} {subject.local} has every right in {'the cluster' if whole else namespace}",
            detail=f"{grant.evidence}: all verbs on all resources",
            next_step="list the verbs and resources that it uses, and bind a role with those",
            place=grant.binding.place,
            subject=identity,
        )
    if subject.name in _ANONYMOUS:
        yield FindingFact(
            rule="kubernetes.anonymous-rights",
            severity=Severity.CRITICAL,
            title=f"{subject.name} holds rights: callers without any identity",
            detail="; ".join(sorted({grant.evidence for grant in held})[:5]),
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
    workloads: Sequence[Object], cluster: Cluster, names: Names, held: Mapping[Subject, Sequence[Grant]]
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
