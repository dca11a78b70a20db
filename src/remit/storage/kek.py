"""The key-encryption key: in a file beside the data, or in a PKCS#11 token that it never leaves.

It wraps the data keys and nothing else, so that it is asked at the start and at a rotation alone.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from remit.kernel.errors import Misconfigured
from remit.providers.pkcs11 import TokenKey, parse_uri

_SUFFIX = ".next"


class Kek(Protocol):
    """Wraps and unwraps data keys. Blocks."""

    @property
    def name(self) -> str:
        """Which one it is, for people: it holds no secret."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes | None:
        """The key; `None` when this KEK did not wrap it in this context."""
        ...


class LocalKek:
    """A KEK in memory."""

    def __init__(self, key: bytes, name: str = "memory") -> None:
        self._cipher = AESGCM(key)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(wrapped[:12], wrapped[12:], context)
        except (InvalidTag, ValueError):
            return None


class FileKek(LocalKek):
    """A KEK in a file of 32 bytes in hexadecimal, 0600.

    A rotation writes the next one to `FILE.next`, wraps every data key with it in one commit, and renames it. Killed
    in between, the next start sees by the data keys which of the two counts, and finishes.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        super().__init__(load_key_file(path, create=create), f"file:{path}")
        self._path = path

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes | None:
        found = super().unwrap(wrapped, context)
        if found is None and self._next.exists():
            following = LocalKek(load_key_file(self._next, create=False))
            found = following.unwrap(wrapped, context)
            if found is not None:
                self.finish()
        return found

    def successor(self) -> LocalKek:
        """The next key, durable in its own file; an interrupted rotation's is taken up again."""
        return LocalKek(load_key_file(self._next, create=True), self.name)

    def finish(self) -> None:
        """Put the next key in the place of this one, once everything is wrapped with it. Again is no error."""
        if not self._next.exists():
            return
        self._cipher = AESGCM(load_key_file(self._next, create=False))
        self._next.replace(self._path)
        _sync(self._path.parent)

    @property
    def _next(self) -> Path:
        return self._path.with_name(self._path.name + _SUFFIX)


class TokenKek:
    """A KEK in a PKCS#11 token: wrapping is AES-256-GCM done by the token."""

    def __init__(self, key: TokenKey, name: str) -> None:
        self._key = key
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def wrap(self, key: bytes, context: bytes) -> bytes:
        return self._key.encrypt(key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes | None:
        return self._key.decrypt(wrapped, context)


def open_kek(
    uri: str, *, default: Path, create: bool, pkcs11_module: str = "", pkcs11_pin_file: str = ""
) -> FileKek | TokenKek:
    """The KEK that `uri` names (`file:PATH`, `pkcs11:…`, empty for `default`), made when `create` and it is absent.

    Raises `Misconfigured` (`storage.kek.unknown`, `storage.key.…`, `providers.pkcs11.…`) or `Unavailable`.
    """
    if uri.startswith("pkcs11:"):
        found = parse_uri(uri, module=pkcs11_module, pin_file=pkcs11_pin_file)
        key = TokenKey(found)
        if create:
            key.make()
        else:
            key.require()
        return TokenKek(key, f"pkcs11:token={found.token};object={found.object}")
    path = Path(uri.removeprefix("file:")) if uri else default
    if uri and (not uri.startswith("file:") or not path.is_absolute()):
        raise Misconfigured(
            "storage.kek.unknown",
            "the key-encryption key is named by `file:/PATH` or by a `pkcs11:` URI",
            next_step="correct `keys.kek`",
        )
    return FileKek(path, create=create)


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
    _sync(path.parent)
    return key


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
