"""Kubernetes, from manifests: service accounts, what RBAC lets them do, the secrets and the workloads.

reading     files → documents, bounded against hostile input
objects     documents → typed objects, and the index of them all
labels      owner and environment from labels and annotations
names       what the nodes of a cluster are called
rules       RBAC rules and who holds them
powers      what those rules let somebody become or read
accounts, secrets, workloads, hubs    objects → facts
connector   the four beats
"""

from __future__ import annotations

from remit.inventory.connectors.kubernetes.connector import MANIFEST, KubernetesConnector

__all__ = ["MANIFEST", "KubernetesConnector"]
