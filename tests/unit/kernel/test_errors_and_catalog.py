"""Errors say whose move is next; the catalog knows its plug-ins and no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from remit.kernel.catalog import Catalog
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected, RemitError, Unavailable


@dataclass(frozen=True)
class Plug:
    id: str


@pytest.mark.parametrize("kind", [Rejected, Denied, NotFound, Conflict, Unavailable, Misconfigured])
def test_an_error_has_a_code_a_sentence_and_a_next_step(kind: type[RemitError]) -> None:
    error = kind("a.thing.bad", "`x` is no thing", next_step="name another")
    assert (error.code, str(error), error.next_step) == ("a.thing.bad", "`x` is no thing", "name another")
    assert isinstance(error, RemitError)


def test_only_what_is_unavailable_may_say_when_to_try_again() -> None:
    assert Unavailable("a.b.c", "away", retry_after=timedelta(seconds=2)).retry_after == timedelta(seconds=2)
    assert not hasattr(Rejected("a.b.c", "bad"), "retry_after")


def test_plugins_are_listed_in_order_and_found_by_id() -> None:
    catalog = Catalog("connector", [Plug("b"), Plug("a")])
    assert [each.id for each in catalog] == ["b", "a"]
    assert catalog.get("a") == Plug("a")


def test_an_unknown_plugin_is_refused_with_the_names_of_those_that_exist() -> None:
    with pytest.raises(NotFound, match="no connector is called `c`") as refused:
        Catalog("connector", [Plug("b"), Plug("a")]).get("c")
    assert refused.value.next_step == "use one of: b, a"


def test_two_plugins_of_one_id_are_a_wrong_installation() -> None:
    with pytest.raises(Misconfigured) as refused:
        Catalog("connector", [Plug("a"), Plug("a")])
    assert refused.value.code == "kernel.catalog.duplicate"
