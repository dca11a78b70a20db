"""`remit run` on a real OpenBao, with `bao` as the task's client: it works, and afterwards its token is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from bench.openbao import available_openbao
from run_stage import Stage, stage, summary

from openbao_broker_stage import KEYS, ROLE, Prepared, prepared_openbao
from remit.access.model import Target

READ = """#!/bin/sh
BAO_TOKEN=$(cat "$BAO_TOKEN_FILE"); export BAO_TOKEN
"{bao}" kv get -mount=secret -field=colour app && echo && cat "$BAO_TOKEN_FILE"
"""
ISSUE = """#!/bin/sh
cat "$OPENBAO_CERTIFICATE_FILE" && echo && cat "$REMIT_CREDENTIALS/vault-keys.json"
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Prepared]:
    with prepared_openbao() as running:
        yield running


@pytest.fixture
def scene(made: Prepared) -> Iterator[Stage]:
    with stage() as scene:

        async def add(state: object) -> None:
            targets = state.targets  # type: ignore[attr-defined]
            where = targets.locate("openbao", f"openbao://127.0.0.1:{made.bao.port}?tls=false")
            target = Target(
                name="vault", system="openbao", host=where.host, port=where.port, database=where.database,
                user=where.user, roles={"read": ROLE, "keys": KEYS}, options=where.options,
            )  # fmt: skip
            await targets.add(target, made.token, actor="person:ann")

        scene.arrange(add)
        for name, text in (("read", READ.format(bao=available_openbao())), ("issue", ISSUE)):
            path = scene.folder / name
            path.write_text(text)
            path.chmod(0o755)
            scene.register(name, str(path))
        scene.start_agent()
        yield scene


def test_bao_finds_its_token_and_afterwards_it_is_refused(scene: Stage, made: Prepared) -> None:
    done = scene.run(
        "read", str(scene.folder / "read"), needs=["openbao://vault?role=read"], options=["--format", "json"]
    )
    assert done.returncode == 0, done.stderr
    colour, token = done.stdout.split()
    assert colour == "blue"
    assert summary(done.stderr)["leases"][0]["refusal"] == "403 permission denied"
    refused = subprocess.run(
        [str(available_openbao()), "token", "lookup"], capture_output=True, text=True, timeout=60, check=False,
        env={**scene.env, "BAO_ADDR": made.bao.address, "BAO_TOKEN": token},
    )  # fmt: skip
    assert refused.returncode != 0
    assert "permission denied" in refused.stderr


def test_a_certificate_of_an_engine_reaches_the_task_without_the_token_that_read_it(scene: Stage) -> None:
    done = scene.run(
        "issue", str(scene.folder / "issue"), needs=["openbao://vault?role=keys"], options=["--format", "json"]
    )
    assert done.returncode == 0, done.stderr
    certificate, _, document = done.stdout.rpartition("\n{")
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert json.loads("{" + document)["secret"] == ""
    lease = summary(done.stderr)["leases"][0]
    assert (lease["state"], lease["refusal"]) == ("revoked", "403 permission denied")
