"""Who this agent is: its key and certificate, kept over a restart in a sealed file; and the bundle that it trusts.

DIR/identity   the key and chain, sealed by AES-256-GCM under DIR/keys/agent; both 0600
DIR/bundle.json the bundle of the trust domain, in the SPIFFE format, replaced as the control plane changes it
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remit.kernel.errors import Misconfigured, Rejected
from remit.trust.authority.x509 import load_private, private_bytes
from remit.trust.bundle import MAX_DOCUMENT_BYTES, Bundle, pem_certificate
from remit.trust.spiffe import TrustDomain

_CONTEXT = b"remit agent identity v1"
_NONCE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What the control plane knows this node by."""

    agent: str
    name: str
    spiffe_id: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[bytes, ...]
    """DER, leaf first."""
    authority: str
    issued: datetime
    expires: datetime
    renews: bool
    """Whether it renews by its own certificate; otherwise it attests anew."""

    @property
    def pem(self) -> bytes:
        """Key and chain, for TLS."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private + b"".join(map(pem_certificate, self.chain))

    @property
    def due(self) -> datetime:
        """When it should be renewed: half-life."""
        return self.issued + (self.expires - self.issued) / 2


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    agent: str
    name: str
    spiffe_id: str
    key: bytes
    chain: list[bytes]
    authority: str
    issued: datetime
    expires: datetime
    renews: bool


class Keep:
    """The agent's own files below its data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_identity(self) -> NodeIdentity | None:
        """The identity of before; `None` where there is none, or it cannot be opened: then the node attests anew."""
        try:
            sealed = (self._folder / "identity").read_bytes()
            plain = AESGCM(self._key(create=False)).decrypt(sealed[:_NONCE], sealed[_NONCE:], _CONTEXT)
            stored = msgspec.msgpack.decode(plain, type=_Stored)
        except (OSError, InvalidTag, ValueError, msgspec.DecodeError):
            return None
        return NodeIdentity(
            agent=stored.agent,
            name=stored.name,
            spiffe_id=stored.spiffe_id,
            key=load_private(stored.key),
            chain=tuple(stored.chain),
            authority=stored.authority,
            issued=stored.issued,
            expires=stored.expires,
            renews=stored.renews,
        )

    def save_identity(self, identity: NodeIdentity) -> None:
        """Replace the sealed file."""
        stored = _Stored(
            agent=identity.agent,
            name=identity.name,
            spiffe_id=identity.spiffe_id,
            key=private_bytes(identity.key),
            chain=list(identity.chain),
            authority=identity.authority,
            issued=identity.issued,
            expires=identity.expires,
            renews=identity.renews,
        )
        nonce = secrets.token_bytes(_NONCE)
        sealed = AESGCM(self._key(create=True)).encrypt(nonce, msgspec.msgpack.encode(stored), _CONTEXT)
        write_file(self._folder / "identity", nonce + sealed)

    def forget_identity(self) -> None:
        """Remove it: the control plane knows it no more."""
        (self._folder / "identity").unlink(missing_ok=True)

    def load_bundle(self, trust_domain: TrustDomain, given: Path | None) -> Bundle:
        """The newer of the kept bundle and the one that the operator gave: by its sequence number.

        Raises `Misconfigured` (`agent.bundle.missing`, `.unusable`).
        """
        kept = self._folder / "bundle.json"
        found = [read_bundle(path, trust_domain) for path in (kept, given) if path is not None and path.exists()]
        if not found:
            raise Misconfigured(
                "agent.bundle.missing",
                f"the bundle `{given}` does not exist" if given else "the agent has no bundle yet",
                next_step="give `--bundle FILE`: what the control plane serves at `/bundle`",
            )
        return max(found, key=lambda one: one.sequence)

    def save_bundle(self, bundle: Bundle) -> None:
        """Replace the kept bundle."""
        write_file(self._folder / "bundle.json", bundle.document())

    def _key(self, *, create: bool) -> bytes:
        path = self._folder / "keys" / "agent"
        if create and not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_file(path, secrets.token_bytes(32).hex().encode())
        return bytes.fromhex(path.read_text(encoding="ascii"))


def read_bundle(path: Path, trust_domain: TrustDomain) -> Bundle:
    """A bundle from a file: in the SPIFFE format, or the roots as PEM (then of sequence 0).

    Raises `Misconfigured` (`agent.bundle.unusable`).
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
        bundle = Bundle.parse(trust_domain, raw) if raw.lstrip()[:1] == b"{" else _of_pem(trust_domain, raw)
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from None
    except (Rejected, ValueError) as error:
        raise _unusable(path, str(error)) from None
    if not bundle.x509_roots:
        raise _unusable(path, "it has no certificate")
    return bundle


def write_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole, 0600, synced: a kill in between leaves the one before."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)


def _of_pem(trust_domain: TrustDomain, raw: bytes) -> Bundle:
    from cryptography import x509

    from remit.trust.bundle import DEFAULT_REFRESH

    roots: Sequence[bytes] = [
        one.public_bytes(serialization.Encoding.DER) for one in x509.load_pem_x509_certificates(raw)
    ]
    return Bundle(trust_domain=trust_domain, sequence=0, refresh_hint=DEFAULT_REFRESH, x509_roots=tuple(roots))


def _unusable(path: Path, why: str) -> Misconfigured:
    return Misconfigured(
        "agent.bundle.unusable",
        f"the bundle `{path}` cannot be used: {why}",
        next_step="take it anew from the control plane's `/bundle`",
    )
