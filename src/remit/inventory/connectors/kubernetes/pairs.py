"""Rights that are harmless alone: judged over everything that a subject holds, its groups' rights included."""

from __future__ import annotations

from collections.abc import Iterator

from remit.inventory.connectors.kubernetes.admission import Verdict
from remit.inventory.connectors.kubernetes.binding import Right, Rights
from remit.inventory.connectors.kubernetes.edges import grant_edge
from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.objects import mappings, texts
from remit.inventory.connectors.kubernetes.powers import RUNS
from remit.inventory.connectors.kubernetes.rules import Grant
from remit.inventory.connectors.kubernetes.workloads import pod_spec
from remit.inventory.model import EdgeFact, Relation
from remit.kernel.ids import Name

_CERTIFICATES = "certificates.k8s.io"
_CLIENT = "kubernetes.io/kube-apiserver-client"
_KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
_MANAGER = "system:kube-controller-manager"
_MASTERS = "system:masters"
_CHANGES = ("update", "patch")
_ALL_USERS = "impersonates anybody, the controller manager included, which makes tokens for every service account"


def pair_edges(estate: Estate, source: Name, held: list[Grant]) -> Iterator[EdgeFact]:
    """What several rights give together. `held` are all grants that reach the subject."""
    rights = Rights(held)
    yield from _impersonation(estate, source, rights)
    yield from _certificates(estate, source, rights)
    yield from _cloud_mapping(estate, source, rights)
    covered = False
    for scope in rights.scopes:
        yield from _made_tokens(estate, source, rights, scope)
        if not covered:
            found = list(_machines(estate, source, rights, scope))
            yield from found
            covered = scope == EVERY and any(not edge.conditions for edge in found)


def _edge(
    source: Name, relation: Relation, target: Name, right: Right, actions: tuple[str, ...], why: str, *conditions: str
) -> EdgeFact:
    return grant_edge(
        source, relation, target, right.grant, rule=right.rule, actions=actions, why=why, conditions=conditions
    )


def _impersonation(estate: Estate, source: Name, rights: Rights) -> Iterator[EdgeFact]:
    """Users and groups belong to no namespace. A group is impersonated together with some user, never alone."""
    names = estate.names
    some: Right | None = None
    for right in rights.all(("impersonate",), "", "users", EVERY):
        some = some or right
        action = ("impersonate users",)
        if not right.rule.names:
            yield _edge(source, Relation.CAN_REACH, names.admin(EVERY), right, action, _ALL_USERS)
        for local in right.rule.names:
            if local.startswith("system:serviceaccount:"):
                continue  # service accounts are asked for as such, never as users
            yield _edge(source, Relation.IMPERSONATE, names.user(local), right, action, f"impersonates user {local}")
            if local == _MANAGER:
                yield _edge(source, Relation.CAN_REACH, names.admin(EVERY), right, action, _ALL_USERS)
    for scope in rights.scopes:
        some = some or next(rights.all(("impersonate",), "", "serviceaccounts", scope), None)
    for right in rights.all(("impersonate",), "", "groups", EVERY) if some else ():
        action = ("impersonate groups",)
        if not right.rule.names or _MASTERS in right.rule.names:
            yield _edge(
                source, Relation.CAN_REACH, names.admin(EVERY), right, action, f"impersonates the group {_MASTERS}"
            )
        for local in right.rule.names:
            if local != _MASTERS:
                target = names.group(local)
                yield _edge(source, Relation.IMPERSONATE, target, right, action, f"impersonates group {local}")


def _made_tokens(estate: Estate, source: Name, rights: Rights, scope: str) -> Iterator[EdgeFact]:
    """A Secret of the type `kubernetes.io/service-account-token` is filled with a token of the account it names."""
    create = rights.one(("create",), "", "secrets", scope)
    read = next(iter(rights.all(("get", "list", "watch"), "", "secrets", scope)), None)
    if create is None or read is None:
        return
    free = rights.one(("get", "list", "watch"), "", "secrets", scope)
    conditions = () if free else (f"there is no secret `{read.rule.names[0][:60]}` yet",)
    where = {create.grant.namespace, read.grant.namespace} - {EVERY}
    if scope != EVERY and not where:
        return
    yield _edge(
        source,
        Relation.ASSUME,
        estate.names.accounts(scope),
        create,
        ("create secrets", "read secrets"),
        "makes a token Secret for any service account of the namespace, and reads it",
        *conditions,
    )


def _machines(estate: Estate, source: Name, rights: Rights, scope: str) -> Iterator[EdgeFact]:
    """The nodes, where pod security refuses privileged pods: by taking its label away, or by a volume of the host."""
    if not any(rights.one(("create",), power.group, power.resource, scope) for power in RUNS):
        return
    if estate.admission.privileged(scope).admitted:
        return
    target = estate.names.machines()
    if label := rights.one(_CHANGES, "", "namespaces", scope, scope):
        verdict = estate.admission.relabelled(scope)
        actions = ("create pods", "patch namespaces")
        why = "takes the pod security label from the namespace and runs a privileged pod"
        yield _edge(source, Relation.CAN_REACH, target, label, actions, why, *verdict.conditions)
    volume = rights.one(("create",), "", "persistentvolumes", EVERY)
    if volume and rights.one(("create",), "", "persistentvolumeclaims", scope):
        verdict = _by_volume(estate, scope)
        needed = ("create persistentvolumes", "create persistentvolumeclaims", "create pods")
        why = "mounts a directory of the node through a persistent volume, which pod security does not look into"
        yield _edge(source, Relation.CAN_REACH, target, volume, needed, why, *verdict.conditions)


def _by_volume(estate: Estate, scope: str) -> Verdict:
    verdict = estate.admission.relabelled(scope)
    if estate.admission.level(scope) == "baseline":
        return verdict
    return verdict.and_if("what a user other than root reads or writes on the node is enough")


def _certificates(estate: Estate, source: Name, rights: Rights) -> Iterator[EdgeFact]:
    """A request for a client certificate, approved by its own maker."""
    create = rights.one(("create",), _CERTIFICATES, "certificatesigningrequests", EVERY)
    approve = rights.one(_CHANGES, _CERTIFICATES, "certificatesigningrequests/approval", EVERY)
    if not (create and approve):
        return
    names = estate.names
    actions = ("create certificatesigningrequests", "approve signers")
    admin, inside = (Relation.CAN_REACH, names.admin(EVERY)), (Relation.ASSUME, names.workloads(EVERY))
    for signer, (relation, target), why in (
        (_CLIENT, admin, f"makes itself a certificate of {_MANAGER}, or of any user"),
        (_KUBELET, inside, "makes itself a certificate of any kubelet, which gets the tokens and secrets of its pods"),
    ):
        signs = None
        for allowed in (signer, "kubernetes.io/*"):
            signs = signs or rights.one(("approve",), _CERTIFICATES, "signers", EVERY, allowed)
        if signs:
            unknown = () if _signs(estate) else ("the cluster signs client certificates itself",)
            yield _edge(source, relation, target, signs, actions, why, *unknown)


def _signs(estate: Estate) -> bool:
    """Tell whether a controller manager with the key of the authority runs in the cluster."""
    for pod in estate.cluster.all("Pod"):
        if pod.namespace == "kube-system":
            for container in mappings(pod_spec(pod).get("containers")):
                words = [*texts(container.get("command")), *texts(container.get("args"))]
                if any(word.startswith("--cluster-signing-key-file") for word in words):
                    return True
    return False


def _cloud_mapping(estate: Estate, source: Name, rights: Rights) -> Iterator[EdgeFact]:
    """EKS: the ConfigMap that says which AWS role is which user of the cluster."""
    if not estate.eks:
        return
    right = rights.one(_CHANGES, "", "configmaps", "kube-system", "aws-auth")
    if right:
        yield _edge(
            source,
            Relation.CAN_REACH,
            estate.names.admin(EVERY),
            right,
            ("patch configmaps",),
            f"maps an AWS identity to {_MASTERS} in the ConfigMap aws-auth",
            "the cluster reads aws-auth, and it has an AWS identity to map",
        )
