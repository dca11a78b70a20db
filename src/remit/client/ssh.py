"""SSH user certificates by SVID: a new key, certified for minutes, put where `ssh` finds both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from remit.client.server import Server

if TYPE_CHECKING:
    from remit.client.identity import Identity


def fetch_certificate(
    identity: Identity, server: str, *, principals: Sequence[str], extensions: Sequence[str] = (), seconds: int = 0
) -> tuple[bytes, str, str]:
    """A new private key (OpenSSH's form), its certificate, and when that ends. `Denied`, `Rejected`, `Unavailable`."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    asked = {
        "public_key": public,
        "principals": list(principals),
        "extensions": list(extensions),
        "seconds": seconds,
    }
    answer = Server(identity, server).post_json("/trust/v1/ssh-certificates", asked)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, str(answer["certificate"]), str(answer["expires"])


def write_pair(path: Path, private: bytes, certificate: str) -> None:
    """Write `path` (0600) and `path-cert.pub`, which is where `ssh -i path` looks; each is replaced at once."""
    for name, content, mode in ((path, private, 0o600), (Path(f"{path}-cert.pub"), f"{certificate}\n".encode(), 0o644)):
        fresh = name.with_name(f".{name.name}.new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, content)
            os.fchmod(handle, mode)
        finally:
            os.close(handle)
        fresh.replace(name)
