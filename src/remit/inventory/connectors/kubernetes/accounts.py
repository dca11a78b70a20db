"""Service accounts → facts, with the identities of other systems that they may become.

An annotation is what the cluster claims. The cloud's own trust policy must agree, so those edges are conditional until
the cloud's connector shows the other half.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

from remit.inventory.connectors.kubernetes.labels import described, owners_of
from remit.inventory.connectors.kubernetes.names import Names
from remit.inventory.connectors.kubernetes.objects import Cluster, Object
from remit.inventory.model import (
    Autonomy,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    Severity,
)
from remit.kernel.ids import Name, name

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/([\x21-\x7e]{1,576})")
_GCP_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}@([a-z0-9.:-]{1,80})\.iam\.gserviceaccount\.com")
_IRSA = "eks.amazonaws.com/role-arn"
_GKE = "iam.gke.io/gcp-service-account"
_AZURE_CLIENT = "azure.workload.identity/client-id"
_AZURE_TENANT = "azure.workload.identity/tenant-id"


def aws_role(arn: str) -> Name | None:
    """The inventory's name of an IAM role, by its ARN."""
    match = _ROLE_ARN.fullmatch(arn)
    return name("aws", match[1], "role", match[2]) if match else None


def federations(annotations: Mapping[str, str]) -> Iterator[tuple[Name, str, str]]:
    """What a service account's annotations say it may become: (identity, annotation, condition)."""
    if role := aws_role(annotations.get(_IRSA, "")):
        yield role, _IRSA, "the trust policy of the role names this service account"
    if match := _GCP_ACCOUNT.fullmatch(annotations.get(_GKE, "")):
        email = annotations[_GKE]
        condition = "the service account grants `roles/iam.workloadIdentityUser` to this subject"
        yield name("gcp", match[1], "serviceaccount", email), _GKE, condition
    if client := annotations.get(_AZURE_CLIENT, "")[:100]:
        tenant = annotations.get(_AZURE_TENANT, "")[:100] or "unknown"
        condition = "the application has a federated credential for this subject"
        yield name("azure", tenant, "application", client), _AZURE_CLIENT, condition


def translate_account(item: Object, cluster: Cluster, names: Names, issuer: str, *, privileged: bool) -> Iterator[Fact]:
    """The facts of one declared service account."""
    identity = names.account(item.namespace, item.name)
    automount = item.body.get("automountServiceAccountToken")
    yield IdentityFact(
        name=identity,
        kind=IdentityKind.SERVICE_ACCOUNT,
        title=item.local,
        place=item.place,
        aliases=(names.subject(issuer, item.namespace, item.name),),
        attributes={
            **described(item, cluster),
            "autonomy": Autonomy.AUTONOMOUS.value,
            "privileged": privileged,
            "automount_token": automount is not False,
            "declared": True,
        },
    )
    yield from owners_of(identity, item, cluster)
    for target, key, condition in federations(item.annotations):
        yield EdgeFact(
            source=identity,
            relation=Relation.ASSUME,
            target=target,
            evidence=f"annotation `{key}` of ServiceAccount {item.local}",
            place=item.place,
            conditions=(condition,),
            cut=shlex.join(["kubectl", "annotate", "serviceaccount", item.name, "-n", item.namespace, f"{key}-"]),
        )
    if _IRSA in item.annotations and aws_role(item.annotations[_IRSA]) is None:
        yield FindingFact(
            rule="kubernetes.malformed-role-arn",
            severity=Severity.LOW,
            title=f"the role annotation of {item.local} is no role ARN",
            detail=f"annotation `{_IRSA}` does not have the form arn:aws:iam::ACCOUNT:role/NAME",
            next_step="correct or remove the annotation",
            place=item.place,
            subject=identity,
        )


def implicit_account(namespace: str, local: str, names: Names, issuer: str, place: Place, *, privileged: bool) -> Fact:
    """A service account that workloads or bindings use and no manifest declares (`default` always exists)."""
    return IdentityFact(
        name=names.account(namespace, local),
        kind=IdentityKind.SERVICE_ACCOUNT,
        title=f"{namespace}/{local}",
        place=place,
        aliases=(names.subject(issuer, namespace, local),),
        attributes={
            "namespace": namespace,
            "autonomy": Autonomy.AUTONOMOUS.value,
            "privileged": privileged,
            "automount_token": True,
            "declared": False,
        },
    )


def groups_of(namespace: str) -> tuple[str, ...]:
    """The groups in which every service account of a namespace is."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")


def membership_edges(
    namespace: str, local: str, bound: Iterable[str], names: Names, place: Place
) -> Iterator[EdgeFact]:
    """The groups of a service account, of those to which some binding gives rights."""
    rights = set(bound)
    for group in groups_of(namespace):
        if group in rights:
            yield EdgeFact(
                source=names.account(namespace, local),
                relation=Relation.MEMBER_OF,
                target=names.group(group),
                evidence=f"the API server puts every service account of {namespace} into {group}",
                place=place,
            )
