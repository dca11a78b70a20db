"""Tokens for one task: an SVID, or another's token, exchanged at Remit's token service.

Spec: RFC 6749 §4.4, §5; RFC 8693 §2; RFC 8707 §2; RFC 9396 §2; RFC 8705 §2; RFC 7662, RFC 7009.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from remit.client.server import Server
from remit.kernel.errors import Denied, Rejected, Unavailable

if TYPE_CHECKING:
    from remit.client.identity import MutualTls

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TRANSACTION_TOKEN = "urn:ietf:params:oauth:token-type:txn_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, and what it is good for."""

    value: str = field(repr=False)
    kind: str
    """`Bearer`, `DPoP` or `N_A` (a transaction token)."""
    scope: str
    expires: datetime

    @property
    def header(self) -> str:
        """The value of an `Authorization` header."""
        return f"{self.kind} {self.value}"


class TokenClient:
    """Asks the token service behind `server` (`https://host:8421`, by mutual TLS with `identity`'s SVID).

    The tokens that it gets are bound to that SVID's certificate (RFC 8705): stolen, they are of no use.
    """

    def __init__(self, identity: MutualTls, server: str, *, server_id: str = "") -> None:
        self._server = Server(identity, server, server_id=server_id)

    def fetch(
        self,
        resource: str,
        *,
        scope: Sequence[str] = (),
        details: Sequence[Mapping[str, Any]] = (),
        grant: str = "",
    ) -> Token:
        """A token for our own use of `resource`: what the grant allows, whatever is asked. `Denied`, `Unavailable`."""
        return self._token({"grant_type": "client_credentials"}, resource, scope, details, grant)

    def exchange(
        self,
        resource: str,
        *,
        subject_token: str,
        subject_type: str = ACCESS_TOKEN,
        scope: Sequence[str] = (),
        details: Sequence[Mapping[str, Any]] = (),
        wanted: str = ACCESS_TOKEN,
        grant: str = "",
    ) -> Token:
        """A token for `resource` on behalf of whom `subject_token` names, never wider than it. `Denied`."""
        fields = {
            "grant_type": EXCHANGE,
            "subject_token": subject_token,
            "subject_token_type": subject_type,
            "requested_token_type": wanted,
        }
        return self._token(fields, resource, scope, details, grant)

    def introspect(self, token: str) -> dict[str, Any]:
        """What the service says of a token that somebody showed us (RFC 7662): at least `active`."""
        return self._post("/oauth2/introspect", {"token": token})

    def revoke(self, token: str) -> None:
        """Give a token of ours back before its expiry (RFC 7009)."""
        self._post("/oauth2/revoke", {"token": token})

    def _token(
        self,
        fields: dict[str, str],
        resource: str,
        scope: Sequence[str],
        details: Sequence[Mapping[str, Any]],
        grant: str,
    ) -> Token:
        asked = {**fields, "resource": resource, "scope": " ".join(scope), "grant": grant}
        if details:
            asked["authorization_details"] = json.dumps([dict(one) for one in details])
        now = datetime.now(UTC)
        found = self._post("/oauth2/token", {name: value for name, value in asked.items() if value})
        try:
            return Token(
                value=str(found["access_token"]),
                kind=str(found["token_type"]),
                scope=str(found.get("scope", "")),
                expires=_end(found, now),
            )
        except (KeyError, ValueError, TypeError, IndexError):
            raise _unusable() from None

    def _post(self, path: str, fields: Mapping[str, str]) -> dict[str, Any]:
        return _document(*self._server.post_form(path, fields))


def _end(found: Mapping[str, Any], now: datetime) -> datetime:
    """When the token ends: the answer says it, but of a transaction token, which says it itself."""
    if "expires_in" in found:
        return now + timedelta(seconds=int(found["expires_in"]))
    part = str(found["access_token"]).split(".")[1]
    claims = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return datetime.fromtimestamp(int(claims["exp"]), UTC)


def _document(status: int, found: dict[str, Any]) -> dict[str, Any]:
    if status < 300:
        return found
    text = str(found.get("error_description") or found.get("title") or found.get("error") or f"status {status}")[:500]
    if status >= 500:
        raise Unavailable("client.server.away", text)
    if (
        found.get("error") in ("access_denied", "invalid_grant", "invalid_scope", "unauthorized_client")
        or status == 403
    ):
        raise Denied(
            "client.token.denied", text, next_step="`remit decisions` shows why; a policy or a grant must allow it"
        )
    raise Rejected("client.token.refused", text, next_step=str(found.get("next_step", ""))[:500])


def _unusable() -> Unavailable:
    return Unavailable("client.server.strange", "the server's answer is not that of a token service")
