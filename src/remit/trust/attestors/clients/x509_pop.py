"""Proves a machine by its certificate and the key to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from remit.kernel.canonical import Json
from remit.trust.attestors.anchors import fingerprint
from remit.trust.attestors.clients.questions import encoded, octets_of, read_file, trust_domain_of, unusable
from remit.trust.attestors.payload import NONCE_BYTES, statement
from remit.trust.attestors.signatures import sign
from remit.trust.attestors.x509_pop import KIND


class X509PopProver:
    """`certificate` is a PEM file, leaf first; `key` a PEM file without passphrase. Both are read at each use."""

    id = KIND

    def __init__(
        self,
        *,
        certificate: str = "",
        key: str = "",
        trust_domain: str = "",
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._certificate, self._key = certificate, key
        self._trust_domain = trust_domain
        self._random = random

    async def payload(self, audience: str) -> Mapping[str, Json]:
        chain = await asyncio.to_thread(self._chain)
        return {"chain": [encoded(one.public_bytes(serialization.Encoding.DER)) for one in chain]}

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        domain = trust_domain_of(question, self._trust_domain)
        nonce, own = octets_of(question, "nonce"), self._random(NONCE_BYTES)
        algorithm, signature = await asyncio.to_thread(self._sign, domain, nonce, own)
        return {"own_nonce": encoded(own), "algorithm": algorithm, "signature": encoded(signature)}

    def _chain(self) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(read_file(self._certificate, "certificate"))
        except ValueError:
            raise unusable(self._certificate, "certificate") from None

    def _sign(self, domain: str, nonce: bytes, own: bytes) -> tuple[str, bytes]:
        message = statement(
            KIND, trust_domain=domain, nonce=nonce, own_nonce=own, subject=fingerprint(self._chain()[0])
        )
        try:
            key = serialization.load_pem_private_key(read_file(self._key, "key"), password=None)
        except (ValueError, TypeError):
            raise unusable(self._key, "private key without a passphrase") from None
        signed = sign(key, message)
        if signed is None:
            raise unusable(self._key, "RSA or NIST-curve key")
        return signed
