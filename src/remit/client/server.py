"""One request to Remit's listener for agents and workloads, by mutual TLS, its answer read with bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from remit.kernel.errors import Rejected, RemitError, Unavailable

if TYPE_CHECKING:
    from remit.client.identity import MutualTls

MOST_BYTES = 256 * 1024
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"


class Server:
    """The control plane at `server` (`https://host:8421`), which must be `server_id` (`spiffe://DOMAIN/remit/server`)."""

    def __init__(self, identity: MutualTls, server: str, *, server_id: str = "") -> None:
        parts = urlsplit(server)
        if parts.scheme != "https" or not parts.hostname:
            raise Rejected(
                "client.server.invalid",
                f"`{server[:200]}` is no https address",
                next_step="e.g. https://127.0.0.1:8421",
            )
        self._identity = identity
        self._host, self._port = parts.hostname, parts.port or 443
        self._accept = server_id or f"{identity.spiffe_id.trust_domain.id}/remit/server"

    def post_form(self, path: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Post a form; the status and the JSON object that came back."""
        return self._post(path, urlencode(fields), _FORM)

    def post_json(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post JSON; the JSON object that came back, or the error that the server named."""
        status, found = self._post(path, json.dumps(dict(body)), _JSON)
        if status >= 300:
            raise _problem(status, found)
        return found

    def _post(self, path: str, body: str, kind: str) -> tuple[int, dict[str, Any]]:
        connection = self._identity.https(self._host, self._port, self._accept)
        try:
            connection.request("POST", path, body=body, headers={"Content-Type": kind, "Accept": _JSON})
            response = connection.getresponse()
            raw = response.read(MOST_BYTES)
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                "client.server.away",
                f"the control plane does not answer: {type(error).__name__}",
                next_step="see that `remit up` runs and listens for workloads",
            ) from None
        finally:
            connection.close()
        try:
            found = json.loads(raw) if raw else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable("client.server.strange", "the server's answer is not that of a control plane")
        return response.status, found


def _problem(status: int, found: Mapping[str, Any]) -> RemitError:
    """The server's own error, by its stable code (RFC 9457)."""
    from remit.surface.problem import from_problem

    if "code" in found:
        return from_problem(dict(found))
    return Unavailable("client.server.strange", f"the server answered with status {status}")
