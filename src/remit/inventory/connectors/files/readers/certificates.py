"""X.509: certificates and private keys in PEM and DER, PKCS#12 stores, Java key stores (recognised only).

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
        record_private(sheet, read_private_der(data), raw=data)


def read_pkcs12(sheet: Sheet) -> None:
    """Record a PKCS#12 store: what it holds when it has no password, that it is there when it has one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import pkcs12

    data = sheet.file.data
    if data[:1] != b"\x30":
        raise Malformed("no PKCS#12")
    for password in (None, b""):
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
        _record_store(sheet, store, data)
        return
    _record_sealed(sheet, "PKCS#12 store")


def _record_store(sheet: Sheet, store: object, data: bytes) -> None:
    key, first, others = store.key, store.cert, store.additional_certs  # type: ignore[attr-defined]
    if key is not None:
        private = PrivatePart(public=public_part(key.public_key()), encrypted=False, format="pkcs12")
        record_private(sheet, private, raw=data)
        sheet.finding(
            "unprotected-keystore",
            Severity.MEDIUM,
            f"{sheet.file.name} opens without a password",
            "a PKCS#12 store with an empty password protects nothing",
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
    """Record that a Java key store is there; its entries are not read."""
    if sheet.file.data[:4] not in {b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"} and sheet.file.data[:1] != b"\x30":
        raise Malformed("no key store")
    if sheet.file.name == "cacerts":
        return
    if sheet.file.data[:1] == b"\x30":
        read_pkcs12(sheet)
        return
    _record_sealed(sheet, "Java key store")


PEM = Reader(
    id="x509",
    reads="certificates and private keys in PEM and DER",
    patterns=(Pattern(suffixes=(".pem", ".crt", ".cer", ".der", ".key", ".p8", ".pk8", ".cert", ".p7b")),),
    read=read,
)
PKCS12 = Reader(
    id="pkcs12",
    reads="PKCS#12 stores without a password; others are recorded as sealed",
    patterns=(Pattern(suffixes=(".p12", ".pfx")),),
    read=read_pkcs12,
)
JAVA = Reader(
    id="java-keystore",
    reads="Java key stores, recognised only",
    patterns=(Pattern(suffixes=(".jks", ".jceks", ".keystore", ".bcfks"), names=("cacerts",)),),
    read=read_java,
)
