"""The files connector on what real programs write: ssh-keygen, openssl, git."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from remit.inventory.connectors.files.testing import (
    HOST,
    SCAN,
    credentials,
    discover,
    edges,
    identities,
    of,
    rules,
    secret,
    skips,
    write,
)
from remit.inventory.model import CredentialKind, FindingFact, OwnerFact, Severity
from remit.kernel.ids import credential_name, name
from remit.providers.git import GitHistory


def run(*command: str | Path, cwd: Path | None = None) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]}: not installed")
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


def ssh_key(path: Path, *, kind: str = "ed25519", passphrase: str = "", more: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    run("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "ci@build", "-f", path, *more)


def certificate(directory: Path, *more: str) -> None:
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=Acme/CN=api",
        "-keyout", directory / "tls.key", "-out", directory / "tls.crt", *more)  # fmt: skip


def git(repository: Path, *words: str) -> str:
    return run("git", "-C", repository, "-c", "user.email=carol@acme.com", "-c", "user.name=Carol", *words)


def commit(repository: Path, files: dict[str, str]) -> Path:
    write(repository, files)
    git(repository, "init", "-q")
    git(repository, "remote", "add", "origin", "git@github.com:acme/app.git")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "first")
    return repository


@pytest.mark.parametrize(
    ("kind", "passphrase", "more"),
    [("ed25519", "", ()), ("ed25519", "hunter22", ()), ("rsa", "", ("-b", "2048")), ("rsa", "", ("-b", "2048", "-m", "PEM")),
     ("ecdsa", "", ("-m", "PKCS8")), ("ecdsa", "hunter22", ())],
)  # fmt: skip
def test_a_private_key_its_public_half_and_what_it_opens_are_one_credential(
    tmp_path: Path, kind: str, passphrase: str, more: tuple[str, ...]
) -> None:
    ssh_key(tmp_path / "home/bob/.ssh/id_work", kind=kind, passphrase=passphrase, more=more)
    public = (tmp_path / "home/bob/.ssh/id_work.pub").read_text()
    write(tmp_path, {"home/deploy/.ssh/authorized_keys": f'# ci\nfrom="10.0.0.0/8",command="run \\"x\\"" {public}'})
    facts = discover(tmp_path)
    (fingerprint,) = {fact.fingerprint for fact in credentials(facts)}
    (opens,) = edges(facts, "secret-of")
    assert opens.source == credential_name(fingerprint)
    assert opens.target == name("host", HOST, "unix-account", "deploy")
    assert opens.conditions == ("from 10.0.0.0/8", "forced command")
    assert {edge.source for edge in edges(facts, "holds")} == {name("host", HOST, "unix-account", "bob")}
    assert ("files.unencrypted-key" in rules(facts)) is (not passphrase)


def test_the_fingerprint_shown_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    ssh_key(tmp_path / ".ssh/id_ed25519", passphrase="hunter22")
    shown = run("ssh-keygen", "-l", "-f", tmp_path / ".ssh/id_ed25519.pub").split()[1]
    assert {fact.attributes["ssh_fingerprint"] for fact in credentials(discover(tmp_path))} == {shown}


def test_an_authority_in_authorized_keys_opens_by_its_certificates_only(tmp_path: Path) -> None:
    ssh_key(tmp_path / "ca")
    public = (tmp_path / "ca.pub").read_text()
    line = f'cert-authority,principals="ops",expiry-time="20300101" {public}'
    write(tmp_path, {"home/deploy/.ssh/authorized_keys": line})
    facts = discover(tmp_path / "home")
    (edge,) = edges(facts, "secret-of")
    assert edge.conditions == ("by a certificate it signed for ops",)
    assert credentials(facts)[0].expires is not None


def test_a_key_and_its_certificate_are_one_credential_in_every_form(tmp_path: Path) -> None:
    certificate(tmp_path, "-days", "30", "-addext", "subjectAltName=DNS:api.acme.com,URI:spiffe://acme.com/api")
    run("openssl", "x509", "-in", tmp_path / "tls.crt", "-outform", "DER", "-out", tmp_path / "tls.der")
    run("openssl", "pkey", "-in", tmp_path / "tls.key", "-outform", "DER", "-out", tmp_path / "plain.key")
    run("openssl", "pkcs12", "-export", "-inkey", tmp_path / "tls.key", "-in", tmp_path / "tls.crt", "-passout", "pass:",
        "-out", tmp_path / "open.p12")  # fmt: skip
    facts = discover(tmp_path)
    assert len({fact.fingerprint for fact in credentials(facts)}) == 1
    assert {fact.kind for fact in credentials(facts)} == {CredentialKind.CERTIFICATE, CredentialKind.PRIVATE_KEY}
    (holder,) = {fact.name for fact in identities(facts) if fact.kind.value == "certificate-holder"}
    assert {fact.aliases for fact in identities(facts) if fact.name == holder} == {("spiffe://acme.com/api",)}


def test_a_store_under_a_password_is_recorded_and_said_to_be_sealed(tmp_path: Path) -> None:
    certificate(tmp_path)
    run("openssl", "pkcs12", "-export", "-inkey", tmp_path / "tls.key", "-in", tmp_path / "tls.crt", "-passout", "pass:hunter22",
        "-out", tmp_path / "sealed/a.p12") if (tmp_path / "sealed").mkdir() is None else None  # fmt: skip
    facts = discover(tmp_path / "sealed")
    assert [fact.attributes["encrypted"] for fact in credentials(facts)] == [True]
    assert skips(facts) == {"encrypted"}


def test_a_pem_key_under_a_passphrase_is_recorded(tmp_path: Path) -> None:
    run("openssl", "genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:hunter22", "-out", tmp_path / "a.key")
    facts = discover(tmp_path)
    assert [fact.exposed for fact in credentials(facts)] == [False]
    assert skips(facts) == {"encrypted"}


def test_a_weak_key_and_an_expired_certificate_are_findings(tmp_path: Path) -> None:
    run("openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=old", "-days", "1", "-keyout", tmp_path / "a.key",
        "-out", tmp_path / "a.crt", "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    later = type(SCAN)(now=SCAN.now.replace(year=2099), fingerprint=SCAN.fingerprint)
    from remit.inventory.connectors.files import FilesConnector

    connector = FilesConnector(tmp_path, instance=HOST)
    connector.open()
    found = {
        fact.rule
        for raw in connector.fetch(later)
        for fact in connector.translate(raw, later)
        if isinstance(fact, FindingFact)
    }  # type: ignore[arg-type]
    assert {"files.expired-certificate", "files.weak-key", "files.unencrypted-key"} <= found


def test_owners_come_from_codeowners_blame_and_comments(tmp_path: Path) -> None:
    workflow = "# owner: release team\non: push\njobs: {a: {steps: []}}\n"
    root = commit(
        tmp_path / "app", {".github/workflows/ci.yml": workflow, "CODEOWNERS": "* @acme/all\n/.github/ @acme/ci\n"}
    )
    facts = discover(root)
    pipeline = name("github", "github.com", "workflow", "acme/app/.github/workflows/ci.yml")
    owners = {(fact.method, fact.owner) for fact in of(OwnerFact, facts) if fact.identity == pipeline}
    assert owners == {("codeowners", "@acme/ci"), ("git", "carol@acme.com"), ("comment", "release team")}


def test_blame_goes_by_the_line_that_declares(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {".env": "NAME=x\n"})
    write(root, {".env": f"NAME=x\nDATABASE_URL=postgres://svc:{secret()}@db.acme.com/x\n"})
    run("git", "-C", root, "-c", "user.email=dave@acme.com", "-c", "user.name=Dave", "commit", "-qam", "second")
    write(root, {".env": f"# a line that is not committed\n{(root / '.env').read_text()}"})
    assert [fact.owner for fact in of(OwnerFact, discover(root))] == ["dave@acme.com"]


def test_a_secret_under_version_control_is_held_by_the_repository(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {".env": f"API_TOKEN={secret()}\n"})
    facts = discover(root)
    assert name("github", "github.com", "repository", "acme/app") in {edge.source for edge in edges(facts, "holds")}
    assert [fact.severity for fact in of(FindingFact, facts) if fact.rule == "files.secret-in-config"] == [
        Severity.HIGH
    ]


def test_an_ignored_file_is_not(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {".gitignore": ".env\n"})
    write(root, {".env": f"API_TOKEN={secret()}\n"})
    assert {edge.source for edge in edges(discover(root), "holds")} == {name("host", HOST, "unix-account", account())}


def account() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def test_a_worktree_knows_its_repository(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {".gitlab-ci.yml": "job: {script: [echo]}\n"})
    git(root, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "other")
    found = {
        fact.place.path.split("/")[-2]: fact.name
        for fact in identities(discover(tmp_path))
        if fact.kind.value == "pipeline"
    }
    assert found["linked"] == found["app"]


def test_a_hostile_repository_runs_nothing(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {".env": f"API_TOKEN={secret()}\n", ".gitattributes": "* diff=evil filter=evil\n"})
    marker = tmp_path / "ran"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    program.chmod(0o755)
    for key in (
        "diff.evil.textconv",
        "filter.evil.clean",
        "filter.evil.smudge",
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
    ):
        git(root, "config", key, str(program))
    subprocess.run(["git", "-C", root, "blame", ".env"], capture_output=True, check=False)
    assert marker.exists(), "the trap does not work: this test proves nothing"
    marker.unlink()
    facts = discover(root)
    assert not marker.exists()
    assert name("github", "github.com", "repository", "acme/app") in {edge.source for edge in edges(facts, "holds")}


def test_blame_stops_when_its_time_is_used_up(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {".env": f"API_TOKEN={secret()}\n"})
    facts = discover(root, history=GitHistory(budget_seconds=0))
    assert "unreachable" in skips(facts)
    assert credentials(facts)


def test_a_login_in_a_remote_is_found_and_named(tmp_path: Path) -> None:
    root = commit(tmp_path / "app", {"a": ""})
    git(root, "remote", "set-url", "origin", f"https://deploy-bot:{secret()}@github.com/acme/app.git")
    (found,) = credentials(discover(root))
    assert found.identity == name("github", "github.com", "user", "deploy-bot")
    assert found.place.path.endswith("/.git/config")
