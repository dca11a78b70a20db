"""The attestor `tpm`: this very TPM, by its maker's certificate or by name, and what the machine measured into it.

    begin    the endorsement key is vouched for; a secret goes out that only this TPM can open, and only if the
             attestation key lives in it (TPM2_MakeCredential)
    finish   the secret came back, and the attestation key quoted the registers over a digest of it and the question

Spec: TPM 2.0 Library Part 1 §24, §33.4; TCG EK Credential Profile 2.5 §3.2; TCG PC Client Platform §3.3.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from remit.kernel.canonical import Json
from remit.trust.attestors import payload as shown
from remit.trust.attestors.anchors import MAX_INTERMEDIATES, Anchors, fingerprint, spki
from remit.trust.attestors.payload import malformed, mismatch, unconfigured, untrusted
from remit.trust.attestors.tpm_credential import make_credential
from remit.trust.attestors.tpm_structures import (
    BORN_HERE,
    ECDSA,
    RSAPSS,
    RSASSA,
    Attribute,
    Public,
    Quote,
    Signature,
    parse_public,
    parse_quote,
    parse_signature,
)
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge
from remit.trust.spiffe import TrustDomain

KIND = "tpm"
MAX_PCRS = 24
_REGISTERS = re.compile(r"(sha256|sha384|sha512):((?:[0-9]|1[0-9]|2[0-3])(?:,(?:[0-9]|1[0-9]|2[0-3]))*)")
_ALLOWED = re.compile(r"([0-9]|1[0-9]|2[0-3])=((?:[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}))")
_KEYS = {
    "ek_sha256": "the SHA-256 of the endorsement key's SubjectPublicKeyInfo, 64 lower-case hexadecimal digits",
    "ca": "the SHA-256 of a certificate above the endorsement key's, 64 lower-case hexadecimal digits",
    "pcr_digest": "`BANK:N,N,…:HEX`: the digest that was quoted over these registers, numbers rising",
    "pcr": "`BANK:N:HEX`: the value of one register that was quoted",
}
_FORMS = {
    "ek_sha256": shown.DIGEST,
    "ca": shown.DIGEST,
    "pcr_digest": re.compile(_REGISTERS.pattern + r":[0-9a-f]{64,128}"),
    "pcr": re.compile(r"(sha256|sha384|sha512):([0-9]|1[0-9]|2[0-3]):[0-9a-f]{64,128}"),
}
_HASH_TYPES: Mapping[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512
}  # fmt: skip
_PARTS = ("ek_certificate", "ek_chain", "ek", "ak")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """Which platform configuration registers are quoted, and what they may hold."""

    bank: str = "sha256"
    numbers: tuple[int, ...] = (0, 1, 2, 3, 4, 7)
    """Rising."""
    allowed: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Values in hexadecimal; a register without an entry may hold anything."""

    @classmethod
    def parse(cls, selection: str, allowed: Collection[str] = ()) -> Registers:
        """Read `sha256:0,7` and, for each value that is allowed, `7=HEX`.

        Raises `Misconfigured` (`trust.attestor.anchors`).
        """
        found = _REGISTERS.fullmatch(selection)
        rules = [_ALLOWED.fullmatch(one) for one in allowed]
        if found is None or None in rules:
            raise unconfigured(KIND, "registers are written as `sha256:0,7`, and values as `7=HEX`")
        numbers = tuple(sorted({int(one) for one in found[2].split(",")}))
        values: dict[int, frozenset[str]] = {}
        for rule in rules:
            assert rule is not None
            values[int(rule[1])] = values.get(int(rule[1]), frozenset()) | {rule[2]}
        if not set(values) <= set(numbers):
            raise unconfigured(KIND, "a value is demanded of a register that is not quoted")
        return cls(bank=found[1], numbers=numbers, allowed=values)

    def __str__(self) -> str:
        return f"{self.bank}:{','.join(map(str, self.numbers))}"


class TpmAttestor:
    """Believes endorsement keys under `anchors`, and those whose digest is in `endorsement_keys`.

    `endorsement_keys` holds SHA-256 digests of SubjectPublicKeyInfos, in hexadecimal.
    Raises `Misconfigured` (`trust.attestor.anchors`) when there is neither.
    """

    id = KIND
    keys: Mapping[str, str] = _KEYS

    def __init__(
        self,
        *,
        trust_domain: TrustDomain,
        anchors: Anchors | None = None,
        endorsement_keys: Collection[str] = (),
        registers: Registers | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if (anchors is None and not endorsement_keys) or not all(map(shown.DIGEST.fullmatch, endorsement_keys)):
            raise unconfigured(KIND, "it needs makers' CA certificates, or SHA-256 digests of endorsement keys")
        self._trust_domain = trust_domain
        self._anchors = anchors
        self._endorsement_keys = frozenset(endorsement_keys)
        self._registers = registers or Registers()
        self._random = random

    def check(self, selector: Selector) -> None:
        """Refuse a selector that no TPM could give."""
        shown.check_selector(selector, KIND, _KEYS, _FORMS)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Challenge:
        """`payload` is `{"ek", "ak", "ek_certificate"?, "ek_chain"?}`: TPM2B_PUBLICs and DER certificates, base64.

        Raises `Rejected` (`trust.proof.malformed`, `.untrusted`, `.expired`).
        """
        shown.only(payload, _PARTS)
        endorsement = _require_endorsement_key(parse_public(shown.octets(payload, "ek")))
        attestation = _require_attestation_key(parse_public(shown.octets(payload, "ak")))
        ek_sha256 = hashlib.sha256(spki(endorsement.key)).hexdigest()
        cas = self._vouch(payload, endorsement, ek_sha256, now)
        nonce, secret = self._random(shown.NONCE_BYTES), self._random(shown.NONCE_BYTES)
        credential = make_credential(endorsement, attestation.name, secret, random=self._random)
        return Challenge(
            question={
                "credential": b64encode(credential.blob).decode(),
                "secret": b64encode(credential.secret).decode(),
                "nonce": b64encode(nonce).decode(),
                "trust_domain": self._trust_domain.name,
                "pcrs": str(self._registers),
            },
            state={
                "qualifier": qualifier(self._trust_domain.name, nonce, secret).hex(),
                "secret": secret.hex(),
                "ak": shown.text(payload, "ak"),
                "ek_sha256": ek_sha256,
                "cas": list(cas),
            },
        )

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """`answer` is `{"secret", "quote", "signature", "pcrs"}`: TPMS_ATTEST, TPMT_SIGNATURE, and the values in order.

        Raises `Rejected` (`trust.proof.malformed`, `.mismatch`, `.untrusted`).
        """
        shown.only(answer, ("secret", "quote", "signature", "pcrs"))
        state = challenge.state
        secret = shown.octets(answer, "secret", most=64)
        if not hmac.compare_digest(secret, bytes.fromhex(shown.text(state, "secret"))):
            raise mismatch("the secret is not the one that was sent to this TPM")
        attested = shown.octets(answer, "quote")
        attestation = parse_public(shown.octets(state, "ak"))
        signature = parse_signature(shown.octets(answer, "signature"))
        _verify(attestation, signature, attested)
        quote = parse_quote(attested)
        if not hmac.compare_digest(quote.extra_data, bytes.fromhex(shown.text(state, "qualifier"))):
            raise mismatch("the quote answers another question")
        values = self._measured(quote, signature.hash, shown.several_octets(answer, "pcrs", most=MAX_PCRS))
        return self._evidence(state, quote, values, now)

    def _vouch(
        self, payload: Mapping[str, Json], endorsement: Public, ek_sha256: str, now: datetime
    ) -> tuple[str, ...]:
        """The fingerprints of the certificates above the endorsement key's; none for one that is on the list."""
        if self._anchors is not None and "ek_certificate" in payload:
            leaf = shown.octets(payload, "ek_certificate")
            others = shown.several_octets(payload, "ek_chain", least=0, most=MAX_INTERMEDIATES)
            path = self._anchors.path(leaf, others, now)
            _require_endorsement_certificate(path[0], endorsement)
            return tuple(fingerprint(one) for one in path[1:])
        if ek_sha256 in self._endorsement_keys:
            return ()
        raise untrusted("its endorsement key is not on the list, and has no certificate that could be asked")

    def _measured(self, quote: Quote, digest: str, values: list[bytes]) -> dict[int, str]:
        """The registers that were quoted, when they are the ones that were asked for and are allowed."""
        wanted = self._registers
        if (quote.bank, quote.pcrs) != (wanted.bank, wanted.numbers):
            raise mismatch(f"the quote is over other registers than `{wanted}`")
        size = hashlib.new(wanted.bank).digest_size
        if len(values) != len(wanted.numbers) or any(len(value) != size for value in values):
            raise malformed("`pcrs` does not hold one value for each register")
        if not hmac.compare_digest(hashlib.new(digest, b"".join(values)).digest(), quote.digest):
            raise mismatch("the values of the registers are not those that were quoted")
        found = {number: value.hex() for number, value in zip(wanted.numbers, values, strict=True)}
        for number, allowed in wanted.allowed.items():
            if found[number] not in allowed:
                raise untrusted(f"register {number} holds a value that is not allowed")
        return found

    def _evidence(self, state: Mapping[str, Json], quote: Quote, values: Mapping[int, str], now: datetime) -> Evidence:
        ek_sha256, cas = shown.text(state, "ek_sha256"), state["cas"]
        assert isinstance(cas, list | tuple)
        found = [("ek_sha256", ek_sha256), *(("ca", str(one)) for one in cas)]
        found.append(("pcr_digest", f"{self._registers}:{quote.digest.hex()}"))
        found += [("pcr", f"{quote.bank}:{number}:{value}") for number, value in values.items()]
        return Evidence(
            attestor=KIND,
            selectors=frozenset(Selector(KIND, key, value) for key, value in found),
            facts={
                # The same machine, whatever it has measured this time.
                "node": ek_sha256,
                "ek_sha256": ek_sha256,
                "firmware": f"{quote.firmware:016x}",
                "resets": quote.reset_count,
                "restarts": quote.restart_count,
            },
            observed=now,
        )


def qualifier(trust_domain: str, nonce: bytes, secret: bytes) -> bytes:
    """What the attestation key quotes over: the question, the trust domain and the secret that only its TPM opened."""
    return hashlib.sha256(b"remit tpm proof v1\0" + trust_domain.encode() + b"\0" + nonce + secret).digest()


def _require_endorsement_key(public: Public) -> Public:
    needed = BORN_HERE | Attribute.DECRYPT
    if public.attributes & (needed | Attribute.SIGN) != needed or not public.symmetric_bits or public.scheme:
        raise untrusted("its endorsement key is no restricted decryption key of one TPM")
    return public


def _require_attestation_key(public: Public) -> Public:
    """A restricted signing key signs what looks like a quote only if the TPM made it."""
    needed = BORN_HERE | Attribute.SIGN
    if public.attributes & (needed | Attribute.DECRYPT) != needed or public.symmetric_bits or not public.scheme:
        raise untrusted("its attestation key is no restricted signing key of one TPM")
    return public


def _require_endorsement_certificate(certificate: x509.Certificate, endorsement: Public) -> None:
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    if spki(key) != spki(endorsement.key):
        raise mismatch("the certificate is of another endorsement key")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if x509.ObjectIdentifier("2.23.133.8.1") not in usage:
        raise untrusted("its certificate is not for an endorsement key")


def _verify(attestation: Public, signature: Signature, attested: bytes) -> None:
    """Check the signature by the scheme and digest that the key itself is bound to."""
    if (signature.scheme, signature.hash) != (attestation.scheme, attestation.scheme_hash):
        raise mismatch("the quote is signed by another scheme than the attestation key's")
    digest, key = _HASH_TYPES[signature.hash](), attestation.key
    try:
        if isinstance(key, rsa.RSAPublicKey) and signature.scheme == RSASSA:
            key.verify(signature.raw, attested, padding.PKCS1v15(), digest)
        elif isinstance(key, rsa.RSAPublicKey) and signature.scheme == RSAPSS:
            pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.AUTO)
            key.verify(signature.raw, attested, pss, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and signature.scheme == ECDSA:
            key.verify(encode_dss_signature(signature.r, signature.s), attested, ec.ECDSA(digest))
        else:
            raise malformed("the attestation key does not sign by its own scheme")
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise mismatch("the quote was not signed by the attestation key") from None
