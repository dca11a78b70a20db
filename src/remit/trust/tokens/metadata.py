"""What the token service says of itself, for clients and verifiers that configure themselves.

Spec: RFC 8414 §2, RFC 8705 §5 (`mtls_endpoint_aliases`), RFC 9449 §5.1, RFC 9396 §10, RFC 9728 §2; OpenID Connect
Discovery 1.0 §3; Token Status List §9.1 (`status_list_aggregation_endpoint`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.kernel.canonical import Json
from remit.trust.tokens.authenticate import ASSERTION_ALGORITHMS
from remit.trust.tokens.dpop import ALGORITHMS as DPOP_ALGORITHMS
from remit.trust.tokens.exchange import GRANT_TYPE as EXCHANGE
from remit.trust.tokens.model import Places

TOKEN, INTROSPECTION, REVOCATION = "/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"
TOKEN_KEYS, SVID_KEYS = "/oauth2/keys", "/keys"
STATUS_LISTS = "/statuslists"
_ENDPOINTS: Final[Mapping[str, str]] = {
    "token_endpoint": TOKEN,
    "introspection_endpoint": INTROSPECTION,
    "revocation_endpoint": REVOCATION,
}


def server_metadata(places: Places) -> dict[str, Json]:
    """The authorization server's metadata."""
    methods: list[Json] = [
        "private_key_jwt",
        "spiffe_jwt",
        *(["tls_client_auth", "spiffe_x509"] if places.mtls else []),
    ]
    algorithms: list[Json] = list(ASSERTION_ALGORITHMS)
    found: dict[str, Json] = {
        "issuer": places.issuer,
        **{name: places.issuer + path for name, path in _ENDPOINTS.items()},
        "jwks_uri": places.issuer + TOKEN_KEYS,
        "status_list_aggregation_endpoint": places.issuer + STATUS_LISTS,
        "grant_types_supported": ["client_credentials", EXCHANGE],
        "response_types_supported": ["none"],
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": bool(places.mtls),
    }
    for endpoint in ("token_endpoint", "introspection_endpoint", "revocation_endpoint"):
        found[f"{endpoint}_auth_methods_supported"] = methods
        found[f"{endpoint}_auth_signing_alg_values_supported"] = algorithms
    if places.mtls:
        found["mtls_endpoint_aliases"] = {name: places.mtls + path for name, path in _ENDPOINTS.items()}
    return found


def openid_configuration(places: Places) -> dict[str, Json]:
    """Where verifiers of our JWT-SVIDs find their keys. Nobody signs in here: there is no authorization endpoint."""
    return {
        "issuer": places.issuer,
        "jwks_uri": places.issuer + SVID_KEYS,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "jti"],
    }


def resource_metadata(places: Places, scopes: tuple[str, ...]) -> dict[str, Json]:
    """The token service as a resource of its own: what an access token must be to be accepted here."""
    return {
        "resource": places.issuer,
        "authorization_servers": [places.issuer],
        "jwks_uri": places.issuer + TOKEN_KEYS,
        "scopes_supported": list(scopes),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": bool(places.mtls),
    }
