"""Key pairs: the public half is the name by which a private key, its certificate and every trust in it are one.

Spec: RFC 7468, RFC 5280 §4.1.2.7 (SPKI); OpenSSH PROTOCOL.key; PuTTY appendix C; RFC 9580 §5.5.4 (PGP key ids).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import datetime

from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keys import (
    PemBlock,
    PrivatePart,
    PublicPart,
    pem_blocks,
    public_part,
    quiet,
    read_private_der,
    read_private_pem,
    read_ssh_line,
    sha256,
)
from remit.inventory.connectors.files.pem import load_certificate
from remit.inventory.model import Attribute, CredentialKind, IdentityKind
from remit.inventory.secrets.binding import kubernetes
from remit.inventory.secrets.binding.model import Binding, Seen, Subject, known, moment, subject
from remit.kernel.ids import Name

MAX_CERTIFICATES = 20
_NEAR_CERTIFICATES = 256 * 1024


def bind(seen: Seen) -> Binding | None:
    """A private key in PEM, OpenSSH, PuTTY or PGP armour, or in DER."""
    value = seen.hit.value
    if value[:1] == b"\x30" and len(value) > 40:
        return _whose(_of_private(read_private_der(value), value), seen)
    if b"BEGIN PGP PRIVATE KEY" in value:
        return _pgp(value)
    if value.startswith(b"PuTTY-User-Key-File-"):
        return _putty(value)
    if b"PRIVATE KEY-----" not in value:
        return None
    answer = bind_pem(value)
    return _whose(answer, seen) if answer else None


def bind_pem(data: bytes) -> Binding | None:
    """The first private key among the PEM blocks of `data`; `None` without one."""
    for block in pem_blocks(data):
        try:
            private = read_private_pem(block)
        except Malformed:
            return Binding(
                provider="key", method="form", what="private key that cannot be read", kind=CredentialKind.PRIVATE_KEY,
                secret=block.text, attributes={"malformed": True},
            )  # fmt: skip
        if private is not None:
            return _of_private(private, block.text)
    return None


def _of_private(private: PrivatePart, raw: bytes) -> Binding:
    public = private.public
    what = f"{public.algorithm.upper()} private key" if public else "private key under a passphrase"
    ssh = private.format in {"openssh", "ppk"}
    return Binding(
        provider="ssh" if ssh else "key",
        method="public half of the key" if public else "form",
        what=f"SSH {what}" if ssh else what,
        kind=CredentialKind.SSH_KEY if ssh else CredentialKind.PRIVATE_KEY,
        public=public.fingerprint if public else "",
        secret=raw,
        encrypted=private.encrypted,
        attributes=known(_about(private, public)),
    )


def _about(private: PrivatePart, public: PublicPart | None) -> dict[str, Attribute]:
    about: dict[str, Attribute] = {
        "encrypted": private.encrypted,
        "format": private.format,
        "comment": private.comment,
    }
    if public:
        about |= {
            "algorithm": public.algorithm,
            "bits": public.bits or None,
            "ssh_fingerprint": public.ssh_fingerprint,
        }
    return about


def _whose(answer: Binding, seen: Seen) -> Binding:
    """`answer`, and whose it is by what lies beside it: a certificate, or the kubeconfig round it."""
    answer = _with_certificate(answer, seen)
    if answer.subject is None and (user := kubernetes.bind(seen)) is not None:
        return replace(answer, method=user.method, subject=user.subject, reached=user.reached)
    return answer


def _with_certificate(answer: Binding, seen: Seen) -> Binding:
    """`answer`, and whom the certificate of the same key names, where one lies beside it."""
    if not answer.public or b"BEGIN CERTIFICATE" not in seen.blob.data:
        return answer
    start = max(0, seen.hit.start - _NEAR_CERTIFICATES // 2)
    blocks = pem_blocks(seen.blob.data[start : start + _NEAR_CERTIFICATES])
    for number, block in enumerate(block for block in blocks if block.label == "CERTIFICATE"):
        if number == MAX_CERTIFICATES:
            break
        found = _holder(block, answer.public)
        if found is not None:
            who, issued, expires = found
            return replace(answer, method="certificate of the same key", subject=who, issued=issued, expires=expires)
    return answer


def _holder(block: PemBlock, public: str) -> tuple[Subject, datetime, datetime] | None:
    try:
        certificate = load_certificate(block.text, pem=True)
        with quiet():
            if public_part(certificate.public_key()).fingerprint != public:
                return None
        return certificate_holder(certificate), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (Malformed, ValueError):
        return None


def certificate_holder(certificate: object) -> Subject:
    """Whom a certificate names, as the files connector names it; a SPIFFE ID is an alias."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    assert isinstance(certificate, x509.Certificate)
    text, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    dns: list[str] = []
    uris: list[str] = []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = [str(entry) for entry in names.get_values_for_type(x509.DNSName)]
        uris = [str(entry) for entry in names.get_values_for_type(x509.UniformResourceIdentifier)]
    except x509.ExtensionNotFound:
        pass
    title = str(common[0].value) if common else (dns[0] if dns else text or f"{certificate.serial_number:x}")
    return subject(
        "x509", sha256(issuer.encode())[7:23], "subject", text or title,
        of=IdentityKind.CERTIFICATE_HOLDER, title=title,
        aliases=tuple(Name(uri[:1000]) for uri in uris if uri.startswith("spiffe://")),
        attributes={"issuer": issuer, "names": ", ".join(dns[:10]), "serial": f"{certificate.serial_number:x}"},
    )  # fmt: skip


def _putty(value: bytes) -> Binding | None:
    text = value.decode("utf-8", "replace")
    public = re.search(r"^Public-Lines: (\d{1,3})\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+)", text, re.MULTILINE)
    cipher = re.search(r"^Encryption: (\S+)", text, re.MULTILINE)
    comment = re.search(r"^Comment: ([^\r\n]{0,200})", text, re.MULTILINE)
    if not public or not cipher:
        return None
    part = read_ssh_line("".join(public.group(2).split()[: int(public.group(1))]))
    private = PrivatePart(
        public=part, encrypted=cipher.group(1) != "none", format="ppk", comment=comment.group(1) if comment else ""
    )
    return _of_private(private, value)


def _pgp(value: bytes) -> Binding:
    """Key id, fingerprint and user of a PGP secret key: its public half and names are clear under any passphrase."""
    armour = re.search(
        rb"-----BEGIN PGP PRIVATE KEY BLOCK-----(.*?)(?:-----END|\Z)", value.replace(b"\\n", b"\n"), re.DOTALL
    )
    assert armour is not None
    body = armour.group(1).replace(b"\r", b"").lstrip()
    # Headers, where there are some, end with an empty line; the checksum begins with `=`.
    if b"\n\n" in body and b":" in body.partition(b"\n\n")[0]:
        body = body.partition(b"\n\n")[2]
    lines = [line.strip() for line in body.split(b"\n")]
    data = base64.b64decode(b"".join(line for line in lines if line and not line.startswith(b"=")))
    fingerprint, made, encrypted = "", None, False
    users: list[str] = []
    for tag, packet in _packets(data):
        if tag == 5 and not fingerprint:
            fingerprint, made, encrypted = _pgp_key(packet)
        elif tag == 13 and len(users) < 10:
            users.append(packet.decode("utf-8", "replace"))
    who = None
    if users:
        mail = re.search(r"<([^<>\s]{3,200})>", users[0])
        who = subject("pgp", "uid", "user", mail.group(1) if mail else users[0], title=users[0])
    return Binding(
        provider="pgp",
        method="user id in the key" if who else "form",
        what="PGP private key",
        kind=CredentialKind.PRIVATE_KEY,
        # Kept apart from SPKI fingerprints: an OpenPGP fingerprint is a hash of another form.
        public=sha256(b"openpgp:" + bytes.fromhex(fingerprint)) if fingerprint else "",
        secret=value,
        subject=who,
        issued=made,
        encrypted=encrypted,
        attributes={"pgp_fingerprint": fingerprint, "key_id": fingerprint[-16:], "encrypted": encrypted},
    )


def _pgp_key(packet: bytes) -> tuple[str, datetime | None, bool]:
    """Version 4 fingerprint, creation time, and whether a passphrase protects it."""
    if packet[:1] != b"\x04":
        return "", None, False
    public = _public_length(packet)
    body = packet[:public]
    digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest()
    return digest, moment(int.from_bytes(packet[1:5], "big")), packet[public : public + 1] != b"\x00"


_MPIS = {1: 2, 2: 2, 3: 2, 16: 3, 17: 4}
_CURVES = {18: 2, 19: 1, 22: 1}
_RAW = {25: 32, 26: 56, 27: 32, 28: 57}


def _public_length(packet: bytes) -> int:
    """Where the public half of a version 4 secret-key packet ends."""
    algorithm, at = packet[5], 6
    if algorithm in _RAW:
        return at + _RAW[algorithm]
    count = _MPIS.get(algorithm, 0)
    if algorithm in _CURVES:
        at += 1 + packet[at]
        count = 1
    for _ in range(count):
        at += 2 + (int.from_bytes(packet[at : at + 2], "big") + 7) // 8
    if algorithm == 18:
        at += 1 + packet[at]
    if not count or at > len(packet):
        raise ValueError("no known PGP key")
    return at


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    """The packets of an OpenPGP message, at most a hundred."""
    at = 0
    found: list[tuple[int, bytes]] = []
    while at < len(data) and len(found) < 100:
        head = data[at]
        if not head & 0x80:
            break
        if head & 0x40:
            tag, first = head & 0x3F, data[at + 1]
            if first < 192:
                length, at = first, at + 2
            elif first < 224:
                length, at = (first - 192 << 8) + data[at + 2] + 192, at + 3
            elif first == 255:
                length, at = int.from_bytes(data[at + 2 : at + 6], "big"), at + 6
            else:
                break
        else:
            tag, size = head >> 2 & 0x0F, 1 << (head & 3)
            if size == 8:
                break
            length, at = int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size
        found.append((tag, data[at : at + length]))
        at += length
    return found
