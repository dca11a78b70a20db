"""A CI job and a pod prove themselves to a whole control plane, as its attestors file has it."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from https_stage import HttpsStage, https_stage
from platform_tokens import AUDIENCE, GITHUB, KUBERNETES, RSA_KEY, by_joserfc, by_pyjwt, issued, public_jwk
from remit.kernel.errors import Denied, Misconfigured, RemitError
from remit.trust import Evidence, SpiffeId
from remit.trust.proofs import Proof
from remit.wiring import ControlPlane, open_control_plane, settings_from

TRUST = {"REMIT_TRUST_DOMAIN": AUDIENCE.removeprefix("spiffe://"), "REMIT_ATTESTORS_FILE": "attestors.toml"}
JOB = SpiffeId.parse(f"{AUDIENCE}/deploy")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="remit-"))
    yield path
    rmtree(path)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[HttpsStage]:
    with https_stage(tmp_path) as running:
        running.on("/.well-known/openid-configuration", {"issuer": running.url, "jwks_uri": f"{running.url}/keys"})
        running.on("/keys", {"keys": [public_jwk(RSA_KEY, "k1")]})
        yield running


def believe(folder: Path, stage: HttpsStage) -> None:
    (folder / "jwks.json").write_text(json.dumps({"keys": [public_jwk(RSA_KEY, "k1")]}))
    (folder / "attestors.toml").write_text(
        f"""
        [github]
        issuer = "{stage.url}"
        ca_file = "{stage.ca_file}"
        required = {{ repository_owner_id = ["65"] }}

        [[kubernetes]]
        name = "prod"
        issuer = "{KUBERNETES["iss"]}"
        jwks_file = "jwks.json"
        """
    )


def now() -> dict[str, int]:
    seconds = int(time.time())
    return {"iat": seconds, "nbf": seconds, "exp": seconds + 300}


def job(stage: HttpsStage, **changed: Any) -> Proof:
    return Proof(attestor="github", payload={"token": by_joserfc(issued(GITHUB, iss=stage.url, **now(), **changed))})


def pod() -> Proof:
    return Proof(attestor="k8s_psat", payload={"token": by_pyjwt(issued(KUBERNETES, **now())), "cluster": "prod"})


async def opened(folder: Path) -> ControlPlane:
    return await open_control_plane(settings_from(folder, environ=TRUST, flags={}))


async def refusal(control: ControlPlane, *proofs: Proof) -> str:
    with pytest.raises(RemitError) as refused:
        await control.proofs.present(proofs, source="203.0.113.9")
    return refused.value.code


async def recorded(control: ControlPlane, kind: str) -> list[dict[str, Any]]:
    found = await control.store.read(lambda unit: [json.loads(leaf) for leaf in unit.ledger.leaves(0, 10_000)])
    return [each for each in found if each["type"] == kind]


def test_a_job_and_a_pod_are_what_their_platforms_say_once(folder: Path, stage: HttpsStage) -> None:
    async def story() -> None:
        believe(folder, stage)
        control = await opened(folder)
        try:
            # 1. Who is meant: the production environment of one repository, in one cluster's service account.
            await control.trust.create_entry(
                spiffe_id=str(JOB),
                selectors=[
                    "github:repository_id:640000001",
                    "github:environment:production",
                    "k8s_psat:service_account:prod/billing/nightly",
                ],
                actor="test",
            )
            # 2. One proof is not enough; both together are.
            alone = await control.proofs.present([job(stage)], source="203.0.113.9")
            assert isinstance(alone, Evidence)
            with pytest.raises(Denied):
                await control.trust.x509_svids(alone)
            shown = [job(stage), pod()]
            both = await control.proofs.present(shown, source="203.0.113.9")
            assert isinstance(both, Evidence)
            assert [one.spiffe_id for one in (await control.trust.x509_svids(both)).svids] == [JOB]
            # 3. Neither is taken again, and another owner's job is not taken at all.
            assert await refusal(control, *shown) == "trust.proof.replayed"
            assert await refusal(control, job(stage, repository_owner_id="66")) == "trust.proof.claim"
        finally:
            await control.close()
        # 4. Nor is it after a restart.
        control = await opened(folder)
        try:
            assert await refusal(control, shown[1]) == "trust.proof.replayed"
            assert await refusal(control, *shown) == "trust.proof.replayed"
        finally:
            await control.close()

    asyncio.run(story())


def test_what_was_refused_is_in_the_ledger_and_nothing_that_was_shown_is(folder: Path, stage: HttpsStage) -> None:
    async def story() -> None:
        believe(folder, stage)
        control = await opened(folder)
        try:
            false = job(stage, aud="https://example.com")
            for _ in range(10):
                assert await refusal(control, false) == "trust.proof.audience"
            await control.proof_house.refusals.tend()
            told = await recorded(control, "trust.proof.refused")
            assert [(each["subject"], each["data"]["count"]) for each in told] == [
                ("attestor:github", 1),
                ("attestor:github", 9),
            ]
            assert {each["data"]["code"] for each in told} == {"trust.proof.audience"}
            assert str(false.payload["token"]).split(".")[2] not in json.dumps(told)
        finally:
            await control.close()

    asyncio.run(story())


WRONG = {
    "a sort that is none": ("[gitbub]\n", "trust.attestors.unknown"),
    "a key that is none": ('[github]\nisuer = "https://example.com"\n', "trust.attestors.invalid"),
    "a list for a table": ("[[github]]\n", "trust.attestors.invalid"),
    "a table for a list": ('[oidc]\nname = "a"\n', "trust.attestors.invalid"),
    "no issuer": ('[[oidc]]\nname = "a"\nselectors = {}\n', "trust.attestors.invalid"),
    "plain http": ('[github]\nissuer = "http://example.com"\n', "providers.document.address"),
    "a shared secret": ('[gitlab]\nalgorithms = ["HS256"]\n', "trust.attestors.invalid"),
    "no algorithm": ('[gitlab]\nalgorithms = ["none"]\n', "trust.attestors.invalid"),
    "an endless life": ("[gitlab]\nmax_lifetime = 99999999\n", "trust.attestors.invalid"),
    "a missing CA": ('[gitlab]\nca_file = "nowhere.pem"\n', "trust.attestors.invalid"),
    "an empty requirement": ("[gitlab]\nrequired = { project_id = [] }\n", "trust.attestors.invalid"),
    "keys twice": (
        '[[kubernetes]]\nname = "a"\nissuer = "https://a"\nserver = "https://b"\n', "trust.attestors.invalid",
    ),
    "one cluster twice": ('[[kubernetes]]\nname = "a"\nissuer = "https://a"\n' * 2, "trust.attestor.clusters"),
    "one key of two issuers": (
        "".join(f'[[oidc]]\nname = "{n}"\nissuer = "https://{n}"\nselectors = {{ sub = "sub" }}\n' for n in "ab"),
        "trust.attestor.issuers",
    ),
    "no TOML": ("[github", "trust.attestors.file"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_an_attestors_file_that_is_wrong_stops_the_start(folder: Path, what: str) -> None:
    text, code = WRONG[what]
    (folder / "attestors.toml").write_text(text)
    with pytest.raises(Misconfigured) as refused:
        asyncio.run(opened(folder))
    assert refused.value.code == code


def test_an_attestors_file_that_is_missing_or_everybodys_stops_the_start(folder: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "attestors.toml"  # outside the data directory, whose modes are corrected
    open_to_all.touch()
    open_to_all.chmod(0o666)
    for file in (tmp_path / "missing.toml", tmp_path, open_to_all):
        settings = settings_from(folder, environ={"REMIT_ATTESTORS_FILE": str(file)}, flags={})
        with pytest.raises(Misconfigured) as refused:
            asyncio.run(open_control_plane(settings))
        assert refused.value.code == "trust.attestors.file"


def test_the_example_of_the_documentation_is_taken(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    (folder / "attestors.toml").write_text(page.partition("```toml\n# attestors.toml")[2].partition("```")[0])
    for name in ("prod-ca.crt", "reviewer.token"):
        (folder / name).write_text("x")

    async def story() -> None:
        control = await opened(folder)
        try:
            assert {"github", "gitlab", "k8s_psat", "oidc"} <= control.proofs.attestors.keys()
        finally:
            await control.close()

    asyncio.run(story())
