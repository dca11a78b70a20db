"""AuthZEN 1.0 on the wire: JSON bytes ↔ requests and decisions, without any server around it.

What a caller sends is a claim: its `context` and the `properties` of subject and resource become `claimed` facts. What
the server proved about the caller is added by whoever passes `decide`.

A decision's `context` holds `id`, `reason` (`policies`, `facts`, `needed`) and `obligations`; a caller that does not
understand an obligation must not act on the permit that carries it.

Spec: OpenID AuthZEN Authorization API 1.0, §5 (information model), §6 (evaluation), §7 (evaluations), §9 (metadata),
§10 (transport); RFC 7493 (I-JSON).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from remit.access.model import Decision, Request
from remit.kernel.errors import Denied, NotFound, Rejected, RemitError, Unavailable
from remit.surface.api.authzen_json import (
    MAX_BODY_BYTES,
    MAX_NAME,
    WireRequest,
    convert,
    parse,
    read_request,
    reject,
    request_of,
)
from remit.wiring.hot import answer_json

__all__ = [
    "EVALUATIONS_PATH",
    "EVALUATION_PATH",
    "JSON_TYPE",
    "MAX_BODY_BYTES",
    "MAX_EVALUATIONS",
    "MAX_NAME",
    "METADATA_PATH",
    "PROBLEM_TYPE",
    "SEARCH_PATHS",
    "answer",
    "echoed_request_id",
    "evaluation",
    "evaluations",
    "is_json",
    "metadata",
    "problem",
    "require_json",
    "status_of",
]

EVALUATION_PATH = "/access/v1/evaluation"
EVALUATIONS_PATH = "/access/v1/evaluations"
SEARCH_PATHS = {kind: f"/access/v1/search/{kind}" for kind in ("subject", "resource", "action")}
METADATA_PATH = "/.well-known/authzen-configuration"
JSON_TYPE, PROBLEM_TYPE = "application/json", "application/problem+json"

MAX_EVALUATIONS = 256
_MAX_REQUEST_ID = 128
_AT_ONCE = 64

Decide: TypeAlias = Callable[[Request], Decision | Awaitable[Decision]]
"""Answers one request; when it is asynchronous, an allow is durable before it is answered."""
Show: TypeAlias = Callable[[Decision], dict[str, Any]]
"""A decision as this caller may see it."""
Answer: TypeAlias = tuple[int, bytes]
"""An HTTP status and a body: `JSON_TYPE` for 200, else `PROBLEM_TYPE`."""
Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


class WireOptions(msgspec.Struct, frozen=True):
    evaluations_semantic: Semantic = "execute_all"


class WireBatch(WireRequest, frozen=True):
    """Several evaluations; each item is read on its own, so that a bad one spoils itself alone."""

    evaluations: list[Any] | None = None
    options: WireOptions = WireOptions()


def answer(decision: Decision) -> dict[str, Any]:
    """A decision as the wire has it, with the facts on which it rests."""
    return answer_json(decision, facts=True)


async def evaluation(body: bytes, decide: Decide, show: Show = answer) -> Answer:
    """Answer `POST /access/v1/evaluation`: 200 with the decision, a denial included; 400 for what cannot be read.

    Errors of `decide` other than `Rejected` are the server's to map (`Unavailable` is 503, never a permit).
    """
    try:
        return 200, msgspec.json.encode(show(await _ask(decide, read_request(body))))
    except Rejected as error:
        return _refused(error)


async def evaluations(body: bytes, decide: Decide, show: Show = answer) -> Answer:
    """Answer `POST /access/v1/evaluations`, in order, under one of the three semantics.

    Without items it is a single evaluation. A bad item is answered `false` with `context.error`; the others stand.
    """
    try:
        batch = convert(parse(body), WireBatch)
        if not batch.evaluations:
            request = request_of(batch, WireRequest())
            return 200, msgspec.json.encode(show(await _ask(decide, request)))
        if len(batch.evaluations) > MAX_EVALUATIONS:
            reject("too-many", f"there are more than {MAX_EVALUATIONS} evaluations", "send them in several requests")
    except Rejected as error:
        return _refused(error)
    semantic = batch.options.evaluations_semantic
    answers: list[dict[str, Any]] = []
    if semantic == "execute_all":
        for first in range(0, len(batch.evaluations), _AT_ONCE):
            answers += await _evaluate_items(batch.evaluations[first : first + _AT_ONCE], batch, decide, show)
        return 200, msgspec.json.encode({"evaluations": answers})
    for item in batch.evaluations:
        answers.append(await _evaluate_item(item, batch, decide, show))
        if _is_last(semantic, permitted=answers[-1]["decision"]):
            break
    return 200, msgspec.json.encode({"evaluations": answers})


def metadata(base_url: str) -> bytes:
    """The document at `/.well-known/authzen-configuration`; `base_url` is the URL under which the caller found us."""
    base = base_url.rstrip("/")
    return msgspec.json.encode(
        {
            "policy_decision_point": base,
            "access_evaluation_endpoint": base + EVALUATION_PATH,
            "access_evaluations_endpoint": base + EVALUATIONS_PATH,
            **{f"search_{kind}_endpoint": base + path for kind, path in SEARCH_PATHS.items()},
        }
    )


def problem(error: RemitError, status: int) -> bytes:
    """An error as problem+json (RFC 9457)."""
    return msgspec.json.encode(
        {
            "type": f"urn:remit:error:{error.code}",
            "title": error.message,
            "status": status,
            "code": error.code,
            "next_step": error.next_step,
        }
    )


def status_of(error: RemitError) -> int:
    """The HTTP status of an error, as AuthZEN §10.1.2 has it."""
    match error:
        case Unavailable():
            return 503
        case NotFound():
            return 404
        case Denied():
            return 401 if error.code.startswith("surface.proof.") else 403
        case Rejected():
            return 413 if error.code == "access.authzen.too-large" else 400
        case _:
            return 500


def is_json(content_type: str | None) -> bool:
    """Tell whether a body of this `Content-Type` may be read here."""
    return (content_type or "").partition(";")[0].strip().lower() == JSON_TYPE


def require_json(content_type: str | None) -> None:
    """Raise `Rejected` (`access.authzen.content-type`), which is a 400, for any other type."""
    if not is_json(content_type):
        reject("content-type", "the body is not declared as JSON", f"send `Content-Type: {JSON_TYPE}`")


def echoed_request_id(value: str | None) -> dict[str, str]:
    """The header to answer with: the caller's `X-Request-ID` as it came, when it is short and printable."""
    if value and len(value) <= _MAX_REQUEST_ID and value.isascii() and value.isprintable():
        return {"X-Request-ID": value}
    return {}


async def _evaluate_items(
    items: Sequence[Any], defaults: WireRequest, decide: Decide, show: Show
) -> list[dict[str, Any]]:
    """Items whose answers do not depend on one another: decided together, so that they share a sync."""
    return list(await asyncio.gather(*(_evaluate_item(item, defaults, decide, show) for item in items)))


async def _evaluate_item(item: Any, defaults: WireRequest, decide: Decide, show: Show) -> dict[str, Any]:
    """One item of a batch; whatever is wrong with it, the answer is no."""
    try:
        return show(await _ask(decide, request_of(convert(item, WireRequest), defaults)))
    except RemitError as error:
        told = {"status": status_of(error), "code": error.code, "message": error.message}
        return {"decision": False, "context": {"error": told}}


async def _ask(decide: Decide, request: Request) -> Decision:
    decided = decide(request)
    if inspect.isawaitable(decided):
        return await decided
    return decided


def _is_last(semantic: Semantic, *, permitted: bool) -> bool:
    if semantic == "deny_on_first_deny":
        return not permitted
    return semantic == "permit_on_first_permit" and permitted


def _refused(error: Rejected) -> Answer:
    status = status_of(error)
    return status, problem(error, status)
