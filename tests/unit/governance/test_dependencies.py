"""What a revocation would break, in whose order, and which share of consumers a test holds back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remit.access.model import Entity, Request
from remit.governance.dependencies.breaks import blind_of_window, of_log, of_reference, pulse_of
from remit.governance.dependencies.model import Breaks, Consumer, Evidence, answer
from remit.governance.dependencies.scream import Heard, together
from remit.governance.dependencies.share import consumer_of, is_in
from remit.inventory.use.model import Window

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def days(*back: int) -> list[str]:
    return [(NOW - timedelta(days=each)).date().isoformat() for each in back]


def ago(number: int) -> datetime:
    return NOW - timedelta(days=number)


@pytest.mark.parametrize(
    ("used", "alive"),
    [
        (range(30), True),
        (range(10, 40), False),  # a daily job that is silent for ten days
        ((20, 50, 80, 110), True),  # a monthly one that is not due yet
        ((70, 100, 130), False),  # one that missed two months
    ],
)
def test_use_is_judged_by_its_own_rhythm(used: tuple[int, ...], alive: bool) -> None:
    assert pulse_of(days(*used), ago(min(used)), NOW, measured=True).alive is alive


def test_what_a_log_shows_in_use_breaks_for_sure() -> None:
    pulse = pulse_of(days(*range(30)), ago(0), NOW, measured=True)
    assert of_log(pulse)[0] is Breaks.HARD
    assert of_reference(pulse)[0] is Breaks.LIKELY


def test_without_a_log_a_reference_is_never_called_safe() -> None:
    breaks, why = of_reference(pulse_of((), None, NOW, measured=False))
    assert breaks is Breaks.LIKELY
    assert "no log was read" in why


def test_a_reference_of_what_logs_show_unused_is_unknown() -> None:
    assert of_reference(pulse_of((), None, NOW, measured=True))[0] is Breaks.UNKNOWN


def test_a_conditional_trust_is_unknown_however_much_it_is_used() -> None:
    assert of_reference(pulse_of(days(0), ago(0), NOW, measured=True), conditional=True)[0] is Breaks.UNKNOWN


def test_a_log_that_ends_or_is_short_is_a_blind_spot() -> None:
    window = Window(system="postgres", instance="db", since=ago(20), until=ago(10), read=NOW)
    told = blind_of_window(window, pulse_of(days(10), ago(10), NOW, measured=True), NOW)
    assert any("tells of nothing after" in each for each in told)
    assert any("covers 10 days" in each for each in told)


def consumer(name: str, breaks: Breaks, confidence: int = 100) -> Consumer:
    return Consumer(
        id=name, title=name, relation="uses", evidence="", place="", kind=Evidence.LOG, breaks=breaks, why="",
        confidence=confidence,
    )  # fmt: skip


def test_what_breaks_surely_comes_first() -> None:
    told = answer({}, [consumer("c", Breaks.UNKNOWN), consumer("b", Breaks.LIKELY), consumer("a", Breaks.HARD)], [], [])
    assert [each["id"] for each in told["dependents"]] == ["a", "b", "c"]
    assert told["said"] == "revoked now, 1 would break, 1 likely would, 1 might"


def test_nothing_known_is_not_the_same_as_nothing_there() -> None:
    assert answer({}, [], ["no log"], [])["said"].endswith("no log would have told")


def test_more_consumers_than_are_shown_are_said_to_be_more() -> None:
    told = answer({}, [consumer(f"c{number}", Breaks.HARD) for number in range(1_002)], [], [])
    assert (len(told["dependents"]), told["total"]) == (1_000, 1_002)
    assert told["blind_spots"] == ["2 more consumers are known and not shown"]


def test_a_share_holds_back_about_so_many_and_always_the_same() -> None:
    held = {each for each in range(2_000) if is_in("sc_1", f"task {each}", 10)}
    assert 140 < len(held) < 260
    assert held == {each for each in range(2_000) if is_in("sc_1", f"task {each}", 10)}
    assert held <= {each for each in range(2_000) if is_in("sc_1", f"task {each}", 30)}
    assert all(is_in("sc_1", f"task {each}", 100) for each in range(2_000))


def test_a_consumer_is_told_by_what_it_proves_not_by_what_it_asks() -> None:
    def request(action: str, **proven: str) -> Request:
        return Request(
            subject=Entity(type="identity", id="id_1"), action=action, resource=Entity(type="db", id="orders"),
            proven=proven,
        )  # fmt: skip

    assert consumer_of(request("read", task_digest="d")) == consumer_of(request("write", task_digest="d"))
    assert consumer_of(request("read")) != consumer_of(request("write"))


def test_screams_of_one_consumer_add_up() -> None:
    once = Heard(who="a", words="w", count=1, first="1", last="1")
    again = Heard(who="a", words="v", count=2, first="2", last="2")
    (one,), beyond = together([once], [again])
    assert (one.count, one.first, one.last, beyond) == (3, "1", "2", 0)


def test_a_flood_of_consumers_is_counted_and_not_kept() -> None:
    flood = [Heard(who=str(number), words="", count=1, first="", last="") for number in range(150)]
    heard, beyond = together([], flood)
    assert (len(heard), beyond) == (100, 50)
