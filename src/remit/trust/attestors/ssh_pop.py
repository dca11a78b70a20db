"""The attestor `sshpop`: an OpenSSH host certificate by the operator's own CA, and proof of the host key.

    begin    the certificate is verified; a random question goes out
    finish   the host key signed the question, for this trust domain and with the caller's own nonce

Spec: OpenSSH PROTOCOL.certkeys, PROTOCOL.sshsig; the exchange is Remit's own (docs/plugins.md).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected
from remit.trust.attestors import payload as shown
from remit.trust.attestors.anchors import require_key
from remit.trust.attestors.payload import expired, malformed, unconfigured, untrusted
from remit.trust.attestors.sshsig import verify_sshsig
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge
from remit.trust.spiffe import TrustDomain

KIND = "sshpop"
NAMESPACE = "sshpop@remit"
_KEYS = {
    "ca": "the fingerprint of the CA's key, as `ssh-keygen -l` prints it: `SHA256:` and 43 characters",
    "fingerprint": "the fingerprint of the host's key, in the same form",
    "key_id": "the key identity that the CA wrote into the certificate (`ssh-keygen -I`)",
    "hostname": "a principal of the certificate: a host's name (`ssh-keygen -n`)",
    "serial": "the certificate's serial number, a decimal number greater than 0",
}
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_FORMS = {
    "ca": _FINGERPRINT,
    "fingerprint": _FINGERPRINT,
    "hostname": re.compile(r"[^\s\x00-\x1f\x7f]{1,255}"),
    "serial": re.compile(r"[1-9][0-9]{0,19}"),
}
_MAX_KEYS, _MAX_PRINCIPALS = 256, 64
_KEY_TYPES = (b"ssh-", b"ecdsa-")


class HostAuthorities:
    """The CA keys whose host certificates count.

    `lines` is a file of public keys, one a line, comments and `@cert-authority PATTERN` of known_hosts allowed.
    Raises `Misconfigured` (`trust.attestor.anchors`) when there is none, or a line is none.
    """

    def __init__(self, lines: bytes) -> None:
        rows = (line.strip() for line in lines.splitlines())
        self._keys = {_ca_key(row) for row in rows if row and not row.startswith(b"#")}
        if not 1 <= len(self._keys) <= _MAX_KEYS:
            raise unconfigured(KIND, f"its CA file holds no key, or more than {_MAX_KEYS}")

    def require(self, certificate: SSHCertificate) -> None:
        """Refuse a certificate that none of them signed."""
        key = certificate.signature_key()
        if _wire(key) not in self._keys:
            raise untrusted("its certificate is by no configured CA key")
        try:
            certificate.verify_cert_signature()
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            raise untrusted("its certificate was not signed by the CA that it names") from None
        if isinstance(key, rsa.RSAPublicKey) and not _by_sha2(certificate, key):
            raise untrusted("its certificate is signed with SHA-1")


class SshPopAttestor:
    """Believes host certificates by `authorities` whose key the caller proves to hold."""

    id = KIND
    keys: Mapping[str, str] = _KEYS

    def __init__(
        self,
        authorities: HostAuthorities,
        *,
        trust_domain: TrustDomain,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._authorities = authorities
        self._trust_domain = trust_domain
        self._random = random

    def check(self, selector: Selector) -> None:
        """Refuse a selector that no certificate could give."""
        shown.check_selector(selector, KIND, _KEYS, _FORMS)

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Challenge:
        """`payload` is `{"certificate": "ssh-…-cert-v01@openssh.com AAAA…"}`.

        Raises `Rejected` (`trust.proof.malformed`, `.expired`, `.untrusted`).
        """
        shown.only(payload, ("certificate",))
        line = shown.text(payload, "certificate")
        certificate = _read(line)
        self._authorities.require(certificate)
        _require_host(certificate)
        _require_in_time(certificate, now)
        nonce = self._random(shown.NONCE_BYTES)
        return Challenge(
            question={"nonce": b64encode(nonce).decode(), "trust_domain": self._trust_domain.name},
            state={"nonce": nonce.hex(), "certificate": line},
        )

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """`answer` is `{"own_nonce", "signature"}`: the inner signature of an SSHSIG over `payload.statement`.

        Raises `Rejected` (`trust.proof.malformed`, `.mismatch`, `.expired`).
        """
        shown.only(answer, ("own_nonce", "signature"))
        certificate = _read(shown.text(challenge.state, "certificate"))
        _require_in_time(certificate, now)
        message = shown.statement(
            KIND,
            trust_domain=self._trust_domain.name,
            nonce=bytes.fromhex(shown.text(challenge.state, "nonce")),
            own_nonce=shown.own_nonce(answer),
            subject=certificate_digest(certificate),
        )
        verify_sshsig(certificate.public_key(), shown.octets(answer, "signature"), message, namespace=NAMESPACE)
        return _evidence(certificate, now)


def certificate_digest(certificate: SSHCertificate) -> str:
    """SHA-256 of the certificate's own bytes, in hexadecimal."""
    return hashlib.sha256(_blob(certificate)).hexdigest()


def _evidence(certificate: SSHCertificate, now: datetime) -> Evidence:
    found = [
        ("ca", _fingerprint(certificate.signature_key())),
        ("fingerprint", _fingerprint(certificate.public_key())),
        ("key_id", certificate.key_id.decode(errors="replace")),
        *(("hostname", one.decode(errors="replace")) for one in certificate.valid_principals),
    ]
    if certificate.serial:
        found.append(("serial", str(certificate.serial)))
    usable = [(key, value) for key, value in found if _fits(key, value)]
    left_out = sorted({key for key, value in found if (key, value) not in usable})
    return Evidence(
        attestor=KIND,
        selectors=frozenset(Selector(KIND, key, value) for key, value in usable),
        facts={
            # The key stays when the certificate is renewed.
            "node": hashlib.sha256(_wire(certificate.public_key())).hexdigest(),
            "certificate": certificate_digest(certificate),
            "serial": str(certificate.serial),
            "expires": min(certificate.valid_before, 2**53 - 1),
        },
        unseen=tuple(f"{key}: a name that is empty, too long or not printable" for key in left_out),
        observed=now,
    )


def _fits(key: str, value: str) -> bool:
    form = _FORMS.get(key)
    return shown.selectable(value) and "�" not in value and (form is None or form.fullmatch(value) is not None)


def _read(line: str) -> SSHCertificate:
    try:
        found = load_ssh_public_identity(line.strip().encode("ascii"))
        if not isinstance(found, SSHCertificate):
            raise malformed("it is a key without a certificate")
        require_host_key(found.public_key())
        require_host_key(found.signature_key())
    except Rejected:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise malformed("its certificate is none of OpenSSH") from None
    return found


def require_host_key(key: object) -> object:
    """Refuse keys that prove nothing: DSA, short RSA, hardware keys whose touch nobody checks."""
    return key if isinstance(key, Ed25519PublicKey) else require_key(key)


def _require_host(certificate: SSHCertificate) -> None:
    if certificate.type is not SSHCertificateType.HOST:
        raise untrusted("its certificate is a user's, not a host's")
    if not 1 <= len(certificate.valid_principals) <= _MAX_PRINCIPALS:
        raise untrusted(f"its certificate is for every host, or for more than {_MAX_PRINCIPALS}")
    if certificate.critical_options:
        raise untrusted("its certificate has a critical option, and none is understood")


def _require_in_time(certificate: SSHCertificate, now: datetime) -> None:
    seconds = int(now.timestamp())
    if seconds < certificate.valid_after:
        raise expired("its certificate is not valid yet")
    if seconds >= certificate.valid_before:
        raise expired("its certificate has expired")


def _by_sha2(certificate: SSHCertificate, key: rsa.RSAPublicKey) -> bool:
    """Whether the name before the signature's own bytes is one of RFC 8332's, not `ssh-rsa`."""
    before = _blob(certificate)[: -(4 + (key.key_size + 7) // 8)]
    return before.endswith((b"rsa-sha2-256", b"rsa-sha2-512"))


def _ca_key(row: bytes) -> bytes:
    words = row.split()
    at = next((index for index, word in enumerate(words) if word.startswith(_KEY_TYPES)), None)
    try:
        if at is None:
            raise ValueError("no key")
        return _wire(require_host_key(load_ssh_public_key(b" ".join(words[at : at + 2]))))
    except (ValueError, TypeError, UnsupportedAlgorithm, Rejected):
        raise unconfigured(KIND, "a line of its CA file is no public key that is accepted") from None


def _wire(key: object) -> bytes:
    assert isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    return b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def _blob(certificate: SSHCertificate) -> bytes:
    words: Sequence[bytes] = certificate.public_bytes().split()
    return b64decode(words[1])


def _fingerprint(key: object) -> str:
    return "SHA256:" + b64encode(hashlib.sha256(_wire(key)).digest()).decode().rstrip("=")
