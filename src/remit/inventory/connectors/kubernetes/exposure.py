"""What stands between a pod specification and the cluster: admission, pod security, network policies.

Only the API tells: that a manifest is missing from a directory says nothing about the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from remit.inventory.connectors.kubernetes.names import Names
from remit.inventory.connectors.kubernetes.objects import WORKLOADS, Cluster, Object, mapping, mappings, text
from remit.inventory.model import Fact, FindingFact, Place, ResourceFact, Severity

_SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_ENFORCE = "pod-security.kubernetes.io/enforce"
_WEBHOOKS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


def translate_exposure(cluster: Cluster, names: Names, complete: Set[str], place: Place) -> Iterator[Fact]:
    """Admission as resources, and the namespaces that lack a guard; `complete` are the kinds that were read."""
    for item in cluster.all(*_WEBHOOKS, "ValidatingAdmissionPolicy"):
        yield from _admission(item, names)
    used = {item.namespace for item in cluster.all(*WORKLOADS)} - _SYSTEM
    for namespace in sorted(used):
        if "networkpolicies" in complete and not any(
            one.namespace == namespace for one in cluster.all("NetworkPolicy")
        ):
            yield FindingFact(
                rule="kubernetes.no-network-policy",
                severity=Severity.LOW,
                title=f"namespace {namespace} has no NetworkPolicy",
                detail="its pods may call every address, and be called by every pod of the cluster",
                next_step="add a NetworkPolicy that denies by default, then allow what is used",
                place=place,
                subject=names.workloads(namespace),
            )
        declared = cluster.namespace(namespace)
        level = declared.labels.get(_ENFORCE, "") if declared is not None else ""
        if "namespaces" in complete and level in ("", "privileged"):
            yield FindingFact(
                rule="kubernetes.no-pod-security",
                severity=Severity.LOW,
                title=f"namespace {namespace} admits privileged pods",
                detail=f"label `{_ENFORCE}` is {level or 'not set'}: who may create pods there gets to the node",
                next_step=f"label it `{_ENFORCE}=baseline`, or see that an admission policy refuses them",
                place=declared.place if declared is not None else place,
                subject=names.workloads(namespace),
            )


def _admission(item: Object, names: Names) -> Iterator[Fact]:
    hooks = list(mappings(item.body.get("webhooks")))
    policy = text(mapping(item.body.get("spec")).get("failurePolicy"))
    opens = [text(hook.get("name")) for hook in hooks if hook.get("failurePolicy") == "Ignore"]
    resource = names.of("admission", f"{item.kind}/{item.name}")
    yield ResourceFact(
        name=resource,
        kind="kubernetes-admission",
        title=f"{item.kind} {item.name}",
        place=item.place,
        attributes={"webhooks": len(hooks), "failure_policy": policy or ("Ignore" if opens else "Fail")},
    )
    if opens or policy == "Ignore":
        yield FindingFact(
            rule="kubernetes.admission-fails-open",
            severity=Severity.INFO,
            title=f"{item.kind} {item.name} lets everything pass while it does not answer",
            detail=", ".join(opens[:5]) or "failurePolicy: Ignore",
            next_step="set `failurePolicy: Fail` where it guards something",
            place=item.place,
            subject=resource,
        )
