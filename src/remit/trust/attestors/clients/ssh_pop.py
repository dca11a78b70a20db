"""Proves a machine by its SSH host certificate and host key."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_identity,
)

from remit.kernel.canonical import Json
from remit.trust.attestors.clients.questions import encoded, octets_of, read_file, trust_domain_of, unusable
from remit.trust.attestors.payload import NONCE_BYTES, statement
from remit.trust.attestors.ssh_pop import KIND, NAMESPACE, certificate_digest
from remit.trust.attestors.sshsig import sign_sshsig

_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


class SshPopProver:
    """`certificate` and `key` as sshd has them; without them, those of the machine's Ed25519 host key."""

    id = KIND

    def __init__(
        self,
        *,
        certificate: str = "",
        key: str = "",
        trust_domain: str = "",
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._key = key or _HOST_KEY
        self._certificate = certificate or f"{self._key}-cert.pub"
        self._trust_domain = trust_domain
        self._random = random

    async def payload(self, audience: str) -> Mapping[str, Json]:
        certificate = await asyncio.to_thread(self._read)
        return {"certificate": b" ".join(certificate.public_bytes().split()[:2]).decode()}

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        domain = trust_domain_of(question, self._trust_domain)
        nonce, own = octets_of(question, "nonce"), self._random(NONCE_BYTES)
        signature = await asyncio.to_thread(self._sign, domain, nonce, own)
        return {"own_nonce": encoded(own), "signature": encoded(signature)}

    def _read(self) -> SSHCertificate:
        try:
            found = load_ssh_public_identity(read_file(self._certificate, "certificate").strip())
        except (ValueError, UnsupportedAlgorithm):
            raise unusable(self._certificate, "host certificate") from None
        if not isinstance(found, SSHCertificate):
            raise unusable(self._certificate, "host certificate")
        return found

    def _sign(self, domain: str, nonce: bytes, own: bytes) -> bytes:
        message = statement(
            KIND, trust_domain=domain, nonce=nonce, own_nonce=own, subject=certificate_digest(self._read())
        )
        text = read_file(self._key, "key")
        load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else load_pem_private_key
        try:
            signature = sign_sshsig(load(text, None), message, namespace=NAMESPACE)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise unusable(self._key, "private key without a passphrase") from None
        if signature is None:
            raise unusable(self._key, "Ed25519, RSA or NIST-curve key")
        return signature
