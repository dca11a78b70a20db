"""Directories in files: what is read, and what is told about a file that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.kernel.errors import Misconfigured
from remit.providers.directory.file import read_file


def test_csv_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(
        "email,name,manager,teams,active\n"
        "Ann@example.org,Ann,bob@example.org,payments;platform,true\nbob@example.org,Bob,,,\nold@example.org,Old,,,no\n"
    )
    people = [
        {"email": "ann@example.org", "name": "Ann", "manager": "bob@example.org", "teams": ["payments", "platform"]},
        {"email": "bob@example.org", "name": "Bob"},
        {"email": "old@example.org", "active": False},
    ]
    (tmp_path / "d.json").write_text(json.dumps({"people": people}))
    (tmp_path / "d.yaml").write_text(json.dumps({"people": people}))
    first, *others = (read_file(tmp_path / f"d.{suffix}") for suffix in ("csv", "json", "yaml"))
    assert [each.email for each in first.people] == ["ann@example.org", "bob@example.org"]
    assert first.teams == {"payments": ("ann@example.org",), "platform": ("ann@example.org",)}
    assert others == [first, first]


def test_people_without_an_address_are_counted_and_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("email,name\n,Nobody\nann@example.org,Ann\n")
    assert read_file(tmp_path / "d.csv").without_address == 1


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("d.csv", "mail,name\na@x.org,A\n", "line 1"),
        ("d.csv", "email,name\na@x.org,A,extra\n", "line 2"),
        ("d.json", '{"people": 3}', "the file"),
        ("d.json", '{"people": [{"email": "a@x.org", "salary": 3}]}', "entry 1"),
        ("d.json", '{"people": [], "teams": {"x": "a"}}', "teams"),
        ("d.yaml", "people: [}", "the file"),
        ("d.yaml", "a: &a [*a]", "the file"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, name: str, text: str, where: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Misconfigured, match=where):
        read_file(tmp_path / name)


@given(st.binary(max_size=300), st.sampled_from([".csv", ".json", ".yaml"]))
def test_no_file_harms_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("d") / f"d{suffix}"
    path.write_bytes(data)
    try:
        read_file(path)
    except Misconfigured as error:
        assert error.next_step or error.message
