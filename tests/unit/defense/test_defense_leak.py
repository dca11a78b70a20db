"""The life of a leaked credential: what must be true before each step, and what a record keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from remit.defense.responses.instructions import instruction_for
from remit.defense.responses.leak import Intent, Leak, Stage, Way, leak_of

DAY = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
NOW = DAY + timedelta(hours=3)
BROKER = Intent(way=Way.BROKER, target="orders", principal="shop")


def mapped() -> Leak:
    leak = Leak(fingerprint="hmac:" + "a" * 64, found=DAY, moved=DAY, title="a password", severity="high")
    leak = leak.bind(NOW, identity="id_1", title="shop at db:5432", owner="person:ann")
    leak = leak.tell(NOW, [{"who": "person:ann", "how": "owner", "channels": ["chat"], "failed": []}])
    return leak.map(NOW, dependents=[{"title": "a job"}] * 60, unmeasured=["no log shows its use"])


def test_contained_is_who_was_refused_and_the_time_runs_from_the_finding() -> None:
    leak = mapped().seen_live(NOW).begin(NOW, BROKER).end(NOW)
    assert leak.contained_in is None
    done = leak.refuse(NOW, refusal="28P01", control="login as admin").close(NOW, "person:ann")
    assert (done.stage, done.contained_in) == (Stage.CLOSED, timedelta(hours=3))


def test_what_was_not_admitted_is_not_ended() -> None:
    with pytest.raises(AssertionError, match="not admitted"):
        mapped().begin(NOW, BROKER)


def test_nothing_is_closed_as_contained_without_a_refusal() -> None:
    with pytest.raises(AssertionError, match="refused"):
        mapped().close(NOW, "person:ann")
    with pytest.raises(AssertionError, match="words"):
        mapped().refuse(NOW, refusal="", control="")


def test_a_persons_word_is_never_shown_as_contained() -> None:
    done = mapped().dismiss(NOW, by="person:ann", reason="the account is gone")
    assert (done.stage, done.contained_in, done.proof) == (Stage.CLOSED, None, {})
    with pytest.raises(AssertionError, match="reason"):
        mapped().dismiss(NOW, by="person:ann", reason="")


def test_what_is_live_again_is_open_again_and_its_clock_runs_from_the_finding() -> None:
    done = mapped().refuse(DAY + timedelta(hours=1), refusal="28P01", control="c").close(NOW, "person:ann")
    again = done.reopen(NOW, "it is admitted again")
    assert (again.stage, again.contained_in, again.reopened, again.intent) == (Stage.REOPENED, None, 1, None)
    later = NOW + timedelta(days=1)
    leak = again.bind(later, identity="id_1", title="shop", owner="").tell(later, []).map(
        later, dependents=[], unmeasured=[]
    )  # fmt: skip
    assert leak.refuse(later, refusal="28P01", control="c").contained_in == later - DAY


def test_a_step_that_is_not_in_the_table_is_a_bug() -> None:
    leak = Leak(fingerprint="hmac:" + "a" * 64, found=DAY, moved=DAY)
    with pytest.raises(AssertionError):
        leak.tell(NOW, [])
    with pytest.raises(AssertionError):
        replace(leak, stage=Stage.CLOSED).refuse(NOW, refusal="28P01", control="c")


def test_a_record_is_bounded_and_read_as_it_was_written() -> None:
    leak = mapped().wait(NOW, instruction="do it", trouble="x" * 9000)
    assert (len(leak.dependents), leak.dependents_count, len(leak.trouble)) == (50, 60, 500)
    assert leak_of(leak.as_json()) == leak


@pytest.mark.parametrize(
    ("provider", "kind", "says"),
    [("github", "token", "Developer settings"), ("", "ssh-key", "authorized_keys"), ("nobody", "token", "issuer")],
)
def test_an_instruction_is_in_the_issuers_words_and_has_no_link(provider: str, kind: str, says: str) -> None:
    text = instruction_for(provider, kind)
    assert says in text and "://" not in text and "www." not in text
