"""Machines by their TPM: a real TPM 2.0 (swtpm) answers through tpm2-tools, and every lie about it is refused."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import certificates as made
from possession_stage import DOMAIN, code_of, encoded
from remit.kernel.canonical import Json
from remit.trust.attestors.anchors import Anchors
from remit.trust.attestors.clients.tpm import TpmProver
from remit.trust.attestors.provers import prover
from remit.trust.attestors.tpm import Registers, TpmAttestor
from remit.trust.attestors.tpm_credential import make_credential
from remit.trust.attestors.tpm_structures import parse_public
from remit.trust.model import Evidence
from remit.trust.ports import Challenge, ProofAttestor
from remit.trust.proof_testing import ProofAttestorContract
from tpm_stage import SoftTpm, soft_tpm

REGISTERS = Registers.parse("sha256:7,16")
Payload = Mapping[str, Json]


@pytest.fixture(scope="module")
def tpm() -> Iterator[SoftTpm]:
    with soft_tpm() as made_tpm:
        # Otherwise every register holds the same, and none could be taken for another.
        made_tpm.run("tpm2_pcrextend", f"16:sha256={'b' * 64}")
        yield made_tpm


@pytest.fixture(scope="module")
def other_tpm() -> Iterator[SoftTpm]:
    with soft_tpm() as made_tpm:
        yield made_tpm


class Stage:
    """A machine with this TPM, before an attestor that believes its maker."""

    def __init__(self, tpm: SoftTpm, registers: Registers = REGISTERS, **options: str) -> None:
        self.attestor = TpmAttestor(trust_domain=DOMAIN, anchors=Anchors("tpm", tpm.maker), registers=registers)
        self.prover = prover("tpm", {"tcti": tpm.tcti, "trust_domain": DOMAIN.name, **options})

    def payload(self) -> Payload:
        return asyncio.run(self.prover.payload(""))

    def begin(self, payload: Payload) -> Challenge:
        return asyncio.run(self.attestor.begin(payload, datetime.now(UTC)))

    def answer(self, challenge: Challenge) -> Payload:
        return asyncio.run(self.prover.answer(challenge.question))

    def finish(self, challenge: Challenge, answer: Payload) -> Evidence:
        return asyncio.run(self.attestor.finish(challenge, answer, datetime.now(UTC)))

    def prove(self) -> Evidence:
        challenge = self.begin(self.payload())
        return self.finish(challenge, self.answer(challenge))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ek_handle": "0x81010001"},
        {"algorithm": "ecc", "ek_handle": "0x81010001"},
        {"algorithm": "ecc", "ek_handle": "0x81010016"},
    ],
    ids=["rsa", "persistent rsa", "persistent rsa, signed by ecc", "persistent P-384"],
)
def test_a_machine_proves_its_tpm_and_its_registers(tpm: SoftTpm, options: dict[str, str]) -> None:
    evidence = Stage(tpm, **options).prove()
    values = {key: {one.value for one in evidence.selectors if one.key == key} for key in evidence_keys(evidence)}
    issuer = x509.load_pem_x509_certificates(tpm.maker)[0].public_bytes(Encoding.DER)
    assert hashlib.sha256(issuer).hexdigest() in values["ca"]
    assert {one.rpartition(":")[0] for one in values["pcr"]} == {"sha256:7", "sha256:16"}
    assert len(values["pcr_digest"]) == len(values["ek_sha256"]) == 1


def evidence_keys(evidence: Evidence) -> set[str]:
    return {one.key for one in evidence.selectors}


def test_a_register_that_changes_changes_its_selector(tpm: SoftTpm) -> None:
    stage = Stage(tpm)
    proved = stage.prove()
    tpm.run("tpm2_pcrextend", f"16:sha256={'a' * 64}")
    again = stage.prove()
    assert proved.facts["node"] == again.facts["node"]
    before, after = proved.selectors, again.selectors
    expected = hashlib.sha256(bytes.fromhex(_value(before, "pcr", "sha256:16")) + b"\xaa" * 32).hexdigest()
    assert _value(after, "pcr", "sha256:16") == expected
    assert _value(before, "pcr", "sha256:7") == _value(after, "pcr", "sha256:7")


def _value(selectors: Any, key: str, begins: str) -> str:
    (found,) = (one.value for one in selectors if one.key == key and one.value.startswith(begins + ":"))
    return str(found).rpartition(":")[2]


def test_a_register_with_a_value_that_is_not_allowed_is_refused(tpm: SoftTpm) -> None:
    allowed, zero = Registers.parse("sha256:7", [f"7={'0' * 64}"]), Registers.parse("sha256:7", [f"7={'f' * 64}"])
    assert "pcr" in evidence_keys(Stage(tpm, allowed).prove())
    assert code_of(Stage(tpm, zero).prove) == "trust.proof.untrusted"


@pytest.mark.parametrize("algorithm", ["rsa", "ecc"])
def test_a_key_on_the_list_needs_no_certificate(tpm: SoftTpm, algorithm: str) -> None:
    stage = Stage(tpm, algorithm=algorithm)
    key = parse_public(b64decode(str(stage.payload()["ek"]))).key
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    assert ("ek_certificate" in stage.payload()) == (algorithm == "rsa")
    stage.attestor = TpmAttestor(trust_domain=DOMAIN, endorsement_keys=[digest], registers=REGISTERS)
    assert "ca" not in evidence_keys(stage.prove())


def test_a_tpm_of_another_maker_is_refused(tpm: SoftTpm) -> None:
    stage = Stage(tpm)
    stage.attestor = TpmAttestor(trust_domain=DOMAIN, anchors=Anchors("tpm", made.root().pem))
    assert code_of(stage.prove) == "trust.proof.untrusted"


def test_the_certificate_of_another_tpm_is_refused(tpm: SoftTpm, other_tpm: SoftTpm) -> None:
    stage = Stage(tpm)
    stage.attestor = TpmAttestor(trust_domain=DOMAIN, anchors=Anchors("tpm", tpm.maker + other_tpm.maker))
    stolen = {**stage.payload(), "ek_certificate": Stage(other_tpm).payload()["ek_certificate"]}
    assert code_of(lambda: stage.begin(stolen)) == "trust.proof.mismatch"


def test_a_tpm_opens_nothing_for_a_key_of_another_tpm(tpm: SoftTpm, other_tpm: SoftTpm) -> None:
    """The attestation key of one TPM, with the endorsement key of another: neither can open the credential."""
    victim, thief = Stage(tpm), Stage(other_tpm)
    mixed = {**victim.payload(), "ak": thief.payload()["ak"]}
    challenge = victim.begin(mixed)
    assert code_of(lambda: victim.answer(challenge)) == "trust.prover.tpm"
    assert code_of(lambda: thief.answer(challenge)) == "trust.prover.tpm"


def test_a_quote_counts_for_its_own_question_alone(tpm: SoftTpm) -> None:
    stage = Stage(tpm)
    first = stage.begin(stage.payload())
    answer = stage.answer(first)
    second = stage.begin(stage.payload())
    honest = stage.answer(second)
    assert code_of(lambda: stage.finish(second, answer)) == "trust.proof.mismatch"
    stolen = {**answer, "secret": honest["secret"]}
    assert code_of(lambda: stage.finish(second, stolen)) == "trust.proof.mismatch"


CHANGES: Mapping[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "another secret": (lambda a: {**a, "secret": encoded(bytes(32))}, "trust.proof.mismatch"),
    "another value": (lambda a: {**a, "pcrs": [encoded(b"\1" * 32), a["pcrs"][1]]}, "trust.proof.mismatch"),
    "values in another order": (lambda a: {**a, "pcrs": a["pcrs"][::-1]}, "trust.proof.mismatch"),
    "too few values": (lambda a: {**a, "pcrs": a["pcrs"][:1]}, "trust.proof.malformed"),
    "values of another size": (lambda a: {**a, "pcrs": [encoded(b"\0" * 20)] * 2}, "trust.proof.malformed"),
    "no values": (lambda a: {**a, "pcrs": []}, "trust.proof.malformed"),
    "a changed quote": (lambda a: {**a, "quote": _flipped(a["quote"], -1)}, "trust.proof.mismatch"),
    "a quote cut short": (lambda a: {**a, "quote": encoded(b64decode(a["quote"])[:-1])}, "trust.proof.mismatch"),
    "a changed signature": (lambda a: {**a, "signature": _flipped(a["signature"], -1)}, "trust.proof.mismatch"),
    "a signature of another scheme": (lambda a: {**a, "signature": _flipped(a["signature"], 1)}, "trust.proof"),
    "a signature with more": (
        lambda a: {**a, "signature": encoded(b64decode(a["signature"]) + b"\0")},
        "trust.proof.malformed",
    ),
    "a member beside it": (lambda a: {**a, "more": 1}, "trust.proof.malformed"),
}


def _flipped(value: str, at: int) -> str:
    blob = bytearray(b64decode(value))
    blob[at] ^= 2
    return encoded(bytes(blob))


@pytest.fixture(scope="module")
def answered(tpm: SoftTpm) -> tuple[Stage, Challenge, Payload]:
    """An answer that would count: that it does is asserted after the changes."""
    stage = Stage(tpm)
    challenge = stage.begin(stage.payload())
    answer = stage.answer(challenge)
    stage.finish(challenge, answer)
    return stage, challenge, answer


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_answer_is_refused(answered: tuple[Stage, Challenge, Payload], what: str) -> None:
    stage, challenge, answer = answered
    change, code = CHANGES[what]
    assert code_of(lambda: stage.finish(challenge, change(dict(answer)))).startswith(code)


def test_a_quote_over_other_registers_is_refused(tpm: SoftTpm) -> None:
    stage = Stage(tpm)
    challenge = stage.begin(stage.payload())
    asked = Challenge(question={**challenge.question, "pcrs": "sha256:7,17"}, state=challenge.state)
    assert code_of(lambda: stage.finish(challenge, stage.answer(asked))) == "trust.proof.mismatch"


@pytest.mark.parametrize(
    "attributes",
    [
        "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign",
        "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|decrypt",
    ],
    ids=["signs anything", "signs and decrypts"],
)
def test_a_key_that_signs_anything_is_no_attestation_key(tpm: SoftTpm, attributes: str) -> None:
    """What it signs could be a forged quote."""
    stage = Stage(tpm)
    payload = stage.payload()
    tpm.run("tpm2_createprimary", "-C", "e", "-c", "primary.ctx", "-G", "ecc")
    tpm.run("tpm2_flushcontext", "-t")
    algorithm = "ecc" if "decrypt" in attributes else "ecc:ecdsa-sha256"
    tpm.run(
        "tpm2_create", "-C", "primary.ctx", "-G", algorithm, "-u", "loose.pub", "-r", "loose.priv", "-a", attributes
    )
    tpm.run("tpm2_flushcontext", "-t")
    loose = encoded((tpm.folder / "loose.pub").read_bytes())
    assert code_of(lambda: stage.begin({**payload, "ak": loose})) == "trust.proof.untrusted"
    assert code_of(lambda: stage.begin({**payload, "ek": loose})) == "trust.proof.untrusted"
    assert code_of(lambda: stage.begin({**payload, "ek": payload["ak"]})) == "trust.proof.untrusted"


def test_the_name_of_a_key_is_the_tpms_own(tpm: SoftTpm) -> None:
    tpm.run("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
    name = tpm.run("tpm2_readpublic", "-c", "ek.ctx", "-n", "ek.name")
    tpm.run("tpm2_flushcontext", "-t")
    assert name
    assert parse_public((tpm.folder / "ek.pub").read_bytes()).name == (tpm.folder / "ek.name").read_bytes()


def test_the_prover_leaves_nothing_in_the_tpm_even_when_it_fails(tpm: SoftTpm, other_tpm: SoftTpm) -> None:
    persistent = tpm.run("tpm2_getcap", "handles-persistent")
    stage = Stage(tpm)
    stage.prove()
    challenge = stage.begin({**stage.payload(), "ak": Stage(other_tpm).payload()["ak"]})
    assert code_of(lambda: stage.answer(challenge)) == "trust.prover.tpm"
    left = [tpm.run("tpm2_getcap", f"handles-{kind}") for kind in ("persistent", "transient", "loaded-session")]
    assert left == [persistent, b"", b""]


def test_the_prover_leaves_no_files(tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answered, refused = Stage(tpm), Stage(tpm)
    answered.prove()
    refused.payload()
    assert len(list(tmp_path.iterdir())) == 1
    del refused
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_tpm_that_does_not_answer_is_told(tpm: SoftTpm) -> None:
    gone = TpmProver(tcti=f"swtpm:path={tpm.folder}/nobody.sock")
    assert code_of(lambda: asyncio.run(gone.payload(""))) == "trust.prover.tpm"


def test_a_credential_is_the_one_that_tpm2_tools_would_make(tpm: SoftTpm) -> None:
    """`make_credential` against the TPM itself, without the attestor, for a secret of each length."""
    stage = Stage(tpm)
    for length in (1, 16, 32):
        payload, secret = stage.payload(), bytes(range(length))
        made_by_us = make_credential(
            parse_public(b64decode(str(payload["ek"]))),
            parse_public(b64decode(str(payload["ak"]))).name,
            secret,
            random=lambda count: b"\7" * count,
        )
        question: Payload = {
            "credential": encoded(made_by_us.blob),
            "secret": encoded(made_by_us.secret),
            "nonce": encoded(bytes(32)),
            "trust_domain": DOMAIN.name,
            "pcrs": "sha256:7",
        }
        assert b64decode(str(asyncio.run(stage.prover.answer(question))["secret"])) == secret


class TestContract(ProofAttestorContract):
    """The contract of proof attestors, on a TPM."""

    @pytest.fixture(autouse=True)
    def stage(self, tpm: SoftTpm) -> None:
        self.machine = Stage(tpm)

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return datetime.now(UTC)

    def attestor(self) -> ProofAttestor:
        return self.machine.attestor

    def honest(self) -> Payload:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.machine.payload).result()

    def answer(self, question: Payload) -> Payload:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: self.machine.answer(Challenge(question=question, state={}))).result()

    def forgeries(self) -> Mapping[str, Payload]:
        honest = self.honest()
        root = made.root()
        found: dict[str, Payload] = {
            f"{name} {how}": {**honest, name: changed}
            for name in ("ek", "ak", "ek_certificate")
            for how, changed in {
                "cut short": encoded(b64decode(str(honest[name]))[:-1]),
                "with more": encoded(b64decode(str(honest[name])) + b"\0"),
                "garbage": encoded(b"\xff" * 300),
                "missing": None,
            }.items()
        }
        found["a certificate by a CA of our own"] = {**honest, "ek_certificate": encoded(made.leaf(root).der)}
        found["a CA's certificate"] = {**honest, "ek_certificate": encoded(root.der)}
        found["keys exchanged"] = {**honest, "ek": honest["ak"], "ak": honest["ek"]}
        return found
