"""The worker under hostile sources: what breaks in it says nothing, and where it was started decides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from installation import environment, installation, plant
from remit.inventory.connectors.port import ConnectorManifest, Scan
from remit.inventory.model import Fact, IdentityFact, IdentityKind, Place, Skipped
from remit.kernel.ids import name
from remit.surface import worker
from remit.surface.worker import BATCH, Job

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CANARY = "hUnTeR2-k8Qz"
BREAKS = """
import io, sys
from datetime import UTC, datetime
from types import SimpleNamespace
from remit.inventory.connectors import catalog
from remit.surface import worker

class Broken:
    def open(self):
        raise ValueError("bad line: password = CANARY".replace("CANARY", "hUnTeR2-" + "k8Qz"))
    def close(self):
        pass

catalog.make_connector = lambda *given: Broken()
worker.main()
"""


def test_what_breaks_is_told_by_its_kind_and_place_alone(tmp_path: Path) -> None:
    job = Job(connector="files", source="/", now=NOON, fingerprint_key="00" * 32)
    done = subprocess.run(
        [sys.executable, "-c", BREAKS], input=msgspec.json.encode(job) + b"\n", capture_output=True, timeout=60,
        check=True, env=environment(tmp_path),
    )  # fmt: skip
    (line,) = [json.loads(each) for each in done.stdout.splitlines()]
    assert line["problem"]["code"] == "inventory.worker.broke" and "ValueError" in line["problem"]["title"]
    assert CANARY.encode() not in done.stdout + done.stderr


class Many:
    """One record of which many facts are made."""

    manifest = ConnectorManifest(id="many", title="", source="", observes=(), needs=(), blind_to=())
    instance, scope = "i", "s"

    def open(self) -> None: ...
    def close(self) -> None: ...

    def fetch(self, scan: Scan) -> Iterator[str | Skipped]:
        yield "one"

    def translate(self, raw: str, scan: Scan) -> Iterable[Fact]:
        place = Place(system="s", path="/p")
        for number in range(BATCH * 2 + 1):
            one = name("a", "b", "c", str(number))
            yield IdentityFact(name=one, kind=IdentityKind.BOT, title="t", place=place)


def test_one_record_with_many_facts_is_no_line_of_any_length() -> None:
    lines: list[dict[str, Any]] = []
    worker.scan(Many(), Job(connector="many", source="", now=NOON, fingerprint_key="00"), lines.append)
    sizes = [len(line["facts"]) for line in lines if line["kind"] == "facts"]
    assert sum(sizes) == BATCH * 2 + 1 and max(sizes) == BATCH


def test_a_module_that_lies_where_the_server_was_started_is_not_run(tmp_path: Path) -> None:
    plant(tmp_path / "tree", secret="kV7pQz3nWm8rTs5yXb2dLc9gHf4j")
    sprung = tmp_path / "sprung"
    with installation() as remit:
        (remit.root / "msgspec.py").write_text(f"open({str(sprung)!r}, 'w').close()\nraise SystemExit(1)\n")
        remit.cli("discover", "files", tmp_path / "tree", cwd=tmp_path)
    assert not sprung.exists()
