"""What the nodes of one cluster are called, and the facts of those that stand for many things at once."""

from __future__ import annotations

from dataclasses import dataclass

from remit.kernel.ids import Name, name

EVERY = "*"
"""Stands for all namespaces."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names within one cluster."""

    instance: str

    def of(self, kind: str, local: str) -> Name:
        return name("kubernetes", self.instance, kind, local)

    def account(self, namespace: str, local: str) -> Name:
        return self.of("serviceaccount", f"{namespace}/{local}")

    def subject(self, issuer: str, namespace: str, local: str) -> Name:
        """A service account as the clouds see it: issuer and subject of its projected tokens."""
        return name("oidc", issuer, "subject", f"system:serviceaccount:{namespace}:{local}")

    def secret(self, namespace: str, local: str) -> Name:
        return self.of("secret", f"{namespace}/{local}")

    def user(self, local: str) -> Name:
        return self.of("user", local)

    def group(self, local: str) -> Name:
        return self.of("group", local)

    def accounts(self, namespace: str) -> Name:
        """Any service account of a namespace."""
        return self.of("any-serviceaccount", namespace)

    def secrets(self, namespace: str) -> Name:
        """The value of any secret of a namespace."""
        return self.of("any-secret", namespace)

    def workloads(self, namespace: str) -> Name:
        """The inside of any running pod of a namespace."""
        return self.of("any-workload", namespace)

    def admin(self, namespace: str) -> Name:
        """Every right in a namespace, or in the cluster."""
        return self.of("admin", namespace)

    def node(self, namespace: str = EVERY) -> Name:
        """A node of the cluster, nobody says which; or one of those that run the pods of a namespace."""
        return self.of("nodes", namespace)

    def machines(self) -> Name:
        """Every node of the cluster at once."""
        return self.of("every-node", EVERY)

    def machine(self, local: str) -> Name:
        """One node."""
        return self.of("node", local)

    def inside(self, local: str) -> Name:
        """The pods that run on one node."""
        return self.of("pods-of-node", local)

    def users(self) -> Name:
        """Any user that some binding names."""
        return self.of("any-user", EVERY)

    def rights(self, role: str, namespace: str) -> Name:
        """What a role with very many rules gives in a namespace."""
        return self.of("rights", f"{namespace}/{role}")


def where(namespace: str) -> str:
    """A namespace in a sentence."""
    return "the whole cluster" if namespace == EVERY else f"namespace {namespace}"
