"""The person's own credential, on the person's side: a key in their own configuration, never in the installation.

One file for each installation, `$XDG_CONFIG_HOME/remit/<instance>.json` (0600): the name and the 32-byte seed.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from remit.kernel.errors import Misconfigured

if TYPE_CHECKING:
    from remit.surface.cli.client import Admin


class PersonKey(msgspec.Struct, frozen=True, kw_only=True):
    """Who signs, and with what."""

    name: str
    seed: str

    def __repr__(self) -> str:
        return f"PersonKey({self.name!r})"


def key_path(instance: str) -> Path:
    """Where this person's key for an installation lies."""
    if given := os.environ.get("REMIT_PERSON_KEY"):
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "remit" / f"{instance}.json"


def load_key(instance: str) -> PersonKey | None:
    """This person's key, if there is one; a file that others can read is refused."""
    path = key_path(instance)
    try:
        mode = path.stat().st_mode
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    if mode & 0o077:
        raise Misconfigured("surface.person.key_mode", f"`{path}` can be read by others", next_step=f"chmod 600 {path}")
    try:
        return msgspec.json.decode(raw, type=PersonKey)
    except msgspec.DecodeError:
        raise Misconfigured("surface.person.key_damaged", f"`{path}` is no person's key") from None


def make_key(instance: str, name: str) -> tuple[PersonKey, str]:
    """Make and keep a key; returns it with the public key in hexadecimal. An existing file is never replaced."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = key_path(instance)
    seed = secrets.token_bytes(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(
            "surface.person.key_exists", f"`{path}` holds a key already", next_step="use it, or move it away first"
        ) from None
    key = PersonKey(name=name, seed=seed.hex())
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(key))
    return key, Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


def login_name() -> str:
    """The name under which the person at this terminal is enrolled first."""
    lowered = re.sub(r"[^a-z0-9._-]", "-", getpass.getuser().lower()).strip("-._")
    return lowered[:64] or "operator"


def sign_request(admin: Admin, data: Path, method: str, path: str, body: bytes) -> dict[str, str]:
    """Headers that carry the person's signature over this request.

    Where nobody is registered yet, the person at this terminal is enrolled first: the owner of an installation may
    enrol the first person and nobody after.
    """
    about: dict[str, Any] = admin.get("/api/v1/people/about")
    key = load_key(about["instance"])
    if key is None and not about["persons"]:
        key = _enrol_first(admin, about["instance"])
    if key is None:
        return {}
    return signed_headers(key, about["instance"], method, path, body)


def signed_headers(key: PersonKey, audience: str, method: str, path: str, body: bytes) -> dict[str, str]:
    """Sign one request with `key`."""
    from remit.governance.signatures import HEADER, encode_signed, sign_command

    signed = sign_command(
        bytes.fromhex(key.seed), person=key.name, method=method, path=path, body=body, audience=audience,
        now=datetime.now(UTC), nonce=secrets.token_urlsafe(24),
    )  # fmt: skip
    return {HEADER: encode_signed(signed)}


def signature_of(admin: Admin, path: str, body: Any) -> str:
    """This person's signature over one POST, as the header carries it: for approving where the key is not."""
    from remit.governance.signatures import HEADER

    about: dict[str, Any] = admin.get("/api/v1/people/about")
    key = load_key(about["instance"])
    if key is None:
        raise Misconfigured(
            "surface.person.key_missing",
            f"there is no key at `{key_path(about['instance'])}`",
            next_step="enrol with `remit people enrol NAME`",
        )
    return signed_headers(key, about["instance"], "POST", path, msgspec.json.encode(body))[HEADER]


def _enrol_first(admin: Admin, instance: str) -> PersonKey:
    from remit.surface.cli.output import plain, say

    name = login_name()
    key, public = make_key(instance, name)
    email = f"{name}@localhost"
    admin.post("/api/v1/people", {"name": name, "email": email, "public_key": public})
    say(f"[dim]enrolled you as the first person, `{name}`; your key: {plain(key_path(instance))}[/dim]")
    return key
