"""`remit run` with a static secret, as people type it: the task speaks to a real API, and never sees what opens it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from installation import Installation, installation
from openbao_broker_stage import prepared_openbao
from static_stage import KEY, Api, api

POLICY = """
@id("use")
permit (principal, action in Remit::Action::"lease", resource) when { context.attested };
"""
JOB = """#!/bin/sh
curl --silent --show-error --max-time 20 --header @"$STATIC_HEADER_FILE" "$STATIC_URL/orders/7"
cat "$STATIC_HEADER_FILE"
echo "$STATIC_URL"
"""


@dataclass
class Scene:
    made: Installation
    api: Api

    def run(self) -> tuple[str, dict[str, Any]]:
        done = self.made.cli(
            "run", "--task", "job", "--need", "static://orders?role=use", "--format", "json", "--",
            self.made.root / "job",
        )  # fmt: skip
        line = next(line for line in done.stderr.splitlines() if line.startswith("{"))
        return done.stdout, json.loads(line)["leases"][0]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    if shutil.which("curl") is None:
        pytest.skip("curl: not installed")
    with api() as server, installation() as made:
        made.cli("people", "enrol", "ann")
        made.cli("secret", "add", "orders-key", "--for", "target/orders", stdin=KEY + "\n")
        made.cli(
            "target", "add", "static", "--name", "orders", "--url", f"static://127.0.0.1:{server.port}?tls=false",
            "--role", "use=GET /orders/{order}", "--option", "secret=orders-key", "--option", "probe=/me",
            "--option", f"rotate={json.dumps([server.hook])}",
        )  # fmt: skip
        (made.root / "job").write_text(JOB)
        (made.root / "job").chmod(0o755)
        made.cli("task", "add", "job", "--", made.root / "job")
        (made.root / "p.cedar").write_text(POLICY)
        made.cli("policy", "apply", made.root / "p.cedar")
        yield Scene(made, server)


def test_curl_gets_an_answer_and_afterwards_its_key_is_refused(scene: Scene) -> None:
    said, lease = scene.run()
    answer, header, url = said.splitlines()
    assert answer.startswith("you sent Bearer ****")
    assert KEY not in said
    assert (lease["state"], lease["refusal"]) == ("revoked", "401 no live lease has this key")
    again = subprocess.run(
        ["curl", "--silent", "--max-time", "10", "--header", header, "--write-out", "%{http_code}", f"{url}/orders/7"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.stdout.endswith("401")


def test_every_run_leaves_another_secret_behind(scene: Scene) -> None:
    before = scene.api.known
    _, lease = scene.run()
    assert scene.api.known != before
    assert "the target refuses the old value" in " ".join(lease["left_behind"])
    kept = scene.made.admin.get("/api/v1/secrets")
    assert kept[0]["version"] > 1


def test_an_openbao_is_added_by_what_people_type(scene: Scene) -> None:
    with prepared_openbao() as vault:
        done = scene.made.cli(
            "target", "add", "openbao", "--name", "vault", "--url", f"openbao://127.0.0.1:{vault.bao.port}?tls=false",
            "--role", "read=token policy=app-read", "--password-stdin", stdin=vault.token + "\n",
        )  # fmt: skip
        assert "enough, and no more" in " ".join(done.stdout.split())
        done = scene.made.cli(
            "run", "--task", "job", "--need", "openbao://vault?role=read", "--", scene.made.root / "job", code=None
        )
        assert "revoked" in done.stderr
        assert "403 permission denied" in done.stderr
