"""The attestor `x509pop`: a certificate under the operator's own CA, and proof that the caller holds its key.

    begin    the chain is verified; a random question goes out
    finish   the leaf's key signed the question, for this trust domain and with the caller's own nonce

It does not ask revocation lists: take a CA out of the file, or give short-lived certificates.
Spec: RFC 5280 §6.1; the exchange is Remit's own (docs/plugins.md).
"""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime

from cryptography import x509

from remit.kernel.canonical import Json
from remit.trust.attestors import payload as shown
from remit.trust.attestors.anchors import (
    MAX_INTERMEDIATES,
    Anchors,
    fingerprint,
    read_certificate,
    require_in_time,
    require_key,
)
from remit.trust.attestors.signatures import verify_signature
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge
from remit.trust.spiffe import TrustDomain

KIND = "x509pop"
_KEYS = {
    "ca": "the SHA-256 of a CA certificate on the path, 64 lower-case hexadecimal digits",
    "fingerprint": "the SHA-256 of the certificate itself, 64 lower-case hexadecimal digits",
    "serial": "its serial number, in lower-case hexadecimal",
    "cn": "the common name of its subject",
    "san_dns": "a DNS name among its alternative names, in lower case",
    "san_uri": "a URI among its alternative names",
}
_FORMS = {
    "ca": shown.DIGEST,
    "fingerprint": shown.DIGEST,
    "serial": re.compile(r"[1-9a-f][0-9a-f]{0,39}"),
    "san_dns": re.compile(r"[^\s\x00-\x1f\x7fA-Z]{1,253}"),
    "san_uri": re.compile(r"[a-z][a-z0-9+.-]{0,31}:[^\s\x00-\x1f\x7f]{1,1024}"),
}
_MAX_NAMES = 64


class X509PopAttestor:
    """Believes certificates under `anchors` whose key the caller proves to hold."""

    id = KIND
    keys: Mapping[str, str] = _KEYS

    def __init__(
        self, anchors: Anchors, *, trust_domain: TrustDomain, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._anchors = anchors
        self._trust_domain = trust_domain
        self._random = random

    def check(self, selector: Selector) -> None:
        """Refuse a selector that no certificate could give."""
        shown.check_selector(selector, KIND, _KEYS, _FORMS)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Challenge:
        """`payload` is `{"chain": [base64 DER…]}`, leaf first, at most 8.

        Raises `Rejected` (`trust.proof.malformed`, `.expired`, `.untrusted`).
        """
        shown.only(payload, ("chain",))
        leaf, *others = shown.several_octets(payload, "chain", most=1 + MAX_INTERMEDIATES)
        path = self._anchors.path(leaf, others, now)
        nonce = self._random(shown.NONCE_BYTES).hex()
        return Challenge(
            question={"nonce": b64encode(bytes.fromhex(nonce)).decode(), "trust_domain": self._trust_domain.name},
            state={
                "nonce": nonce,
                "leaf": b64encode(leaf).decode(),
                "cas": [fingerprint(one) for one in path[1:]],
            },
        )

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """`answer` is `{"own_nonce", "algorithm", "signature"}`: the signature is over `payload.statement`.

        Raises `Rejected` (`trust.proof.malformed`, `.mismatch`, `.expired`).
        """
        shown.only(answer, ("own_nonce", "algorithm", "signature"))
        leaf = read_certificate(shown.octets(challenge.state, "leaf"))
        require_in_time(leaf, now)
        message = shown.statement(
            KIND,
            trust_domain=self._trust_domain.name,
            nonce=bytes.fromhex(shown.text(challenge.state, "nonce")),
            own_nonce=shown.own_nonce(answer),
            subject=fingerprint(leaf),
        )
        key = require_key(leaf.public_key())
        verify_signature(key, shown.text(answer, "algorithm", most=64), shown.octets(answer, "signature"), message)
        cas = challenge.state["cas"]
        assert isinstance(cas, list | tuple)
        return _evidence(leaf, [str(one) for one in cas], now)


def _evidence(leaf: x509.Certificate, cas: list[str], now: datetime) -> Evidence:
    names, unseen = _names(leaf)
    serial = f"{leaf.serial_number:x}" if leaf.serial_number > 0 else ""
    found = [("fingerprint", fingerprint(leaf)), *(("ca", one) for one in cas), *names]
    if serial:
        found.append(("serial", serial))
    return Evidence(
        attestor=KIND,
        selectors=frozenset(Selector(KIND, key, value) for key, value in found),
        facts={
            "node": fingerprint(leaf),
            "certificate": fingerprint(leaf),
            "subject": leaf.subject.rfc4514_string()[:1024],
            "serial": serial,
            "expires": int(leaf.not_valid_after_utc.timestamp()),
        },
        unseen=tuple(unseen),
        observed=now,
    )


def _names(leaf: x509.Certificate) -> tuple[list[tuple[str, str]], list[str]]:
    """The names that can be selectors, and a sentence on each kind that had others."""
    subject = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    found = [("cn", one.value) for one in subject if isinstance(one.value, str)]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found += [("san_dns", one.lower()) for one in names.get_values_for_type(x509.DNSName)]
        found += [("san_uri", one) for one in names.get_values_for_type(x509.UniformResourceIdentifier)]
    except x509.ExtensionNotFound:
        pass
    usable = [(key, value) for key, value in found if _fits(key, value)][:_MAX_NAMES]
    left_out = sorted({key for key, value in found if (key, value) not in usable})
    return usable, [f"{key}: a name that is empty, too long, not printable, or one too many" for key in left_out]


def _fits(key: str, value: str) -> bool:
    form = _FORMS.get(key)
    return shown.selectable(value) and (form is None or form.fullmatch(value) is not None)
