"""Whatever a stranger sends, an attestor answers with a typed refusal, in bounded work."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import certificates as made
from possession_stage import (
    DOMAIN,
    HOST,
    REGION,
    LocalSts,
    Region,
    identity_document,
    machine,
    ssh_certificate,
    ssh_key,
)
from remit.kernel.errors import Rejected
from remit.trust.attestors.anchors import Anchors
from remit.trust.attestors.aws_iid import AwsIidAttestor
from remit.trust.attestors.aws_sts import AwsStsAttestor
from remit.trust.attestors.cms import parse_signed_data, read_element
from remit.trust.attestors.payload import decoded
from remit.trust.attestors.sigv4 import parse_signed, read_headers
from remit.trust.attestors.ssh_pop import HostAuthorities, SshPopAttestor
from remit.trust.attestors.sshsig import verify_sshsig
from remit.trust.attestors.tpm import TpmAttestor
from remit.trust.attestors.tpm_credential import kdfa
from remit.trust.attestors.tpm_structures import parse_public, parse_quote, parse_signature
from remit.trust.attestors.x509_pop import X509PopAttestor
from remit.trust.ports import ProofAttestor

NOW = datetime.now(UTC)
fuzz = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**53 - 1) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
NAMES = ["chain", "certificate", "ek", "ak", "ek_certificate", "ek_chain", "host", "rsa2048", "document", "signature"]
base64 = st.binary(max_size=200).map(lambda octets: b64encode(octets).decode())
shown = st.dictionaries(st.sampled_from(NAMES), json | base64 | st.lists(base64, max_size=3), max_size=4)


_folders: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    _folders.append(tmp_path_factory.mktemp("proof-parsers"))


def folder() -> Path:
    return _folders[0]


@cache
def root() -> made.Made:
    return made.root()


@cache
def region() -> Region:
    return Region.make()


@cache
def host_certificate() -> bytes:
    """The bytes of a host certificate by ssh-keygen; the CA's key is beside it."""
    ca, key = ssh_key(folder(), "ca"), ssh_key(folder(), "host")
    return b64decode(Path(ssh_certificate(folder(), ca, key, *HOST)).read_text().split()[1])


@cache
def attestors() -> dict[str, ProofAttestor]:
    host_certificate()
    return {
        "x509pop": X509PopAttestor(Anchors("x509pop", root().pem), trust_domain=DOMAIN),
        "sshpop": SshPopAttestor(HostAuthorities((folder() / "ca.pub").read_bytes()), trust_domain=DOMAIN),
        "tpm": TpmAttestor(trust_domain=DOMAIN, anchors=Anchors("tpm", root().pem)),
        "aws_sts": AwsStsAttestor(LocalSts(), trust_domain=DOMAIN, accounts=["111122223333"]),
        "aws_iid": AwsIidAttestor({REGION: region().pem}, accounts=["111122223333"]),
    }


@pytest.mark.parametrize("kind", ["x509pop", "sshpop", "tpm", "aws_sts", "aws_iid"])
@given(payload=shown)
@fuzz
def test_whatever_is_shown_is_refused_with_a_code(kind: str, payload: dict[str, object]) -> None:
    with pytest.raises(Rejected) as refused:
        asyncio.run(attestors()[kind].begin(payload, NOW))  # type: ignore[arg-type]
    assert refused.value.code.startswith("trust.proof.")


def mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """A good structure with a byte changed, a piece cut out, or something put in."""
    at = st.integers(0, len(good) - 1)
    flipped = st.tuples(at, st.integers(1, 255)).map(
        lambda p: good[: p[0]] + bytes([good[p[0]] ^ p[1]]) + good[p[0] + 1 :]
    )
    cut = st.tuples(at, at).map(lambda p: good[: min(p)] + good[max(p) :])
    grown = st.tuples(at, st.binary(max_size=8)).map(lambda p: good[: p[0]] + p[1] + good[p[0] :])
    return flipped | cut | grown


def refuses(work: Callable[[], object]) -> None:
    """It returns or refuses: nothing else comes out."""
    with contextlib.suppress(Rejected):
        work()


@cache
def certificate() -> bytes:
    return machine(root()).der


@given(der=st.deferred(lambda: mutated(certificate())))
@fuzz
def test_a_damaged_certificate_is_never_believed(der: bytes) -> None:
    payload = {"chain": [b64encode(der).decode()]}
    if der != certificate():
        with pytest.raises(Rejected):
            asyncio.run(attestors()["x509pop"].begin(payload, NOW))


def test_undamaged_ones_are_believed() -> None:
    line = f"ssh-ed25519-cert-v01@openssh.com {b64encode(host_certificate()).decode()}"
    assert asyncio.run(attestors()["x509pop"].begin({"chain": [b64encode(certificate()).decode()]}, datetime.now(UTC)))
    assert asyncio.run(attestors()["sshpop"].begin({"certificate": line}, datetime.now(UTC)))


@given(blob=st.deferred(lambda: mutated(host_certificate())))
@fuzz
def test_a_damaged_host_certificate_is_never_believed(blob: bytes) -> None:
    line = f"ssh-ed25519-cert-v01@openssh.com {b64encode(blob).decode()}"
    if blob != host_certificate():
        with pytest.raises(Rejected):
            asyncio.run(attestors()["sshpop"].begin({"certificate": line}, NOW))


@cache
def cms() -> bytes:
    return b64decode(region().pkcs7(identity_document(), folder()))


@given(message=st.deferred(lambda: mutated(cms())))
@fuzz
def test_a_damaged_document_never_says_something_else(message: bytes) -> None:
    payload = {"rsa2048": b64encode(message).decode()}
    attestor = attestors()["aws_iid"]
    with contextlib.suppress(Rejected):
        found = asyncio.run(attestor.begin(payload, datetime(2026, 11, 22, 12, tzinfo=UTC)))
        honest = asyncio.run(attestor.begin({"rsa2048": b64encode(cms()).decode()}, NOW + timedelta(0)))
        assert found.selectors == honest.selectors  # type: ignore[union-attr]


@given(blob=st.binary(max_size=300))
@fuzz
def test_what_is_no_structure_is_refused(blob: bytes) -> None:
    for parse in (parse_public, parse_quote, parse_signature, parse_signed_data, read_element):
        refuses(lambda parse=parse: parse(blob))  # type: ignore[misc]
    for key in (_ec().public_key(), _rsa().public_key()):
        with pytest.raises(Rejected):
            verify_sshsig(key, blob, b"message", namespace="test")


@given(depth=st.integers(17, 4000))
@fuzz
def test_deep_nesting_ends_early(depth: int) -> None:
    for one in (b"\x30\x80", b"\x24\x80"):
        with pytest.raises(Rejected):
            read_element(one * depth)


def test_many_elements_end_early() -> None:
    with pytest.raises(Rejected):
        read_element(b"\x30\x82\x10\x00" + b"\x05\x00" * 2048)


def sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


PUBLIC = bytes.fromhex("0001000b00050072" + "0000" + "0010" + "0014000b" + "0800" + "00000000") + sized(b"\xff" * 256)
QUOTE = (
    bytes.fromhex("ff5443478018") + sized(b"n" * 34) + sized(b"q" * 32) + bytes(17 + 8)
    + bytes.fromhex("00000001000b03810000") + sized(b"d" * 32)
)  # fmt: skip


def test_the_seeds_are_structures() -> None:
    assert parse_public(sized(PUBLIC)).key.key_size == 2048
    assert parse_quote(QUOTE).pcrs == (0, 7)


@given(
    public=mutated(sized(PUBLIC)), quote=mutated(QUOTE), signature=mutated(bytes.fromhex("0014000b") + sized(b"s" * 64))
)
@fuzz
def test_damaged_structures_of_a_tpm_are_read_or_refused(public: bytes, quote: bytes, signature: bytes) -> None:
    refuses(lambda: parse_public(public))
    refuses(lambda: parse_quote(quote))
    refuses(lambda: parse_signature(signature))


@given(pairs=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=60)), max_size=30))
@fuzz
def test_headers_are_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    with contextlib.suppress(Rejected):
        parse_signed(read_headers(pairs))


@given(text=st.text(max_size=60))
@fuzz
def test_base64_is_strict(text: str) -> None:
    with contextlib.suppress(Rejected):
        assert b64encode(decoded(text, "value")).decode() == text


@given(
    bits=st.integers(1, 200).map(lambda n: n * 8),
    key=st.binary(min_size=1, max_size=64),
    context=st.binary(max_size=64),
)
@fuzz
def test_a_longer_key_of_kdfa_is_no_continuation_of_a_shorter_one(bits: int, key: bytes, context: bytes) -> None:
    """The length is part of what is derived (SP 800-108)."""
    derived = kdfa("sha256", key, "STORAGE", context, bits=bits)
    assert len(derived) == bits // 8
    if bits >= 64:
        assert kdfa("sha256", key, "STORAGE", context, bits=bits + 8)[:-1] != derived


@cache
def _ec() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
