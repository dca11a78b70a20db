"""Every rule against examples of its own format, and lines as people write them (`tests/secret_examples.py`)."""

from __future__ import annotations

import random

import pytest
from tests.secret_examples import HARMLESS, LINES, SEED, drawn_value, examples

from remit.inventory.secrets.engine import Engine, make_engine
from remit.inventory.secrets.engine.rule import Rule
from remit.inventory.secrets.engine.rules import catalogue
from remit.inventory.secrets.model import Blob, Hit


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine()


def _hits(engine: Engine, path: str, text: str) -> list[Hit]:
    return engine.scan(Blob(path=path, data=text.encode()))


def test_the_catalogue_has_hundreds_of_rules_with_stable_names() -> None:
    names = [rule.id for rule in catalogue()]
    assert len(names) == len(set(names))
    assert len(names) >= 350


def test_each_rule_finds_values_of_its_format(engine: Engine) -> None:
    lost = []
    for rule in catalogue():
        for example in examples(rule):
            if example.secret and not _found(engine, rule, example.text):
                lost.append(rule.id)
    assert lost == []


def test_no_rule_finds_a_value_cut_short(engine: Engine) -> None:
    wrong = [
        rule.id
        for rule in catalogue()
        for example in examples(rule)
        if not example.secret
        and any(
            hit.rule == rule.id and hit.confidence >= 50 for hit in _hits(engine, "notes/a.txt", f" {example.text}\n")
        )
    ]
    assert wrong == []


def _found(engine: Engine, rule: Rule, text: str) -> bool:
    return any(hit.confidence >= min(50, rule.prior - 10) for hit in _hits(engine, "notes/a.txt", f" {text}\n"))


@pytest.mark.parametrize(("path", "line", "kind"), LINES, ids=[line[:40] for _, line, _ in LINES])
def test_a_line_gives_exactly_its_value(engine: Engine, path: str, line: str, kind: str) -> None:
    value = drawn_value(kind, random.Random(f"{SEED} {line}"))
    hits = [hit for hit in _hits(engine, path, line.replace("§", value)) if hit.confidence >= 50]
    assert [hit.value.decode() for hit in hits] == [value]


@pytest.mark.parametrize(("path", "line"), HARMLESS, ids=[line[:40] for _, line in HARMLESS])
def test_a_harmless_line_gives_nothing(engine: Engine, path: str, line: str) -> None:
    chance = random.Random(f"{SEED} {line}")
    text = line.replace("§", "".join(chance.choice("0123456789abcdef") for _ in range(36)))
    assert [hit.rule for hit in _hits(engine, path, text) if hit.confidence >= 50] == []
