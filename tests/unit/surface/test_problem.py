"""One mapping from errors to HTTP and to exit codes, and back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected, RemitError, Unavailable
from remit.surface.problem import exit_code_of, from_problem, problem, status_of

MAPPING = [
    (Rejected, 400, 2),
    (Denied, 403, 1),
    (NotFound, 404, 2),
    (Conflict, 409, 2),
    (Unavailable, 503, 3),
    (Misconfigured, 500, 4),
]


@pytest.mark.parametrize(("kind", "status", "code"), MAPPING)
def test_each_kind_has_its_status_and_its_exit_code(kind: type[RemitError], status: int, code: int) -> None:
    error = kind("a.b.c", "said")
    assert (status_of(error), exit_code_of(error)) == (status, code)


def test_every_kind_of_error_is_mapped() -> None:
    assert {kind for kind, _, _ in MAPPING} == set(RemitError.__subclasses__())


@pytest.mark.parametrize(("kind", "status", "_code"), MAPPING)
def test_an_error_survives_the_way_to_the_client(kind: type[RemitError], status: int, _code: int) -> None:
    error = kind("a.b.c", "`x` is bad", next_step="do that")
    back = from_problem(problem(error))
    assert type(back) is kind
    assert (back.code, back.message, back.next_step) == (error.code, error.message, error.next_step)


@pytest.mark.parametrize(("kind", "status", "_code"), MAPPING)
def test_a_problem_always_says_what_to_do_next(kind: type[RemitError], status: int, _code: int) -> None:
    body = problem(kind("a.b.c", "said"))
    assert body["type"] == "urn:remit:error:a.b.c"
    assert body["status"] == status
    assert body["next_step"]


def test_when_to_try_again_is_told() -> None:
    assert problem(Unavailable("a.b.c", "x", retry_after=timedelta(seconds=2)))["retry_after_seconds"] == 2.0


def test_an_answer_that_is_no_problem_of_ours_becomes_unavailable() -> None:
    assert isinstance(from_problem({"status": 502}), Unavailable)
