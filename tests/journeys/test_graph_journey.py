"""`remit demo graph`: a leaked key's reach, the cheapest cut, less right with no call refused, and a certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installation import REMIT, Installation, installation
from remit.surface.cli.demo.graph.estate import EXPORTER, LEAKED
from remit.surface.cli.demo.graph.show import SCOPE

_MAIN = "from remit.surface.cli.entry import main; main()"


def test_every_step_of_the_walk_shows_what_it_promises(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, "demo", "graph", "--format", "json"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    steps = {each["step"]: each for each in json.loads(done.stdout)}
    assert {name: each["outcome"] for name, each in steps.items()} == dict.fromkeys("12345", "PASS")
    told = {name: " ".join(each["evidence"]) for name, each in steps.items()}
    assert SCOPE in told["2"] and "0 of 480 observed calls would be refused" in told["4"]
    assert "9 open" in told["5"] and "verified without the server" in told["5"]


@contextmanager
def tour() -> Iterator[tuple[Installation, str]]:
    """`remit tour --sample`, and what it has said when it has read everything."""
    with installation(start=False) as made, made.log.open("ab") as log:
        command = [*REMIT, "tour", "--sample", "--data", str(made.data), "--listen", "127.0.0.1:0"]
        made.process = subprocess.Popen(command, env=made.env, cwd=made.root, stdout=subprocess.PIPE, stderr=log)
        assert made.process.stdout is not None
        made.url = made.process.stdout.readline().decode().split()[1]
        deadline = time.monotonic() + 60
        while "sign-in?code=" not in (said := made.log.read_text()):
            assert made.process.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.1)
        yield made, said


def test_the_tour_of_the_sample_says_what_to_type_and_the_pages_show_the_numbers_of_the_commands() -> None:
    with tour() as (made, said):
        plain = " ".join(said.split())
        for line in ("remit blast id_", "remit deps id_", "remit rightsize exporter --replay", "remit prove"):
            assert line in plain, said
        cookie = made.sign_in()

        def page(path: str) -> str:
            with made.http("GET", path, headers={"Cookie": cookie}) as answer:
                assert answer.status == 200, path
                return str(answer.read().decode())

        proof = made.admin.get("/api/v1/path-proof", **{"class": "restricted"})
        worst, paths = proof["verdicts"][0], page("/paths")
        assert worst["titles"] == [SCOPE] and worst["open"] > 5 and "<svg" in paths
        assert f'data-label="Open">{worst["open"]}<' in paths
        sized = made.admin.get(f"/api/v1/rightsizing/of/{EXPORTER}")
        shown = page(f"/rightsizing/{sized['identity']}")
        assert f"{sized['used']} of {sized['granted']}" in shown and sized["replay"]["said"] in shown
        leaked = made.admin.get(f"/api/v1/identities/{LEAKED}")["identity"]["id"]
        assert "<svg" in page(f"/identities/{leaked}")
