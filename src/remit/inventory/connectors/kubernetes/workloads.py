"""Workloads → facts: as whom they run, which secrets they get, and how they could leave their container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.inventory.connectors.kubernetes.accounts import aws_role
from remit.inventory.connectors.kubernetes.escapes import escapes
from remit.inventory.connectors.kubernetes.labels import described, owners_of
from remit.inventory.connectors.kubernetes.literals import literal_credentials
from remit.inventory.connectors.kubernetes.names import Names
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, mapping, mappings, text
from remit.inventory.connectors.kubernetes.secrets import Entry, entries_of
from remit.inventory.model import Attribute, Autonomy, EdgeFact, Fact, IdentityFact, IdentityKind, Relation
from remit.kernel.ids import Name, credential_name
from remit.kernel.unit import Fingerprinter

if TYPE_CHECKING:
    from remit.inventory.connectors.kubernetes.estate import Estate

_POD_IDENTITY = "pods.eks.amazonaws.com"
_FEDERATED = ("eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account", "azure.workload.identity/client-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A use of a secret: all of it, or some `keys`; with a condition where the pod itself cannot read it."""

    secret: str
    keys: tuple[str, ...]
    how: str
    condition: str = ""


def pod_spec(item: Object) -> Mapping[str, Any]:
    """The pod specification of any kind of workload."""
    spec = mapping(item.body.get("spec"))
    if item.kind == "Pod":
        return spec
    if item.kind == "CronJob":
        spec = mapping(mapping(spec.get("jobTemplate")).get("spec"))
    return mapping(mapping(spec.get("template")).get("spec"))


def pod_annotations(item: Object) -> Mapping[str, Any]:
    """The annotations that the pods get."""
    if item.kind == "Pod":
        return item.annotations
    spec = mapping(item.body.get("spec"))
    if item.kind == "CronJob":
        spec = mapping(mapping(spec.get("jobTemplate")).get("spec"))
    return mapping(mapping(mapping(spec.get("template")).get("metadata")).get("annotations"))


def account_of(item: Object) -> str:
    """The service account under which it runs."""
    spec = pod_spec(item)
    return text(spec.get("serviceAccountName")) or text(spec.get("serviceAccount")) or "default"


def controlled(item: Object, cluster: Cluster) -> bool:
    """Tell whether its controller is among the objects too: then the controller stands for it."""
    metadata = mapping(item.body.get("metadata"))
    return any(
        owner.get("controller") is True
        and cluster.get(text(owner.get("kind")), item.namespace, text(owner.get("name")))
        for owner in mappings(metadata.get("ownerReferences"))
    )


def containers_of(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every container of a pod: init and ephemeral ones too."""
    for part in ("initContainers", "containers", "ephemeralContainers"):
        yield from mappings(spec.get(part))


def token_mounted(item: Object, cluster: Cluster) -> bool:
    """Tell whether its pods get a token of the service account: the pod's word goes before the account's."""
    spec = pod_spec(item)
    accounts = cluster.get("ServiceAccount", item.namespace, account_of(item))
    if any(key in account.annotations for account in accounts for key in _FEDERATED):
        return True
    for volume in mappings(spec.get("volumes")):
        sources = mappings(mapping(volume.get("projected")).get("sources"))
        if any("serviceAccountToken" in source for source in sources):
            return True
    return _automounts(item, accounts)


def token_condition(item: Object, cluster: Cluster) -> str:
    """What must hold for the API server to take its token: empty where it is made for the API server.

    A projected token with an audience, and one that a cloud's webhook projects, is for somebody else.
    """
    accounts = cluster.get("ServiceAccount", item.namespace, account_of(item))
    if _automounts(item, accounts):
        return ""
    audiences = [
        text(mapping(source["serviceAccountToken"]).get("audience"))
        for volume in mappings(pod_spec(item).get("volumes"))
        for source in mappings(mapping(volume.get("projected")).get("sources"))
        if "serviceAccountToken" in source
    ]
    if "" in audiences:
        return ""
    shown = ", ".join(sorted(set(audiences)))[:200] or "a cloud"
    return f"who takes its token, which is for {shown}, gives it the rights of the account"


def _automounts(item: Object, accounts: list[Object]) -> bool:
    for said in (pod_spec(item), *(account.body for account in accounts)):
        automount = said.get("automountServiceAccountToken")
        if isinstance(automount, bool):
            return automount
    return True


def references(item: Object, cluster: Cluster) -> Iterator[Reference]:
    """Every use of a secret in a pod specification."""
    spec = pod_spec(item)
    for container in containers_of(spec):
        name = text(container.get("name"))
        for entry in mappings(container.get("env")):
            chosen = mapping(mapping(entry.get("valueFrom")).get("secretKeyRef"))
            if secret := text(chosen.get("name")):
                how = f"env {text(entry.get('name'))} of container {name}"
                yield Reference(secret=secret, keys=(text(chosen.get("key")),), how=how)
        for entry in mappings(container.get("envFrom")):
            if secret := text(mapping(entry.get("secretRef")).get("name")):
                yield Reference(secret=secret, keys=(), how=f"envFrom of container {name}")
    for volume in mappings(spec.get("volumes")):
        yield from _volume(volume)
    yield from _pull_secrets(item, spec, cluster)


def _volume(volume: Mapping[str, Any]) -> Iterator[Reference]:
    how = f"volume {text(volume.get('name'))}"
    mounted = mapping(volume.get("secret"))
    if secret := text(mounted.get("secretName")):
        yield Reference(secret=secret, keys=_items(mounted), how=how)
    for source in mappings(mapping(volume.get("projected")).get("sources")):
        projected = mapping(source.get("secret"))
        if secret := text(projected.get("name")):
            yield Reference(secret=secret, keys=_items(projected), how=how)
    published = mapping(mapping(volume.get("csi")).get("nodePublishSecretRef"))
    if secret := text(published.get("name")):
        yield Reference(secret=secret, keys=(), how=how, condition="read by the node's driver, not shown to the pod")


def _items(source: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(text(entry.get("key")) for entry in mappings(source.get("items")))


def _pull_secrets(item: Object, spec: Mapping[str, Any], cluster: Cluster) -> Iterator[Reference]:
    entries = list(mappings(spec.get("imagePullSecrets")))
    for account in () if entries else cluster.get("ServiceAccount", item.namespace, account_of(item)):
        entries.extend(mappings(account.body.get("imagePullSecrets")))
    for entry in entries:
        if secret := text(entry.get("name")):
            condition = "read by the node that pulls the image, not shown to the pod"
            yield Reference(secret=secret, keys=(), how="imagePullSecrets", condition=condition)


def runs_as(item: Object, identity: Name, names: Names, cluster: Cluster) -> EdgeFact:
    """The edge to its account, for a workload whose pods get a token."""
    account, condition = account_of(item), token_condition(item, cluster)
    return EdgeFact(
        source=identity,
        relation=Relation.RUNS_AS,
        target=names.account(item.namespace, account),
        evidence=f"{item.kind} {item.local} runs as service account {account}, whose token its pods get",
        place=item.place,
        conditions=(condition,) if condition else (),
        cut="set automountServiceAccountToken: false where the pod does not call the API",
    )


def translate_workload(item: Object, estate: Estate, fingerprint: Fingerprinter) -> Iterator[Fact]:
    """The facts of one workload."""
    cluster, names = estate.cluster, estate.names
    identity = names.of(item.kind.lower(), item.local)
    account = account_of(item)
    mounted = token_mounted(item, cluster)
    yield IdentityFact(
        name=identity,
        kind=IdentityKind.WORKLOAD,
        title=f"{item.kind.lower()} {item.local}",
        place=item.place,
        attributes={
            **described(item, cluster),
            "autonomy": Autonomy.AUTONOMOUS.value,
            "service_account": account,
            "token_mounted": mounted,
            "images": ", ".join(_images(item))[:500],
            **_tokens(item),
        },
    )
    yield from owners_of(identity, item, cluster)
    if mounted:
        yield runs_as(item, identity, names, cluster)
    yield from _annotated_role(item, identity)
    for reference in references(item, cluster):
        yield from _secret_edges(item, identity, reference, cluster, names, fingerprint)
    yield from literal_credentials(item, identity, containers_of(pod_spec(item)), fingerprint)
    yield from escapes(item, identity, pod_spec(item), list(containers_of(pod_spec(item))), estate)


def _tokens(item: Object) -> dict[str, Attribute]:
    """For whom its projected tokens are, how long they live, and on which node a pod runs."""
    spec = pod_spec(item)
    tokens = [
        mapping(source["serviceAccountToken"])
        for volume in mappings(spec.get("volumes"))
        for source in mappings(mapping(volume.get("projected")).get("sources"))
        if "serviceAccountToken" in source
    ]
    found: dict[str, Attribute] = {}
    if audiences := sorted({text(token.get("audience")) for token in tokens} - {""}):
        found["token_audiences"] = ", ".join(audiences)[:500]
    lives = [token["expirationSeconds"] for token in tokens if isinstance(token.get("expirationSeconds"), int)]
    if lives:
        found["token_seconds"] = max(lives)
    if _POD_IDENTITY in audiences:
        found["eks_pod_identity"] = True
    if item.kind == "Pod" and (node := text(spec.get("nodeName"))):
        found["node"] = node
    return found


def _images(item: Object) -> list[str]:
    images = (text(container.get("image")) for container in containers_of(pod_spec(item)))
    return sorted({image for image in images if image})


def _annotated_role(item: Object, identity: Name) -> Iterator[EdgeFact]:
    """kube2iam and kiam give a pod a role by annotation."""
    arn = text(pod_annotations(item).get("iam.amazonaws.com/role"))
    if role := aws_role(arn):
        yield EdgeFact(
            source=identity,
            relation=Relation.ASSUME,
            target=role,
            evidence=f"pod annotation `iam.amazonaws.com/role` of {item.kind} {item.local}",
            place=item.place,
            conditions=("kube2iam or kiam serves the role to this namespace",),
            cut="use a service account with a role of its own instead of node-wide role assumption",
        )


def _secret_edges(
    item: Object, identity: Name, use: Reference, cluster: Cluster, names: Names, fingerprint: Fingerprinter
) -> Iterator[EdgeFact]:
    """Single keys lead to their credentials; a whole secret, or one that no manifest shows, to the secret."""
    evidence = f"{use.how} of {item.kind} {item.local} from Secret {item.namespace}/{use.secret}"
    conditions = (use.condition,) if use.condition else ()
    secrets = cluster.get("Secret", item.namespace, use.secret)
    if not (use.keys and secrets):
        yield EdgeFact(
            source=identity,
            relation=Relation.CAN_REACH,
            target=names.secret(item.namespace, use.secret),
            evidence=evidence,
            place=item.place,
            actions=("get",),
            conditions=conditions,
        )
        return
    for secret in secrets:
        for entry in entries_of(secret, names, fingerprint):
            if isinstance(entry, Entry) and entry.credential is not None and _asked(entry, use.keys):
                yield EdgeFact(
                    source=identity,
                    relation=Relation.HOLDS,
                    target=credential_name(entry.credential.fingerprint),
                    evidence=f"{evidence} key {entry.key}",
                    place=item.place,
                    conditions=conditions,
                )


def _asked(entry: Entry, keys: tuple[str, ...]) -> bool:
    return any(entry.key == key or entry.key.startswith(f"{key} ") for key in keys)
