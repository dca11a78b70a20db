"""What a user types in the first hour, in order, and what comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from installation import Installation, installation, plant

POLICY = '@id("read") @reason("reading is fine") permit (principal, action == Remit::Action::"read", resource);\n'
CASES = """
- name: somebody reads
  subject: {owner: "person:alice", owner_active: true}
  action: read
  resource: {type: thing, id: r}
  expect: allow
  by: [read]
- name: somebody writes
  subject: {owner: "person:alice", owner_active: true}
  action: write
  resource: {type: thing, id: r}
  expect: deny
"""


@pytest.fixture(scope="module")
def user() -> Iterator[Installation]:
    """Somebody with a running installation that has read a small estate."""
    with installation() as made:
        plant(made.root / "tree")
        made.cli("discover", "files", "tree")
        yield made


def identities(user: Installation) -> list[dict[str, Any]]:
    return [each for each in user.json("ls") if each["record"] == "identity"]


def one(user: Installation, text: str) -> dict[str, Any]:
    return next(each for each in identities(user) if text in each["name"])


# -- what exists


def test_discover_says_what_it_found_and_what_it_could_not_see() -> None:
    with installation() as made:
        tree = plant(made.root / "tree")
        (tree / "broken.json").write_text("{")
        done = made.cli("discover", "files", "tree")
        assert re.search(r"\d+ identities \(\d+ new, 0 joined\), \d+ credentials \(\d+ new\)", done.stdout)
        again = made.json("discover", "files", tree)
        kinds = Counter(each["record"] for each in made.json("ls") if each["kind"] != "unbound")
        assert (again["facts"]["identity"], again["facts"]["credential"]) == (kinds["identity"], kinds["credential"])
        assert (again["identities_new"], again["credentials_new"], again["findings_new"]) == (0, 0, 0)
        (tree / "home" / ".pgpass").unlink()
        assert made.json("discover", "files", tree)["retired"]["credential"] == 1
        assert [each["scope"] for each in made.json("sources")] == [str(tree)]


def test_ls_is_a_table_for_people_and_one_array_for_programs(user: Installation) -> None:
    table = user.cli("ls").stdout
    assert table.splitlines()[0].split()[:2] == ["identity", "kind"]
    rows = user.json("ls")
    assert {each["record"] for each in rows} == {"identity", "credential"}
    assert all(each["title"].split()[0][:20] in table for each in identities(user))
    assert yaml.safe_load(user.cli("ls", "--format", "yaml").stdout) == rows


def test_ls_filters_and_sorts(user: Installation) -> None:
    exposed = user.json("ls", "--exposed")
    assert exposed and len(exposed) < len(identities(user))
    assert [each["id"] for each in user.json("ls", "shop_app")] == [one(user, "shop_app")["id"]]
    titles = [each["title"] for each in user.json("ls", "--unowned", "--sort", "-title")]
    assert titles == sorted(titles, reverse=True)
    assert user.json("ls", "no-such-thing") == []
    assert "inventory.sort.unknown" in user.cli("ls", "--unowned", "--sort", "secret", code=2).stderr


def test_show_tells_everything_with_its_source(user: Installation) -> None:
    identity = one(user, "shop_app")
    text = user.cli("show", identity["id"]).stdout
    for expected in ("shop_app", "nobody", "credentials", "seen by", str(user.root / "tree/shop/.env")):
        assert expected in text
    page = user.json("show", identity["name"])
    assert page["identity"]["id"] == identity["id"]
    assert page["sightings"] and page["credentials"]


def test_findings_exit_1_when_there_are_some_and_0_when_not(user: Installation) -> None:
    found = user.json("findings", code=1)
    assert found and all(each["next_step"] and each["place"] for each in found)
    ranks = ["info", "low", "medium", "high", "critical"]
    shown = [ranks.index(each["severity"]) for each in found]
    assert shown == sorted(shown, reverse=True)
    assert user.json("findings", "no-such-finding", code=0) == []


def test_blast_shows_paths_as_text_as_data_and_as_a_picture(user: Installation) -> None:
    identity = one(user, "shop_app")["id"]
    assert "shop_app" in user.cli("blast", identity).stdout
    assert user.json("blast", identity)
    picture = user.root / "blast.svg"
    user.cli("blast", identity, "--svg", picture)
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    user.json("deps", identity)


# -- who answers


def test_own_proposes_and_claim_makes_the_first_person_answer(user: Installation) -> None:
    identity = one(user, "reporting")["id"]
    assert set(user.json("own", identity)) == {"owner", "proposals", "asked", "chain"}
    claimed = user.cli("claim", identity)
    assert "you answer for" in claimed.stderr
    (person,) = user.json("people", "ls")
    assert user.json("show", identity)["identity"]["owner"] == f"person:{person['name']}"
    key = next((user.home / ".config" / "remit").glob("*.json"))
    assert key.stat().st_mode & 0o777 == 0o600
    user.cli("own", identity, "nobody-is-called-so", code=2)


# -- policies


def test_policies_are_checked_tested_applied_and_explained(user: Installation) -> None:
    good, bad, cases = user.root / "good.cedar", user.root / "bad.cedar", user.root / "cases.yaml"
    good.write_text(POLICY)
    bad.write_text("permit (principal, action, resource) when { principal.nonsense == 1 };\n")
    cases.write_text(CASES)
    assert "no problems" in user.cli("policy", "check", good).stderr
    assert "bad.cedar:1" in user.cli("policy", "check", bad, code=1).stdout
    user.cli("policy", "test", good, cases)
    cases.write_text(CASES.replace("expect: deny", "expect: allow"))
    assert "FAIL" in user.cli("policy", "test", good, cases, code=1).stdout
    user.cli("policy", "apply", bad, code=2)
    assert "in force: 1 policies" in user.cli("policy", "apply", good).stderr
    assert user.cli("policy", "show").stdout.strip() == POLICY.strip()
    user.cli("policy", "replay", good)
    answer = user.admin.post(
        "/access/v1/evaluation",
        {"subject": {"type": "identity", "id": one(user, "shop_app")["name"]}, "action": {"name": "read"},
         "resource": {"type": "thing", "id": "r"}},
    )  # fmt: skip
    assert answer["decision"] is True
    text = user.cli("explain", answer["context"]["id"]).stdout
    assert "allowed" in text and "reading is fine" in text
    assert answer["context"]["id"] in user.cli("decisions").stdout


def test_the_starter_policies_pass_their_own_check_and_cases(user: Installation) -> None:
    import remit.access.policy.starter

    starter = user.root / "starter.cedar"
    starter.write_text(user.cli("policy", "show", "--starter").stdout)
    user.cli("policy", "check", starter)
    user.cli("policy", "test", starter, Path(remit.access.policy.starter.__file__).parent / "cases.yaml")


# -- tasks, entries


def test_a_task_is_registered_by_its_very_program(user: Installation) -> None:
    user.cli("task", "add", "report", "--", "/bin/sh", "-c", "true")
    (task,) = user.json("task", "ls")
    assert task["name"] == "report"
    assert re.fullmatch(r"[0-9a-f]{64}", task["program"]["sha256"])
    assert user.cli("task", "add", "other", "--", "/no/such/program", code=2).stderr.startswith("error")
    user.cli("task", "rm", "report")
    assert user.json("task", "ls") == []


def test_an_entry_is_created_once_and_removed(user: Installation) -> None:
    args = ("entry", "create", "--spiffe-id", "spiffe://remit.local/web", "--selector", "unix:uid:4242")
    made = user.json(*args)
    assert user.json(*args)["id"] == made["id"]
    assert [each["spiffe_id"] for each in user.json("entry", "ls")] == ["spiffe://remit.local/web"]
    user.cli("entry", "rm", made["id"])
    assert user.json("entry", "ls") == []
    user.cli("entry", "create", "--spiffe-id", "spiffe://other.example/x", "--selector", "unix:uid:1", code=2)


# -- proof


def test_the_ledger_tells_it_all_and_verifies_without_a_server() -> None:
    with installation() as made:
        made.cli("discover", "files", plant(made.root / "tree"))
        kinds = {each["type"] for each in made.json("ledger", "ls", "--limit", "100")}
        assert {"inventory.source.scanned", "inventory.identities.found"} <= kinds
        assert made.cli("ledger", "prove", "0").stdout.startswith("c2sp.org/tlog-proof@v1")
        made.cli("ledger", "prove", "99999", code=2)
        kept = made.root / "checkpoint"
        kept.write_bytes((made.data / "ledger" / "checkpoint").read_bytes())
        made.stop()
        found = json.loads(made.cli("ledger", "verify", "--earlier", kept, "--format", "json").stdout)
        assert found["verified"] and found["earlier_size"] <= found["size"]
        made.cli("ledger", "verify", "--earlier", made.root / "none", code=2)
        bundle = made.data / "ledger" / "tile" / "entries" / "000.p" / str(found["size"])
        raw = bytearray(bundle.read_bytes())
        raw[30] ^= 1
        bundle.write_bytes(raw)
        broken = made.cli("ledger", "verify", code=2).stderr
        assert "ledger.leaf.mismatch" in broken and "leaf `0`" in broken


# -- exit codes, output, help


def test_offline_verbs_work_without_a_server_and_the_others_say_how_to_start_one(tmp_path: Path) -> None:
    with installation(start=False) as made:
        for command in (["ls"], ["findings"], ["show", "x"], ["decisions"], ["console"], ["discover", "files", "."]):
            done = made.cli(*command, code=3)
            assert "surface.server.absent" in done.stderr and "remit up" in done.stderr
            assert done.stdout == ""
        lines = made.json("doctor", code=None)
        assert {"settings are understood", "control plane answers"} <= {each["title"] for each in lines}
        policy = tmp_path / "p.cedar"
        policy.write_text(POLICY)
        made.cli("policy", "check", policy)
        made.cli("policy", "show", "--starter")
        made.cli("ledger", "verify", code=2)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["nosuch"], 2),
        (["ls", "--nosuch"], 2),
        (["ls", "--limit", "many"], 2),
        (["ls", "--format", "xml"], 2),
        (["show"], 2),
        (["policy", "check", "/no/such/file"], 2),
        (["policy", "test", "/no/such/file", "/no/such/cases"], 2),
        (["up", "--config", "/no/such/file"], 4),
        (["up", "--database", "mysql://x"], 4),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_mistakes_have_their_exit_code_and_no_trace(command: list[str], code: int) -> None:
    with installation(start=False) as made:
        done = made.cli(*command, code=code)
        assert done.stderr.strip() and "Traceback" not in done.stderr
        assert done.stdout == ""


def test_files_that_cannot_be_used_are_told_by_name(user: Installation) -> None:
    identity = identities(user)[0]["id"]
    done = user.cli("blast", identity, "--svg", "/no/such/folder/x.svg", code=2)
    assert "/no/such/folder/x.svg" in done.stderr and "Traceback" not in done.stderr
    broken = user.root / "latin1.yaml"
    broken.write_bytes(b"- name: \xff\n")
    good = user.root / "ok.cedar"
    good.write_text(POLICY)
    assert "Traceback" not in user.cli("policy", "test", good, broken, code=2).stderr


def test_nothing_is_coloured_where_no_terminal_is_or_no_color_is_asked_for(user: Installation) -> None:
    assert "\x1b" not in user.cli("ls").stdout + user.cli("findings", code=1).stdout
    coloured = _on_a_terminal(user, {})
    assert "\x1b[" in coloured
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", _on_a_terminal(user, {"NO_COLOR": "1"}))


def _on_a_terminal(user: Installation, more: dict[str, str]) -> str:
    """What `remit findings` writes to a terminal of 100 columns."""
    import pty

    env = {key: value for key, value in user.env.items() if key != "NO_COLOR"} | {"TERM": "xterm-256color"} | more
    command = [sys.executable, "-c", "from remit.surface.cli.entry import main; main()", "findings"]
    here, there = pty.openpty()
    process = subprocess.Popen(command, env=env, stdout=there, stderr=there, stdin=there, cwd=user.root)
    os.close(there)
    said = b""
    while True:
        try:
            chunk = os.read(here, 65_536)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
    os.close(here)
    assert process.wait(60) == 1
    return said.decode("utf-8", "replace")


def test_what_a_hostile_file_is_called_does_not_reach_the_terminal_as_more_than_words() -> None:
    with installation() as made:
        hostile = made.root / "tree" / "[bold]x[/bold] [/nothing] \x1b[31m\x1b]0;owned\x07 \u202e"
        plant(hostile)
        made.cli("discover", "files", "tree")
        for identity in [each for each in identities(made) if "shop_app" in each["name"] or each["kind"] == "pipeline"]:
            for verb in ("show", "blast", "deps"):
                said = made.cli(verb, identity["id"])
                assert "\x1b" not in said.stdout + said.stderr and "\u202e" not in said.stdout
        listed = made.cli("findings", code=1).stdout + made.cli("sources").stdout + made.cli("ls").stdout
        assert "\x1b" not in listed
        assert "[bold]x[/bold]" in listed


def test_output_that_nobody_reads_to_its_end_is_no_error(user: Installation) -> None:
    command = f"{sys.executable} -c 'from remit.surface.cli.entry import main; main()' ls --format json | head -c 1"
    done = subprocess.run(
        ["sh", "-c", command], env=user.env, capture_output=True, text=True, timeout=60, check=True, cwd=user.root
    )
    assert done.stdout == "[" and "Traceback" not in done.stderr
