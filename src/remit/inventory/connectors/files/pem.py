"""Certificates and private keys, from whatever file carries them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keys import PemBlock, PrivatePart, public_part, quiet, read_private_pem, sha256
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.model import Attribute, CredentialKind, IdentityKind, Severity
from remit.kernel.ids import Name

if TYPE_CHECKING:
    from cryptography import x509

SOON = timedelta(days=30)
LONG = timedelta(days=825)
"""The longest life that browsers ever accepted of a leaf since 2018."""


def record_block(
    sheet: Sheet, block: PemBlock, *, line: int | None = None, holders: Iterable[Name] = (), setting: str = ""
) -> Name | None:
    """Record one PEM block; `None` when it is neither a certificate nor a private key. `Malformed` when it lies."""
    line = line or block.line
    if block.label in {"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"}:
        return record_certificate(sheet, load_certificate(block.text, pem=True), line=line)
    private = read_private_pem(block)
    if private is None:
        return None
    return record_private(sheet, private, raw=block.text, line=line, holders=holders, setting=setting)


def load_certificate(data: bytes, *, pem: bool) -> x509.Certificate:
    """Parse a certificate; `Malformed` when it is none."""
    from cryptography import x509

    with quiet():
        try:
            return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        except (ValueError, TypeError):
            raise Malformed("no certificate") from None


def record_private(
    sheet: Sheet,
    private: PrivatePart,
    *,
    raw: bytes,
    line: int | None = None,
    holders: Iterable[Name] = (),
    setting: str = "",
    ssh: bool = False,
) -> Name:
    """Record a private key: by its public half where that can be had, else by a fingerprint of the sealed text."""
    public = private.public
    what = public.algorithm if public else private.format
    attributes: dict[str, Attribute] = {
        "encrypted": private.encrypted,
        "format": private.format,
        "algorithm": public.algorithm if public else None,
        "bits": public.bits or None if public else None,
        "ssh_fingerprint": public.ssh_fingerprint if public else "",
        "comment": private.comment,
        "setting": clean(setting, 80),
    }
    node = sheet.credential(
        public.fingerprint if public else sheet.fingerprint(raw),
        CredentialKind.SSH_KEY if ssh or private.format in {"openssh", "ppk"} else CredentialKind.PRIVATE_KEY,
        f"{what} private key {sheet.file.name}",
        line=line,
        holders=[*holders, *([] if not private.encrypted else [sheet.account()])],
        exposed=not private.encrypted,
        attributes={key: value for key, value in attributes.items() if value is not None},
    )
    if private.encrypted and public is None:
        sheet.skip("encrypted", "the public half of the key is sealed with it")
    if not private.encrypted:
        _finding_of_clear_key(sheet, node, line)
    if public and public.is_weak:
        weak_key(sheet, node, f"{public.algorithm} {public.bits or ''}".strip(), line)
    return node


def _finding_of_clear_key(sheet: Sheet, node: Name, line: int | None) -> None:
    # A server's own key must be readable by the server: only who else reads it is a finding there.
    own = sheet.file.account == "root" and not (
        sheet.file.open_to_all or sheet.file.open_to_group or sheet.file.tracked
    )
    sheet.finding(
        "unencrypted-key",
        Severity.INFO if own else Severity.HIGH if sheet.file.tracked else Severity.MEDIUM,
        f"private key {sheet.file.name} has no passphrase",
        "who copies the file has the identity, for as long as anything trusts the key"
        + ("; it is under version control: every clone has it" if sheet.file.tracked else ""),
        f"see what it opens with `remit blast {node}`; replace it by an SVID: `remit entry create`",
        subject=node,
        line=line,
    )


def weak_key(sheet: Sheet, node: Name, what: str, line: int | None) -> None:
    """Record that a key is too weak to be trusted."""
    sheet.finding(
        "weak-key",
        Severity.MEDIUM,
        f"{what} key in {sheet.file.name}",
        "it is below what NIST SP 800-131A allows",
        "make an Ed25519, P-256 or RSA 3072 key and remove this one wherever it is trusted",
        subject=node,
        line=line,
    )


def record_certificate(sheet: Sheet, certificate: x509.Certificate, *, line: int | None = None) -> Name:
    """Record a certificate and whom it names; the fingerprint is that of its key."""
    with quiet():
        return _record_certificate(sheet, certificate, line)


def _record_certificate(sheet: Sheet, certificate: x509.Certificate, line: int | None) -> Name:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        public = public_part(certificate.public_key())
        subject = certificate.subject.rfc4514_string()
        issuer = certificate.issuer.rfc4514_string()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed("a certificate of an unknown key") from None
    names, uris = _alternative_names(certificate)
    authority = is_authority(certificate)
    title = _common_name(certificate) or (names[0] if names else subject or certificate_digest(certificate)[7:19])
    spiffe = tuple(Name(clean(uri, 2048)) for uri in uris if uri.startswith("spiffe://"))
    identity = sheet.identity(
        sheet.name("x509", sha256(issuer.encode())[7:23], "subject", subject or title),
        IdentityKind.CERTIFICATE_HOLDER,
        title,
        line=line,
        aliases=spiffe,
        attributes={"issuer": issuer, "authority": authority, "names": ", ".join(names[:10])},
    )
    node = sheet.credential(
        public.fingerprint,
        CredentialKind.CERTIFICATE,
        f"certificate of {title}",
        line=line,
        identity=identity,
        issued=certificate.not_valid_before_utc,
        expires=certificate.not_valid_after_utc,
        attributes={
            "serial": f"{certificate.serial_number:x}",
            "certificate_sha256": certificate_digest(certificate),
            "algorithm": public.algorithm,
            "bits": public.bits,
            "authority": authority,
        },
    )
    _findings_of_certificate(sheet, certificate, node, title, line, authority)
    if public.is_weak:
        weak_key(sheet, node, f"{public.algorithm} {public.bits}", line)
    return node


def certificate_digest(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER form."""
    from cryptography.hazmat.primitives import hashes

    return "sha256:" + certificate.fingerprint(hashes.SHA256()).hex()


def is_authority(certificate: x509.Certificate) -> bool:
    """True of a certificate that may sign others."""
    from cryptography import x509

    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
    except (ValueError, x509.DuplicateExtension):
        raise Malformed("a certificate with broken extensions") from None


def _alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Malformed("a certificate with broken extensions") from None
    dns = [str(entry) for entry in names.get_values_for_type(x509.DNSName)]
    return dns, [str(entry) for entry in names.get_values_for_type(x509.UniformResourceIdentifier)]


def _common_name(certificate: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID

    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _findings_of_certificate(
    sheet: Sheet, certificate: x509.Certificate, node: Name, title: str, line: int | None, authority: bool
) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    renew = "renew it, or let the workload fetch an SVID that renews itself: `remit entry create`"
    if end < sheet.now:
        sheet.finding(
            "expired-certificate", Severity.LOW if authority else Severity.MEDIUM,
            f"certificate of {title} has expired",
            f"it ended {end:%Y-%m-%d}; what still accepts it does not check", renew, subject=node, line=line,
        )  # fmt: skip
    elif end < sheet.now + SOON:
        sheet.finding(
            "expiring-certificate", Severity.MEDIUM, f"certificate of {title} expires on {end:%Y-%m-%d}",
            "what depends on it stops that day", renew, subject=node, line=line,
        )  # fmt: skip
    elif end - start > LONG and not authority:
        sheet.finding(
            "long-lived-certificate", Severity.LOW, f"certificate of {title} lives for {(end - start).days} days",
            "a copy of its key is good until then: no expiry bounds the theft", renew, subject=node, line=line,
        )  # fmt: skip
    algorithm = certificate.signature_hash_algorithm if end >= sheet.now else None
    if algorithm is not None and algorithm.name in {"md5", "sha1"} and certificate.subject != certificate.issuer:
        sheet.finding(
            "legacy-signature", Severity.MEDIUM, f"certificate of {title} is signed with {algorithm.name}",
            "signatures of this kind can be forged", renew, subject=node, line=line,
        )  # fmt: skip
