"""May this subject do that here? Decided as the API server's RBAC authorizer decides it.

Roles and bindings alone: the Node authorizer, webhooks and admission are others' word.

Spec: Kubernetes, "Using RBAC Authorization"; upstream's `plugin/pkg/auth/authorizer/rbac/rbac.go`; the group
`system:masters` passes before any authorizer is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.connectors.kubernetes.objects import Cluster
from remit.inventory.connectors.kubernetes.rules import (
    RBAC,
    Grant,
    Roles,
    Subject,
    grants,
    role_reference,
    subjects_of,
)

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = "system:anonymous"
_ACCOUNT = "system:serviceaccount:"
_ACCOUNTS = "system:serviceaccounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the authorizer says, and its reason: empty where no rule allows it and nothing went wrong."""

    allowed: bool
    because: str = ""

    def status(self) -> dict[str, bool | str]:
        """As the `status` of a SubjectAccessReview."""
        return {"allowed": self.allowed, **({"reason": self.because} if self.because else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A user as the authenticator found it: a name, and groups beside those that everybody gets."""

    name: str
    groups: tuple[str, ...] = ()


def implied_groups(subject: Subject) -> tuple[str, ...]:
    """The groups in which the API server puts a subject, whatever else is said of it."""
    if subject.kind == "ServiceAccount":
        return (_ACCOUNTS, f"{_ACCOUNTS}:{subject.namespace}", AUTHENTICATED)
    if subject.kind == "User":
        return (UNAUTHENTICATED,) if subject.name == ANONYMOUS else (AUTHENTICATED,)
    if subject.name in (UNAUTHENTICATED, AUTHENTICATED):
        return ()
    within = (_ACCOUNTS,) if subject.name.startswith(f"{_ACCOUNTS}:") else ()
    return (*within, AUTHENTICATED)


def subject_of(caller: Caller) -> Subject:
    """The subject that a user name stands for: `system:serviceaccount:NS:NAME` is that service account."""
    parts = caller.name.split(":")
    if caller.name.startswith(_ACCOUNT) and len(parts) == 4 and parts[2] and parts[3]:
        return Subject("ServiceAccount", parts[2], parts[3])
    return Subject("User", "", caller.name)


class Authorizer:
    """Answers many questions about one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._roles = Roles(cluster)
        self._held, _ = grants(cluster, self._roles)
        self._missing: dict[Subject, list[tuple[str, str]]] = {}
        for binding in cluster.all("ClusterRoleBinding", "RoleBinding"):
            kind, local = role_reference(binding)
            if self._roles.rules(kind, binding.namespace, local) is None:
                said = (
                    f'{kind.lower()}.{RBAC} "{local}" not found'
                    if kind in ("Role", "ClusterRole")
                    else f'unsupported role reference kind: "{kind}"'
                )
                for _, subject in subjects_of(binding):
                    self._missing.setdefault(subject, []).append((binding.namespace, said))

    def ask(
        self,
        who: Subject | Caller,
        verb: str,
        *,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        name: str = "",
        namespace: str = "",
        path: str = "",
    ) -> Answer:
        """Decide one request: for `path` where it is given, else for the resource."""
        subjects = _subjects(who)
        if Subject("Group", "", MASTERS) in subjects:
            return Answer(allowed=True)
        full = f"{resource}/{subresource}" if subresource else resource
        for subject, grant in self._grants(subjects, namespace):
            for rule in grant.rules:
                if rule.permits_url(verb, path) if path else rule.permits(verb, group, full, name):
                    return Answer(allowed=True, because=f"RBAC: allowed by {_described(grant, subject)}")
        return Answer(allowed=False, because=self._failures(subjects, namespace))

    def _grants(self, subjects: list[Subject], namespace: str) -> Iterator[tuple[Subject, Grant]]:
        """Of cluster role bindings first, then of role bindings in the namespace."""
        for scope in (EVERY, namespace) if namespace and namespace != EVERY else (EVERY,):
            for subject in subjects:
                for grant in self._held.get(subject, ()):
                    if grant.namespace == scope:
                        yield subject, grant

    def _failures(self, subjects: list[Subject], namespace: str) -> str:
        """The roles that bindings of the subject name and that are not there, as the authorizer reports them."""
        said = dict.fromkeys(
            text for subject in subjects for where, text in self._missing.get(subject, ()) if where in ("", namespace)
        )
        if not said:
            return ""
        return f"RBAC: {next(iter(said))}" if len(said) == 1 else f"RBAC: [{', '.join(said)}]"


def allowed(
    cluster: Cluster,
    subject: Subject | Caller,
    verb: str,
    group: str = "",
    resource: str = "",
    subresource: str = "",
    name: str = "",
    namespace: str = "",
    path: str = "",
) -> Answer:
    """Decide one request against the roles and bindings of `cluster`; `path` asks for a URL that is no resource.

    `name` is what the request itself names: empty for create, and for list, watch and deletecollection without the
    field selector `metadata.name`.
    """
    return Authorizer(cluster).ask(
        subject,
        verb,
        group=group,
        resource=resource,
        subresource=subresource,
        name=name,
        namespace=namespace,
        path=path,
    )


def _subjects(who: Subject | Caller) -> list[Subject]:
    given = who.groups if isinstance(who, Caller) else ()
    first = subject_of(who) if isinstance(who, Caller) else who
    groups = dict.fromkeys((*given, *implied_groups(first)))
    return [first, *(Subject("Group", "", group) for group in groups)]


def _described(grant: Grant, subject: Subject) -> str:
    binding = grant.binding
    local = f"{binding.name}/{binding.namespace}" if binding.namespace else binding.name
    kind, role = role_reference(binding)
    whom = f"{subject.name}/{subject.namespace}" if subject.namespace else subject.name
    return f'{binding.kind} "{local}" of {kind} "{role}" to {subject.kind} "{whom}"'
