"""GitLab: the machine identities of a group or a project, its variables' names, and its pipelines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from remit.inventory.connectors.gitlab.connector import MANIFEST, GitlabConnector
from remit.kernel.errors import Rejected
from remit.providers.gitlab.client import gitlab

__all__ = ["MANIFEST", "GitlabConnector", "make"]


def make(source: str, options: Mapping[str, str], secret: str) -> GitlabConnector:
    """A connector on `GROUP`, `GROUP/PROJECT`, or the URL of one of them."""
    endpoint = options.get("endpoint", "") or "https://gitlab.com"
    if "://" in source:
        parts = urlsplit(source)
        endpoint, source = f"{parts.scheme}://{parts.netloc}", parts.path.strip("/").removesuffix(".git")
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,99}(?:/[\w.-]{1,100}){0,20}", source):
        raise Rejected(
            "inventory.gitlab.bad-source",
            f"`{source[:100]}` is no group and no project",
            next_step="write GROUP or GROUP/PROJECT",
        )
    client = gitlab(secret, endpoint=endpoint, ca=options.get("ca", ""))
    forge = (urlsplit(endpoint).hostname or "gitlab.com").lower()
    return GitlabConnector(client, source, forge=forge, variables=options.get("variables", "names") != "none")
