"""Invariants: words that are sentences of Cedar, and files of them."""

from __future__ import annotations

import pytest

from remit.access.policy.invariants import (
    APPROVED,
    WORDS,
    Claim,
    Joined,
    is_sentence,
    read_invariant,
    read_invariants,
    words_of,
)
from remit.kernel.errors import Rejected

EXAMPLES = (
    "anything", "nothing", "public", "restricted", "sensitive", "known", "attested", "attested within 10 minutes",
    "attested within 1 second", "owned", "granted", "bound", "tasked", "tier 0", "tier 0 to 2", "risk below 50",
    "privileged", "same environment", "environment production", "action lease", "action lease:issue", "kind ai-agent",
    "agent", "from 10.0.0.0/8", "excepted", "excepted from owner-required",
)  # fmt: skip


def claims(words: str) -> list[str]:
    """The Cedar texts on the right-hand side."""
    return [each.cedar for each in read_invariant(f"anything requires {words}").requires if isinstance(each, Claim)]


@pytest.mark.parametrize("words", EXAMPLES)
def test_every_word_is_typed_cedar(words: str) -> None:
    (text,) = claims(words)
    read_invariant(f"when {{ {text} }} requires {{ true }}")


def test_no_word_is_without_an_example() -> None:
    import re

    assert [name for name, pattern, _ in WORDS if not any(re.fullmatch(pattern, each) for each in EXAMPLES)] == []


def test_an_age_is_in_seconds() -> None:
    assert claims("attested within 10 minutes")[0].endswith("<= 600")
    assert claims("attested within 2 hours")[0].endswith("<= 7200")


def test_commas_join_or_gives_alternatives_and_not_negates() -> None:
    read = read_invariant("restricted, not action lease requires owned or approved and granted")
    assert isinstance(read.guard, Joined) and read.guard.how == "all"
    first, second = read.requires
    assert isinstance(first, Joined) and first.how == "any" and first.parts[1] is APPROVED
    assert [words_of(each) for each in (read.guard, first, second)] == [
        "restricted, not action lease", "owned or approved", "granted",
    ]  # fmt: skip


def test_a_name_may_hold_the_little_words() -> None:
    assert claims("excepted from agents-and-restricted-data or kind or-bit") == []
    assert claims("excepted from agents-and-restricted-data") == [
        'context.exceptions.contains("agents-and-restricted-data")'
    ]


def test_a_file_has_names_comments_words_and_cedar() -> None:
    text = '// why; {\n@id("one")\nrestricted requires owned;\n\nwhen { resource.name == "a;}{" }\nrequires { context.attested };'
    first, second = read_invariants(text)
    assert (first.id, second.text.startswith("when")) == ("one", True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("restricted needs owned;", "is not `… requires …`"),
        ("restricted requires blessed;", "`blessed`"),
        ("restricted requires ;", "a side of `requires` is empty"),
        ("a;\nrequires owned;", "line 1"),
        ("anything requires owned;\n\nanything requires x;", "line 3: `x`"),
        ("anything requires owned;\nanything requires owned;", "is there twice"),
        ("when { principal.teir == 0 } requires { true };", "teir"),
        ("when { principal.tier } requires { true };", "line 1"),
        ("when { true } when { true } requires { true };", "is no word"),
        ("when { true }; permit(principal, action, resource) requires { true };", "line 1"),
        ('anything requires environment a"b;', "is no word"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_invariants(text)
    assert refused.value.code == "access.policy.invariant" and said in str(refused.value)


def test_a_file_of_any_size_is_bounded() -> None:
    for text in ("x" * (1 << 21), "".join(f"anything requires risk below {n};" for n in range(300))):
        with pytest.raises(Rejected):
            read_invariants(text)


def test_a_whole_sentence_says_the_same_as_the_short_words() -> None:
    said = read_invariant(
        "whatever is allowed on a restricted resource is attested within 10 minutes, owned by an active owner, "
        "and inside an unexpired grant"
    )
    short = read_invariant("restricted requires attested within 10 minutes, owned, granted")
    assert (said.guard, [each.cedar for each in said.requires if isinstance(each, Claim)]) == (
        short.guard, [each.cedar for each in short.requires if isinstance(each, Claim)],
    )  # fmt: skip


def test_any_resource_is_anything() -> None:
    read = read_invariant("whatever is allowed on any resource is owned")
    assert read.guard == read_invariant("anything requires owned").guard


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("restricted requires owned", True),
        ("a requires b requires c", True),
        ("whatever is allowed on any resource is owned", True),
        ("when { true } requires { true }", True),
        ("policies/requires.cedar", False),
        ("what is allowed.cedar", False),
    ],
)
def test_a_sentence_is_told_from_a_path(text: str, is_one: bool) -> None:
    assert is_sentence(text) is is_one


def test_a_word_that_is_misspelt_is_answered_with_the_one_that_there_is() -> None:
    with pytest.raises(Rejected, match="`restricted` is"):
        read_invariant("restrictd requires owned")
