"""OpenBao's (or Vault's) PKI engine as the upstream authority: `sign-intermediate` for a request of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.openbao.client import OpenBao

_MOUNT = re.compile(r"[A-Za-z0-9_-]{1,64}(?:/[A-Za-z0-9_-]{1,64}){0,7}")


class OpenBaoUpstream:
    """Implements `Upstream` over the PKI engine at `mount`, with its issuer `issuer` (its name or id, or `default`).

    The login needs `update` on `MOUNT/issuer/ISSUER/sign-intermediate`, `read` on `MOUNT/issuer/ISSUER/json`, no more.
    """

    id = "openbao"

    def __init__(self, client: OpenBao, *, mount: str = "pki", issuer: str = "default") -> None:
        if not _MOUNT.fullmatch(mount) or not _MOUNT.fullmatch(issuer) or "/" in issuer:
            raise Misconfigured("trust.upstream.mount", "the mount or the issuer of the PKI engine is no name of one")
        self._client = client
        self._issuer = f"{mount}/issuer/{issuer}"

    async def mint(self, request: bytes, lifetime: timedelta, now: datetime) -> tuple[bytes, ...]:
        body = {
            "csr": x509.load_der_x509_csr(request).public_bytes(Encoding.PEM).decode(),
            "use_csr_values": True,
            "max_path_length": 0,
            "ttl": f"{int(lifetime.total_seconds())}s",
            "format": "pem",
        }
        answer = await self._client.write(f"{self._issuer}/sign-intermediate", body)
        return tuple(dict.fromkeys([_der(_text(answer, "certificate")), *_chain(answer)]))

    async def roots(self, now: datetime) -> tuple[bytes, ...]:
        answer = await self._client.read(f"{self._issuer}/json")
        return (_chain(answer)[-1],)

    async def close(self) -> None:
        await self._client.close()


def _chain(answer: Mapping[str, Any]) -> list[bytes]:
    chain = answer.get("ca_chain")
    if not isinstance(chain, list) or not chain or not all(isinstance(one, str) for one in chain):
        raise _unreadable()
    return [_der(one) for one in chain]


def _text(answer: Mapping[str, Any], name: str) -> str:
    found = answer.get(name)
    if not isinstance(found, str):
        raise _unreadable()
    return found


def _der(pem: str) -> bytes:
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    except ValueError:
        raise _unreadable() from None


def _unreadable() -> Rejected:
    return Rejected(
        "trust.upstream.unfit",
        "what the upstream authority signed cannot be used: OpenBao answered no chain of certificates",
        next_step="give the PKI engine an issuer with its whole chain",
    )
