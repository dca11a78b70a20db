"""GitLab: the address of the API, and the header that it wants.

Spec: GitLab Docs, "REST API", version 4.
"""

from __future__ import annotations

from typing import Any

from remit.providers.forge import ForgeClient


def gitlab(token: str, *, endpoint: str, ca: str = "", **more: Any) -> ForgeClient:
    """A client of the server at `endpoint` (`https://gitlab.com`); the path of the API is added."""
    headers = {"User-Agent": "remit", **({"PRIVATE-TOKEN": token} if token else {})}
    return ForgeClient(f"{endpoint.rstrip('/')}/api/v4", headers, ca=ca, **more)
