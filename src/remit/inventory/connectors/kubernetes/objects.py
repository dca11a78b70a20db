"""Documents → objects of a cluster, and the index that joins them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remit.inventory.connectors.kubernetes.reading import Document
from remit.inventory.model import Place, Skipped

MAX_OBJECTS = 500_000
GUARD = "Guard"
"""What an admission controller of another maker decides by: a policy of Kyverno, a constraint of Gatekeeper."""
KUBEADM = "ClusterConfiguration"
DISCOVERY = "OpenIDConfiguration"
_ADMISSION = frozenset({"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy"})
_GUARDS = frozenset({"kyverno.io", "policies.kyverno.io", "constraints.gatekeeper.sh", "security.openshift.io"})
_CONFIGURATIONS = frozenset({"kube-system/kubeadm-config", "kube-system/aws-auth"})
CLUSTER_SCOPED = _ADMISSION | {GUARD, "ClusterRole", "ClusterRoleBinding", "Namespace", "Node", "PersistentVolume"}
WORKLOADS = frozenset(
    {
        "Pod",
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "ReplicationController",
        "Job",
        "CronJob",
    }
)
KINDS = WORKLOADS | CLUSTER_SCOPED | {"ServiceAccount", "Secret", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap"}
_SEALED = {
    "SealedSecret": ("encrypted", "a sealed secret: its value is known to the cluster alone"),
    "ExternalSecret": ("not-supported", "its value lies in the secret manager that it names"),
    "Kustomization": ("not-supported", "overlays are not rendered: the resources it lists are read as they are"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One Kubernetes object that the connector understands; `namespace` is empty for cluster-scoped kinds."""

    kind: str
    group: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    body: Mapping[str, Any]
    place: Place

    @property
    def local(self) -> str:
        """`namespace/name`, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(slots=True)
class Cluster:
    """Every object by kind, namespace and name. A name may be declared twice (overlays): all count."""

    objects: dict[str, dict[tuple[str, str], list[Object]]] = field(default_factory=dict)
    """By kind, then by namespace and name."""
    spaces: dict[str, None] = field(default_factory=dict)

    def add(self, item: Object) -> None:
        self.objects.setdefault(item.kind, {}).setdefault((item.namespace, item.name), []).append(item)
        self.spaces[item.namespace or (item.name if item.kind == "Namespace" else "")] = None

    def get(self, kind: str, namespace: str, name: str) -> list[Object]:
        return self.objects.get(kind, {}).get((namespace, name), [])

    def all(self, *kinds: str) -> Iterator[Object]:
        for kind in kinds:
            for items in self.objects.get(kind, {}).values():
                yield from items

    def namespaces(self) -> list[str]:
        return sorted(self.spaces.keys() - {""})

    def namespace(self, name: str) -> Object | None:
        return next(iter(self.get("Namespace", "", name)), None)


def read_objects(document: Document) -> Iterator[Object | Skipped]:
    """The objects of a document, lists unpacked. What is no Kubernetes object at all is none of our business."""
    queue: list[Any] = [document.body]
    seen = 0
    for body in queue:
        if isinstance(body, dict) and "kind" not in body and _is_discovery(body):
            yield _document(DISCOVERY, body, document)
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str) or not text(body.get("apiVersion")):
            continue
        seen += 1
        if seen > MAX_OBJECTS:
            yield Skipped(what=document.path, reason="too-large", detail=f"more than {MAX_OBJECTS} objects in a list")
            return
        if body["kind"].endswith("List") and isinstance(body.get("items"), list):
            of = body["kind"].removesuffix("List")
            queue.extend(_typed(item, of, body["apiVersion"]) for item in body["items"])
        else:
            yield from _object(body, document)


def _typed(item: Any, kind: str, version: str) -> Any:
    """Items of a typed list (`PodList`) carry no kind of their own."""
    return {"kind": kind, "apiVersion": version, **item} if isinstance(item, dict) and kind else item


def _object(body: dict[str, Any], document: Document) -> Iterator[Object | Skipped]:
    kind, where = body["kind"], f"{document.path}:{document.line}"
    if kind in _SEALED:
        reason, detail = _SEALED[kind]
        yield Skipped(what=f"{kind} {_title(body)} ({where})", reason=reason, detail=detail)
        return
    group = text(body["apiVersion"]).rpartition("/")[0]
    if kind == KUBEADM and group == "kubeadm.k8s.io":
        yield _document(KUBEADM, body, document)
        return
    if group in _GUARDS:
        kind = GUARD
    elif kind not in KINDS:
        return
    if "sops" in body:
        yield Skipped(what=f"{kind} {_title(body)} ({where})", reason="encrypted", detail="encrypted by SOPS")
        return
    metadata = mapping(body.get("metadata"))
    name, namespace = text(metadata.get("name")), text(metadata.get("namespace")) or "default"
    if not name and text(metadata.get("generateName")):
        name = f"{text(metadata['generateName'])}*"
    if kind == "ConfigMap" and f"{namespace}/{name}" not in _CONFIGURATIONS:
        return
    if not name or len(name) > 253 or len(namespace) > 253:
        yield Skipped(what=f"{kind} ({where})", reason="malformed", detail="no valid metadata.name")
    elif "{{" in name or "{{" in namespace:
        yield Skipped(what=f"{kind} ({where})", reason="not-supported", detail="a template: render it first")
    else:
        yield Object(
            kind=kind,
            group=group,
            namespace="" if kind in CLUSTER_SCOPED else namespace,
            name=name,
            labels=strings(metadata.get("labels")),
            annotations=strings(metadata.get("annotations")),
            body=body,
            place=Place(system="kubernetes", path=document.path, line=document.line),
        )


def _is_discovery(body: Mapping[str, Any]) -> bool:
    """Tell whether it is what an API server says of its tokens (RFC 8414 with `id_token` alone)."""
    return (
        body.get("response_types_supported") == ["id_token"]
        and bool(text(body.get("issuer")))
        and bool(text(body.get("jwks_uri")))
    )


def _document(kind: str, body: Mapping[str, Any], document: Document) -> Object:
    """A configuration without metadata, as an object of the cluster."""
    return Object(
        kind=kind,
        group="",
        namespace="",
        name=kind,
        labels={},
        annotations={},
        body=body,
        place=Place(system="kubernetes", path=document.path, line=document.line),
    )


def _title(body: Mapping[str, Any]) -> str:
    metadata = mapping(body.get("metadata"))
    return "/".join(filter(None, [text(metadata.get("namespace")), text(metadata.get("name"))])) or "(unnamed)"


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings of a list."""
    return (item for item in sequence(value) if isinstance(item, dict))


def text(value: Any) -> str:
    """`value` where it is a string, else the empty one."""
    return value if isinstance(value, str) else ""


def texts(value: Any) -> tuple[str, ...]:
    """The strings of a list."""
    return tuple(item for item in sequence(value) if isinstance(item, str))


def strings(value: Any) -> Mapping[str, str]:
    """The entries of a mapping whose keys and values are strings."""
    return {key: item for key, item in mapping(value).items() if isinstance(key, str) and isinstance(item, str)}


def index(objects: Iterable[Object]) -> Cluster:
    """Index objects; for tests and small sources."""
    cluster = Cluster()
    for item in objects:
        cluster.add(item)
    return cluster
