"""One mapping from our errors to HTTP (RFC 9457 problem details) and to exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected, RemitError, Unavailable

DONE, FINDINGS, USAGE, UNAVAILABLE, MISCONFIGURED = range(5)
"""Exit codes of every command but `remit run`."""

_STATUS: tuple[tuple[type[RemitError], int, int], ...] = (
    (Rejected, 400, USAGE),
    (Denied, 403, FINDINGS),
    (NotFound, 404, USAGE),
    (Conflict, 409, USAGE),
    (Unavailable, 503, UNAVAILABLE),
    (Misconfigured, 500, MISCONFIGURED),
)

_NEXT: Mapping[type[RemitError], str] = {
    Rejected: "correct the request",
    Denied: "ask somebody who may, or ask for less",
    NotFound: "list what there is, and name one of it",
    Conflict: "look at the present state, then decide again",
    Unavailable: "try again later; `remit doctor` says what is wrong",
    Misconfigured: "run `remit doctor` on the machine that runs Remit",
}
"""What to do next where an error itself does not know better."""


def status_of(error: RemitError) -> int:
    """The HTTP status."""
    return next((status for kind, status, _ in _STATUS if isinstance(error, kind)), 500)


def exit_code_of(error: RemitError) -> int:
    """The exit code."""
    return next((code for kind, _, code in _STATUS if isinstance(error, kind)), UNAVAILABLE)


def next_step_of(error: RemitError) -> str:
    """What to do next: the error's own word, else what is true of its kind."""
    return error.next_step or next((text for kind, text in _NEXT.items() if isinstance(error, kind)), "")


def problem(error: RemitError) -> dict[str, Any]:
    """The body of an `application/problem+json` answer."""
    body: dict[str, Any] = {
        "type": f"urn:remit:error:{error.code}",
        "title": error.message,
        "status": status_of(error),
        "code": error.code,
        "next_step": next_step_of(error),
    }
    if isinstance(error, Unavailable) and error.retry_after is not None:
        body["retry_after_seconds"] = error.retry_after.total_seconds()
    return body


def from_problem(body: dict[str, Any]) -> RemitError:
    """The error that a server's problem document stands for."""
    status = body.get("status")
    kind = next((each for each, code, _ in _STATUS if code == status), Unavailable)
    return kind(str(body.get("code", "surface.error.unknown")), str(body.get("title", "")),
                next_step=str(body.get("next_step", "")))  # fmt: skip
