"""SCRAM-SHA-256: the verifier that a server stores, and a client's half of the exchange.

The verifier is computed here, so that a password never appears in a statement that a server may log.

Spec: RFC 5802, RFC 7677; PostgreSQL documentation, "SASL Authentication".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

from remit.kernel.errors import Rejected

MAX_ITERATIONS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Salted:
    """A password, salted: what costs time to compute, and is worth as much as the password."""

    salt: bytes
    iterations: int
    key: bytes = field(repr=False)

    @property
    def verifier(self) -> str:
        """`SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as `CREATE ROLE … PASSWORD` takes it."""
        stored = hashlib.sha256(_hmac(self.key, b"Client Key")).digest()
        server = _hmac(self.key, b"Server Key")
        return f"SCRAM-SHA-256${self.iterations}:{_b64(self.salt)}${_b64(stored)}:{_b64(server)}"


def salted(password: str, *, salt: bytes, iterations: int = 4096) -> Salted:
    """Salt a password for a server, or as a server says.

    `password` is ASCII (SASLprep leaves it alone), `salt` 16 random bytes. One iteration is enough for a password of
    256 random bits; 4096 is what every client accepts.
    """
    if not password.isascii() or not password.isprintable():
        raise Rejected("access.secret.unsupported", "a secret for PostgreSQL must be printable ASCII")
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise Rejected("access.secret.iterations", f"`{iterations}` iterations are not between 1 and {MAX_ITERATIONS}")
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    return Salted(salt=salt, iterations=iterations, key=key)


def scram_verifier(password: str, *, salt: bytes, iterations: int = 4096) -> str:
    """What a server stores of a password: see `salted` and `Salted.verifier`."""
    return salted(password, salt=salt, iterations=iterations).verifier


class ScramClient:
    """One login by SCRAM-SHA-256 without channel binding: `first()`, `final(server_first)`, `verify(server_final)`."""

    def __init__(self, password: str, nonce: bytes, known: Salted | None = None) -> None:
        self._password = password
        self._known = known
        self._bare = f"n=,r={_b64(nonce)}"
        self._server_signature = b""

    def first(self) -> bytes:
        """The client's first message; PostgreSQL takes the user from the start-up packet."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Answer the server's challenge; `Rejected` (`access.server.scram`) when it is malformed or not for us."""
        try:
            text = server_first.decode()
            fields = dict(part.split("=", 1) for part in text.split(","))
            nonce, salt, iterations = fields["r"], base64.b64decode(fields["s"], validate=True), int(fields["i"])
        except (ValueError, KeyError, binascii.Error):
            raise _malformed() from None
        if not nonce.startswith(self._bare.partition("r=")[2]) or not 1 <= iterations <= MAX_ITERATIONS:
            raise _malformed()
        key = self._key(salt, iterations)
        without_proof = f"c=biws,r={nonce}"
        message = f"{self._bare},{text},{without_proof}".encode()
        client_key = _hmac(key, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        self._server_signature = _hmac(_hmac(key, b"Server Key"), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{without_proof},p={_b64(proof)}".encode()

    def _key(self, salt: bytes, iterations: int) -> bytes:
        known = self._known
        if known is not None and (known.salt, known.iterations) == (salt, iterations):
            return known.key
        return hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt, iterations)

    def verify(self, server_final: bytes) -> bool:
        """Whether the server has shown that it knows the verifier."""
        return hmac.compare_digest(server_final, b"v=" + base64.b64encode(self._server_signature))


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _malformed() -> Rejected:
    return Rejected("access.server.scram", "the server's SCRAM challenge is malformed")
