"""Our authorities under another's root: a CA in files, a real OpenBao, and a Remit above; judged by `openssl verify`."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authority_stage import DOMAIN, company_ca, issued, openssl_verifies, service, serving
from installation import REMIT, Installation, installation
from openbao_stage import Engine, pki_engine
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.openbao.client import TokenAuth
from remit.trust import AuthorityKind
from remit.trust.authority.lifecycle import AuthorityPolicy
from remit.trust.authority.upstream.disk import DiskUpstream
from remit.trust.authority.upstream.openbao import OpenBaoUpstream
from remit.trust.jose import Signer
from remit.trust.validate import validate_x509_svid


def certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


# A CA in files.


@pytest.mark.parametrize("curve", ["P-256", "P-384"])
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_openssl_accepts_a_leaf_under_a_company_ca(tmp_path: Path, kind: str, curve: str) -> None:
    async def steps() -> None:
        cert, key = company_ca(tmp_path, kind)
        async with serving(
            DiskUpstream(DOMAIN, certificate=cert, key=key), policy=AuthorityPolicy(curve=curve)
        ) as trust:
            svid = await issued(trust)
            assert trust.bundle.x509_roots == (x509.load_pem_x509_certificates(cert.read_bytes())[-1].public_bytes(
                serialization.Encoding.DER),)  # fmt: skip
            assert openssl_verifies(svid, trust.bundle.x509_roots, tmp_path) == "OK"
            assert openssl_verifies(replace(svid, chain=b""), trust.bundle.x509_roots, tmp_path) != "OK"

    asyncio.run(steps())


def test_an_intermediate_is_held_to_the_trust_domain(tmp_path: Path) -> None:
    async def steps() -> None:
        cert, key = company_ca(tmp_path)
        async with serving(DiskUpstream(DOMAIN, certificate=cert, key=key)) as trust:
            ours = certificate(next(one for one in trust.authorities() if one.kind is AuthorityKind.X509).public)
            found = ours.extensions
            limits = found.get_extension_for_class(x509.NameConstraints)
            names = found.get_extension_for_class(x509.SubjectAlternativeName).value
            assert found.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
            assert limits.critical and [one.value for one in limits.value.permitted_subtrees or ()] == ["remit.test"]
            assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://remit.test"]

    asyncio.run(steps())


def test_a_ca_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    cert, key = company_ca(tmp_path)
    key.chmod(0o640)
    with pytest.raises(Misconfigured) as refused:
        asyncio.run(service(DiskUpstream(DOMAIN, certificate=cert, key=key)).open())
    assert refused.value.code == "trust.upstream.file"


def test_a_ca_key_of_another_is_refused(tmp_path: Path) -> None:
    cert, _ = company_ca(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, key = company_ca(other)
    with pytest.raises(Misconfigured):
        asyncio.run(service(DiskUpstream(DOMAIN, certificate=cert, key=key)).open())


def test_a_rotation_under_an_upstream_leaves_what_was_signed_valid(tmp_path: Path) -> None:
    async def steps() -> None:
        cert, key = company_ca(tmp_path)
        async with serving(DiskUpstream(DOMAIN, certificate=cert, key=key)) as trust:
            before = await issued(trust)
            made = await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            await trust.taint_authority(before.authority, actor="person:ann")
            after = await issued(trust)
            assert (after.authority, after.serial != before.serial) == (made.id, True)
            for svid in (before, after):
                assert openssl_verifies(svid, trust.bundle.x509_roots, tmp_path) == "OK"

    asyncio.run(steps())


def test_a_root_that_the_upstream_will_use_next_is_published_before_it_does(tmp_path: Path) -> None:
    async def steps() -> None:
        cert, key = company_ca(tmp_path)
        following = tmp_path / "following"
        following.mkdir()
        next_cert, _ = company_ca(following)
        roots = tmp_path / "roots.pem"
        upstream = DiskUpstream(DOMAIN, certificate=cert, key=key, roots=roots)
        roots.write_bytes(cert.read_bytes().split(b"-----BEGIN", 2)[0])
        roots.write_bytes(next_cert.read_bytes()[next_cert.read_bytes().rindex(b"-----BEGIN CERT") :])
        async with serving(upstream) as trust:
            assert len(trust.bundle.x509_roots) == 2
            sequence = trust.bundle.sequence
            roots.write_bytes(cert.read_bytes()[cert.read_bytes().rindex(b"-----BEGIN CERT") :])
            await trust.tend()
            assert (len(trust.bundle.x509_roots), trust.bundle.sequence > sequence) == (1, True)

    asyncio.run(steps())


# OpenBao.


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with pki_engine(tmp_path, key_bits=384) as made:
        yield made


def jwt_of(engine: Engine) -> object:
    key = ec.generate_private_key(ec.SECP256R1())
    now = int(datetime.now(UTC).timestamp())
    claims = {"sub": "remit", "aud": "bao", "iat": now, "nbf": now, "exp": now + 300}
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return engine.jwt(Signer(key, {"typ": "JWT"}).sign(claims), pem.decode())


@pytest.mark.parametrize("how", ["token", "approle", "jwt"])
def test_openbao_signs_our_authority_and_openssl_accepts_what_it_signs(
    engine: Engine, tmp_path: Path, how: str
) -> None:
    auth = {"token": engine.token, "approle": engine.approle, "jwt": lambda: jwt_of(engine)}[how]()

    async def steps() -> None:
        async with serving(OpenBaoUpstream(engine.client(auth))) as trust:  # type: ignore[arg-type]
            svid = await issued(trust)
            assert openssl_verifies(svid, trust.bundle.x509_roots, tmp_path) == "OK"
            found = validate_x509_svid(
                [svid.certificate, *trust.authorities()[0].intermediates], lambda _: trust.bundle, datetime.now(UTC)
            )
            assert (str(found.spiffe_id), trust.authority_problems) == ("spiffe://remit.test/job", ())

    asyncio.run(steps())


def test_an_openbao_that_refuses_leaves_the_authority_before_it_and_says_so(engine: Engine, tmp_path: Path) -> None:
    async def steps() -> None:
        clock = ManualClock(datetime.now(UTC))
        async with serving(OpenBaoUpstream(engine.client(engine.token())), clock=clock) as trust:
            before = trust.authorities()
            engine.bao.write("auth/token/revoke", {"token": (tmp_path / "token").read_text().strip()})
            with pytest.raises(Rejected):
                await trust.rotate_authority(AuthorityKind.X509, actor="person:ann")
            clock.advance(timedelta(hours=13))
            await trust.tend()
            assert [problem.partition(":")[0] for problem in trust.authority_problems] == [
                "no successor of the x509 authority was signed"
            ]
            assert (await issued(trust)).authority in [one.id for one in before]
            engine.token()
            await trust.tend()
            assert trust.authority_problems == ()

    asyncio.run(steps())


def test_a_login_without_the_right_to_sign_gets_no_authority(engine: Engine) -> None:
    made = engine.bao.write("auth/token/create", {"policies": ["default"], "ttl": "5m"})
    token = made["auth"]["client_token"].encode()

    async def steps() -> None:
        with pytest.raises(Rejected) as refused:
            async with serving(OpenBaoUpstream(engine.client(TokenAuth(token=lambda: token)))):
                pass
        assert refused.value.code == "providers.openbao.refused" and token.decode() not in str(refused.value)

    asyncio.run(steps())


# A Remit above.


@dataclass(slots=True)
class Nest:
    """A Remit, its workload's SVID in files, and a Remit below that gets its authority by that."""

    above: Installation
    below: Installation

    def keep_svid(self) -> None:
        """What `remit x509 write` beside the Remit below does."""
        command = [*REMIT, "x509", "write", "--once", "--dir", str(self.below.root / "svid")]
        socket = f"unix://{self.above.data}/agent.sock"
        env = {**self.above.env, "SPIFFE_ENDPOINT_SOCKET": socket}
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)


@pytest.fixture
def nest() -> Iterator[Nest]:
    import os

    with installation() as above, installation(start=False) as below:
        selector = f"unix:uid:{os.getuid()}"
        above.cli("entry", "create", "--spiffe-id", "spiffe://remit.local/nested", "--selector", selector)
        address = above.admin.get("/healthz")["agents"]
        below.data.mkdir()
        (below.data / "remit.toml").write_text(
            f'[upstream]\nkind = "remit"\naddress = "{address}"\nfolder = "{below.root}/svid"\n'
        )
        yield Nest(above, below)


def test_a_remit_below_issues_under_the_root_above(nest: Nest, tmp_path: Path) -> None:
    nest.above.cli("downstream", "add", "spiffe://remit.local/nested")
    nest.keep_svid()
    nest.below.start()
    (row,) = [each for each in nest.below.json("authority", "ls") if each["kind"] == "x509"]
    assert (row["state"], row["upstream"]) == ("active", "signed")
    above, below = (json_roots(each) for each in (nest.above, nest.below))
    assert above == below
    nest.below.cli("authority", "rotate")
    noted = nest.above.admin.get("/api/v1/ledger/entries", type="trust.intermediate.issued")
    assert [each["actor"] for each in noted] == ["spiffe://remit.local/nested"] * 2


def test_a_rotation_above_reaches_the_bundle_below_before_it_signs(nest: Nest) -> None:
    nest.above.cli("downstream", "add", "spiffe://remit.local/nested")
    nest.keep_svid()
    nest.below.start()
    nest.above.cli("authority", "prepare")
    nest.below.stop()
    nest.below.start()
    assert json_roots(nest.below) == json_roots(nest.above)
    assert len(json_roots(nest.below)) == 2


def test_whom_nobody_allowed_gets_no_intermediate(nest: Nest) -> None:
    nest.keep_svid()
    with pytest.raises(AssertionError, match="may not have an intermediate authority"):
        nest.below.start()
    assert nest.above.admin.get("/api/v1/ledger/entries", type="trust.intermediate.issued") == []


def test_who_is_withdrawn_goes_on_with_what_it_has_and_gets_no_more(nest: Nest) -> None:
    nest.above.cli("downstream", "add", "spiffe://remit.local/nested")
    nest.keep_svid()
    nest.below.start()
    (allowed,) = nest.above.json("downstream", "ls")
    nest.above.cli("downstream", "rm", allowed["id"])
    refused = nest.below.cli("authority", "rotate", code=None)
    assert refused.returncode != 0 and "may not have an intermediate" in refused.stderr
    (row,) = [each for each in nest.below.json("authority", "ls") if each["kind"] == "x509"]
    assert row["state"] == "active"


def json_roots(server: Installation) -> list[str]:
    import json

    document = json.loads(server.admin.text("/bundle"))
    return sorted(key["x5c"][0] for key in document["keys"] if key.get("use") == "x509-svid")


def test_doctor_says_when_the_remit_above_is_gone(nest: Nest) -> None:
    nest.above.cli("downstream", "add", "spiffe://remit.local/nested")
    nest.keep_svid()
    nest.below.start()
    nest.below.stop()
    nest.above.stop()
    nest.below.start()
    (said,) = [
        each for each in nest.below.admin.get("/api/v1/doctor") if each["title"] == "authorities have successors"
    ]
    assert said["outcome"] == "fail" and "does not answer" in said["detail"]
