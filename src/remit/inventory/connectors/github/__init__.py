"""GitHub: the machine identities of an organisation or a repository, its secrets' names, and its workflows.

connector   the four beats: what is asked, in which order, and what was refused
facts       one answer of the API → facts
workflows   a workflow → its pipeline, and what it may prove to clouds
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from remit.inventory.connectors.github.connector import MANIFEST, GithubConnector
from remit.kernel.errors import Rejected
from remit.providers.github.client import github

__all__ = ["MANIFEST", "GithubConnector", "make"]


def make(source: str, options: Mapping[str, str], secret: str) -> GithubConnector:
    """A connector on `ORG`, `ORG/REPO`, or the URL of one of them; `Rejected` for anything else."""
    endpoint, forge = options.get("endpoint", ""), "github.com"
    if "://" in source:
        parts = urlsplit(source)
        forge, source = (parts.hostname or ""), parts.path.strip("/").removesuffix(".git")
        if forge not in ("github.com", "api.github.com") and not endpoint:
            endpoint = f"https://{forge}/api/v3"
    elif endpoint:
        forge = urlsplit(endpoint).hostname or ""
    forge = options.get("forge", "") or ("github.com" if forge == "api.github.com" else forge)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}(?:/[\w.-]{1,100})?", source):
        raise Rejected(
            "inventory.github.bad-source",
            f"`{source[:100]}` is no organisation and no repository",
            next_step="write ORG or ORG/REPO",
        )
    bots = tuple(each.strip().lower() for each in options.get("machine-users", "").split(",") if each.strip())
    client = github(secret, endpoint=endpoint, ca=options.get("ca", ""))
    return GithubConnector(client, source, forge=forge.lower(), machine_users=bots)
