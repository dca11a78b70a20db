"""The attestor `aws_iid`: an EC2 instance, by its identity document, which AWS signs with a key of the region.

The document holds no nonce: whoever reads it once can show it. So an instance's document counts once, unless the
operator says otherwise, and the first who shows it is taken for the instance; `aws_sts` has no such weakness.
Spec: EC2 User Guide, "Instance identity documents" (RSA-2048 signature, base64-encoded signature).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.kernel.strict import NotStrict, read_object
from remit.trust.attestors import payload as shown
from remit.trust.attestors.anchors import require_in_time, require_key
from remit.trust.attestors.cms import parse_signed_data, verify_signed_data
from remit.trust.attestors.payload import expired, malformed, mismatch, unconfigured, untrusted
from remit.trust.model import Evidence, Selector

KIND = "aws_iid"
MAX_DOCUMENT_BYTES = 8 * 1024
SKEW = timedelta(minutes=5)
_KEPT = timedelta(days=3650)
_KEYS = {
    "account": "the number of the account, 12 digits",
    "region": "the region, for example `eu-central-1`",
    "az": "the availability zone, for example `eu-central-1a`",
    "instance_id": "the instance's id, `i-…`",
    "image_id": "the image that it was launched from, `ami-…`",
    "instance_type": "its type, for example `m7g.large`",
}
_FORMS = {
    "account": re.compile(r"[0-9]{12}"),
    "region": re.compile(r"[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}"),
    "az": re.compile(r"[a-z]{2,5}(-[a-z0-9]+)+-[0-9a-z]{1,16}"),
    "instance_id": re.compile(r"i-[0-9a-f]{8,17}"),
    "image_id": re.compile(r"ami-[0-9a-f]{8,17}"),
    "instance_type": re.compile(r"[a-z0-9-]{1,32}\.[a-z0-9-]{1,32}"),
}
_MEMBERS = {
    "account": "accountId",
    "region": "region",
    "az": "availabilityZone",
    "instance_id": "instanceId",
    "image_id": "imageId",
    "instance_type": "instanceType",
}


class AwsIidAttestor:
    """Believes each certificate of `regions` (PEM, by region) about that region's instances.

    `accounts` bounds whose instances count; `max_age` how long ago they were launched.
    With `reusable` a document counts as often as it is shown. Raises `Misconfigured` (`trust.attestor.anchors`).
    """

    id = KIND
    keys: Mapping[str, str] = _KEYS

    def __init__(
        self,
        regions: Mapping[str, bytes],
        *,
        accounts: Collection[str],
        max_age: timedelta | None = None,
        reusable: bool = False,
    ) -> None:
        if not regions or not all(map(_FORMS["region"].fullmatch, regions)):
            raise unconfigured(KIND, "it needs a certificate for each region, by the region's name")
        if not accounts or not all(map(_FORMS["account"].fullmatch, accounts)):
            raise unconfigured(KIND, "it needs accounts, numbers of 12 digits")
        self._certificates = {region: _certificate(pem) for region, pem in regions.items()}
        self._accounts = frozenset(accounts)
        self._max_age = max_age
        self._reusable = reusable

    def check(self, selector: Selector) -> None:
        """Refuse a selector that no document could give."""
        shown.check_selector(selector, KIND, _KEYS, _FORMS)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence:
        """`payload` is `{"rsa2048"}`, the PKCS #7 message in base64, or `{"document", "signature"}`.

        Raises `Rejected` (`trust.proof.malformed`, `.untrusted`, `.mismatch`, `.expired`).
        """
        found = self._verified(payload, now)
        values = _values(found)
        if values["account"] not in self._accounts:
            raise untrusted(f"the account `{values['account']}` is not allowed")
        launched = _launched(found)
        if launched > now + SKEW or (self._max_age is not None and now - launched > self._max_age):
            raise expired("the instance was launched too long ago, or is yet to be")
        node = f"{values['account']}.{values['region']}.{values['instance_id']}"
        facts: dict[str, Json] = {"node": node, **values, "launched": int(launched.timestamp())}
        if not self._reusable:
            facts["proof"] = f"{values['account']}/{values['instance_id']}"
            facts["proof_expires"] = int((launched + _KEPT).timestamp())
        return Evidence(
            attestor=KIND,
            selectors=frozenset(Selector(KIND, key, value) for key, value in values.items() if value),
            facts=facts,
            observed=now,
        )

    async def finish(self, challenge: object, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """A document says everything at once: there is nothing to answer."""
        raise malformed("an instance identity document answers no question")

    def _verified(self, payload: Mapping[str, Json], now: datetime) -> Mapping[str, Json]:
        """The document, signed by the key of the very region that it names."""
        if "rsa2048" in payload:
            shown.only(payload, ("rsa2048",))
            message = parse_signed_data(shown.octets({"rsa2048": _joined(payload, "rsa2048")}, "rsa2048"))
            verify_signed_data(message, self._key(_document(message.content), now))
            return _document(message.content)
        shown.only(payload, ("document", "signature"))
        text = shown.text(payload, "document", most=MAX_DOCUMENT_BYTES).encode(errors="replace")
        signature = shown.octets({"signature": _joined(payload, "signature")}, "signature", most=1024)
        try:
            self._key(_document(text), now).verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            raise mismatch("the document was not signed by the key of its region") from None
        return _document(text)

    def _key(self, document: Mapping[str, Json], now: datetime) -> rsa.RSAPublicKey:
        region = document.get("region")
        certificate = self._certificates.get(region) if isinstance(region, str) else None
        if certificate is None:
            raise untrusted("no certificate is configured for the document's region")
        require_in_time(certificate, now)
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        return key


def _document(text: bytes) -> Mapping[str, Json]:
    try:
        return read_object(text, max_bytes=MAX_DOCUMENT_BYTES)
    except NotStrict as why:
        raise malformed(f"the document is {why}") from None


def _values(document: Mapping[str, Json]) -> dict[str, str]:
    """What becomes selectors; account, region and instance must be there."""
    found = {}
    for key, member in _MEMBERS.items():
        value = document.get(member)
        fits = isinstance(value, str) and _FORMS[key].fullmatch(value) is not None
        if not fits and key in ("account", "region", "instance_id"):
            raise malformed(f"the document has no `{member}`")
        found[key] = str(value) if fits else ""
    return found


def _launched(document: Mapping[str, Json]) -> datetime:
    try:
        return datetime.strptime(str(document.get("pendingTime")), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise malformed("the document has no `pendingTime`") from None


def _joined(payload: Mapping[str, Json], name: str) -> str:
    """Base64 as the metadata service breaks it into lines."""
    return shown.text(payload, name, most=2 * shown.MAX_VALUE_BYTES).replace("\n", "").replace("\r", "")


def _certificate(pem: bytes) -> x509.Certificate:
    why = "a region's certificate is none, or its key is no RSA key of at least 2,048 bits"
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = require_key(certificate.public_key())
    except (ValueError, Rejected):
        raise unconfigured(KIND, why) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise unconfigured(KIND, why)
    return certificate
