"""Provers read what is on their machine, now, and say plainly what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import certificates as made
from possession_stage import (
    QuietHandler,
    Region,
    aws_credentials,
    code_of,
    encoded,
    identity_document,
    served,
    ssh_key,
    written,
)
from remit.kernel.errors import RemitError
from remit.trust.attestors.clients.tokens import GitHubProver, TokenProver
from remit.trust.attestors.provers import KINDS, Prover, prover

__all__ = ["aws_credentials"]
QUESTION = {"nonce": encoded(bytes(32)), "trust_domain": "remit.test"}


def payload(one: Prover) -> object:
    return asyncio.run(one.payload("https://remit.test"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_made_without_reading_anything(kind: str) -> None:
    options = {"file": "/nowhere/token"} if "file" in KINDS[kind] else {}
    assert prover(kind, options).id == kind


def test_unknown_kinds_and_options_are_told_with_those_that_exist() -> None:
    with pytest.raises(RemitError) as kind:
        prover("retina", {})
    with pytest.raises(RemitError) as option:
        prover("x509pop", {"certifcate": "x"})
    assert (kind.value.code, option.value.code) == ("trust.prover.unknown", "trust.prover.option")
    assert "x509pop" in kind.value.next_step and "certificate" in option.value.next_step


@pytest.mark.parametrize("options", [{}, {"file": "a", "env": "B"}])
def test_a_token_comes_from_one_place(options: Mapping[str, str]) -> None:
    assert code_of(lambda: prover("join_token", options)) == "trust.prover.option"


def test_a_token_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    one = prover("k8s_psat", {"file": str(file)})
    file.write_text("first\n")
    before = payload(one)
    file.write_text("second")
    assert (before, payload(one)) == ({"token": "first"}, {"token": "second"})


def test_a_token_comes_from_the_environment() -> None:
    assert payload(TokenProver("gitlab", environ={"REMIT_ID_TOKEN": "eyJ"})) == {"token": "eyJ"}
    assert payload(TokenProver("oidc", env="CI_JWT", environ={"CI_JWT": "eyJ"})) == {"token": "eyJ"}


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe"])
def test_a_file_without_a_token_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert code_of(lambda: payload(prover("join_token", {"file": str(file)}))) == "trust.prover.missing"


@pytest.mark.parametrize("kind", ["x509pop", "sshpop"])
def test_a_missing_certificate_or_key_is_told(tmp_path: Path, kind: str) -> None:
    paths = {"certificate": str(tmp_path / "c"), "key": str(tmp_path / "k")}
    assert code_of(lambda: payload(prover(kind, paths))) == "trust.prover.missing"


def test_a_key_with_a_passphrase_is_told(tmp_path: Path) -> None:
    certificate, _ = written(tmp_path, made.leaf(made.root()))
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(b"passphrase")
    (tmp_path / "locked").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    one = prover("x509pop", {"certificate": certificate, "key": str(tmp_path / "locked")})
    assert code_of(lambda: asyncio.run(one.answer(QUESTION))) == "trust.prover.unusable"


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("hello")
    paths = {"certificate": str(tmp_path / "c"), "key": str(tmp_path / "c")}
    assert code_of(lambda: payload(prover("x509pop", paths))) == "trust.prover.unusable"
    assert code_of(lambda: payload(prover("sshpop", paths))) == "trust.prover.unusable"
    key = ssh_key(tmp_path, "host")
    only_key = prover("sshpop", {"certificate": f"{key}.pub", "key": str(key)})
    assert code_of(lambda: payload(only_key)) == "trust.prover.unusable"


@pytest.mark.parametrize("kind", ["join_token", "aws_iid", "github", "oidc"])
def test_a_proof_that_says_everything_at_once_answers_nothing(kind: str) -> None:
    one = prover(kind, {"file": "/nowhere"} if "file" in KINDS[kind] else {})
    assert code_of(lambda: asyncio.run(one.answer(QUESTION))) == "trust.prover.question"


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("kind", ["x509pop", "sshpop", "aws_sts"])
@pytest.mark.parametrize("change", [{"trust_domain": "evil.test"}, {"nonce": 1}, {"nonce": ""}, {"trust_domain": None}])
def test_a_question_that_is_none_is_not_answered(tmp_path: Path, kind: str, change: Mapping[str, object]) -> None:
    one = prover(kind, {"trust_domain": "remit.test"})
    question = {**QUESTION, **change}
    assert code_of(lambda: asyncio.run(one.answer(question))) == "trust.prover.question"  # type: ignore[arg-type]


def test_without_credentials_of_aws_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    one = prover("aws_sts", {"region": "eu-central-1"})
    assert code_of(lambda: asyncio.run(one.answer(QUESTION))) == "providers.aws.no-credentials"


class Runner(QuietHandler):
    """The token service of a job, as GitHub's runner has it."""

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer job-secret":
            self.reply(401, b"{}")
        elif "audience=https%3A%2F%2Fremit.test" not in self.path or "api-version=2" not in self.path:
            self.reply(400, b"{}")
        else:
            self.reply(200, json.dumps({"count": 1, "value": "eyJ.job"}).encode())


def test_a_job_of_github_asks_for_a_token_for_us() -> None:
    with served(Runner) as url:
        variables = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{url}/token?api-version=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-secret",
        }
        assert payload(GitHubProver(environ=variables)) == {"token": "eyJ.job"}
        wrong = GitHubProver(environ={**variables, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "other"})
        assert code_of(lambda: payload(wrong)) == "providers.job_token.unreachable"
    assert code_of(lambda: payload(GitHubProver(environ={}))) == "trust.prover.missing"


def test_the_secret_of_a_job_goes_to_no_address_in_clear() -> None:
    variables = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": "http://runner.example/token",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-secret",
    }
    assert code_of(lambda: payload(GitHubProver(environ=variables))) == "providers.document.address"


class Metadata(QuietHandler):
    """IMDSv2."""

    message = ""

    def do_PUT(self) -> None:
        known = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "60"
        self.reply(200 if known else 400, b"imds-token", "text/plain")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "imds-token":
            self.reply(401, b"", "text/plain")
        elif self.path != "/latest/dynamic/instance-identity/rsa2048":
            self.reply(404, b"", "text/plain")
        else:
            self.reply(200, self.message.encode(), "text/plain")


def test_an_instance_asks_its_metadata_service(tmp_path: Path) -> None:
    class Ours(Metadata):
        message = Region.make().pkcs7(identity_document(), tmp_path)

    with served(Ours) as url:
        assert payload(prover("aws_iid", {"endpoint": url})) == {"rsa2048": Ours.message}


def test_a_metadata_service_that_says_too_much_is_not_believed() -> None:
    class Endless(Metadata):
        message = "A" * 40_000

    with served(Endless) as url:
        assert code_of(lambda: payload(prover("aws_iid", {"endpoint": url}))) == "providers.aws.metadata"


@pytest.mark.parametrize("endpoint", ["http://metadata.example", "http://10.0.0.1", "https://127.0.0.1", "ftp://[::1]"])
def test_the_metadata_service_is_nowhere_else(endpoint: str) -> None:
    assert code_of(lambda: payload(prover("aws_iid", {"endpoint": endpoint}))) == "providers.aws.metadata-address"
