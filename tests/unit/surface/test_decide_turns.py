"""Whose turn it is: parties take turns, lines are short."""

from __future__ import annotations

from remit.surface.decide.turns import Turns


def served(turns: Turns[str], most: int = 1000) -> list[str]:
    found: list[str] = []
    turns.serve(most, found.append)
    return found


def test_parties_take_turns_whatever_each_has_waiting() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "a4", "b1", "c1"):
        assert turns.put(item[0], item)
    assert served(turns) == ["a1", "b1", "c1", "a2", "a3", "a4"]


def test_one_party_alone_is_served_in_its_order() -> None:
    turns: Turns[str] = Turns()
    for number in range(5):
        turns.put("a", f"a{number}")
    assert (served(turns, 2), len(turns)) == (["a0", "a1"], 3)
    assert served(turns) == ["a2", "a3", "a4"]


def test_a_flood_leaves_room_for_others() -> None:
    turns: Turns[str] = Turns(most=100, least=10)
    assert sum(turns.put("flood", "f") for _ in range(1000)) == 50
    assert turns.put("other", "o")
    assert "o" in served(turns, 3)


def test_a_party_keeps_its_least_share_however_many_there_are() -> None:
    turns: Turns[str] = Turns(most=100, least=10)
    for number in range(15):
        for _ in range(10):
            assert turns.put(number, "x")
    assert not turns.put(0, "x")


def test_all_together_have_a_bound() -> None:
    turns: Turns[str] = Turns(most=10, least=5)
    assert sum(turns.put(number, "x") for number in range(1000)) == 20


def test_an_empty_line_is_forgotten() -> None:
    turns: Turns[str] = Turns()
    turns.put("a", "x")
    served(turns)
    assert (len(turns), turns.put("a", "y"), served(turns)) == (0, True, ["y"])
