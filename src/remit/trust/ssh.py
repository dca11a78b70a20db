"""SSH user certificates: an OpenSSH login by workload identity, for minutes, instead of a key in `authorized_keys`.

Spec: OpenSSH PROTOCOL.certkeys; sshd_config(5), TrustedUserCAKeys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_key,
)

from remit.kernel.errors import Rejected
from remit.trust.spiffe import SpiffeId

DEFAULT_LIFE = timedelta(minutes=5)
LONGEST_LIFE = timedelta(hours=1)
BACKDATED = timedelta(seconds=30)
MAX_PRINCIPALS = 16
MAX_KEY_BYTES = 16 * 1024
EXTENSIONS = ("permit-pty", "permit-agent-forwarding", "permit-port-forwarding")
"""What a certificate may carry; none of them unless it is asked for and decided."""
_PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshRequest:
    """What a workload asks for, checked: see `request_certificate`."""

    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    principals: tuple[str, ...]
    extensions: tuple[str, ...]
    life: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SshCertificate:
    """A signed certificate in OpenSSH's one-line form; it holds no secret."""

    text: str
    serial: int
    key_id: str
    expires: datetime


def request_certificate(
    *, public_key: str, principals: Sequence[str], extensions: Sequence[str] = (), seconds: int = 0
) -> SshRequest:
    """Check what was asked: an Ed25519, ECDSA or RSA (3,072 bits or more) key, 1 to 16 logins, at most an hour.

    Raises `Rejected`: `trust.ssh.key`, `.principals`, `.extensions`, `.life`.
    """
    wanted = tuple(dict.fromkeys(principals))
    if not 1 <= len(wanted) <= MAX_PRINCIPALS or not all(_PRINCIPAL.fullmatch(one) for one in wanted):
        raise Rejected(
            "trust.ssh.principals",
            f"a certificate names 1 to {MAX_PRINCIPALS} logins of letters, digits and `_.@-`",
            next_step="name the account to log in to, e.g. `--principal deploy`",
        )
    unknown = [one for one in extensions if one not in EXTENSIONS]
    if unknown:
        raise Rejected(
            "trust.ssh.extensions",
            f"`{unknown[0][:40]}` is no extension that we sign",
            next_step=f"use any of: {', '.join(EXTENSIONS)}",
        )
    life = timedelta(seconds=seconds) if seconds else DEFAULT_LIFE
    if not timedelta(seconds=10) <= life <= LONGEST_LIFE:
        raise Rejected("trust.ssh.life", "a certificate lives between 10 s and 1 h")
    return SshRequest(
        public=_public(public_key), principals=wanted, extensions=tuple(dict.fromkeys(extensions)), life=life
    )


class SshAuthority:
    """Signs user certificates with an Ed25519 key of the installation, made from 32 secret bytes."""

    def __init__(self, seed: bytes, *, entropy: Callable[[int], bytes]) -> None:
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self._entropy = entropy

    @property
    def public_line(self) -> str:
        """The authority's public key in OpenSSH's form: what `TrustedUserCAKeys` takes."""
        return self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def sign(self, request: SshRequest, spiffe_id: SpiffeId, *, decision: str, now: datetime) -> SshCertificate:
        """A certificate whose key id names the workload and the decision: sshd writes it to its log at each login."""
        serial = int.from_bytes(self._entropy(8), "big") or 1
        expires = (now + request.life).replace(microsecond=0)
        key_id = f"{spiffe_id} {decision}"
        builder = (
            SSHCertificateBuilder()
            .public_key(request.public)
            .serial(serial)
            .type(SSHCertificateType.USER)
            .key_id(key_id.encode())
            .valid_principals([one.encode() for one in request.principals])
            .valid_after(int((now - BACKDATED).timestamp()))
            .valid_before(int(expires.timestamp()))
        )
        for extension in sorted(request.extensions):
            builder = builder.add_extension(extension.encode(), b"")
        text = builder.sign(self._key).public_bytes().decode()
        return SshCertificate(text=text, serial=serial, key_id=key_id, expires=expires)


def _public(text: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    try:
        if len(text) > MAX_KEY_BYTES:
            raise ValueError
        found = load_ssh_public_key(text.strip().encode("ascii"))
    except (ValueError, UnicodeEncodeError, UnsupportedAlgorithm):
        found = None
    if isinstance(found, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return found
    if isinstance(found, rsa.RSAPublicKey) and found.key_size >= 3072:
        return found
    raise Rejected(
        "trust.ssh.key",
        "this is no Ed25519, ECDSA or RSA (3,072 bits or more) public key in OpenSSH's form",
        next_step="make one: `ssh-keygen -t ed25519`",
    )
