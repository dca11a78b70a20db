"""A table on a narrow terminal: what one types next stands there whole."""

from __future__ import annotations

import pytest

from remit.surface.cli.output import show_table

ID = "id_01M853D601W37FPABHQ3NQKB85"
COLUMNS = [
    ("title", "identity"), ("kind", "kind"), ("system", "system"), ("environment", "environment"),
    ("service", "service"), ("owner", "owner"), ("state", "state"), ("id", "id"),
]  # fmt: skip
ROW = {"title": "AWSServiceRoleForSupport", "kind": "cloud-role", "system": "aws", "state": "active", "id": ID}
OWNED = ROW | {"environment": "production", "service": "support-desk", "owner": "person:mara.of.the.harbour"}


def shown(
    columns: int, row: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr("remit.surface.cli.output._PIPED", columns)
    show_table([row], COLUMNS)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= columns
    return said


def test_columns_in_which_nothing_stands_give_way_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heading, row = shown(80, ROW, monkeypatch, capsys).splitlines()
    assert heading.split() == ["identity", "kind", "system", "state", "id"]
    assert row.split()[1:] == ["cloud-role", "aws", "active", ID]


def test_where_there_is_room_every_column_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heading, row = shown(200, ROW, monkeypatch, capsys).splitlines()
    assert heading.split() == [each for _, each in COLUMNS]
    assert row.split().count("–") == 3


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_an_id_is_never_cut(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(columns, OWNED, monkeypatch, capsys)
    assert ID in said and "…" not in said
    assert all(value in said for value in OWNED.values())


@pytest.mark.parametrize("columns", [30, 45, 60])
def test_what_would_be_wrapped_into_slivers_is_told_in_lines(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("remit.surface.cli.output._PIPED", columns)
    keys = [(key, key) for key in ("severity", "one", "two", "three", "four")]
    row = {key: f"{key} of several words which fill it" for key, _ in keys} | {"severity": "high", "four": None}
    show_table([row], keys, wrap=("one", "two", "three"))
    said = capsys.readouterr().out
    assert " ".join(said.split()).count("of several words which fill it") == 3
    assert max(map(len, said.splitlines())) <= columns


def test_a_name_between_colons_is_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from remit.surface.cli.output import console

    console().print("arn:aws:one:role")
    assert capsys.readouterr().out == "arn:aws:one:role\n"
    assert "arn:aws:one:role" in shown(200, ROW | {"title": "arn:aws:one:role"}, monkeypatch, capsys)
