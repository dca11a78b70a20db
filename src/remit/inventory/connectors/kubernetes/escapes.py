"""Ways out of a container that a pod specification opens: to the node, and so to every pod on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remit.inventory.connectors.kubernetes.objects import Object, mapping, mappings, text, texts
from remit.inventory.model import EdgeFact, Fact, FindingFact, Relation, Severity
from remit.kernel.ids import Name

if TYPE_CHECKING:
    from remit.inventory.connectors.kubernetes.estate import Estate

_SOCKET = re.compile(
    r"/(?:var/)?run/?|/(?:var/)?run/(?:docker|containerd/containerd|containerd|crio/crio|crio|k3s/containerd/containerd"
    r"|podman/podman|dockershim)\.sock/?|/(?:var/)?run/(?:containerd|crio|k3s/containerd|podman)/?"
)
_READABLE = re.compile(
    r"/|/var/?|/var/lib/?|/var/lib/(?:kubelet|docker|containerd|etcd|rancher|k0s)(?:/.*)?|/etc/kubernetes(?:/.*)?"
    r"|/etc/rancher(?:/.*)?|/root(?:/.*)?"
)
_WRITABLE = re.compile(
    r"/(?:etc|home|usr|bin|sbin|lib|lib64|boot|opt)/?|/etc/(?:cron.*|systemd|ssh|sudoers.*|pam.d|cni|init.*)(?:/.*)?"
    r"|/home/.*|/usr/(?:local/)?(?:s?bin|lib|libexec)(?:/.*)?|/opt/cni(?:/bin)?/?|/proc(?:/sys(?:/kernel(?:/.*)?)?)?/?"
)
_DEVICE = re.compile(r"/dev(?:/(?:sd|nvme|vd|xvd|dm-|mem|kmem).*)?/?")
_LOGS = re.compile(r"/var/log(?:/(?:pods|containers)(?:/.*)?)?/?")
_CAPABILITIES = frozenset({"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_RAWIO", "BPF"})
_STRONG = frozenset({"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"})
_OTHER_USER = "the container gets to run as root, though its specification says another user"
_UNADMITTED = "its pods were admitted before namespace {} enforced {}"


@dataclass(frozen=True, slots=True)
class Opening:
    """What is open; `escape` where it gives the node, under `conditions`."""

    rule: str
    severity: Severity
    what: str
    escape: bool = False
    conditions: tuple[str, ...] = ()


def escapes(
    item: Object, identity: Name, spec: Mapping[str, Any], containers: Sequence[Mapping[str, Any]], estate: Estate
) -> Iterator[Fact]:
    """Findings for each opening, and one edge to each of its nodes where an opening gives them."""
    found = list(openings(spec, containers))
    for opening in found:
        yield FindingFact(
            rule=f"kubernetes.{opening.rule}",
            severity=opening.severity,
            title=f"{item.kind.lower()} {item.local}: {opening.what}",
            detail="who controls the container gets beyond it"
            if opening.escape
            else "the container shares more than it needs",
            next_step="remove it, or register an exception with an owner and an end",
            place=item.place,
            subject=identity,
        )
    yield from escape_edges(item, identity, found, estate)


def escape_edges(item: Object, identity: Name, found: Sequence[Opening], estate: Estate) -> Iterator[EdgeFact]:
    """Where the openings lead: to the nodes on which its pods run, or to one that nobody names."""
    ways = [opening for opening in found if opening.escape]
    if not ways:
        return
    sure = [opening for opening in ways if not opening.conditions]
    conditions = () if sure else (" or ".join(dict.fromkeys(text for way in ways for text in way.conditions)),)
    said = ", ".join(dict.fromkeys(opening.what for opening in sure or ways))
    pods = list(estate.pods_of(item))
    if not pods and (level := estate.admission.level(item.namespace)) in ("baseline", "restricted"):
        conditions = (*conditions, _UNADMITTED.format(item.namespace, level))
    machines = sorted({text(mapping(pod.body.get("spec")).get("nodeName")) for pod in pods} - {""})
    targets = [estate.names.machine(local) for local in machines] or [estate.names.node()]
    if not machines and _everywhere(item):
        targets = [estate.names.machines()]
    for target in targets:
        yield EdgeFact(
            source=identity,
            relation=Relation.CAN_REACH,
            target=target,
            evidence=f"{item.kind} {item.local}: {said}",
            place=item.place,
            actions=("root",),
            conditions=conditions,
            cut=f"kubectl edit {item.kind.lower()} {item.name} -n {item.namespace}  # {_remedy(ways)}",
        )


def _remedy(ways: Sequence[Opening]) -> str:
    words = {
        "privileged-container": "privileged: false",
        "dangerous-capability": "capabilities: {drop: [ALL]}",
        "host-pid": "hostPID: false",
        "host-path": "remove the hostPath volume",
    }
    return ", ".join(dict.fromkeys(words[way.rule] for way in ways if way.rule in words))


def _everywhere(item: Object) -> bool:
    """Tell whether it surely runs on every node: a daemon set that tolerates everything and chooses nothing."""
    spec = mapping(mapping(mapping(item.body.get("spec")).get("template")).get("spec"))
    tolerates = any(
        entry.get("operator") == "Exists" and not entry.get("key") and not entry.get("effect")
        for entry in mappings(spec.get("tolerations"))
    )
    return item.kind == "DaemonSet" and tolerates and not spec.get("nodeSelector") and not spec.get("affinity")


def openings(spec: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]) -> Iterator[Opening]:
    """Everything that a pod specification opens."""
    shares_processes, pod = spec.get("hostPID") is True, mapping(spec.get("securityContext"))
    own_users = spec.get("hostUsers") is False
    through = False
    for container in containers:
        context = {**pod, **mapping(container.get("securityContext"))}
        other = _OTHER_USER if _not_root(context) else ""
        for opening in _container(text(container.get("name")), context, shares_processes, own_users, other):
            through = through or opening.escape
            yield opening
    if shares_processes:
        unknown = () if through else ("a process of the node runs as the same user with no more capabilities",)
        yield Opening("host-pid", Severity.HIGH, "it shares the process table of the node", not through, unknown)
    if spec.get("hostIPC") is True:
        yield Opening("host-ipc", Severity.MEDIUM, "it shares the IPC namespace of the node")
    if spec.get("hostNetwork") is True:
        yield Opening("host-network", Severity.MEDIUM, "it shares the network of the node")
    for volume in mappings(spec.get("volumes")):
        if path := text(mapping(volume.get("hostPath")).get("path")):
            yield _host_path(path, text(volume.get("name")), containers, pod)


def _container(
    name: str, context: Mapping[str, Any], shares_processes: bool, own_users: bool, other: str
) -> Iterator[Opening]:
    unknown = (other,) if other else ()
    if context.get("privileged") is True:
        yield Opening("privileged-container", Severity.HIGH, f"container {name} is privileged", True, unknown)
    added = {word.upper().removeprefix("CAP_") for word in texts(mapping(context.get("capabilities")).get("add"))}
    for capability in sorted(added & _CAPABILITIES):
        sure = capability in _STRONG or (capability == "SYS_PTRACE" and shares_processes)
        possible = sure or capability in ("DAC_READ_SEARCH", "BPF")
        conditions = unknown if sure else (f"no seccomp or security module stops {capability}", *unknown)
        what = f"container {name} has {capability}"
        yield Opening("dangerous-capability", Severity.HIGH, what, possible and not own_users, conditions)


def _not_root(context: Mapping[str, Any]) -> bool:
    user = context.get("runAsUser")
    return (isinstance(user, int) and user > 0) or (user is None and context.get("runAsNonRoot") is True)


def _host_path(path: str, volume: str, containers: Sequence[Mapping[str, Any]], pod: Mapping[str, Any]) -> Opening:
    """One mount of the node's files: what reading alone gives, and what takes writing."""
    path = re.sub(r"/+", "/", path)
    mounts: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (mount, {**pod, **mapping(container.get("securityContext"))})
        for container in containers
        for mount in (*mappings(container.get("volumeMounts")), *mappings(container.get("volumeDevices")))
        if mount.get("name") == volume
    ]
    what = f"it mounts {path} of the node"
    if not containers:
        mounts = [({}, pod)]
    writes = any(mount.get("readOnly") is not True for mount, _ in mounts)
    unknown = (_OTHER_USER,) if mounts and all(_not_root(context) for _, context in mounts) else ()
    if _SOCKET.fullmatch(path) or _READABLE.fullmatch(path) or (writes and _WRITABLE.fullmatch(path)):
        return Opening("host-path", Severity.HIGH, what, bool(mounts), unknown)
    if _DEVICE.fullmatch(path):
        unknown = (*unknown, "the device rules of its container let it open them")
        return Opening("host-path", Severity.HIGH, what, bool(mounts), unknown)
    if writes and _LOGS.fullmatch(path):
        unknown = (*unknown, "somebody reads logs through the kubelet, which follows its links")
        return Opening("host-path", Severity.MEDIUM, what, bool(mounts), unknown)
    return Opening("host-path", Severity.LOW, what)
