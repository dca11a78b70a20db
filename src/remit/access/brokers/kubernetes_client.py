"""A kubeconfig: how kubectl, Helm and the client libraries find a cluster and a token."""

from __future__ import annotations

import json
from collections.abc import Mapping


def kubeconfig(cluster: str, settings: Mapping[str, str], token: str) -> str:
    """One cluster, one user, one context with its namespace; in JSON, which is YAML."""
    where: dict[str, str] = {"server": settings.get("url", "")}
    if "ca_data" in settings:
        where["certificate-authority-data"] = settings["ca_data"]
    user = settings.get("user", "")
    context = {"cluster": cluster, "user": user, "namespace": settings.get("namespace", "")}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": where}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": cluster, "context": context}],
            "current-context": cluster,
        },
        indent=1,
    )
