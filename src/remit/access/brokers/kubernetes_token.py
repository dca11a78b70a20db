"""The token of a lease on its way: the API server makes it; it rests and travels sealed by the lease's own secret."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from remit.kernel.errors import Rejected

_NONCE = 12
_MAX_CHARACTERS = 32 * 1024


def seal(token: str, secret: str, principal: str, nonce: bytes) -> str:
    """base64url of nonce and AES-256-GCM over the token; `nonce` is 12 random bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = AESGCM(_key(secret)).encrypt(nonce, token.encode(), principal.encode())
    return base64.urlsafe_b64encode(nonce + sealed).decode()


def unseal(sealed: str, secret: str, principal: str) -> str | None:
    """The token; `None` for anything that this secret did not seal for this principal."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        held = base64.b64decode(sealed.encode(), altchars=b"-_", validate=True)
        token = AESGCM(_key(secret)).decrypt(held[:_NONCE], held[_NONCE:], principal.encode())
        return token.decode()
    except (ValueError, InvalidTag):
        return None


def claims_of(token: str) -> Mapping[str, Any]:
    """What a token says, unverified: its issuer is who gave it to us. `Rejected`: `access.kubernetes.token`."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, IndexError):
        claims = None
    if not isinstance(claims, dict) or len(token) > _MAX_CHARACTERS:
        raise Rejected("access.kubernetes.token", "the API server gave something that is no token of Kubernetes")
    return claims


def bound_to(claims: Mapping[str, Any], account: str, record: str) -> bool:
    """Whether it falls with the service account and the secret of these UIDs."""
    about = claims.get("kubernetes.io")
    if not isinstance(about, Mapping):
        return False
    named = [about.get("serviceaccount"), about.get("secret")]
    return [one.get("uid") if isinstance(one, Mapping) else None for one in named] == [account, record]


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"remit kubernetes token\0" + secret.encode()).digest()
