"""Instance identity documents: signed by the region that they name, in each form that AWS gives out."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

from possession_stage import REGION, Region, code_of, encoded, identity_document
from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured
from remit.trust.attestors.aws_iid import AwsIidAttestor
from remit.trust.testing import NOON

KEY = Region.make()
OTHER = Region.make()
DOCUMENT = identity_document()


def attestor(**settings: bool) -> AwsIidAttestor:
    return AwsIidAttestor({REGION: KEY.pem, "us-east-1": OTHER.pem}, accounts=["111122223333"], **settings)


def code(payload: Mapping[str, Json]) -> str:
    return code_of(lambda: asyncio.run(attestor().begin(payload, NOON)))


def test_what_the_document_says_becomes_selectors() -> None:
    payload = {"document": DOCUMENT.decode(), "signature": KEY.signature(DOCUMENT)}
    evidence = asyncio.run(attestor().begin(payload, NOON))
    assert {str(one) for one in evidence.selectors} == {
        "aws_iid:account:111122223333",
        "aws_iid:region:eu-central-1",
        "aws_iid:az:eu-central-1a",
        "aws_iid:instance_id:i-0123456789abcdef0",
        "aws_iid:image_id:ami-0123456789abcdef0",
        "aws_iid:instance_type:m7g.large",
    }


@pytest.mark.parametrize("options", [("-nocerts", "-stream", "-indef"), ("-nocerts",), ("-noattr",), ()])
def test_each_form_of_pkcs7_that_openssl_makes_is_read(tmp_path: Path, options: tuple[str, ...]) -> None:
    message = KEY.pkcs7(DOCUMENT, tmp_path, *options)
    broken_into_lines = "\n".join(message[at : at + 64] for at in range(0, len(message), 64))
    assert code({"rsa2048": broken_into_lines}) == ""


def test_what_cryptography_signs_is_read() -> None:
    builder = PKCS7SignatureBuilder().set_data(DOCUMENT).add_signer(KEY.own.certificate, KEY.own.key, hashes.SHA384())
    assert code({"rsa2048": encoded(builder.sign(Encoding.DER, [PKCS7Options.Binary]))}) == ""


def test_a_document_by_sha1_is_refused(tmp_path: Path) -> None:
    assert code({"rsa2048": KEY.pkcs7(DOCUMENT, tmp_path, "-nocerts", "-md", "sha1")}) == "trust.proof.malformed"


def test_a_region_speaks_for_itself_alone(tmp_path: Path) -> None:
    assert code({"rsa2048": OTHER.pkcs7(DOCUMENT, tmp_path)}) == "trust.proof.mismatch"
    theirs = identity_document(region="us-east-1")
    assert code({"rsa2048": OTHER.pkcs7(theirs, tmp_path)}) == ""


def test_changed_content_is_refused_though_the_attributes_are_signed(tmp_path: Path) -> None:
    message = b64decode(KEY.pkcs7(DOCUMENT, tmp_path, "-nocerts"))
    changed = message.replace(b"i-0123456789abcdef0", b"i-0123456789abcdef1")
    assert changed != message
    assert code({"rsa2048": encoded(changed)}) == "trust.proof.mismatch"


def test_two_signers_are_one_too_many(tmp_path: Path) -> None:
    builder = PKCS7SignatureBuilder().set_data(DOCUMENT)
    for one in (KEY, OTHER):
        builder = builder.add_signer(one.own.certificate, one.own.key, hashes.SHA256())
    assert code({"rsa2048": encoded(builder.sign(Encoding.DER, [PKCS7Options.Binary]))}) == "trust.proof.malformed"


def test_a_detached_signature_has_no_document() -> None:
    builder = PKCS7SignatureBuilder().set_data(DOCUMENT).add_signer(KEY.own.certificate, KEY.own.key, hashes.SHA256())
    signed = builder.sign(Encoding.DER, [PKCS7Options.Binary, PKCS7Options.DetachedSignature])
    assert code({"rsa2048": encoded(signed)}) == "trust.proof.malformed"


def test_a_document_counts_once_unless_the_operator_says_otherwise() -> None:
    payload = {"document": DOCUMENT.decode(), "signature": KEY.signature(DOCUMENT)}
    once = asyncio.run(attestor().begin(payload, NOON)).facts
    assert once["proof"] == "111122223333/i-0123456789abcdef0"
    assert isinstance(once["proof_expires"], int) and once["proof_expires"] > NOON.timestamp() + 9 * 365 * 86_400
    assert "proof" not in asyncio.run(attestor(reusable=True).begin(payload, NOON)).facts


def test_the_certificate_of_a_region_must_be_valid_now() -> None:
    payload = {"document": DOCUMENT.decode(), "signature": KEY.signature(DOCUMENT)}
    late = NOON + timedelta(days=36_500)
    assert code_of(lambda: asyncio.run(attestor().begin(payload, late))) == "trust.proof.expired"


@pytest.mark.parametrize("regions", [{}, {"Europe": KEY.pem}, {REGION: b"garbage"}])
def test_regions_have_certificates(regions: Mapping[str, bytes]) -> None:
    with pytest.raises(Misconfigured):
        AwsIidAttestor(regions, accounts=["111122223333"])


def test_a_short_key_is_no_anchor() -> None:
    with pytest.raises(Misconfigured):
        AwsIidAttestor({REGION: Region.make(1024).pem}, accounts=["111122223333"])
