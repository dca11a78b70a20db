"""SSH user certificates and the keys behind them: pure, and the same bytes for the same lease.

Spec: OpenSSH PROTOCOL.certkeys, "New public key formats".
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from remit.kernel.errors import Misconfigured

_KIND = b"ssh-ed25519"
_CERTIFICATE = b"ssh-ed25519-cert-v01@openssh.com"
_PEM = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s+-----END OPENSSH PRIVATE KEY-----")
_MAX_TEXT = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What the secret of a target holds."""

    admin: str = field(repr=False)
    """OpenSSH's form."""
    authority: Ed25519PrivateKey = field(repr=False)
    """Signs the leases of this target and nothing else."""


def read_keys(secret: str) -> Keys:
    """One or two private keys in OpenSSH's form, line ends or spaces between: the administrator's, the authority's.

    Without a second the authority is derived from the first. Raises `Misconfigured` (`access.ssh.keys`).
    """
    found = [_pem(body) for body in _PEM.findall(secret)] if len(secret) <= _MAX_TEXT else []
    try:
        keys = [load_ssh_private_key(pem.encode(), None) for pem in found]
        if len(keys) == 1:
            der = keys[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            return Keys(admin=found[0], authority=_derived(b"remit ssh user authority\0" + der))
        admin, authority = keys
        if isinstance(authority, Ed25519PrivateKey) and public_line(authority) not in (public_line(admin), ""):
            return Keys(admin=found[0], authority=authority)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    raise Misconfigured(
        "access.ssh.keys",
        "the private keys of the target cannot be read",
        next_step="give the administrator's private key in OpenSSH's form, without a passphrase, and if you like an "
        "Ed25519 key that signs leases, in one line: `tr '\\n' ' ' < KEY | remit target add … --password-stdin`",
    )


def _pem(body: str) -> str:
    text = "".join(body.split())
    lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}\n-----END OPENSSH PRIVATE KEY-----\n"


def user_key(secret: str) -> Ed25519PrivateKey:
    """The key that stands for a lease's secret: hosts see its public half and signatures."""
    return _derived(b"remit ssh user key\0" + secret.encode())


def _derived(material: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(material).digest())


def private_text(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_line(key: object) -> str:
    """`ssh-ed25519 AAAA…`; empty for what has no such form."""
    public = getattr(key, "public_key", None)
    if public is None:
        return ""
    line: str = public().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return line


def fingerprint(key: Ed25519PrivateKey) -> str:
    """`SHA256:…` of the public key, as sshd says it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(_public_blob(key)).digest()).decode().rstrip("=")


def serial_of(principal: str) -> int:
    """Never 0, which no list of revoked certificates can name; below 2⁶³."""
    return int.from_bytes(hashlib.sha256(principal.encode()).digest()[:8], "big") >> 1 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says."""

    principal: str
    """Key id and only principal: no account of that name exists, so a host admits it only through its helper."""
    after: int
    before: int
    """Unix time."""
    critical: Mapping[str, str] = field(default_factory=dict)
    extensions: Sequence[str] = ()

    def signed(self, authority: Ed25519PrivateKey, key: Ed25519PrivateKey) -> str:
        """One line in OpenSSH's form; the same for the same content, its nonce included."""
        name = self.principal.encode()
        options = [(k.encode(), _string(v.encode())) for k, v in sorted(self.critical.items())]
        rest = b"".join(
            (
                _string(_raw(key)),
                serial_of(self.principal).to_bytes(8, "big"),
                (1).to_bytes(4, "big"),
                _string(name),
                _string(_string(name)),
                self.after.to_bytes(8, "big"),
                self.before.to_bytes(8, "big"),
                _string(b"".join(_string(k) + _string(v) for k, v in options)),
                _string(b"".join(_string(one.encode()) + _string(b"") for one in sorted(self.extensions))),
                _string(b""),
                _string(_public_blob(authority)),
            )
        )
        nonce = hashlib.sha256(b"remit ssh nonce\0" + rest).digest()
        body = _string(_CERTIFICATE) + _string(nonce) + rest
        blob = body + _string(_string(_KIND) + _string(authority.sign(body)))
        return f"{_CERTIFICATE.decode()} {base64.b64encode(blob).decode()} {self.principal}"


def _public_blob(key: Ed25519PrivateKey) -> bytes:
    return _string(_KIND) + _string(_raw(key))


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
