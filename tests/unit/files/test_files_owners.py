"""Owners: what CODEOWNERS, blame and comments say."""

from __future__ import annotations

import pytest

from remit.inventory.model import Place
from remit.inventory.owners import (
    LineAuthor,
    author_of,
    owner_comments,
    owners_of,
    parse_blame,
    parse_codeowners,
    propose,
)
from remit.kernel.ids import name


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*", "a/b.py", True), ("*.js", "a/b.js", True), ("*.js", "a/b.jsx", False), ("/build/logs/", "build/logs/x", True),
        ("/build/logs/", "a/build/logs/x", False), ("docs/*", "docs/a.md", True), ("docs/*", "docs/a/b.md", False), ("apps/", "x/apps/y", True),
        ("/docs/", "docs/a/b", True), ("**/logs", "a/b/logs/c", True), ("/a/**/z", "a/z", True), ("/a/**/z", "a/b/c/z", True),
        ("/a", "a", True), ("/a", "ab", False), ("Makefile", "x/Makefile", True), ("a?c", "abc", True), ("a?c", "a/c", False),
    ],
)  # fmt: skip
def test_patterns_match_as_forges_have_it(pattern: str, path: str, matches: bool) -> None:
    assert (owners_of(parse_codeowners(f"{pattern} @x"), path) is not None) is matches


def test_the_last_match_wins() -> None:
    rules = parse_codeowners("* @all\n*.py @py # note\n/src/x.py\n")
    found = [owners_of(rules, path) for path in ("a.md", "b.py", "src/x.py")]
    assert [rule.owners if rule else None for rule in found] == [("@all",), ("@py",), ()]


def test_gitlab_sections_have_default_owners() -> None:
    rules = parse_codeowners("[Database][2] @dba\nsql/\nother/ @x\n")
    assert [rule.owners for rule in rules] == [("@dba",), ("@x",)]


@pytest.mark.parametrize("pattern", ["*" * 200, "**/" * 100 + "x", "a*" * 100, "\\", "[", "/" * 300])
def test_a_hostile_pattern_costs_nothing(pattern: str) -> None:
    rules = parse_codeowners(f"{pattern} @x\nlast/ @y")
    owners_of(rules, "a" * 300 + "/" + "b" * 300)
    # Whatever the pattern means, the rules after it are read as they stand.
    assert rules[-1].owners == ("@y",)


def test_comments_name_owners() -> None:
    assert owner_comments("# Owner: payments\nkey: 1\n// maintainer = Jo <jo@x.org>\nowner: not a comment\n") == (
        (1, "payments"),
        (3, "Jo <jo@x.org>"),
    )


def test_blame_is_read_line_by_line() -> None:
    commit, unsaved = "a" * 40, "0" * 40
    porcelain = (
        f"{commit} 1 1 2\nauthor Jo\nauthor-mail <jo@x.org>\n\tone\n{commit} 2 2\n\ttwo\n"
        f"{unsaved} 3 3 1\nauthor Not Committed Yet\nauthor-mail <not.committed.yet>\n\tthree\n"
    )
    assert parse_blame(porcelain) == (LineAuthor(first=1, last=2, author="jo@x.org", commit="a" * 12),)


def test_a_bot_is_no_owner() -> None:
    runs = (LineAuthor(first=1, last=9, author="renovate[bot]@users"), LineAuthor(first=10, last=10, author="jo@x.org"))
    found = author_of(runs, None)
    assert found is not None and found[0].author == "jo@x.org"
    assert author_of(runs, 3) is None


def test_evidence_is_ranked_and_weighted() -> None:
    facts = propose(
        name("a", "b", "c", "d"),
        rules=parse_codeowners("* @team"),
        path="x",
        authors=(LineAuthor(first=1, last=5, author="jo@x.org"),),
        comments=((1, "ops"),),
        place=Place(system="host:x", path="/x", line=3),
        weight=50,
    )
    assert [(fact.method, fact.owner, fact.confidence) for fact in facts] == [
        ("codeowners", "@team", 40),
        ("git", "jo@x.org", 25),
        ("comment", "ops", 35),
    ]
