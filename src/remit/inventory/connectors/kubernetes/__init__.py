"""Kubernetes, from manifests or the API: service accounts, what RBAC lets them do, the secrets and the workloads.

reading     files → documents, bounded against hostile input
server      the API → the same objects
objects     documents → typed objects, and the index of them all
labels      owner and environment from labels and annotations
names       what the nodes of a cluster are called
selectors, bootstrap, rules    which rules a role has (aggregation, built-in roles), and who is granted them
authorizer  one request, decided as the API server decides it
admission   whether a privileged pod gets into a namespace
estate      all of that for one cluster
powers, reach, pairs, binding  what rights let somebody become or read: one by one, together, by `bind` and `escalate`
edges       how such an edge is proved and cut
escapes, machines              out of containers, to nodes, to what runs there
paths       who gets to administer the cluster by some path
issuer      under which issuer the cluster signs its tokens
accounts, secrets, workloads, hubs, exposure    objects → facts
connector   the four beats
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from remit.inventory.connectors.kubernetes.connector import MANIFEST, KubernetesConnector
from remit.inventory.connectors.kubernetes.server import Server
from remit.providers.kubernetes.kubeconfig import is_kubeconfig

__all__ = ["MANIFEST", "KubernetesConnector", "make"]


def make(source: str, options: Mapping[str, str], secret: str) -> KubernetesConnector:
    """A connector on a directory or file of manifests, or on the API: `api`, a kubeconfig, an https address."""
    path = Path(source)
    server = None
    if host := options.get("host", ""):  # a registered target
        source = f"https://{f'[{host}]' if ':' in host else host}:{options.get('port', '6443')}"
    if source == "api" or source.startswith(("https://", "http://")) or is_kubeconfig(path):
        without = frozenset(part.strip() for part in options.get("without", "").split(",") if part.strip())
        server = Server(
            source,
            token=secret,
            context=options.get("context", ""),
            ca=options.get("ca", ""),
            values=options.get("secrets") == "values",
            without=without,
        )
    return KubernetesConnector(
        path, cluster=options.get("cluster") or None, issuer=options.get("issuer") or None, server=server
    )
