"""An X.509-SVID that lies in files: who holds its key speaks as it, and may have tokens bound to it.

`remit x509 write --dir DIR` keeps such a directory; a program that cannot speak to an agent reads it. A token that is
bound to its certificate (RFC 8705) is of use to whoever reads the same files, until they are written anew.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from remit.client.identity import MutualTls
from remit.client.workload import X509Context, X509Identity
from remit.kernel.errors import Misconfigured, RemitError
from remit.trust.validate import identity_of

_MOST_BYTES = 256 * 1024
_TRIES = 5
"""The directory may be turned to newer files between two reads; these are then gone."""


class FolderIdentity(MutualTls):
    """The X.509-SVID in `folder` (`svid.pem`, `key.pem`, `bundle.pem`), read anew whenever it is used.

    With `spiffe_id` it connects as that one, or not at all.
    """

    def __init__(self, folder: Path, *, spiffe_id: str = "") -> None:
        super().__init__(spiffe_id)
        self._folder = folder

    @property
    def x509(self) -> X509Context:
        """What the files hold now, all three of one moment.

        Raises `Misconfigured` (`client.files.missing`, `.exposed`, `.broken`, `.expired`).
        """
        for _ in range(_TRIES):
            try:
                # One resolved directory: the three files are of one moment.
                folder = (self._folder / "svid.pem").resolve(strict=True).parent
                texts = [_read(folder / name) for name in ("svid.pem", "key.pem", "bundle.pem")]
            except FileNotFoundError:
                continue
            return self._held(*texts)
        raise self._wrong("client.files.missing", "has no svid.pem, key.pem and bundle.pem")

    def _held(self, chain: bytes, key: bytes, roots: bytes) -> X509Context:
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            private = serialization.load_pem_private_key(key, password=None)
            spiffe_id = identity_of(certificates[0])
            trusted = tuple(_der(one) for one in x509.load_pem_x509_certificates(roots))
        except (ValueError, TypeError, RemitError):
            raise self._wrong("client.files.broken", "holds no X.509-SVID with its key and bundle in PEM") from None
        ours = certificates[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != ours:
            raise self._wrong("client.files.broken", "holds a key that is not the certificate's")
        if certificates[0].not_valid_after_utc <= datetime.now(UTC):
            raise self._wrong("client.files.expired", "holds an X.509-SVID that has expired")
        svid = X509Identity(
            spiffe_id=spiffe_id,
            chain=tuple(_der(one) for one in certificates),
            key=private.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        return X509Context(svids=(svid,), roots={spiffe_id.trust_domain.name: trusted})

    def _wrong(self, code: str, what: str) -> Misconfigured:
        return Misconfigured(
            code, f"`{self._folder}` {what}", next_step=f"let `remit x509 write --dir {self._folder}` keep it"
        )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        if path.name == "key.pem" and os.fstat(file.fileno()).st_mode & 0o007:
            raise Misconfigured(
                "client.files.exposed", f"everybody may read `{path}`", next_step="make it readable to its owner alone"
            )
        return file.read(_MOST_BYTES)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
