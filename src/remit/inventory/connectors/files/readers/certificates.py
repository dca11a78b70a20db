"""X.509: certificates and private keys in PEM, DER and PKCS#7, PKCS#12 stores, Java key stores.

Spec: RFC 5280; RFC 7292 (PKCS#12).
"""

from __future__ import annotations

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keys import (
    PemBlock,
    PrivatePart,
    pem_blocks,
    public_part,
    quiet,
    read_private_der,
    sha256,
)
from remit.inventory.connectors.files.keystores import KNOWN_PASSWORDS, MAGIC, known_password, read_store
from remit.inventory.connectors.files.pem import (
    is_authority,
    load_certificate,
    record_block,
    record_certificate,
    record_private,
)
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.model import CredentialKind, Severity

BUNDLE = 4
"""From so many certificates, all of authorities, a file says whom to trust, not who one is."""


def read(sheet: Sheet) -> None:
    """Record what a PEM or DER file holds; a bundle of authorities is one resource, not many identities."""
    data = sheet.file.data
    if b"-----BEGIN" not in data:
        _read_der(sheet, data)
        return
    blocks = list(pem_blocks(data))
    if blocks and blocks[0].label == "PKCS7":
        _read_pkcs7(sheet, blocks[0].text, pem=True)
        return
    certificates = [block for block in blocks if block.label.endswith("CERTIFICATE")]
    if len(certificates) >= BUNDLE and len(certificates) == len(blocks) and _is_bundle(certificates):
        of = sheet.name("host", sheet.file.host, "trust-bundle", sheet.file.path)
        title = f"{len(certificates)} authorities trusted by {sheet.file.name}"
        sheet.resource(of, "trust-bundle", title, count=len(certificates))
        return
    broken = 0
    for block in blocks:
        try:
            record_block(sheet, block)
        except Malformed:
            broken += 1
    if broken or not blocks:
        sheet.skip(
            "malformed", f"{broken} of {len(blocks)} blocks cannot be read" if blocks else "a block without an end"
        )


def _is_bundle(blocks: list[PemBlock]) -> bool:
    """True when nobody's own certificate is among them; no chain is twenty long."""
    try:
        return len(blocks) >= 20 or all(is_authority(load_certificate(block.text, pem=True)) for block in blocks)
    except Malformed:
        return False


def _read_der(sheet: Sheet, data: bytes) -> None:
    # Many things end in `.key` or `.cer`; only a DER sequence is worth an attempt.
    if data[:1] != b"\x30":
        if sheet.file.name.lower().endswith((".pem", ".crt", ".der", ".cer")):
            sheet.skip("malformed", "neither PEM nor DER")
        return
    try:
        record_certificate(sheet, load_certificate(data, pem=False))
    except Malformed:
        if sheet.file.name.lower().endswith((".p7b", ".p7c")):
            _read_pkcs7(sheet, data, pem=False)
            return
        record_private(sheet, read_private_der(data), raw=data)


def _read_pkcs7(sheet: Sheet, data: bytes, *, pem: bool) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs7

    load = pkcs7.load_pem_pkcs7_certificates if pem else pkcs7.load_der_pkcs7_certificates
    with quiet():
        try:
            found = load(data)
        except (ValueError, UnsupportedAlgorithm):
            raise Malformed("no PKCS#7") from None
    for certificate in found[:100]:
        record_certificate(sheet, certificate)


def read_pkcs12(sheet: Sheet) -> None:
    """Record a PKCS#12 store: what it holds when it has no password, that it is there when it has one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs12

    data = sheet.file.data
    if data[:1] != b"\x30":
        raise Malformed("no PKCS#12")
    known = [word.encode() for word in KNOWN_PASSWORDS[:3]]
    for password in (None, b"", *known):
        with quiet():
            try:
                store = pkcs12.load_pkcs12(data, password)
            except UnsupportedAlgorithm:
                sheet.skip("not-supported", "an algorithm that is not known")
                return
            except ValueError as error:
                if "password" in str(error).lower() or password is None:
                    continue
                raise Malformed("no PKCS#12") from None
        _record_store(sheet, store, data, known=bool(password))
        return
    _record_sealed(sheet, "PKCS#12 store")


def _record_store(sheet: Sheet, store: object, data: bytes, *, known: bool) -> None:
    key, first, others = store.key, store.cert, store.additional_certs  # type: ignore[attr-defined]
    if key is not None:
        private = PrivatePart(public=public_part(key.public_key()), encrypted=False, format="pkcs12")
        record_private(sheet, private, raw=data)
        sheet.finding(
            "unprotected-keystore",
            Severity.MEDIUM,
            f"{sheet.file.name} opens {'with a password that everybody knows' if known else 'without a password'}",
            "the store protects nothing: the key in it is clear to who reads the file",
            "let the workload fetch its key when it starts: `remit entry create`",
        )
    for entry in [first, *others]:
        if entry is not None:
            record_certificate(sheet, entry.certificate)


def _record_sealed(sheet: Sheet, what: str) -> None:
    sheet.credential(
        sha256(sheet.file.data),
        CredentialKind.PRIVATE_KEY,
        f"{what} {sheet.file.name}",
        holders=[sheet.account()],
        attributes={"encrypted": True, "format": what.split()[0].lower()},
    )
    sheet.skip("encrypted", f"a {what} under a password")


def read_java(sheet: Sheet) -> None:
    """Record a Java key store: its certificates, its sealed keys by them, and whether a known password opens it."""
    if sheet.file.data[:4] not in MAGIC and sheet.file.data[:1] != b"\x30":
        raise Malformed("no key store")
    if sheet.file.name == "cacerts":
        return
    if sheet.file.data[:1] == b"\x30":
        read_pkcs12(sheet)
        return
    _record_java(sheet)


def _record_java(sheet: Sheet) -> None:
    entries = list(read_store(sheet.file.data))
    keys = [entry for entry in entries if entry.sealed]
    if not keys and len(entries) >= BUNDLE:
        of = sheet.name("host", sheet.file.host, "trust-bundle", sheet.file.path)
        sheet.resource(
            of, "trust-bundle", f"{len(entries)} authorities trusted by {sheet.file.name}", count=len(entries)
        )
        return
    known = known_password(sheet.file.data)
    for entry in entries:
        chain = [load_certificate(der, pem=False) for der in entry.chain]
        if entry.sealed:
            # The chain begins with the key's own certificate: it tells which key is sealed here.
            public = public_part(chain[0].public_key()) if chain else None
            private = PrivatePart(public=public, encrypted=not known, format="java")
            record_private(sheet, private, raw=entry.sealed, setting=entry.alias)
        for certificate in chain:
            record_certificate(sheet, certificate)
    if known and keys:
        sheet.finding(
            "unprotected-keystore",
            Severity.MEDIUM,
            f"{sheet.file.name} opens with a password that everybody knows",
            "the store protects nothing: the keys in it are clear to who reads the file",
            "let the workload fetch its key when it starts: `remit entry create`",
        )
    if not entries:
        sheet.skip("not-supported", "a key store of secret keys alone, or empty")


PEM = Reader(
    id="x509",
    reads="certificates and private keys in PEM and DER",
    patterns=(Pattern(suffixes=(".pem", ".crt", ".cer", ".der", ".key", ".p8", ".pk8", ".cert", ".p7b", ".p7c")),),
    read=read,
)
PKCS12 = Reader(
    id="pkcs12",
    reads="PKCS#12 stores without a password or with one that everybody knows; others are recorded as sealed",
    patterns=(Pattern(suffixes=(".p12", ".pfx")),),
    read=read_pkcs12,
)
JAVA = Reader(
    id="java-keystore",
    reads="Java key stores: certificates, and which keys are sealed in them",
    patterns=(Pattern(suffixes=(".jks", ".jceks", ".keystore", ".bcfks"), names=("cacerts",)),),
    read=read_java,
)
