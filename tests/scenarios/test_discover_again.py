"""Discovery more than once: what changed, watching, reading by schedule, and the pages that show it.

1. A system's file is imported; things appear, vanish and change; the second reading says exactly which.
2. `--watch` prints that by itself, and nothing while nothing changes; `--dry-run` writes nothing.
3. A schedule reads by itself. A source that fails is a finding until it is read again; a planted row is not obeyed.
4. Killed in the middle of a scheduled reading, the next one is whole.
5. The console shows it all, with hostile names as text.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from installation import REMIT, Installation, installation, plant
from remit.kernel.errors import RemitError

_HOSTILE = "<img src=x onerror=alert(1)>\"'`{{7*7}}"
_PATIENCE = 60.0


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with installation(REMIT_DISCOVERY_SHORTEST_SECONDS="1") as made:
        yield made


def write(file: Path, identities: dict[str, dict[str, Any]], *, credentials: tuple[str, ...] = ()) -> Path:
    """A file of the import form: identities by name, with their attributes, and a password of some."""
    rows = [
        {"name": name, "kind": "service-account", "title": name, "attributes": said}
        for name, said in identities.items()
    ]
    held = [{"identity": name, "kind": "password", "fingerprint": f"hmac:{ord(name[0]):064x}"} for name in credentials]
    document = {"system": file.stem, "instance": "one", "identities": rows, "credentials": held}
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(document))
    temporary.rename(file)
    return file


def read(house: Installation, file: Path) -> Any:
    return house.json("discover", "import", file)


def source_of(house: Installation, file: Path) -> Any:
    (row,) = [each for each in house.admin.get("/api/v1/sources") if each["scope"].endswith(file.name)]
    return row


def until(house: Installation, file: Path, fits: Callable[[Any], bool]) -> Any:
    """The row of the source, as soon as it fits."""
    end = time.monotonic() + _PATIENCE
    while not fits(row := source_of(house, file)):
        assert time.monotonic() < end, row
        time.sleep(0.1)
    return row


def entries(diff: Any) -> set[tuple[str, str, str]]:
    return {(each["change"], each["kind"], each["title"]) for each in diff["entries"]}


# -- 1, 2


def test_the_second_reading_says_what_is_new_gone_and_changed(house: Installation) -> None:
    file = write(
        house.root / "f" / "twice.json", {"Stays": {}, "Goes": {}, "Moves": {"service": "old"}}, credentials=("Goes",)
    )
    first = read(house, file)["diff"]
    assert first["first"] is True
    assert first["new"]["identity"] == 3
    write(file, {"Stays": {}, "Comes": {}, "Moves": {"service": "new"}}, credentials=("Comes",))
    diff = read(house, file)["diff"]
    assert {key: diff[key]["identity"] for key in ("new", "gone", "changed")} == {"new": 1, "gone": 1, "changed": 1}
    assert {key: diff[key]["credential"] for key in ("new", "gone", "changed")} == {"new": 1, "gone": 1, "changed": 0}
    identities = {each for each in entries(diff) if each[1] == "identity"}
    assert identities == {("new", "identity", "Comes"), ("gone", "identity", "Goes"), ("changed", "identity", "Moves")}
    (moved,) = [each for each in diff["entries"] if each["change"] == "changed"]
    assert moved["fields"] == [{"field": "service", "before": "old", "after": "new"}]


def test_a_reading_of_the_same_changes_nothing_and_the_api_keeps_the_last_difference(house: Installation) -> None:
    file = write(house.root / "f" / "same.json", {"A": {}, "B": {}})
    read(house, file)
    diff = read(house, file)["diff"]
    assert diff["entries"] == []
    assert house.admin.get(f"/api/v1/sources/{source_of(house, file)['id']}/diff") == diff
    assert "nothing changed" in house.cli("discover", "import", file).stdout


def test_what_another_source_or_a_person_said_is_not_this_sources_change(house: Installation) -> None:
    file = write(house.root / "f" / "calm.json", {"Calm": {"service": "x"}})
    read(house, file)
    read(house, write(house.root / "f" / "other.json", {"Other": {"service": "y"}}))
    assert read(house, file)["diff"]["entries"] == []


def test_what_stands_at_another_place_is_not_new(house: Installation) -> None:
    file = write(house.root / "f" / "moved.json", {"A": {}, "B": {}}, credentials=("A", "B"))
    read(house, file)
    write(file, {"B": {}, "A": {}}, credentials=("B", "A"))
    assert read(house, file)["diff"]["entries"] == []


def test_a_failed_reading_in_between_loses_no_change(house: Installation) -> None:
    file = write(house.root / "f" / "between.json", {"A": {}})
    read(house, file)
    file.write_text("{ no json")
    house.cli("discover", "import", file, code=None)
    write(file, {"A": {}, "Late": {}})
    assert entries(read(house, file)["diff"]) == {("new", "identity", "Late")}


def test_diff_lists_on_the_terminal(house: Installation) -> None:
    file = write(house.root / "f" / "listed.json", {"A": {}})
    read(house, file)
    write(file, {"B": {}})
    printed = house.cli("discover", "import", file, "--diff").stdout
    assert "1 identity new, 1 identity gone" in printed
    assert {line[0] for line in printed.splitlines() if line[:1] in "+-"} == {"+", "-"}


def test_a_dry_run_counts_and_writes_nothing(house: Installation) -> None:
    file = write(house.root / "f" / "dry.json", {"Unwritten": {}})
    done = house.json("discover", "import", file, "--dry-run")
    assert (done["facts"]["identity"], done["sample"][0]["title"]) == (1, "Unwritten")
    assert house.admin.get("/api/v1/identities", text="Unwritten")["total"] == 0
    assert [each for each in house.admin.get("/api/v1/sources") if each["scope"].endswith("dry.json")] == []


def test_watch_prints_what_changed_and_ends_by_ctrl_c(house: Installation) -> None:
    file = write(house.root / "f" / "watched.json", {"A": {}})
    read(house, file)
    command = [*REMIT, "discover", "import", str(file), "--watch", "1"]
    with subprocess.Popen(
        command, env=house.env, stdout=subprocess.PIPE, cwd=house.root,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # we may be run where Ctrl-C is ignored
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        try:
            assert not select.select([watching.stdout], [], [], 3)[0], "it printed though nothing changed"
            write(file, {"A": {}, "Appears": {}})
            said, end = b"", time.monotonic() + _PATIENCE
            while b"Appears" not in said and time.monotonic() < end:
                if select.select([watching.stdout], [], [], 1)[0]:
                    said += os.read(watching.stdout.fileno(), 65536)
            assert b"+ identity   Appears" in said
        finally:
            watching.send_signal(signal.SIGINT)
            try:
                watching.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                watching.kill()
    assert watching.returncode == 0


def test_all_sources_are_read_again_but_those_that_a_person_must_open(house: Installation) -> None:
    with installation() as other:
        kept = write(other.root / "f" / "kept.json", {"A": {}})
        secret = write(other.root / "f" / "asked.json", {"B": {}})
        read(other, kept)
        list(
            other.admin.stream("/api/v1/discover", {"connector": "import", "source": str(secret), "secret": "hunter2"})
        )
        write(kept, {"A": {}, "Z": {}})
        done = other.cli("discover", "all", "--diff")
        assert "1 identity new" in done.stdout
        assert "left out import" in done.stderr
        assert b"hunter2" not in b"".join(path.read_bytes() for path in other.data.rglob("*") if path.is_file())


# -- 3


def test_a_schedule_reads_by_itself(house: Installation) -> None:
    file = write(house.root / "f" / "planned.json", {"A": {}})
    source = read(house, file)["source"]
    done = house.json("source", "schedule", source, "--every", "1s")
    assert done["every"] == 1
    write(file, {"A": {}, "ByItself": {}})
    end = time.monotonic() + _PATIENCE
    while not house.admin.get("/api/v1/identities", text="ByItself")["total"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert house.json("source", "schedule", source, "--off")["every"] is None
    assert source_of(house, file)["next"] is None


def test_a_source_that_fails_is_a_finding_until_it_is_read_again(house: Installation) -> None:
    file = write(house.root / "f" / "fails.json", {"A": {}})
    source = read(house, file)["source"]
    house.cli("source", "schedule", source, "--every", "1s")
    text = file.read_text()
    file.unlink()
    row = until(house, file, lambda each: each["failures"] > 1)
    assert "fails.json" in row["trouble"]
    failing = {"rule": "inventory.source-failing", "source": source}
    assert len(house.admin.get("/api/v1/findings", **failing)["rows"]) == 1
    assert house.admin.get("/api/v1/identities", text="fails")["total"] == 1, "a failed run retired something"
    file.write_text(text)
    until(house, file, lambda each: each["failures"] == 0)
    assert house.admin.get("/api/v1/findings", **failing)["rows"] == []
    house.cli("source", "schedule", source, "--off")


@pytest.mark.parametrize(("every", "code"), [(0.5, "surface.body.invalid"), (10**9, "inventory.schedule.too-often")])
def test_an_impossible_schedule_is_refused(house: Installation, every: float, code: str) -> None:
    file = write(house.root / "f" / "impossible.json", {"A": {}})
    source = read(house, file)["source"]
    with pytest.raises(RemitError) as refused:
        house.admin.post(f"/api/v1/sources/{source}/schedule", {"every": every})
    assert refused.value.code == code


def test_no_schedule_without_a_secret_that_can_be_had(house: Installation) -> None:
    file = write(house.root / "f" / "person.json", {"A": {}})
    list(house.admin.stream("/api/v1/discover", {"connector": "import", "source": str(file), "secret": "hunter2"}))
    with pytest.raises(RemitError) as refused:
        house.admin.post(f"/api/v1/sources/{source_of(house, file)['id']}/schedule", {"every": 3600})
    assert refused.value.code == "inventory.schedule.secret"


def test_a_schedule_that_was_written_into_the_database_is_not_obeyed(house: Installation) -> None:
    file = write(house.root / "f" / "planted.json", {"A": {}})
    prey = write(house.root / "f" / "prey.json", {"Prey": {}})
    source = read(house, file)["source"]
    house.cli("source", "schedule", source, "--every", "1d")
    with sqlite3.connect(house.data / "remit.db", timeout=60) as database:
        (plan,) = database.execute("SELECT plan FROM inventory_reading WHERE source = ?", (source,)).fetchone()
        changed = json.dumps({**json.loads(plan), "source": str(prey), "every": 1})
        database.execute("UPDATE inventory_reading SET plan = ?, due = 1 WHERE source = ?", (changed, source))
    house.cli(
        "source", "schedule", read(house, write(house.root / "f" / "wake.json", {"W": {}}))["source"], "--every", "1d"
    )
    row = until(house, file, lambda each: each["trouble"])
    assert "not signed" in row["trouble"]
    assert row["next"] is None
    assert house.admin.get("/api/v1/identities", text="Prey")["total"] == 0


def test_what_was_read_is_not_what_the_database_says_it_was(house: Installation) -> None:
    file = write(house.root / "f" / "swapped.json", {"A": {}})
    prey = write(house.root / "f" / "swapped-prey.json", {"Prey": {}})
    source = read(house, file)["source"]
    with sqlite3.connect(house.data / "remit.db", timeout=60) as database:
        (asked,) = database.execute("SELECT asked FROM inventory_reading WHERE source = ?", (source,)).fetchone()
        changed = json.dumps({**json.loads(asked), "source": str(prey)})
        database.execute("UPDATE inventory_reading SET asked = ? WHERE source = ?", (changed, source))
    with pytest.raises(RemitError) as refused:
        house.admin.post(f"/api/v1/sources/{source}/schedule", {"every": 86_400})
    assert refused.value.code == "inventory.source.unsigned"


# -- 4


def test_killed_in_a_scheduled_reading_the_next_is_whole() -> None:
    names = {f"svc{number:05}": {"service": "a"} for number in range(1_000)}
    with installation(REMIT_DISCOVERY_SHORTEST_SECONDS="1") as house:
        file = write(house.root / "f" / "many.json", names)
        source = read(house, file)["source"]
        fewer = {name: {"service": "b"} for name in list(names)[500:]}
        write(file, {**fewer, "Added": {}})
        house.cli("source", "schedule", source, "--every", "1s")
        until(house, file, lambda each: each["reading"])
        house.stop(signal.SIGKILL)
        house.start()
        row = until(house, file, lambda each: each["changed"] and not each["changed"]["first"])
        diff = house.admin.get(f"/api/v1/sources/{source}/diff")
        assert row["changed"]["new"]["identity"] in (0, 1)  # 0 where the reading after it was seen already
        house.cli("source", "schedule", source, "--off")
        assert house.admin.get("/api/v1/identities", system="many")["total"] == 501
        assert house.admin.get("/api/v1/identities", system="many", text="Added")["total"] == 1
        if row["changed"]["new"]["identity"] and diff["new"]["identity"]:
            assert {key: diff[key]["identity"] for key in ("new", "gone", "changed")} == {
                "new": 1, "gone": 500, "changed": 500,
            }  # fmt: skip


# -- 5


def test_the_pages_answer_with_hostile_names_as_text(house: Installation) -> None:
    tree = plant(house.root / "tree")
    plant(tree / _HOSTILE.replace("/", ""), secret="jW2mNv8bXc4zQp6rTy1uKd5fGh")
    house.cli("discover", "files", tree)
    file = write(house.root / "f" / "hostile.json", {_HOSTILE: {"service": _HOSTILE}})
    read(house, file)
    write(file, {_HOSTILE: {"service": _HOSTILE + "2"}, "<script>alert(2)</script>": {}})
    source = read(house, file)["source"]
    (identity,) = house.admin.get("/api/v1/identities", text="onerror", system="hostile")["rows"]
    cookie = house.sign_in()
    for path in (
        "/inventory", "/inventory?connector=import&sort=-last_seen", "/inventory?finding=%2A.dormant%2A",
        "/inventory?expiring=30&gone=1", "/inventory/rows?text=onerror", "/sources", f"/sources/{source}", "/coverage",
        "/findings?rule=files.secret-in-config", f"/findings?source={source}", f"/identities/{quote(identity['id'])}",
    ):  # fmt: skip
        with house.http("GET", path, headers={"Cookie": cookie}) as answer:
            text = answer.read().decode()
            assert answer.status == 200, (path, text[:400])
            assert "<img src=x" not in text, path
            assert "<script>alert" not in text, path
            assert " style=" not in text, path
    with house.http("GET", f"/sources/{source}", headers={"Cookie": cookie}) as answer:
        assert "&lt;script&gt;alert(2)&lt;/script&gt;" in answer.read().decode()


def post(house: Installation, path: str, origin: str, **fields: str) -> int:
    headers = {"Cookie": house.sign_in(), "Origin": origin, "Content-Type": "application/x-www-form-urlencoded"}
    with house.http("POST", path, urlencode(fields).encode(), headers) as answer:
        answer.read()
        return answer.status


def test_a_view_is_saved_shown_and_dropped_from_the_consoles_own_pages_alone(house: Installation) -> None:
    name = "mine & <b>"
    assert post(house, "/inventory/views", "http://evil.test", name=name, query="unowned=1") == 403
    assert post(house, "/inventory/views", house.url, name=name, query="unowned=1&sort=-owner&evil=%3C&limit=1") == 303
    assert house.admin.get("/api/v1/views")[0]["query"] == "unowned=1&sort=-owner"
    with house.http("GET", "/inventory?unowned=1", headers={"Cookie": house.sign_in()}) as answer:
        text = answer.read().decode()
        assert 'aria-current="true">mine &amp; &lt;b&gt;</a>' in text
    assert post(house, "/inventory/views/drop", house.url, name=name) == 303
    assert house.admin.get("/api/v1/views") == []
