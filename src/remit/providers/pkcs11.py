"""A key that lives in a PKCS#11 token and never leaves it: AES-256-GCM, done by the token.

The key is named by a PKCS#11 URI. A PIN is read from a file at each use; one in the URI itself is refused.

Spec: RFC 7512 §2.3 and §2.4; PKCS#11 3.0 §2.12 (AES-GCM).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from remit.kernel.errors import Misconfigured, Unavailable

_PATH: Final = frozenset({"token", "object", "serial", "manufacturer", "model", "type"})
_QUERY: Final = frozenset({"module-path", "pin-source"})
_NONCE_BYTES: Final = 12
_TAG_BITS: Final = 128
_MAX_PIN_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUri:
    """Which key, in which token, by which module."""

    token: str
    object: str
    serial: str = ""
    module: Path
    pin_file: Path | None = None


def parse_uri(text: str, *, module: str = "", pin_file: str = "") -> KeyUri:
    """Read `pkcs11:token=…;object=…?module-path=…&pin-source=file:…`; the arguments stand in for what it leaves out.

    Raises `Misconfigured` (`providers.pkcs11.uri`): other attributes, one twice, a PIN within.
    """
    if not text.startswith("pkcs11:") or len(text) > 2000 or not text.isascii():
        raise _bad_uri("it does not begin with `pkcs11:`")
    path, _, query = text.removeprefix("pkcs11:").partition("?")
    parts = _attributes(path, ";", _PATH)
    asked = _attributes(query, "&", _QUERY)
    if not parts.get("token") or not parts.get("object"):
        raise _bad_uri("it names no `token` and `object`")
    if parts.get("type", "secret-key") != "secret-key":
        raise _bad_uri("its `type` is not `secret-key`")
    found = asked.get("module-path", module)
    if not Path(found).is_absolute():
        raise _bad_uri("no module is named: `module-path` in it, or `keys.pkcs11_module`, as an absolute path")
    source = asked.get("pin-source", pin_file).removeprefix("file:")
    if source and not Path(source).is_absolute():
        raise _bad_uri("its `pin-source` is no absolute path of a file")
    return KeyUri(
        token=parts["token"],
        object=parts["object"],
        serial=parts.get("serial", ""),
        module=Path(found),
        pin_file=Path(source) if source else None,
    )


class TokenKey:
    """Encrypts and decrypts with one key of a token; each call has a session of its own. Blocks: use it in a thread."""

    def __init__(self, uri: KeyUri) -> None:
        self._uri = uri

    def make(self) -> None:
        """Make the key in the token, for ever there, unless one of that name is there already."""
        with self._session(write=True) as session:
            import pkcs11

            if self._all(session):
                self._key(session)
                return
            session.generate_key(
                pkcs11.KeyType.AES,
                256,
                label=self._uri.object,
                id=os.urandom(8),
                store=True,
                capabilities=pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT,
                template={
                    pkcs11.Attribute.SENSITIVE: True,
                    pkcs11.Attribute.EXTRACTABLE: False,
                    pkcs11.Attribute.PRIVATE: True,
                },
            )

    def require(self) -> None:
        """Raise unless the key is there, and such that it cannot be taken out.

        Raises `Misconfigured` (`providers.pkcs11.key`, `.extractable`, `.token`, `.pin`, `.module`).
        """
        with self._session() as session:
            self._key(session)

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """Nonce, ciphertext and tag; `context` must be the same to decrypt."""
        nonce = os.urandom(_NONCE_BYTES)
        with self._session() as session:
            return nonce + bytes(self._key(session).encrypt(plain, **_gcm(nonce, context)))

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        """The plaintext; `None` when this is not what the key encrypted in this context."""
        import pkcs11.exceptions as faults

        with self._session() as session:
            key = self._key(session)
            try:
                return bytes(key.decrypt(sealed[_NONCE_BYTES:], **_gcm(sealed[:_NONCE_BYTES], context)))
            except (
                faults.GeneralError, faults.FunctionFailed, faults.EncryptedDataInvalid, faults.EncryptedDataLenRange,
                faults.ArgumentsBad,
            ):  # fmt: skip
                # What a token says of a tag that does not hold differs from one to the next.
                return None

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Any]:
        module = _module(self._uri.module)
        from pkcs11.exceptions import PinIncorrect, PinLocked, PKCS11Error

        try:
            token = self._token(module)
            with token.open(rw=write, user_pin=_pin(self._uri.pin_file)) as session:
                yield session
        except (PinIncorrect, PinLocked):
            raise Misconfigured(
                "providers.pkcs11.pin",
                f"the token `{self._uri.token[:80]}` refuses the PIN",
                next_step="correct the file that `pin-source` names, before the token locks itself",
            ) from None
        except PKCS11Error as error:
            raise Unavailable(
                "providers.pkcs11.failed",
                f"the token `{self._uri.token[:80]}` failed: {type(error).__name__}",
                next_step="check that it is plugged in and that its module works",
            ) from None

    def _token(self, module: Any) -> Any:
        found = list(module.get_tokens(token_label=self._uri.token))
        if self._uri.serial:
            found = [one for one in found if _text(one.serial) == self._uri.serial]
        if len(found) != 1:
            raise Misconfigured(
                "providers.pkcs11.token",
                f"{len(found)} tokens are called `{self._uri.token[:80]}`",
                next_step="plug it in, or name its `serial` in the URI",
            )
        return found[0]

    def _all(self, session: Any) -> list[Any]:
        import pkcs11

        wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY, pkcs11.Attribute.LABEL: self._uri.object}
        return list(session.get_objects(wanted))

    def _key(self, session: Any) -> Any:
        import pkcs11

        found = self._all(session)
        if len(found) != 1:
            raise Misconfigured(
                "providers.pkcs11.key",
                f"the token `{self._uri.token[:80]}` has {len(found)} secret keys called `{self._uri.object[:80]}`",
                next_step="put back the token with the key; Remit never makes a second one",
            )
        key = found[0]
        if key[pkcs11.Attribute.EXTRACTABLE] or not key[pkcs11.Attribute.SENSITIVE] or key.key_length != 256:
            raise Misconfigured(
                "providers.pkcs11.extractable",
                f"the key `{self._uri.object[:80]}` can leave its token, or is not of 256 bits",
                next_step="use an AES-256 key that is sensitive and not extractable",
            )
        return key


def _gcm(nonce: bytes, context: bytes) -> dict[str, Any]:
    import pkcs11

    return {
        "mechanism": pkcs11.Mechanism.AES_GCM,
        "mechanism_param": pkcs11.GCMParams(nonce, context, _TAG_BITS),
    }


def _module(path: Path) -> Any:
    try:
        import pkcs11
    except ImportError:
        raise Misconfigured(
            "providers.pkcs11.driver", "a PKCS#11 token needs python-pkcs11", next_step="install `remit[pkcs11]`"
        ) from None
    if not path.is_file():
        raise Misconfigured(
            "providers.pkcs11.module", f"the PKCS#11 module `{path}` is not there", next_step="correct its path"
        )
    try:
        return pkcs11.lib(str(path))
    except RuntimeError:
        raise Misconfigured(
            "providers.pkcs11.module",
            f"the PKCS#11 module `{path}` cannot be used",
            next_step="check the path, and the module's own configuration",
        ) from None


def _pin(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(handle, "rb") as file:  # noqa: PTH123  (the descriptor that was checked is the one that is read)
            found = os.fstat(handle)
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise _bad_pin(path, "can be read by others")
            return file.read(_MAX_PIN_BYTES).strip().decode()
    except (OSError, UnicodeDecodeError):
        raise _bad_pin(path, "cannot be read") from None


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise _bad_uri("it holds a PIN: put that into a file, and name the file by `pin-source`")
        if not equals or name not in known or name in found:
            raise _bad_uri(f"the attribute `{name[:40]}` is not known here, or stands twice")
        found[name] = unquote(value)
    return found


def _text(value: Any) -> str:
    return value.decode(errors="replace").strip() if isinstance(value, bytes) else str(value).strip()


def _bad_uri(why: str) -> Misconfigured:
    return Misconfigured(
        "providers.pkcs11.uri",
        f"this PKCS#11 URI cannot be used: {why}",
        next_step="for example `pkcs11:token=remit;object=kek`",
    )


def _bad_pin(path: Path, why: str) -> Misconfigured:
    return Misconfigured("providers.pkcs11.pin", f"the PIN file `{path}` {why}", next_step=f"chmod 600 {path}")
