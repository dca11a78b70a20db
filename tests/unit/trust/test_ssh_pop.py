"""SSH hosts with proof of their key, made and judged by the real ssh-keygen."""

from __future__ import annotations

import asyncio
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from possession_stage import DOMAIN, HOST, code_of, encoded, ssh_certificate, ssh_key, ssh_keygen
from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured
from remit.trust.attestors.clients.ssh_pop import SshPopProver
from remit.trust.attestors.ssh_pop import NAMESPACE, HostAuthorities, SshPopAttestor
from remit.trust.attestors.sshsig import sign_sshsig, take
from remit.trust.model import Evidence
from remit.trust.ports import Challenge

NOW = datetime.now(UTC)


class Stage:
    """A host with a certificate by a CA that the attestor believes."""

    def __init__(self, folder: Path, *kind: str) -> None:
        self.folder = folder
        self.ca = ssh_key(folder, "ca")
        self.key = ssh_key(folder, "host", *kind)
        ssh_certificate(folder, self.ca, self.key, *HOST)
        self.attestor = SshPopAttestor(HostAuthorities(Path(f"{self.ca}.pub").read_bytes()), trust_domain=DOMAIN)
        self.prover = SshPopProver(key=str(self.key))

    def ask(self) -> Challenge:
        return asyncio.run(self.attestor.begin(asyncio.run(self.prover.payload("")), NOW))

    def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime = NOW) -> Evidence:
        return asyncio.run(self.attestor.finish(challenge, answer, now))

    def fingerprint(self, key: Path) -> str:
        return ssh_keygen("-l", "-f", f"{key}.pub", cwd=self.folder).decode().split()[1]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_what_the_certificate_says_becomes_selectors(stage: Stage) -> None:
    challenge = stage.ask()
    evidence = stage.finish(challenge, asyncio.run(stage.prover.answer(challenge.question)))
    assert {str(one) for one in evidence.selectors} == {
        f"sshpop:ca:{stage.fingerprint(stage.ca)}",
        f"sshpop:fingerprint:{stage.fingerprint(stage.key)}",
        "sshpop:key_id:host web-1",
        "sshpop:hostname:web-1.example.com",
        "sshpop:hostname:web-1",
        "sshpop:serial:7",
    }


def test_a_host_keeps_its_name_when_its_certificate_is_renewed(stage: Stage) -> None:
    def prove() -> Evidence:
        challenge = stage.ask()
        return stage.finish(challenge, asyncio.run(stage.prover.answer(challenge.question)))

    before = prove()
    ssh_certificate(stage.folder, stage.ca, stage.key, "-h", "-I", "renewed", "-n", "web-1", "-V", "-1h:+2h")
    after = prove()
    assert before.selectors != after.selectors
    assert before.facts["node"] == after.facts["node"]


def test_an_answer_counts_for_its_own_question_alone(stage: Stage) -> None:
    answer = asyncio.run(stage.prover.answer(stage.ask().question))
    assert code_of(lambda: stage.finish(stage.ask(), answer)) == "trust.proof.mismatch"


def test_another_host_cannot_answer(stage: Stage) -> None:
    challenge, other = stage.ask(), ssh_key(stage.folder, "other")
    ssh_certificate(stage.folder, stage.ca, other, *HOST)
    answer = asyncio.run(SshPopProver(key=str(other)).answer(challenge.question))
    assert code_of(lambda: stage.finish(challenge, answer)) == "trust.proof.mismatch"


def test_a_certificate_that_expires_before_the_answer_does_not_count(stage: Stage) -> None:
    challenge = stage.ask()
    answer = asyncio.run(stage.prover.answer(challenge.question))
    assert code_of(lambda: stage.finish(challenge, answer, NOW + timedelta(hours=2))) == "trust.proof.expired"


def test_a_signature_that_the_key_made_for_something_else_does_not_count(stage: Stage) -> None:
    challenge = stage.ask()
    key = load_ssh_private_key(stage.key.read_bytes(), None)
    signature = sign_sshsig(key, b"a message", namespace="git")
    assert signature is not None
    answer = {"own_nonce": encoded(bytes(32)), "signature": encoded(signature)}
    assert code_of(lambda: stage.finish(challenge, answer)) == "trust.proof.mismatch"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_our_signatures_are_those_of_ssh_keygen(tmp_path: Path, kind: str) -> None:
    key, message = ssh_key(tmp_path, "host", "-t", kind), b"what is signed"
    inner = sign_sshsig(load_ssh_private_key(key.read_bytes(), None), message, namespace=NAMESPACE)
    assert inner is not None
    public = b64decode(Path(f"{key}.pub").read_text().split()[1])
    parts = (public, NAMESPACE.encode(), b"", b"sha512", inner)
    blob = b"SSHSIG\0\0\0\1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    armored = b"-----BEGIN SSH SIGNATURE-----\n" + b64encode(blob) + b"\n-----END SSH SIGNATURE-----\n"
    (tmp_path / "sig").write_bytes(armored)
    command = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", "sig"]
    assert b"Good" in subprocess.run(command, cwd=tmp_path, input=message, check=True, capture_output=True).stdout


def test_an_rsa_signature_by_sha1_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "-t", "rsa")
    challenge = stage.ask()
    answer = dict(asyncio.run(stage.prover.answer(challenge.question)))
    _, rest = take(b64decode(str(answer["signature"])))
    answer["signature"] = encoded(b"\0\0\0\7ssh-rsa" + rest)
    assert code_of(lambda: stage.finish(challenge, answer)) == "trust.proof.malformed"


def test_an_rsa_ca_that_signs_by_sha1_is_refused(tmp_path: Path) -> None:
    key, ca = ssh_key(tmp_path, "host"), ssh_key(tmp_path, "ca", "-t", "rsa")
    path = ssh_certificate(tmp_path, ca, key, *HOST, "-t", "ssh-rsa")
    attestor = SshPopAttestor(HostAuthorities(Path(f"{ca}.pub").read_bytes()), trust_domain=DOMAIN)
    payload = {"certificate": " ".join(Path(path).read_text().split()[:2])}
    assert code_of(lambda: asyncio.run(attestor.begin(payload, NOW))) == "trust.proof.untrusted"


@pytest.mark.parametrize(
    "lines", [b"", b"# nothing\n", b"ssh-ed25519 AAAA\n", b"hello\n", b"ssh-dss AAAAB3NzaC1kc3MAAACB\n"]
)
def test_authorities_are_public_keys_and_nothing_else(lines: bytes) -> None:
    with pytest.raises(Misconfigured) as refused:
        HostAuthorities(lines)
    assert refused.value.code == "trust.attestor.anchors"


def test_authorities_are_read_as_known_hosts_has_them(stage: Stage) -> None:
    line = b"@cert-authority *.example.com " + Path(f"{stage.ca}.pub").read_bytes()
    attestor: Any = SshPopAttestor(HostAuthorities(b"# ours\n\n" + line), trust_domain=DOMAIN)
    assert asyncio.run(attestor.begin(asyncio.run(stage.prover.payload("")), NOW)).question
