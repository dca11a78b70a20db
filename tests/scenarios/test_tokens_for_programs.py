"""Tokens for a program that reads files: bound to the SVID that `remit x509 write` keeps, and used with curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from installation import REMIT, Installation, installation
from remit.client import FolderIdentity
from remit.kernel.errors import Misconfigured
from remit.trust.validate import thumbprint

ME = f"unix:uid:{os.getuid()}"
API = "https://orders.test"
POLICIES = """
permit(principal, action in [Remit::Action::"token:issue", Remit::Action::"token:exchange"], resource)
when { context has scope && context.scope == "read" && resource.sensitivity == "internal" }
when { resource.kind == "api" || resource.kind == "trust-domain" };
"""


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installation() as one:
        for name in ("job", "orders"):
            one.cli("entry", "create", "--spiffe-id", f"spiffe://remit.local/{name}", "--selector", ME)
        (one.root / "p.cedar").write_text(POLICIES)
        one.cli("people", "enrol", "ann")
        one.cli("policy", "apply", one.root / "p.cedar")
        one.cli("client", "add", "orders", "--identity", "spiffe://remit.local/orders",
                "--spiffe-id", "spiffe://remit.local/orders", "--sensitivity", "internal",
                "--resource", API, "--resource", "spiffe://remit.local")  # fmt: skip
        for folder, name in (("job", "job"), ("fresh", "job"), ("orders", "orders")):
            one.cli(
                "x509", "write", "--once", "--dir", one.root / folder, "--spiffe-id", f"spiffe://remit.local/{name}"
            )
        yield one


@pytest.fixture(scope="module")
def server(remit: Installation) -> str:
    with remit.http("GET", "/healthz") as response:
        return f"https://{json.loads(response.read())['agents']}"


@pytest.fixture(scope="module")
def token(remit: Installation, server: str) -> str:
    done = remit.cli("token", "fetch", API, "--scope", "read", "--svid-dir", remit.root / "job", "--server", server)
    return str(done.stdout).strip()


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def kept(remit: Installation, tmp_path: Path) -> Path:
    """A copy of the job's directory, to be broken."""
    folder = tmp_path / "svid"
    shutil.copytree((remit.root / "job" / "svid.pem").resolve().parent, folder)
    return folder


def test_it_is_bound_to_the_certificate_in_the_files(remit: Installation, token: str) -> None:
    [leaf, *_] = x509.load_pem_x509_certificates((remit.root / "job" / "svid.pem").read_bytes())
    assert claims(token)["cnf"]["x5t#S256"] == thumbprint(leaf.public_bytes(Encoding.DER))


@pytest.mark.parametrize(("holder", "status"), [("job", 200), ("fresh", 400)])
def test_curl_uses_it_with_the_key_of_the_files_and_with_no_other_of_the_same_identity(
    remit: Installation, server: str, token: str, tmp_path: Path, holder: str, status: int
) -> None:
    """The token service itself takes it, to be narrowed, from who shows the certificate."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": token, "resource": API,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token", "scope": "read",
    }  # fmt: skip
    folder = remit.root / holder
    shown = ["--cert", folder / "svid.pem", "--key", folder / "key.pem"]
    body = [part for name, value in form.items() for part in ("--data-urlencode", f"{name}={value}")]
    done = subprocess.run(
        ["curl", "-sk", "-o", tmp_path / "answer", "-w", "%{http_code}", *shown, *body,
         f"{server}/oauth2/token"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert int(done.stdout) == status


def test_who_was_shown_it_exchanges_it_as_the_identity_of_its_own_files(
    remit: Installation, server: str, token: str
) -> None:
    (remit.root / "shown").write_text(token)
    made = remit.cli(
        "token", "exchange", API, "--scope", "read", "--subject-token-file", remit.root / "shown",
        "--svid-dir", remit.root / "orders", "--server", server,
    ).stdout  # fmt: skip
    found = claims(made)
    assert (found["sub"], found["act"]["sub"]) == ("spiffe://remit.local/job", "spiffe://remit.local/orders")


def test_a_call_is_carried_on_inside_a_trust_domain_that_somebody_classified(
    remit: Installation, server: str, token: str
) -> None:
    (remit.root / "shown").write_text(token)
    made = remit.cli(
        "token", "exchange", "spiffe://remit.local", "--transaction", "--scope", "read",
        "--subject-token-file", remit.root / "shown", "--svid-dir", remit.root / "orders", "--server", server,
    ).stdout  # fmt: skip
    found = claims(made)
    assert (found["aud"], found["sub"], "cnf" in found) == ("spiffe://remit.local", "spiffe://remit.local/job", False)


def test_without_such_files_it_is_said_that_nobody_can_use_it(remit: Installation, server: str) -> None:
    done = remit.cli("token", "fetch", API, "--scope", "read", "--server", server)
    assert "--svid-dir" in done.stderr and done.stdout.count(".") == 2


@pytest.mark.parametrize("name", ["job", "orders"])
def test_a_workload_of_several_identities_says_as_which_it_asks(remit: Installation, server: str, name: str) -> None:
    made = remit.cli(
        "token", "fetch", API, "--scope", "read", "--spiffe-id", f"spiffe://remit.local/{name}", "--server", server
    ).stdout
    assert claims(made)["sub"] == f"spiffe://remit.local/{name}"


def test_the_files_say_who_that_is(remit: Installation) -> None:
    assert str(FolderIdentity(remit.root / "job").spiffe_id) == "spiffe://remit.local/job"


def test_files_of_another_are_not_used_in_its_place(remit: Installation, server: str) -> None:
    other = ("--svid-dir", remit.root / "job", "--spiffe-id", "spiffe://remit.local/orders")
    told = remit.cli("token", "fetch", API, "--scope", "read", *other, "--server", server, code=None).stderr
    assert "client.svid.unknown" in told


def test_a_directory_without_them_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        FolderIdentity(tmp_path).x509  # noqa: B018
    assert refused.value.code == "client.files.missing"


def test_a_key_that_everybody_may_read_is_not_used(remit: Installation, tmp_path: Path) -> None:
    folder = kept(remit, tmp_path)
    (folder / "key.pem").chmod(0o644)
    with pytest.raises(Misconfigured) as refused:
        FolderIdentity(folder).x509  # noqa: B018
    assert refused.value.code == "client.files.exposed"


@pytest.mark.parametrize(
    ("name", "from_"), [("key.pem", "orders"), ("svid.pem", ""), ("key.pem", ""), ("bundle.pem", "")]
)
def test_files_that_do_not_belong_together_are_not_used(
    remit: Installation, tmp_path: Path, name: str, from_: str
) -> None:
    folder = kept(remit, tmp_path)
    (folder / name).write_bytes((remit.root / from_ / name).read_bytes() if from_ else b"no PEM")
    with pytest.raises(Misconfigured) as refused:
        FolderIdentity(folder).x509  # noqa: B018
    assert refused.value.code == "client.files.broken"


def test_an_expired_one_is_not_used(remit: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls(2126, 1, 1, tzinfo=UTC)

    monkeypatch.setattr("remit.client.folder.datetime", Later)
    with pytest.raises(Misconfigured) as refused:
        FolderIdentity(remit.root / "job").x509  # noqa: B018
    assert refused.value.code == "client.files.expired"


def test_files_that_are_turned_while_they_are_read_are_read_again(remit: Installation) -> None:
    """As often as the directory is written anew, what is read is of one moment."""
    folder = remit.root / "turned"
    write = ("x509", "write", "--once", "--dir", folder, "--spiffe-id", "spiffe://remit.local/job")
    remit.cli(*write)
    reader, serials = FolderIdentity(folder), set()
    with subprocess.Popen(
        [*REMIT, *map(str, write)], env=remit.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as again:
        while again.poll() is None:
            serials.add(reader.x509.default.chain[0])
        serials.add(reader.x509.default.chain[0])
    assert len(serials) == 2
