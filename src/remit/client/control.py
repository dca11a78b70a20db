"""The control plane as a registered workload asks it: by mutual TLS with its own SVID, never over `admin.sock`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from remit.client.identity import Identity
from remit.client.server import MOST_BYTES, Server
from remit.kernel.errors import Unavailable

_STREAM_SECONDS = 30.0
"""Longest silence of a stream: the other side says something every few seconds."""


class Control:
    """Posts JSON to the control plane at `server` (`https://host:8421`) as `identity`; raises its errors."""

    def __init__(self, identity: Identity, server: str, *, server_id: str = "") -> None:
        self._server = Server(identity, server, server_id=server_id)
        self._identity = identity
        parts = urlsplit(server)
        self._host, self._port = str(parts.hostname), parts.port or 443
        self._accept = server_id or f"{identity.spiffe_id.trust_domain.id}/remit/server"

    def post(self, path: str, body: Any = None) -> Any:
        """POST a JSON document; what came back."""
        try:
            return self._server.post_json(path, body or {})
        except OSError as error:
            raise _away(error) from None

    def stream(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """POST, and yield each line of the answer as it comes. A problem is raised as its error."""
        from remit.surface.problem import from_problem

        try:
            connection = self._identity.https(self._host, self._port, self._accept, timeout=_STREAM_SECONDS)
            try:
                headers = {"Content-Type": "application/json", "Accept": "application/json"}
                connection.request("POST", path, body=json.dumps(body or {}), headers=headers)
                response = connection.getresponse()
                if response.status >= 300:
                    raise from_problem(json.loads(response.read(MOST_BYTES)))
                while line := response.readline(MOST_BYTES):
                    found = json.loads(line)
                    if found.get("kind") == "error":
                        raise from_problem(found["problem"])
                    yield found
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _away(error) from None


def _away(error: Exception) -> Unavailable:
    return Unavailable(
        "client.server.away",
        f"the control plane does not answer: {type(error).__name__}",
        next_step="see that `remit up` runs and listens for workloads",
    )
