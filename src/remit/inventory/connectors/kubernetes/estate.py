"""The whole of what was read of one cluster, and what every judgement about it asks again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from remit.inventory.connectors.kubernetes.admission import Admission
from remit.inventory.connectors.kubernetes.authorizer import MASTERS, implied_groups
from remit.inventory.connectors.kubernetes.names import EVERY, Names
from remit.inventory.connectors.kubernetes.objects import WORKLOADS, Cluster, Object, mapping, mappings, text
from remit.inventory.connectors.kubernetes.powers import is_cluster_admin
from remit.inventory.connectors.kubernetes.rules import Grant, Roles, Subject, grants
from remit.inventory.connectors.kubernetes.workloads import account_of, pod_spec
from remit.inventory.model import Fact, Skipped
from remit.kernel.ids import Name

_CHAIN = 8
_BOOTSTRAP = "kubernetes.io/bootstrapping"
_EKS = "eks.amazonaws.com/role-arn"


class Estate:
    """`complete` are the kinds that were listed to their end, as plurals; none where manifests were read."""

    def __init__(self, cluster: Cluster, names: Names, complete: Iterable[str] = ()) -> None:
        self.cluster = cluster
        self.names = names
        self.complete = frozenset(complete)
        self.roles = Roles(cluster)
        self.held: dict[Subject, list[Grant]]
        self.skipped: list[Skipped]
        self.held, self.skipped = grants(cluster, self.roles)
        self.admission = Admission(cluster, whole="namespaces" in self.complete)
        self.groups = frozenset(subject.name for subject in self.held if subject.kind == "Group")
        self.privileged = frozenset(
            subject for subject in self.held if subject.name == MASTERS or is_cluster_admin(self.effective(subject))
        )
        everybody = (Subject("Group", "", group) for group in ("system:serviceaccounts", "system:authenticated"))
        self._every_account = any(group in self.privileged for group in everybody)
        self.machines: dict[str, list[Object]] = {item.name: [] for item in cluster.all("Node")}
        for pod in cluster.all("Pod"):
            if node := text(pod_spec(pod).get("nodeName")):
                self.machines.setdefault(node, []).append(pod)
        self.eks = bool(cluster.get("ConfigMap", "kube-system", "aws-auth")) or any(
            _EKS in item.annotations for item in cluster.all("ServiceAccount")
        )
        self.holders = Counter((grant.role, grant.namespace) for given in self.held.values() for grant in given)
        """How many hold each role in each namespace."""
        self.reached: dict[Subject, list[Fact]] = {}
        """What each subject reaches, once it was worked out."""
        self._named: dict[str, dict[str, list[str]]] = {}
        self._within: dict[str, dict[str, list[Object]]] = {}
        self._controlled: dict[Name, list[Object]] | None = None

    def effective(self, subject: Subject) -> list[Grant]:
        """Its own grants, and those of the groups in which the API server puts it."""
        own = self.held.get(subject, [])
        given = [grant for group in implied_groups(subject) for grant in self.held.get(Subject("Group", "", group), ())]
        return [*own, *given] if given else own

    def is_privileged(self, namespace: str, account: str) -> bool:
        """Tell whether a service account has every right in the cluster, by a binding of its own or of its groups."""
        if self._every_account or Subject("ServiceAccount", namespace, account) in self.privileged:
            return True
        return Subject("Group", "", f"system:serviceaccounts:{namespace}") in self.privileged

    def is_bootstrap(self, subject: Subject) -> bool:
        """Tell whether it is a part of Kubernetes: all its bindings are those that the API server makes."""
        held = self.held[subject]
        return subject.name == MASTERS or (
            bool(held) and all(grant.binding.labels.get(_BOOTSTRAP) == "rbac-defaults" for grant in held)
        )

    def identity(self, subject: Subject) -> Name:
        match subject.kind:
            case "ServiceAccount":
                return self.names.account(subject.namespace, subject.name)
            case "Group":
                return self.names.group(subject.name)
            case _:
                return self.names.user(subject.name)

    def workload(self, item: Object) -> Name:
        """The identity of a workload: that of its outermost controller among the objects."""
        for _ in range(_CHAIN):
            owner = self._owner(item)
            if owner is None:
                break
            item = owner
        return self.names.of(item.kind.lower(), item.local)

    def _owner(self, item: Object) -> Object | None:
        for reference in mappings(mapping(item.body.get("metadata")).get("ownerReferences")):
            kind, local = text(reference.get("kind")), text(reference.get("name"))
            found = self.cluster.get(kind, item.namespace, local) if kind in WORKLOADS else []
            if reference.get("controller") is True and found:
                return found[0]
        return None

    def pods_of(self, item: Object) -> Iterator[Object]:
        """The running pods of a workload, where pods were read: itself, or those that it controls."""
        if self._controlled is None:
            self._controlled = {}
            for pods in self.machines.values():
                for pod in pods:
                    self._controlled.setdefault(self.workload(pod), []).append(pod)
        yield from self._controlled.get(self.names.of(item.kind.lower(), item.local), ())

    def where_named(self, kind: str, local: str) -> list[str]:
        """The namespaces in which an object of this kind and name was seen."""
        if kind not in self._named:
            index: dict[str, list[str]] = {}
            for item in self.cluster.all(kind):
                index.setdefault(item.name, []).append(item.namespace)
            if kind == "ServiceAccount":
                self._implicit(index)
            self._named[kind] = index
        return self._named[kind].get(local, [])

    def _implicit(self, index: dict[str, list[str]]) -> None:
        """Accounts that something uses and nothing declares."""
        used = {(subject.name, subject.namespace) for subject in self.held if subject.kind == "ServiceAccount"}
        used |= {(account_of(item), item.namespace) for item in self.cluster.all(*WORKLOADS)}
        for local, namespace in sorted(used):
            if namespace not in index.setdefault(local, []):
                index[local].append(namespace)

    def within(self, kind: str, namespace: str) -> list[Object]:
        """Every object of a kind in a namespace, or everywhere where it is empty."""
        if kind not in self._within:
            index = self._within[kind] = {"": list(self.cluster.all(kind))}
            for item in index[""]:
                if item.namespace:
                    index.setdefault(item.namespace, []).append(item)
        return self._within[kind].get(namespace, [])

    def present(self, kind: str, namespace: str, names: tuple[str, ...]) -> list[str]:
        """The namespaces (or `*` for a kind without any) that have such an object, of those asked."""
        found = {
            item.namespace or EVERY
            for item in self.within(kind, "" if namespace == EVERY else namespace)
            if not names or item.name in names
        }
        return sorted(found)

    def listed(self, kind: str) -> bool:
        """Tell whether every object of a kind was read."""
        return f"{kind.lower()}s" in self.complete
