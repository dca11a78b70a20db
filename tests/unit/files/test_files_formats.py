"""Parsers of configuration: bounded, with lines, and never more than text."""

from __future__ import annotations

import pytest

from remit.inventory.connectors.files.formats import Malformed, parse_dotenv, parse_ini, parse_json, parse_toml
from remit.inventory.connectors.files.yamldoc import parse_yaml


def test_yaml_keeps_numbers_as_they_were_written() -> None:
    assert parse_yaml(b"pin: 0123\nwhen: 2026-01-01\non: yes\nflag: true\nnone: ~\n")[0].value == {
        "pin": "0123",
        "when": "2026-01-01",
        "on": "yes",
        "flag": True,
        "none": None,
    }


def test_yaml_knows_the_line_of_each_key() -> None:
    document = parse_yaml(b"a: 1\nb:\n  - c: 2\n  - d: 3\n")[0]
    assert [document.line("a"), document.line("b", 1, "d"), document.line("b", 0, "missing")] == [1, 4, 3]


def test_yaml_merge_keys_fill_in_what_is_missing() -> None:
    document = parse_yaml(b"base: &b {x: '1', y: '2'}\nuse:\n  <<: *b\n  y: '3'\n")[0]
    assert document.value == {"base": {"x": "1", "y": "2"}, "use": {"x": "1", "y": "3"}}


def test_a_bomb_of_aliases_is_refused() -> None:
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
        f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n".encode() for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(Malformed):
        parse_yaml(bomb)


def test_yaml_constructs_no_objects() -> None:
    assert parse_yaml(b"!!python/object/apply:os.system ['true']")[0].value == ["true"]


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b"{" * 100_000, b"- " * 50_000, b"a: [", b"\xff\xfe\x00", b"*nothing"]
)
def test_hostile_yaml_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_yaml(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"[" * 60 + b"]" * 60, b'{"a":', b"", b"\x00"])
def test_hostile_json_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_json(data)


def test_json_with_comments_and_trailing_commas() -> None:
    document = parse_json(b'{\n // note\n "url": "http://x//y", /* z */\n "n": 12345678901234567890,\n}')
    assert document.value == {"url": "http://x//y", "n": "12345678901234567890"}
    assert document.line("n") == 4


def test_json_knows_the_line_of_each_value() -> None:
    document = parse_json(b'{"a": {"k": 1},\n /* x\n */ "b": [\n {"k": "a\\"{"},\n {"k": 2}]\n}')
    found = [document.line(*path) for path in [("a", "k"), ("b",), ("b", 0, "k"), ("b", 1, "k"), ("b", 1, "missing")]]
    assert found == [1, 3, 4, 5, 5]


@pytest.mark.parametrize("data", [b"a = ", b"a = [" + b"[" * 5000, b"\xff"])
def test_hostile_toml_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_toml(data)


def test_ini_sections_quotes_and_comments() -> None:
    settings = parse_ini(b"; c\n[ s ]\na = 'b=c'\n# d\n[t]\ne: f\n")
    assert [(each.section, each.key, each.value, each.line) for each in settings] == [
        ("s", "a", "b=c", 3),
        ("t", "e", "f", 6),
    ]


def test_dotenv_values_may_span_lines() -> None:
    settings = list(parse_dotenv(b'export A="1\n2"\nB=x # note\nC=\'y\'\nnot a setting\nD="open\n'))
    assert [(each.key, each.value, each.line) for each in settings] == [
        ("A", "1\n2", 1),
        ("B", "x", 3),
        ("C", "y", 4),
        ("D", "open", 6),
    ]


def test_a_setting_does_not_show_its_value() -> None:
    assert "hunter22" not in repr(next(parse_dotenv(b"PASSWORD=hunter22")))
