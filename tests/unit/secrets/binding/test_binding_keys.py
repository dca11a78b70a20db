"""Keys and stores: the same pair is one credential in whatever form it lies, and its certificate says whose it is."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.binding import Binding, bind
from remit.inventory.secrets.model import Blob, Hit

PEM, PLAIN = serialization.Encoding.PEM, serialization.NoEncryption()


def bound(value: bytes, data: bytes | None = None) -> Binding:
    data = value if data is None else data
    start = data.find(value)
    hit = Hit(rule="private-key", title="x", kind=CredentialKind.PRIVATE_KEY, value=value, start=start,
              end=start + len(value), line=1, confidence=90)  # fmt: skip
    return bind(hit, Blob(path="x", data=data))


def made() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api.acme.com")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(7).not_valid_before(day).not_valid_after(day + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://acme.com/api")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return key, certificate


def test_every_form_of_a_key_has_one_fingerprint() -> None:
    key, certificate = made()
    forms = [
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN),
        key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN),
        key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, PLAIN),
        key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, PLAIN),
        pkcs12.serialize_key_and_certificates(b"api", key, certificate, None, PLAIN),
        pkcs12.serialize_key_and_certificates(b"api", key, certificate, None, serialization.BestAvailableEncryption(b"changeit")),
    ]  # fmt: skip
    assert len({bound(form).public for form in forms}) == 1


def test_a_key_in_one_line_of_json_is_read() -> None:
    key, _ = made()
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN)
    assert bound(pem.replace(b"\n", b"\\n")).public == bound(pem).public


def test_the_certificate_beside_a_key_says_whose_it_is() -> None:
    key, certificate = made()
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN)
    found = bound(pem, pem + certificate.public_bytes(PEM))
    assert found.subject is not None and found.subject.title == "api.acme.com"
    assert found.subject.aliases == ("spiffe://acme.com/api",)
    assert found.expires is not None


def test_the_certificate_of_another_key_says_nothing() -> None:
    pem = made()[0].private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN)
    assert bound(pem, pem + made()[1].public_bytes(PEM)).subject is None


def run(*command: str | Path, **given: object) -> bytes:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]}: not installed")
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, **given).stdout  # type: ignore[call-overload,no-any-return]


def test_an_encrypted_ssh_key_shows_the_fingerprint_of_ssh_keygen(tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "hunter22", "-C", "ci@build", "-f", tmp_path / "id")
    shown = run("ssh-keygen", "-l", "-f", tmp_path / "id.pub").decode().split()[1]
    found = bound((tmp_path / "id").read_bytes())
    assert (found.attributes["ssh_fingerprint"], found.encrypted) == (shown, True)


def test_a_pem_key_under_a_passphrase_has_no_public_half() -> None:
    key, _ = made()
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"hunter22"))
    assert (bound(pem).public, bound(pem).encrypted) == ("", True)


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa2048", "nistp256"])
def test_a_pgp_key_shows_the_fingerprint_and_user_of_gpg(tmp_path: Path, algorithm: str) -> None:
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    base = ("gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "hunter22", "--pinentry-mode", "loopback")
    run(*base, "--quick-generate-key", "CI <ci@acme.com>", algorithm, "sign", "never")
    listed = run(*base, "--with-colons", "-K").decode()
    shown = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
    found = bound(run(*base, "--armor", "--export-secret-keys"))
    run("gpgconf", "--homedir", home, "--kill", "all")
    assert str(found.attributes["pgp_fingerprint"]).upper() == shown
    assert found.subject is not None and found.subject.title == "CI <ci@acme.com>"
    assert found.encrypted


def test_a_java_store_shows_the_certificate_of_its_sealed_key() -> None:
    key, certificate = made()
    der = certificate.public_bytes(serialization.Encoding.DER)

    def counted(data: bytes, size: int) -> bytes:
        return len(data).to_bytes(size, "big") + data

    entry = (1).to_bytes(4, "big") + counted(b"tomcat", 2) + bytes(8) + counted(b"sealed", 4)
    entry += (1).to_bytes(4, "big") + counted(b"X.509", 2) + counted(der, 4)
    found = bound(b"\xfe\xed\xfe\xed" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + entry + bytes(20))
    assert found.public == bound(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN)).public
    assert found.attributes["alias"] == "tomcat"
