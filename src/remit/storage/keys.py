"""Keys of the installation: one key-encryption key in a file, everything else sealed under it.

`DIR/keys/kek` (0600) wraps data keys; a data key seals private keys and target credentials (AES-256-GCM, the
context authenticated). `DIR/keys/fingerprint` keys the fingerprints of secrets. A database without its KEK is
`Misconfigured`: a new key would make it unreadable for ever.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, insert, select

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Misconfigured
from remit.storage.schema.core import storage_key

_FORMAT = b"rs1:"


def load_key_file(path: Path, *, create: bool) -> bytes:
    """Read 32 bytes of hexadecimal; make the file (0600, exclusively, synced) when `create` and it is absent."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        if not create:
            raise Misconfigured(
                "storage.key.missing",
                f"the key file `{path}` is missing, and the state cannot be read without it",
                next_step="put it back from where it is kept apart from the data; Remit never makes a second one",
            ) from None
        return _create_key_file(path)
    except OSError as error:
        raise Misconfigured(
            "storage.key.unreadable", f"the key file `{path}` cannot be read: {error.strerror}"
        ) from None
    try:
        key = bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Misconfigured("storage.key.damaged", f"the key file `{path}` does not hold 32 bytes of hexadecimal")
    return key


def _create_key_file(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(32)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a crash may have left it, and process ids come again
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, key.hex().encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key


class KeyRing:
    """Seals, unseals, attests and fingerprints for one installation."""

    def __init__(self, kek: bytes, fingerprint_key: bytes) -> None:
        self._kek = AESGCM(kek)
        self._fingerprint_key = fingerprint_key
        self._data_keys: dict[str, AESGCM] = {}
        self._active = ""
        self._attest_key: Ed25519PrivateKey | None = None

    def __repr__(self) -> str:
        return f"KeyRing(active={self._active!r})"

    def load(self, conn: Connection, now: datetime, new_name: Callable[[str], str]) -> None:
        """Unwrap the data keys and our own signing keys; make them in an empty database."""
        rows = conn.execute(select(storage_key).order_by(storage_key.c.created)).all()
        for row in rows:
            if row.name.startswith("data:"):
                self._data_keys[row.name] = AESGCM(self._unwrap(row.name, row.sealed))
                self._active = row.name
        if not self._active:
            self._active = f"data:{new_name('dk')}"
            key = secrets.token_bytes(32)
            self._data_keys[self._active] = AESGCM(key)
            conn.execute(
                insert(storage_key), {"name": self._active, "created": now, "sealed": self._wrap(self._active, key)}
            )
        self._attest_key = Ed25519PrivateKey.from_private_bytes(self.named_key(conn, "sign:authority", now))

    def named_key(self, conn: Connection, name: str, now: datetime) -> bytes:
        """32 secret bytes of that name, made and sealed at first use."""
        sealed = conn.scalar(select(storage_key.c.sealed).where(storage_key.c.name == name))
        if sealed is not None:
            return self.unseal(sealed, context=f"storage_key/{name}")
        key = secrets.token_bytes(32)
        sealed = self.seal(key, context=f"storage_key/{name}")
        conn.execute(insert(storage_key), {"name": name, "created": now, "sealed": sealed})
        return key

    def _wrap(self, name: str, key: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._kek.encrypt(nonce, key, f"storage_key/{name}".encode())

    def _unwrap(self, name: str, wrapped: bytes) -> bytes:
        try:
            return self._kek.decrypt(wrapped[:12], wrapped[12:], f"storage_key/{name}".encode())
        except (InvalidTag, ValueError):
            raise Misconfigured(
                "storage.key.wrong",
                "the key-encryption key does not belong to this database",
                next_step="put back the key file that was made with it",
            ) from None

    def seal(self, plain: bytes, *, context: str) -> bytes:
        nonce = secrets.token_bytes(12)
        head = _FORMAT + self._active.encode() + b":"
        return head + nonce + self._data_keys[self._active].encrypt(nonce, plain, head + context.encode())

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        for name, key in self._data_keys.items():
            head = _FORMAT + name.encode() + b":"
            if sealed.startswith(head):
                body = sealed[len(head) :]
                try:
                    return key.decrypt(body[:12], body[12:], head + context.encode())
                except (InvalidTag, ValueError):
                    break
        raise Misconfigured(
            "storage.seal.broken",
            "a sealed value cannot be opened: it was altered, moved to another row, or its key is gone",
            next_step="restore the database from a backup that belongs to this key",
        )

    def sign(self, kind: str, content: Mapping[str, Json]) -> str:
        assert self._attest_key is not None
        return self._attest_key.sign(_attested(kind, content)).hex()

    def verify(self, kind: str, content: Mapping[str, Json], signature: str) -> bool:
        assert self._attest_key is not None
        try:
            self._attest_key.public_key().verify(bytes.fromhex(signature), _attested(kind, content))
        except (InvalidSignature, ValueError):
            return False
        return True

    def fingerprint(self, secret: bytes) -> str:
        """`hmac:<hex>`: the same secret gives the same text here, and nothing anywhere else."""
        return "hmac:" + hmac.new(self._fingerprint_key, secret, hashlib.sha256).hexdigest()


def _attested(kind: str, content: Mapping[str, Json]) -> bytes:
    return b"remit/authority/v1\n" + canonical({"kind": kind, "content": dict(content)})
