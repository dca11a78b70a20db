"""The discovery worker: facts over a pipe, errors as errors, secrets nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from installation import environment, plant
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    Skipped,
)
from remit.kernel.ids import name
from remit.surface.worker import Job, decode_facts, encode_facts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ONE, PLACE = name("a", "b", "c", "d"), Place(system="s", path="/p", line=3)
FACTS: list[Fact] = [
    IdentityFact(
        name=ONE, kind=IdentityKind.BOT, title="t\x00é", place=PLACE, aliases=(ONE,), attributes={"a": None, "b": 1}
    ),
    CredentialFact(
        fingerprint="hmac:00",
        kind=CredentialKind.TOKEN,
        title="t",
        place=PLACE,
        identity=ONE,
        expires=NOON,
        exposed=True,
    ),
    EdgeFact(source=ONE, relation=Relation.HOLDS, target=ONE, evidence="e", place=PLACE, conditions=("x",)),
    Skipped(what="w", reason="too-large"),
]


def test_facts_survive_the_pipe() -> None:
    sent = msgspec.json.decode(msgspec.json.encode(encode_facts(FACTS)))
    assert decode_facts(sent) == FACTS


@pytest.mark.parametrize("rows", [[["NoSuchFact", {}]], [["IdentityFact", {"name": 1}]], [["Skipped", {}]]])
def test_what_is_no_fact_is_refused(rows: list[Any]) -> None:
    with pytest.raises((msgspec.ValidationError, KeyError)):
        decode_facts(rows)


def run(job: Job, home: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "remit.surface.worker"], input=msgspec.json.encode(job), capture_output=True, timeout=60,
        check=True, env=environment(home),
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_job_ends_with_its_end_and_shows_no_secret(tmp_path: Path) -> None:
    secret = "kV7pQz3nWm8rTs5yXb2dLc9gHf4j"
    plant(tmp_path / "tree", secret=secret)
    job = Job(connector="files", source=str(tmp_path / "tree"), now=NOON, fingerprint_key="00" * 32, secret="pw-1")
    lines = run(job, tmp_path)
    assert lines[0]["kind"] == "source" and lines[-1] == {"kind": "end"}
    assert any(line["kind"] == "facts" and line["facts"] for line in lines)
    assert secret not in json.dumps(lines)
    assert secret not in repr(job) and "pw-1" not in repr(job)


def test_an_error_of_the_connector_comes_as_a_problem(tmp_path: Path) -> None:
    job = Job(connector="files", source=str(tmp_path / "none"), now=NOON, fingerprint_key="00" * 32)
    (line,) = run(job, tmp_path)
    assert line["kind"] == "error" and line["problem"]["code"].startswith("inventory.")
    job = Job(connector="nothing", source="x", now=NOON, fingerprint_key="00" * 32)
    (line,) = run(job, tmp_path)
    assert line["problem"]["code"] == "inventory.connector.unknown"
