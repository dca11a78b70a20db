"""AuthZEN 1.0 on the wire: JSON bytes ↔ requests and decisions, without any server around it.

What a caller sends is a claim: its `context` and the `properties` of subject and resource become `claimed` facts. What
the server proved about the caller is added by whoever passes `decide`.

A decision's `context` holds `id`, `reason` (`policies`, `facts`, `needed`) and `obligations`; a caller that does not
understand an obligation must not act on the permit that carries it.

Spec: OpenID AuthZEN Authorization API 1.0, §5 (information model), §6 (evaluation), §7 (evaluations), §9 (metadata),
§10 (transport).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar

import msgspec

from remit.access.model import Decision, Entity, Request
from remit.kernel.canonical import Json
from remit.kernel.errors import NotFound, Rejected, RemitError, Unavailable

EVALUATION_PATH = "/access/v1/evaluation"
EVALUATIONS_PATH = "/access/v1/evaluations"
METADATA_PATH = "/.well-known/authzen-configuration"
JSON_TYPE, PROBLEM_TYPE = "application/json", "application/problem+json"

MAX_BODY_BYTES = 64 << 10
MAX_EVALUATIONS = 256
MAX_NAME = 1024
_MAX_DEPTH = 24
_MAX_REQUEST_ID = 128
_EXACT_INTEGER = 2**53 - 1

Decide: TypeAlias = Callable[[Request], Decision | Awaitable[Decision]]
"""Answers one request; when it is asynchronous, an allow is durable before it is answered."""
Answer: TypeAlias = tuple[int, bytes]
"""An HTTP status and a body: `JSON_TYPE` for 200, else `PROBLEM_TYPE`."""

W = TypeVar("W")
Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


class WireEntity(msgspec.Struct, frozen=True):
    """A subject or a resource."""

    type: str
    id: str
    properties: dict[str, Any] = {}


class WireAction(msgspec.Struct, frozen=True):
    name: str
    properties: dict[str, Any] = {}


class WireRequest(msgspec.Struct, frozen=True):
    """One evaluation; in a batch, what is missing here is taken from the top level."""

    subject: WireEntity | None = None
    action: WireAction | None = None
    resource: WireEntity | None = None
    context: dict[str, Any] | None = None


class WireOptions(msgspec.Struct, frozen=True):
    evaluations_semantic: Semantic = "execute_all"


class WireBatch(WireRequest, frozen=True):
    """Several evaluations; each item is read on its own, so that a bad one spoils itself alone."""

    evaluations: list[Any] | None = None
    options: WireOptions = WireOptions()


async def evaluation(body: bytes, decide: Decide) -> Answer:
    """Answer `POST /access/v1/evaluation`: 200 with the decision, a denial included; 400 for what cannot be read.

    Errors of `decide` other than `Rejected` are the server's to map (`Unavailable` is 503, never a permit).
    """
    try:
        request = _request(_convert(_parse(body), WireRequest), WireRequest())
        return 200, msgspec.json.encode(answer(await _ask(decide, request)))
    except Rejected as error:
        return _refused(error)


async def evaluations(body: bytes, decide: Decide) -> Answer:
    """Answer `POST /access/v1/evaluations`, in order, under one of the three semantics.

    Without items it is a single evaluation. A bad item is answered `false` with `context.error`; the others stand.
    """
    try:
        batch = _convert(_parse(body), WireBatch)
        if not batch.evaluations:
            request = _request(batch, WireRequest())
            return 200, msgspec.json.encode(answer(await _ask(decide, request)))
        if len(batch.evaluations) > MAX_EVALUATIONS:
            _reject("too-many", f"there are more than {MAX_EVALUATIONS} evaluations", "send them in several requests")
    except Rejected as error:
        return _refused(error)
    answers: list[dict[str, Any]] = []
    for item in batch.evaluations:
        answers.append(await _evaluate_item(item, batch, decide))
        if _is_last(batch.options.evaluations_semantic, permitted=answers[-1]["decision"]):
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
        }
    )


def answer(decision: Decision) -> dict[str, Any]:
    """A decision as the wire has it."""
    reason = {
        "policies": [
            {"id": reason.id, "effect": str(reason.effect), "text": reason.text} for reason in decision.reasons
        ],
        "facts": decision.facts,
        "needed": decision.needed,
    }
    context: dict[str, Any] = {"id": decision.id, "snapshot": decision.snapshot, "reason": reason}
    if decision.errors:
        context["errors"] = decision.errors
    if decision.obligations:
        context["obligations"] = [{"kind": each.kind, "detail": each.detail} for each in decision.obligations]
    return {"decision": decision.allowed, "context": context}


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


def is_json(content_type: str | None) -> bool:
    """Tell whether a body of this `Content-Type` may be read here."""
    return (content_type or "").partition(";")[0].strip().lower() == JSON_TYPE


def require_json(content_type: str | None) -> None:
    """Raise `Rejected` (`access.authzen.content-type`), which is a 400, for any other type."""
    if not is_json(content_type):
        _reject("content-type", "the body is not declared as JSON", f"send `Content-Type: {JSON_TYPE}`")


def echoed_request_id(value: str | None) -> dict[str, str]:
    """The header to answer with: the caller's `X-Request-ID` as it came, when it is short and printable."""
    if value and len(value) <= _MAX_REQUEST_ID and value.isascii() and value.isprintable():
        return {"X-Request-ID": value}
    return {}


async def _evaluate_item(item: Any, defaults: WireRequest, decide: Decide) -> dict[str, Any]:
    """One item of a batch; whatever is wrong with it, the answer is no."""
    try:
        return answer(await _ask(decide, _request(_convert(item, WireRequest), defaults)))
    except RemitError as error:
        told = {"status": _status(error), "code": error.code, "message": error.message}
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


def _status(error: RemitError) -> int:
    if isinstance(error, Unavailable):
        return 503
    if isinstance(error, NotFound):
        return 404
    return 400 if isinstance(error, Rejected) else 500


def _refused(error: Rejected) -> Answer:
    status = 413 if error.code == "access.authzen.too-large" else 400
    return status, problem(error, status)


# Bytes → request.


def _parse(body: bytes) -> Any:
    """Read I-JSON: UTF-8, no key twice, no lone surrogate, no number that JSON does not have."""
    if len(body) > MAX_BODY_BYTES:
        _reject(
            "too-large", f"the body is larger than {MAX_BODY_BYTES} bytes", "send less context, or several requests"
        )
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
        if b"\\u" in body:
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeError:
        _reject("malformed", "the body is not well-formed Unicode", "send I-JSON in UTF-8")
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, _NotIJson) else "it cannot be parsed"
        _reject("malformed", f"the body is not JSON: {what}", "send one JSON object")
    return parsed


class _NotIJson(ValueError):
    """JSON that two parsers could read differently."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _NotIJson("a key occurs twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise _NotIJson(f"{name} is no number")


def _convert(raw: Any, kind: type[W]) -> W:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        _reject("malformed", f"the request is malformed: {error}", "see AuthZEN 1.0, section 6")


def _request(item: WireRequest, defaults: WireRequest) -> Request:
    """Whole objects override; nothing is merged inside them."""
    subject, action, resource = (
        item.subject or defaults.subject,
        item.action or defaults.action,
        item.resource or defaults.resource,
    )
    if subject is None or action is None or resource is None:
        missing = "subject" if subject is None else "action" if action is None else "resource"
        _reject("missing", f"the request has no `{missing}`", "name subject, action and resource")
    context = item.context if item.context is not None else defaults.context or {}
    return Request(
        subject=_entity(subject, "subject"),
        action=_named(action.name, "action.name"),
        resource=_entity(resource, "resource"),
        claimed=_plain_fields({**action.properties, **context}),
    )


def _entity(entity: WireEntity, where: str) -> Entity:
    return Entity(
        type=_named(entity.type, f"{where}.type"),
        id=_named(entity.id, f"{where}.id"),
        properties=_plain_fields(entity.properties),
    )


def _named(text: str, where: str) -> str:
    if not text or len(text) > MAX_NAME:
        _reject("malformed", f"`{where}` is empty or longer than {MAX_NAME} characters", "name it by its id")
    return text


def _plain_fields(fields: Mapping[str, Any], depth: int = 0) -> dict[str, Json]:
    for name in fields:
        if len(name) > MAX_NAME or not all(character < "\ud800" for character in name):
            _reject("malformed", "a property has a name that a record cannot hold", "use short, plain names")
    return {name: _plain(value, depth) for name, value in fields.items()}


def _plain(value: Any, depth: int) -> Json:
    """What a record can hold: a fraction, or an integer beyond 2⁵³−1, is kept as its text."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _EXACT_INTEGER):
        return str(value)
    if isinstance(value, (list, dict)):
        if depth >= _MAX_DEPTH:
            _reject("malformed", f"a property is nested deeper than {_MAX_DEPTH}", "send flat properties")
        if isinstance(value, list):
            return [_plain(item, depth + 1) for item in value]
        return _plain_fields(value, depth + 1)
    return value  # type: ignore[no-any-return]


def _reject(what: str, message: str, next_step: str) -> NoReturn:
    raise Rejected(f"access.authzen.{what}", message, next_step=next_step)
