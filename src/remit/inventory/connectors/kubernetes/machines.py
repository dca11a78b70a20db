"""The nodes: which pods run where, and what root on a node gets of them.

Root on a node reads every file of its pods, and speaks as its kubelet: that may ask for tokens of the accounts of
these pods, and read the secrets that they name, pull secrets included, and nothing of other nodes.

Spec: Kubernetes, "Using Node Authorization" and the admission plugin NodeRestriction.
"""

from __future__ import annotations

from collections.abc import Iterator

from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.objects import WORKLOADS, Object, mapping, mappings, text, texts
from remit.inventory.connectors.kubernetes.workloads import (
    account_of,
    controlled,
    pod_spec,
    references,
    token_condition,
    token_mounted,
)
from remit.inventory.model import EdgeFact, Fact, Place, Relation, ResourceFact, Sensitivity
from remit.kernel.ids import Name

_CONTROL = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_SERVERS = ("kube-apiserver", "etcd")


def translate_machines(estate: Estate, place: Place) -> Iterator[Fact]:
    """Every node that something names, and the hubs that stand for one of them or all."""
    names = estate.names
    yield _resource(names.node(), "kubernetes-nodes", "a node of the cluster", place)
    yield _resource(names.machines(), "kubernetes-nodes", "every node of the cluster", place)
    why = "every pod runs on some node"
    yield _edge(names.machines(), Relation.ASSUME, names.workloads(EVERY), why, place)
    yield _edge(names.machines(), Relation.CAN_REACH, names.node(), "it is one of them", place)
    same = "the pods run on the same node: nothing that was read tells where"
    yield _edge(names.node(), Relation.ASSUME, names.workloads(EVERY), "a node holds its pods", place, same)
    for local, pods in estate.machines.items():
        yield from _machine(estate, local, pods, place)
    yield from _homes(estate, place)
    if len(estate.machines) == 1 and estate.cluster.objects.get("Node"):
        (only,) = estate.machines
        yield _edge(names.node(), Relation.CAN_REACH, names.machine(only), "the cluster has one node", place)
    for item in estate.cluster.all(*WORKLOADS):
        if not controlled(item, estate.cluster) and (
            not token_mounted(item, estate.cluster) or token_condition(item, estate.cluster)
        ):
            target = names.account(item.namespace, account_of(item))
            why = f"the kubelet of its node asks for tokens of the account of {item.kind} {item.local}"
            yield _edge(names.machines(), Relation.ASSUME, target, why, item.place)


def _machine(estate: Estate, local: str, pods: list[Object], place: Place) -> Iterator[Fact]:
    names, machine = estate.names, estate.names.machine(local)
    inside = names.inside(local)
    yield _resource(machine, "kubernetes-node", f"node {local}", place)
    yield _resource(inside, "kubernetes-scope", f"the pods of node {local}", place, Sensitivity.PUBLIC)
    yield _edge(names.machines(), Relation.CAN_REACH, machine, f"{local} is a node of the cluster", place)
    yield _edge(machine, Relation.ASSUME, inside, f"root of {local} enters its pods", place)
    yield from {(edge.source, edge.target): edge for pod in pods for edge in _pod_edges(estate, local, pod)}.values()
    declared = estate.cluster.get("Node", "", local)
    if any(key in item.labels for item in declared for key in _CONTROL) or any(map(_serves, pods)):
        why = f"{local} keeps the keys of the control plane"
        yield _edge(machine, Relation.CAN_REACH, names.admin(EVERY), why, place)


def _pod_edges(estate: Estate, local: str, pod: Object) -> Iterator[EdgeFact]:
    names = estate.names
    where = f"pod {pod.local} runs on {local}"
    yield _edge(names.inside(local), Relation.ASSUME, estate.workload(pod), where, pod.place)
    kubelet = f"{where}, whose kubelet may ask for its"
    account = names.account(pod.namespace, account_of(pod))
    yield _edge(names.machine(local), Relation.ASSUME, account, f"{kubelet} tokens", pod.place)
    for use in references(pod, estate.cluster):
        secret = names.secret(pod.namespace, use.secret)
        yield _edge(names.machine(local), Relation.CAN_REACH, secret, f"{kubelet} secret ({use.how})", pod.place)


def _homes(estate: Estate, place: Place) -> Iterator[Fact]:
    """For each namespace, the nodes on which its pods run."""
    homes: dict[str, dict[str, None]] = {}
    for local, pods in estate.machines.items():
        for pod in pods:
            homes.setdefault(pod.namespace, {})[local] = None
    for namespace in estate.cluster.namespaces():
        hub = estate.names.node(namespace)
        yield _resource(hub, "kubernetes-nodes", f"a node that runs pods of {namespace}", place)
        for local in homes.get(namespace, ()):
            why = f"pods of {namespace} run on {local}"
            yield _edge(hub, Relation.CAN_REACH, estate.names.machine(local), why, place)
        if namespace not in homes:
            yield _edge(hub, Relation.CAN_REACH, estate.names.node(), "its pods run on some node", place)


def _serves(pod: Object) -> bool:
    """Tell whether it is a part of the control plane that keeps its keys on the node."""
    if pod.namespace != "kube-system":
        return False
    for container in mappings(pod_spec(pod).get("containers")):
        command = texts(container.get("command"))
        if command and command[0].rpartition("/")[2] in _SERVERS and _mounts_keys(pod):
            return True
    return False


def _mounts_keys(pod: Object) -> bool:
    paths = (text(mapping(volume.get("hostPath")).get("path")) for volume in mappings(pod_spec(pod).get("volumes")))
    return any(path.startswith("/etc/kubernetes/pki") for path in paths)


def _resource(
    name: Name, kind: str, title: str, place: Place, sensitivity: Sensitivity = Sensitivity.RESTRICTED
) -> ResourceFact:
    return ResourceFact(name=name, kind=kind, title=title, place=place, sensitivity=sensitivity)


def _edge(source: Name, relation: Relation, target: Name, evidence: str, place: Place, *conditions: str) -> EdgeFact:
    return EdgeFact(
        source=source, relation=relation, target=target, evidence=evidence, place=place, conditions=conditions
    )
