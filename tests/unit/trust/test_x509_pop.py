"""Certificates with proof of their key: an answer counts for one question, one machine and one trust domain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

import certificates as made
from possession_stage import DOMAIN, code_of, encoded, machine, written
from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured
from remit.trust.attestors.anchors import Anchors, fingerprint
from remit.trust.attestors.clients.x509_pop import X509PopProver
from remit.trust.attestors.payload import statement
from remit.trust.attestors.x509_pop import X509PopAttestor
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge
from remit.trust.spiffe import TrustDomain

NOW = datetime.now(UTC)
ROOT = made.root()


class Stage:
    """A machine with a certificate under the root that the attestor believes."""

    def __init__(self, folder: Path, issuer: made.Made = ROOT, anchors: bytes = ROOT.pem, **settings: Any) -> None:
        self.leaf = machine(issuer, **settings)
        certificate, key = written(folder, self.leaf)
        self.attestor = X509PopAttestor(Anchors("x509pop", anchors), trust_domain=DOMAIN)
        self.prover = X509PopProver(certificate=certificate, key=key)

    def ask(self, now: datetime = NOW) -> Challenge:
        return asyncio.run(self.attestor.begin(asyncio.run(self.prover.payload("")), now))

    def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        return asyncio.run(self.prover.answer(question))

    def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime = NOW) -> Evidence:
        return asyncio.run(self.attestor.finish(challenge, answer, now))

    def prove(self) -> Evidence:
        challenge = self.ask()
        return self.finish(challenge, self.answer(challenge.question))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_what_the_certificate_says_becomes_selectors(stage: Stage) -> None:
    assert stage.prove().selectors == {
        Selector("x509pop", "ca", fingerprint(ROOT.certificate)),
        Selector("x509pop", "fingerprint", fingerprint(stage.leaf.certificate)),
        Selector("x509pop", "serial", f"{stage.leaf.certificate.serial_number:x}"),
        Selector("x509pop", "cn", "web-1"),
        Selector("x509pop", "san_dns", "web-1.example.com"),
        Selector("x509pop", "san_uri", "urn:machine:web-1"),
    }


def test_the_state_is_not_in_the_question(stage: Stage) -> None:
    challenge = stage.ask()
    assert set(challenge.question) == {"nonce", "trust_domain"}
    assert challenge.question["nonce"] not in repr(challenge).split("question=")[0]


def test_an_answer_counts_for_its_own_question_alone(stage: Stage) -> None:
    first, second = stage.ask(), stage.ask()
    answer = stage.answer(first.question)
    assert code_of(lambda: stage.finish(second, answer)) == "trust.proof.mismatch"


def test_another_machine_cannot_answer(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mine, other = Stage(tmp_path), Stage(tmp_path / "other")
    challenge = mine.ask()
    assert code_of(lambda: mine.finish(challenge, other.answer(challenge.question))) == "trust.proof.mismatch"


def test_a_key_with_two_certificates_proves_the_one_that_was_shown(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    (tmp_path / "twin").mkdir()
    twin = Stage(tmp_path / "twin", key=stage.leaf.key)
    challenge = stage.ask()
    assert code_of(lambda: stage.finish(challenge, twin.answer(challenge.question))) == "trust.proof.mismatch"


@pytest.mark.parametrize("kind, domain", [("sshpop", DOMAIN.name), ("x509pop", "partner.test")])
def test_a_signature_for_another_purpose_or_trust_domain_does_not_count(stage: Stage, kind: str, domain: str) -> None:
    challenge, own = stage.ask(), bytes(32)
    nonce = bytes.fromhex(str(challenge.state["nonce"]))
    message = statement(
        kind, trust_domain=domain, nonce=nonce, own_nonce=own, subject=fingerprint(stage.leaf.certificate)
    )
    signature = stage.leaf.key.sign(message, ec.ECDSA(hashes.SHA256()))
    answer = {"own_nonce": encoded(own), "algorithm": "ecdsa-sha256", "signature": encoded(signature)}
    assert code_of(lambda: stage.finish(challenge, answer)) == "trust.proof.mismatch"


@pytest.mark.parametrize(
    "change, code",
    [
        ({"own_nonce": encoded(bytes(16))}, "trust.proof.malformed"),
        ({"own_nonce": encoded(bytes(32))}, "trust.proof.mismatch"),
        ({"algorithm": "none"}, "trust.proof.malformed"),
        ({"algorithm": "rsa-pss-sha256"}, "trust.proof.malformed"),
        ({"algorithm": None}, "trust.proof.malformed"),
        ({"signature": ""}, "trust.proof.malformed"),
        ({"signature": "not base64"}, "trust.proof.malformed"),
        ({"signature": encoded(bytes(70))}, "trust.proof.mismatch"),
        ({"signature": encoded(bytes(20_000))}, "trust.proof.malformed"),
        ({"more": 1}, "trust.proof.malformed"),
    ],
)
def test_a_changed_answer_is_refused(stage: Stage, change: Mapping[str, Json], code: str) -> None:
    challenge = stage.ask()
    assert code_of(lambda: stage.finish(challenge, {**stage.answer(challenge.question), **change})) == code


def test_a_certificate_that_expires_before_the_answer_does_not_count(stage: Stage) -> None:
    challenge = stage.ask()
    answer = stage.answer(challenge.question)
    late = stage.leaf.certificate.not_valid_after_utc
    assert code_of(lambda: stage.finish(challenge, answer, late)) == "trust.proof.expired"
    stage.finish(challenge, answer, late - timedelta(seconds=1))


def test_a_ca_that_may_have_no_ca_below_it_has_none(tmp_path: Path) -> None:
    root = made.root(path_length=0)
    middle = made.intermediate(root)
    attestor = X509PopAttestor(Anchors("x509pop", root.pem), trust_domain=DOMAIN)
    chain = [encoded(one.der) for one in (machine(middle), middle)]
    assert code_of(lambda: asyncio.run(attestor.begin({"chain": chain}, NOW))) == "trust.proof.untrusted"


def test_name_constraints_of_a_ca_hold(tmp_path: Path) -> None:
    limits = x509.NameConstraints(permitted_subtrees=[x509.DNSName("elsewhere.example")], excluded_subtrees=None)
    root = made.root(extra=[(limits, True)])
    names = [x509.DNSName("web-1.example.com")]
    stage = Stage(tmp_path, root, root.pem, names=names)
    assert code_of(stage.ask) == "trust.proof.untrusted"


def test_a_name_that_could_be_no_selector_is_told_as_unseen(tmp_path: Path) -> None:
    evidence = Stage(tmp_path, name="web\n1", names=[x509.DNSName("a" * 300)]).prove()
    assert {selector.key for selector in evidence.selectors} == {"ca", "fingerprint", "serial"}
    assert [sentence.split(":")[0] for sentence in evidence.unseen] == ["cn", "san_dns"]


@pytest.mark.parametrize("pem", [b"", b"garbage", machine(ROOT).pem, ROOT.pem + machine(ROOT).pem])
def test_anchors_are_cas_and_nothing_else(pem: bytes) -> None:
    with pytest.raises(Misconfigured) as refused:
        Anchors("x509pop", pem)
    assert refused.value.code == "trust.attestor.anchors"


def test_the_prover_answers_no_question_of_another_trust_domain(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, machine(ROOT))
    prover = X509PopProver(certificate=certificate, key=key, trust_domain="remit.test")
    question = {"nonce": encoded(bytes(32)), "trust_domain": TrustDomain("evil.test").name}
    assert code_of(lambda: asyncio.run(prover.answer(question))) == "trust.prover.question"
