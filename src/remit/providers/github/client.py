"""GitHub and GitHub Enterprise Server: the address of the API, and the headers that it wants.

Spec: GitHub REST API, version 2022-11-28.
"""

from __future__ import annotations

from typing import Any

from remit.providers.forge import ForgeClient

PUBLIC = "https://api.github.com"


def github(token: str, *, endpoint: str = "", ca: str = "", **more: Any) -> ForgeClient:
    """A client of github.com, or of the server whose API is at `endpoint` (`https://HOST/api/v3`)."""
    headers = {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "remit",
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    return ForgeClient(endpoint or PUBLIC, headers, ca=ca, **more)
