"""Keys of the installation: one key-encryption key, everything else sealed under it.

The KEK (`kek.py`) wraps data keys; a data key seals private keys and target credentials (AES-256-GCM, the
context authenticated). `DIR/keys/fingerprint` keys the fingerprints of secrets. A database without its KEK is
`Misconfigured`: a new key would make it unreadable for ever.

A rotation makes a new data key, seals everything anew with it, and wraps all data keys with the KEK that is named
then, in one commit. Old data keys stay: what was sealed in the same moment, or lies in a queue, still opens.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, insert, select, update

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Misconfigured
from remit.storage.kek import Kek, LocalKek, load_key_file
from remit.storage.schema import everything
from remit.storage.schema.core import storage_key

__all__ = ["KeyRing", "Rotation", "load_key_file"]

_FORMAT = b"rs1:"
_DATA = "data:"
_WRAPPED_BY = "wrapped-by"
"""The row that names the KEK, for people: it holds no key."""
_SEALED = (
    ("trust_authority", "id", "sealed", "trust_authority/{id}/key"),
    ("access_target", "name", "sealed", "access_target/{name}/secret"),
    ("access_lease", "id", "sealed", "access_lease/{id}/secret"),
    ("access_secret", "name", "sealed", "access_secret/{name}/value"),
    ("access_secret_change", "name", "sealed_old", "access_secret/{name}/value"),
    ("access_secret_change", "name", "sealed_new", "access_secret/{name}/next"),
    ("access_rotation", "name", "sealed", "access_rotation_plan/{name}/{content[version]}"),
    ("access_rotation_run", "id", "sealed", "access_rotation_run/{id}/sealed"),
    ("access_run", "id", "answer", "access_run/{id}/{key}/{asked}/answer"),
    ("governance_conversion", "id", "sealed", "governance_conversion/{id}/way-back"),
)
"""Where sealed values lie beside our own table: table, column of its key, column, context by the row's columns."""
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """What a rotation did; the ring takes it over by `adopt`, once it is committed."""

    active: str
    data_keys: Mapping[str, AESGCM] = field(repr=False)
    kek: Kek = field(repr=False)
    resealed: int
    unreadable: int
    """Values that could not be opened, and were left as they are."""


class KeyRing:
    """Seals, unseals, attests and fingerprints for one installation."""

    def __init__(self, kek: bytes | Kek, fingerprint_key: bytes) -> None:
        self._kek: Kek = LocalKek(kek) if isinstance(kek, bytes) else kek
        self.fingerprint_key = fingerprint_key
        self._data_keys: dict[str, AESGCM] = {}
        self._active = ""
        self._attest_key: Ed25519PrivateKey | None = None

    def __repr__(self) -> str:
        return f"KeyRing(active={self._active!r})"

    @property
    def kek(self) -> Kek:
        """What wraps the data keys."""
        return self._kek

    def load(self, conn: Connection, now: datetime, new_name: Callable[[str], str]) -> None:
        """Unwrap the data keys and our own signing keys; make them in an empty database."""
        rows = conn.execute(select(storage_key).order_by(storage_key.c.created)).all()
        for row in rows:
            if row.name.startswith(_DATA):
                self._data_keys[row.name] = AESGCM(_unwrap(conn, self._kek, row.name, row.sealed))
                self._active = row.name
        if not self._active:
            self._active, key = f"{_DATA}{new_name('dk')}", secrets.token_bytes(32)
            self._data_keys[self._active] = AESGCM(key)
            _put_data_key(conn, self._kek, self._active, key, now)
            _say_kek(conn, self._kek, now)
        self._attest_key = Ed25519PrivateKey.from_private_bytes(self.named_key(conn, "sign:authority", now))

    def named_key(self, conn: Connection, name: str, now: datetime) -> bytes:
        """32 secret bytes of that name, made and sealed at first use."""
        sealed = conn.scalar(select(storage_key.c.sealed).where(storage_key.c.name == name))
        if sealed is not None:
            return self.unseal(sealed, context=_context(name))
        key = secrets.token_bytes(32)
        sealed = self.seal(key, context=_context(name))
        conn.execute(insert(storage_key), {"name": name, "created": now, "sealed": sealed})
        return key

    def rotate(
        self, conn: Connection, now: datetime, new_name: Callable[[str], str], *, kek: Kek | None = None
    ) -> Rotation:
        """Make a new data key, seal everything with it, and wrap all data keys with `kek`, or the one that was.

        Nothing changes in this ring: `adopt` what is returned after the commit. A second rotation to the same `kek`,
        after a kill, finds it done and makes one more data key, no more.
        Raises `Misconfigured` (`storage.key.wrong`).
        """
        target = kek or self._kek
        keys = {}
        for row in conn.execute(select(storage_key).where(storage_key.c.name.startswith(_DATA))).all():
            wrapped_by = self._kek if target is self._kek else _Either(self._kek, target)
            keys[row.name] = _unwrap(conn, wrapped_by, row.name, row.sealed)
        for name, key in keys.items():
            values = {"sealed": target.wrap(key, _context(name).encode())}
            conn.execute(update(storage_key).where(storage_key.c.name == name).values(values))
        fresh, key = f"{_DATA}{new_name('dk')}", secrets.token_bytes(32)
        _put_data_key(conn, target, fresh, key, now)
        _say_kek(conn, target, now)
        ciphers = {name: AESGCM(each) for name, each in {**keys, fresh: key}.items()}
        resealed, unreadable = _Resealer(ciphers, fresh).run(conn)
        return Rotation(active=fresh, data_keys=ciphers, kek=target, resealed=resealed, unreadable=unreadable)

    def adopt(self, rotation: Rotation) -> None:
        """Seal with the new data key from now on."""
        self._data_keys = dict(rotation.data_keys)
        self._active, self._kek = rotation.active, rotation.kek

    def seal(self, plain: bytes, *, context: str) -> bytes:
        return _seal(self._data_keys, self._active, plain, context)

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        found = _unseal(self._data_keys, sealed, context)
        if found is None:
            raise Misconfigured(
                "storage.seal.broken",
                "a sealed value cannot be opened: it was altered, moved to another row, or its key is gone",
                next_step="restore the database from a backup that belongs to this key",
            )
        return found

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
        return "hmac:" + hmac.new(self.fingerprint_key, secret, hashlib.sha256).hexdigest()


def _attested(kind: str, content: Mapping[str, Json]) -> bytes:
    return b"remit/authority/v1\n" + canonical({"kind": kind, "content": dict(content)})


class _Either:
    """Two KEKs: the one that was, and the one that a rotation before this was on its way to."""

    def __init__(self, first: Kek, second: Kek) -> None:
        self._both = (first, second)
        self.name = first.name

    def wrap(self, key: bytes, context: bytes) -> bytes:
        raise AssertionError("only one of them wraps")

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes | None:
        return next((key for kek in self._both if (key := kek.unwrap(wrapped, context)) is not None), None)


class _Resealer:
    """Seals every value of the database anew, table by table."""

    def __init__(self, data_keys: Mapping[str, AESGCM], active: str) -> None:
        self._data_keys = data_keys
        self._active = active
        self._resealed = 0
        self._unreadable = 0

    def run(self, conn: Connection) -> tuple[int, int]:
        """How many were sealed anew, and how many could not be opened."""
        named = select(storage_key).where(~storage_key.c.name.startswith(_DATA), storage_key.c.name != _WRAPPED_BY)
        for row in conn.execute(named).all():
            sealed = self._again(row.sealed, _context(row.name))
            conn.execute(update(storage_key).where(storage_key.c.name == row.name).values({"sealed": sealed}))
        for table, key, column, pattern in _SEALED:
            self._table(conn, table, key, column, pattern)
        return self._resealed, self._unreadable

    def _table(self, conn: Connection, name: str, key: str, column: str, pattern: str) -> None:
        table, after = everything().tables[name], ""
        by = table.c[key]
        while page := conn.execute(select(table).where(by > after).order_by(by).limit(_PAGE)).mappings().all():
            for row in page:
                if row[column]:
                    again = self._again(bytes(row[column]), _filled(pattern, row))
                    conn.execute(update(table).where(by == row[key]).values({column: again}))
            after = page[-1][key]

    def _again(self, sealed: bytes, context: str) -> bytes:
        plain = _unseal(self._data_keys, sealed, context)
        if plain is None:
            self._unreadable += 1
            return sealed
        self._resealed += 1
        return _seal(self._data_keys, self._active, plain, context)


def _filled(pattern: str, row: Mapping[Any, Any]) -> str:
    """The context of a row's value; one of which somebody took a part away opens nothing, and is told."""
    try:
        return pattern.format(**row)
    except (LookupError, TypeError, AttributeError):
        return ""


def _seal(data_keys: Mapping[str, AESGCM], active: str, plain: bytes, context: str) -> bytes:
    nonce = secrets.token_bytes(12)
    head = _FORMAT + active.encode() + b":"
    return head + nonce + data_keys[active].encrypt(nonce, plain, head + context.encode())


def _unseal(data_keys: Mapping[str, AESGCM], sealed: bytes, context: str) -> bytes | None:
    for name, key in data_keys.items():
        head = _FORMAT + name.encode() + b":"
        if sealed.startswith(head):
            body = sealed[len(head) :]
            try:
                return key.decrypt(body[:12], body[12:], head + context.encode())
            except (InvalidTag, ValueError):
                return None
    return None


def _context(name: str) -> str:
    return f"storage_key/{name}"


def _put_data_key(conn: Connection, kek: Kek, name: str, key: bytes, now: datetime) -> None:
    row = {"name": name, "created": now, "sealed": kek.wrap(key, _context(name).encode())}
    conn.execute(insert(storage_key), row)


def _say_kek(conn: Connection, kek: Kek, now: datetime) -> None:
    conn.execute(delete(storage_key).where(storage_key.c.name == _WRAPPED_BY))
    conn.execute(insert(storage_key), {"name": _WRAPPED_BY, "created": now, "sealed": kek.name.encode()})


def _unwrap(conn: Connection, kek: Kek, name: str, wrapped: bytes) -> bytes:
    key = kek.unwrap(wrapped, _context(name).encode())
    if key is not None:
        return key
    said = conn.scalar(select(storage_key.c.sealed).where(storage_key.c.name == _WRAPPED_BY)) or b""
    was = bytes(said)[:200].decode("ascii", "replace")
    told = f"; it was last wrapped by `{was}`" if was.isprintable() and was not in ("", kek.name) else ""
    raise Misconfigured(
        "storage.key.wrong",
        f"the key-encryption key does not belong to this database{told}",
        next_step="put back the key that was made with it, or name it by `keys.kek`",
    )
