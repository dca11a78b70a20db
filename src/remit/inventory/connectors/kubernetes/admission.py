"""Does admission let a privileged pod into a namespace?

Pod security labels are decided. What another controller would say (a webhook, an admission policy, Kyverno,
Gatekeeper) is not, and becomes a condition.

Spec: Kubernetes, "Pod Security Admission" and "Dynamic Admission Control".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.objects import GUARD, Cluster, Object, mapping, mappings, text, texts
from remit.inventory.connectors.kubernetes.selectors import selects

ENFORCE = "pod-security.kubernetes.io/enforce"
_LEVELS = ("baseline", "restricted")
_WEBHOOKS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
_UNLABELLED = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
"""The API server makes these without pod security labels; others have what their manifest says."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a privileged pod gets in; where nobody knows, under which conditions."""

    admitted: bool
    conditions: tuple[str, ...] = ()

    def and_if(self, *conditions: str) -> Verdict:
        return Verdict(self.admitted, (*self.conditions, *conditions))


REFUSED = Verdict(admitted=False)


class Admission:
    """What is known of admission in one cluster. `whole`: every namespace was listed."""

    def __init__(self, cluster: Cluster, *, whole: bool = False) -> None:
        self._cluster = cluster
        self._whole = whole
        self._hooks = [(item, hook) for item in cluster.all(*_WEBHOOKS) for hook in _pod_hooks(item)]
        self._policies = [item for item in cluster.all("ValidatingAdmissionPolicy") if _pod_policy(item)]
        self._guards = list(cluster.all(GUARD))
        self._found: dict[str, Verdict] = {}

    def privileged(self, namespace: str) -> Verdict:
        """A privileged pod in a namespace, or in any of the cluster's (`*`): the most open one decides."""
        if namespace not in self._found:
            self._found[namespace] = self._anywhere() if namespace == EVERY else self._privileged(namespace)
        return self._found[namespace]

    def level(self, namespace: str) -> str | None:
        """What the namespace enforces; empty for nothing, `None` where its labels are unknown."""
        declared = self._cluster.get("Namespace", "", namespace)
        if declared:
            return declared[0].labels.get(ENFORCE, "")
        return "" if self._whole or namespace in _UNLABELLED else None

    def relabelled(self, namespace: str) -> Verdict:
        """A privileged pod there, for somebody who may take the pod security label away."""
        return Verdict(True, self._others(namespace))

    def _anywhere(self) -> Verdict:
        verdicts = [
            self.privileged(each) for each in dict.fromkeys(("kube-system", "default", *self._cluster.namespaces()))
        ]
        admitted = sorted((each for each in verdicts if each.admitted), key=lambda each: len(each.conditions))
        return admitted[0] if admitted else REFUSED

    def _privileged(self, namespace: str) -> Verdict:
        level = self.level(namespace)
        if level in _LEVELS:
            return REFUSED
        others = self._others(namespace)
        if level is None:
            return Verdict(True, (f"namespace {namespace} enforces no pod security level", *others))
        return Verdict(True, others)

    def _others(self, namespace: str) -> tuple[str, ...]:
        declared = self._cluster.namespace(namespace)
        labels = {"kubernetes.io/metadata.name": namespace, **(declared.labels if declared else {})}
        asked = [
            f"{item.kind} {item.name}"
            for item, hook in self._hooks
            if "namespaceSelector" not in hook or selects(hook["namespaceSelector"], labels)
        ]
        asked += [f"{item.kind} {item.name}" for item in self._policies]
        asked += [f"{text(item.body.get('kind'))} {item.name}" for item in self._guards]
        shown = list(dict.fromkeys(asked))
        if not shown:
            return ()
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        return (f"admission ({', '.join(shown[:3])}{more}) lets the pod pass",)


def _pod_hooks(item: Object) -> Iterator[Mapping[str, Any]]:
    for hook in mappings(item.body.get("webhooks")):
        if any(_speaks_of_pods(rule) for rule in mappings(hook.get("rules"))):
            yield hook


def _pod_policy(item: Object) -> bool:
    constraints = mapping(mapping(item.body.get("spec")).get("matchConstraints"))
    return any(_speaks_of_pods(rule) for rule in mappings(constraints.get("resourceRules")))


def _speaks_of_pods(rule: Mapping[str, Any]) -> bool:
    return (
        bool({"*", "CREATE"} & set(texts(rule.get("operations"))))
        and bool({"*", ""} & set(texts(rule.get("apiGroups"))))
        and bool({"*", "*/*", "pods", "pods/*"} & set(texts(rule.get("resources"))))
    )
