"""Registration: what is refused, what is the same, what matches, and that an unsigned row counts for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from remit.kernel.clock import ManualClock
from remit.kernel.errors import Conflict, NotFound, RemitError
from remit.trust import Selector, TrustDomain
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.entries import EntryIndex, EntryRequest, create_entry, is_genuine, remove_entry, request_entry
from remit.trust.testing import NOON, KeyedAttester, MemoryTrustRows, MemoryUnit, example_entry

ATTESTER = KeyedAttester()


def asked(
    spiffe_id: str = "spiffe://remit.test/job", selectors: Sequence[str] = ("unix:uid:1000",), **settings: object
) -> EntryRequest:
    return request_entry(
        spiffe_id=spiffe_id,
        selectors=selectors,
        trust_domain=TrustDomain("remit.test"),
        attestors={"unix": UnixAttestor()},
        **settings,  # type: ignore[arg-type]
    )


def unit() -> MemoryUnit:
    return MemoryUnit(MemoryTrustRows(), ManualClock(NOON).now())


REFUSED = {
    "trust.entry.selectors": {"selectors": []},
    "trust.entry.foreign": {"spiffe_id": "spiffe://other.test/job"},
    "trust.spiffe_id.malformed": {"spiffe_id": "job"},
    "trust.entry.lifetime": {"x509_ttl": timedelta(days=30)},
    "trust.entry.hint": {"hint": "x" * 1025},
    "trust.entry.identity": {"identity": "job"},
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_bad_registration_is_refused(code: str) -> None:
    with pytest.raises(RemitError) as refusal:
        asked(**REFUSED[code])  # type: ignore[arg-type]
    assert refusal.value.code == code


SELECTORS = {
    "unix:uid:-1": "trust.selector.malformed",
    "unix:uid:01": "trust.selector.malformed",
    "unix:uid:4294967295": "trust.selector.malformed",
    "unix:path:bin/sh": "trust.selector.malformed",
    "unix:path:/bin/../sh": "trust.selector.malformed",
    "unix:path:/bin//sh": "trust.selector.malformed",
    "unix:sha256:" + "A" * 64: "trust.selector.malformed",
    "unix:sha256:abc": "trust.selector.malformed",
    "unix:pid:1": "trust.selector.unknown",
    "moon:phase:full": "trust.selector.unknown",
    "unix:uid": "trust.selector.malformed",
    "unix:user:a\nb": "trust.selector.malformed",
}


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_selector_that_could_never_match_is_refused(selector: str) -> None:
    with pytest.raises(RemitError) as refusal:
        asked(selectors=[selector])
    assert refusal.value.code == SELECTORS[selector]


@pytest.mark.parametrize(
    "selector",
    [
        "unix:uid:0",
        "unix:gid:1000",
        "unix:path:/opt/a b/c:d",
        "unix:sha256:" + "a" * 64,
        "unix:user:w-1",
        "unix:group:g",
    ],
)
def test_a_selector_of_a_known_key_is_taken(selector: str) -> None:
    assert asked(selectors=[selector]).selectors == {Selector.parse(selector)}


def test_the_same_registration_twice_is_one_entry_and_one_record() -> None:
    work = unit()
    first = create_entry(work, asked(), actor="person:ann", attester=ATTESTER)
    again = create_entry(work, asked(), actor="person:ann", attester=ATTESTER)
    assert (again, [event.type for event in work.events]) == (first, ["trust.entry.created"])


def test_the_same_claim_with_other_settings_is_a_conflict() -> None:
    work = unit()
    create_entry(work, asked(), actor="person:ann", attester=ATTESTER)
    with pytest.raises(Conflict):
        create_entry(work, asked(hint="other"), actor="person:ann", attester=ATTESTER)


def test_removing_is_recorded_and_an_unknown_entry_is_not_found() -> None:
    work = unit()
    entry = create_entry(work, asked(), actor="person:ann", attester=ATTESTER)
    remove_entry(work, entry.id, actor="person:bob")
    assert [(event.type, event.actor) for event in work.events][1:] == [("trust.entry.removed", "person:bob")]
    with pytest.raises(NotFound):
        remove_entry(work, entry.id, actor="person:bob")


@pytest.mark.parametrize(
    "change",
    [
        {"selectors": frozenset({Selector.parse("unix:uid:0")})},
        {"x509_ttl": timedelta(days=1)},
        {"identity": "id_other"},
        {"hint": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_entry_that_was_changed_in_the_database_is_not_genuine(change: dict[str, object]) -> None:
    entry = create_entry(unit(), asked(), actor="person:ann", attester=ATTESTER)
    assert is_genuine(entry, ATTESTER)
    assert not is_genuine(replace(entry, **change), ATTESTER)  # type: ignore[arg-type]


def test_all_selectors_of_an_entry_must_be_shown() -> None:
    index = EntryIndex([example_entry(1, selectors=["unix:uid:1000", "unix:path:/bin/a"])])
    shown = frozenset(Selector.parse(text) for text in ("unix:uid:1000", "unix:path:/bin/a", "unix:gid:5"))
    assert [entry.id for entry in index.match(shown)] == [example_entry(1).id]
    for missing in ("unix:path:/bin/a", "unix:uid:1000"):
        assert index.match(shown - {Selector.parse(missing)}) == ()
    assert index.match(frozenset()) == ()


def test_several_entries_match_oldest_first() -> None:
    index = EntryIndex(example_entry(number) for number in (3, 1, 2))
    assert [entry.id for entry in index.match(example_entry().selectors)] == [
        example_entry(number).id for number in (1, 2, 3)
    ]


def test_a_discarded_entry_matches_no_more() -> None:
    index = EntryIndex([example_entry(1), example_entry(2)])
    index.discard(example_entry(1).id)
    index.discard("en_unknown")
    assert [entry.id for entry in index.match(example_entry().selectors)] == [example_entry(2).id]
