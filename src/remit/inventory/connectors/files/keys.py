"""Key material: PEM blocks, SSH wire format, and the one fingerprint by which a key pair is known everywhere.

The fingerprint of a key pair is `sha256:<hex>` of its SubjectPublicKeyInfo (DER), whatever file shows it: a private
key, the `.pub` beside it, a line of `authorized_keys` and a certificate of the same key are one credential.

Spec: RFC 7468 (PEM), RFC 5280 §4.1.2.7 (SPKI), RFC 4253 §6.6 and OpenSSH PROTOCOL.key (SSH).
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remit.inventory.connectors.files.formats import Malformed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

MAX_BLOCKS = 2_000
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's warnings of deprecated forms: here they are a finding, not a reason to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class PemBlock:
    """One armoured block: its label, text and first line."""

    label: str
    text: bytes = field(repr=False)
    line: int


def pem_blocks(data: bytes) -> Iterator[PemBlock]:
    """Yield the PEM blocks of `data`, at most `MAX_BLOCKS`; escaped line ends (JSON, dotenv) are restored."""
    if b"\\n" in data and b"-----BEGIN" in data:
        data = data.replace(b"\\r", b"").replace(b"\\n", b"\n")
    at, line, seen = 0, 1, 0
    endless: set[bytes] = set()
    for _ in range(MAX_BLOCKS):
        found = _BEGIN.search(data, at)
        if found is None:
            return
        closing = b"-----END " + found.group(1) + b"-----"
        end = -1 if found.group(1) in endless else data.find(closing, found.end())
        at = found.end()
        if end < 0:
            endless.add(found.group(1))  # looked for once: a file of openings costs no more than its length
            continue
        line += data.count(b"\n", seen, found.start())
        seen, at = found.start(), end + len(closing)
        yield PemBlock(label=found.group(1).decode("ascii"), text=data[found.start() : at], line=line)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicPart:
    """What can be said of a key pair without its private half."""

    fingerprint: str
    algorithm: str
    bits: int = 0
    ssh_fingerprint: str = ""
    """As `ssh-keygen -l` shows it."""

    @property
    def is_weak(self) -> bool:
        """Below what NIST SP 800-131A still allows."""
        return self.algorithm == "dsa" or (self.algorithm == "rsa" and 0 < self.bits < 2048)


def public_part(key: PublicKeyTypes) -> PublicPart:
    """Describe a public key of the cryptography library."""
    from cryptography.hazmat.primitives import serialization

    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    algorithm = type(key).__name__.removeprefix("_").removesuffix("PublicKey").lower()
    names = {"ec": "ecdsa", "ellipticcurve": "ecdsa"}
    return PublicPart(
        fingerprint=sha256(der),
        algorithm=names.get(algorithm, algorithm),
        bits=getattr(key, "key_size", 0),
    )


def sha256(public: bytes) -> str:
    """Fingerprint public material."""
    return "sha256:" + hashlib.sha256(public).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePart:
    """A private key as found: its public half when it can be had, and whether a passphrase protects it."""

    public: PublicPart | None
    encrypted: bool
    format: str
    comment: str = ""


def read_private_pem(block: PemBlock) -> PrivatePart | None:
    """Describe a private-key block, without asking for its passphrase; `None` when the block is no private key.

    `Malformed` when it says that it is one and is not.
    """
    if block.label == "OPENSSH PRIVATE KEY":
        return read_openssh(_body(block))
    if not block.label.endswith("PRIVATE KEY"):
        return None
    if block.label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in block.text:
        return PrivatePart(public=None, encrypted=True, format="pem")
    return read_private_der(block.text, pem=True)


def read_private_der(data: bytes, *, pem: bool = False) -> PrivatePart:
    """Describe an unencrypted private key in PEM or DER (PKCS#1, SEC 1, PKCS#8); `Malformed` when it is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    with quiet():
        try:
            key = load(data, password=None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Malformed("no private key") from None
    return PrivatePart(public=public_part(key.public_key()), encrypted=False, format="pem" if pem else "der")


def _body(block: PemBlock) -> bytes:
    lines = block.text.replace(b"\r", b"").split(b"\n")[1:-1]
    try:
        return base64.b64decode(b"".join(line.strip() for line in lines))
    except ValueError:
        raise Malformed("no base64") from None


def read_openssh(blob: bytes) -> PrivatePart:
    """Describe an `openssh-key-v1` blob: its public half is clear even when the private one is encrypted."""
    magic = b"openssh-key-v1\0"
    if not blob.startswith(magic):
        raise Malformed("no OpenSSH key")
    wire = _Wire(blob[len(magic) :])
    cipher = wire.string()
    wire.string()
    wire.string()
    if wire.number() < 1:
        raise Malformed("no key in an OpenSSH key")
    public = read_ssh_public(wire.string())
    encrypted = cipher != b"none"
    return PrivatePart(
        public=public,
        encrypted=encrypted,
        format="openssh",
        comment="" if encrypted else _comment(wire.string(), public),
    )


def _comment(private: bytes, public: PublicPart) -> str:
    """The comment is the last string of the private section; the lengths before it differ by algorithm."""
    wire = _Wire(private)
    fields = {"rsa": 6, "ecdsa": 3, "ed25519": 2, "dsa": 5}.get(public.algorithm)
    if fields is None:
        return ""
    wire.number()
    wire.number()
    for _ in range(fields + 1):
        wire.string()
    return wire.string().decode("utf-8", "replace")[:200]


class _Wire:
    """RFC 4251 §5: lengths before values."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def string(self) -> bytes:
        return self._take(self.number())

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise Malformed("a key that ends early")
        self._at += count
        return self._data[self._at - count : self._at]


_SSH_NAME = re.compile(
    r"(?:ssh-(?:rsa|dss|ed25519|ed448)|ecdsa-sha2-[\w-]+|sk-[\w@.-]+|rsa-sha2-\d+)(?:-cert-v01@openssh\.com)?"
)


def is_ssh_type(word: str) -> bool:
    """True of `ssh-ed25519` and its like."""
    return _SSH_NAME.fullmatch(word) is not None


def read_ssh_public(blob: bytes) -> PublicPart:
    """Describe a public key in SSH wire format; one of a kind without SPKI (security keys) is hashed as it is."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    kind = _Wire(blob).string().decode("ascii", "replace")
    if not is_ssh_type(kind):
        raise Malformed("no SSH key")
    shown = "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    line = kind.encode() + b" " + base64.b64encode(blob)
    with quiet():
        try:
            part = public_part(serialization.load_ssh_public_key(line))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            if not kind.startswith(("sk-", "ssh-dss")) and "-cert-" not in kind:
                raise Malformed("no SSH key") from None
            algorithm = "dsa" if kind == "ssh-dss" else kind.partition("@")[0]
            part = PublicPart(fingerprint=sha256(blob), algorithm=algorithm)
    return PublicPart(fingerprint=part.fingerprint, algorithm=part.algorithm, bits=part.bits, ssh_fingerprint=shown)


def read_ssh_line(word: str) -> PublicPart:
    """Describe the base64 field of a public-key line."""
    try:
        return read_ssh_public(base64.b64decode(word, validate=True))
    except ValueError:
        raise Malformed("no SSH key") from None
