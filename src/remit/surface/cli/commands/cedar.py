"""Plain Cedar at the command line, without an installation: decide one request, or hold the engine to Cedar's tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say, show_table

if TYPE_CHECKING:
    from remit.access.policy.cedar import Answer, Cedar
    from remit.access.policy.source import TemplateLink

_MOST_BYTES = 64 << 20


def authorize(
    *,
    policies: Annotated[Path, Parameter(help="Cedar policies and templates.")],
    entities: Annotated[Path, Parameter(help="Entities, in Cedar's JSON.")],
    request: Annotated[Path, Parameter(help='{"principal", "action", "resource", "context"}, in Cedar\'s JSON.')],
    schema: Annotated[Path | None, Parameter(help="Schema, in Cedar's syntax or JSON.")] = None,
    links: Annotated[Path | None, Parameter(help="Template links, in Cedar's JSON.")] = None,
    where: Listing | None = None,
) -> None:
    """Decide one request by plain Cedar, with our engine. Exit code 1 for a denial."""
    where = where or Listing()
    from remit.access.policy.cedar import Cedar

    engine = Cedar(
        _text(policies), _text(entities), _text(schema) if schema else "", links=_links(links), annotated_ids=True
    )
    asked = _json(request)
    answer = _ask(engine, asked)
    told = {
        "decision": _word(answer),
        "reasons": sorted(answer.reasons),
        "errors": dict(sorted(answer.messages.items())),
    }
    if where.format != "table":
        emit(told, where.format)
    else:
        say(f"{_word(answer)}: {', '.join(map(plain, sorted(answer.reasons))) or 'no policy permits it'}")
        for policy, message in sorted(answer.messages.items()):
            say(f"  {plain(policy)} could not be evaluated: {plain(message)}")
    if not answer.allowed:
        raise SystemExit(1)


def conformance(folder: Path, /, *, where: Listing | None = None) -> None:
    """Run Cedar's integration tests (JSON, as in cedar-integration-tests) below a folder. Exit code 1 on a difference.

    Every decision, reason and error must be Cedar's own, and the validity of the policies as stated. Paths in the files
    are relative to the nearest folder above that has them. What our engine does not cover is decided by cedarpy, and
    counted apart.
    """
    where = where or Listing()
    rows, requests, theirs = [], 0, 0
    for file in sorted(folder.rglob("*.json")):
        test = _test(file)
        if test is None:
            continue
        for difference, engine in _differences(file, test, folder):
            requests += engine != "validator"
            theirs += engine == "reference"
            if difference:
                rows.append({"test": str(file.relative_to(folder)), **difference})
    if where.format != "table":
        emit({"requests": requests, "by_reference": theirs, "differences": rows}, where.format)
    else:
        columns = [("test", "test"), ("request", "request"), ("what", "what"), ("ours", "ours"), ("cedar", "Cedar's")]
        counted = f"{requests} requests" + (f" ({theirs} decided by cedarpy)" if theirs else "")
        show_table(rows, columns, empty=f"{counted}, no difference")
    if rows or not requests:
        raise SystemExit(1)


def _differences(file: Path, test: Mapping[str, Any], top: Path) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """For each request, or once where the test itself cannot be read: a difference, if any, and who decided.

    And for what the test says of its policies' validity (`shouldValidate`), decided by `validator`, which is cedarpy's.
    """
    from remit.access.policy.cedar import Cedar

    try:
        parts = ("policies", "entities", "schema")
        texts = [_text(_beside(file, str(test[part]), top)) if test.get(part) else "" for part in parts]
        engine = Cedar(*texts)
    except (Rejected, ValueError) as error:
        yield {"request": "", "what": "cannot be read", "ours": str(error), "cedar": ""}, ""
        return
    stated = test.get("shouldValidate", test.get("should_validate"))
    if isinstance(stated, bool) and texts[2]:
        yield _validation(texts[0], texts[2], stated), "validator"
    for number, asked in enumerate(_requests(test)):
        name = str(asked.get("description") or asked.get("desc") or number)
        try:
            answer = _ask(engine, asked)
        except Rejected as error:
            yield {"request": name, "what": "cannot be decided", "ours": str(error), "cedar": asked["decision"]}, ""
            continue
        yield _difference(name, answer, asked), answer.engine


def _validation(policies: str, schema: str, stated: bool) -> dict[str, Any] | None:
    """A difference, if any, between what a test says of its policies under its schema and the validator's verdict."""
    from remit.access.policy.cedar_reference import is_valid

    words = {True: "valid", False: "not valid"}
    ours = is_valid(policies, schema)
    return None if ours is stated else {
        "request": "", "what": "validation", "ours": words[ours], "cedar": words[stated]
    }  # fmt: skip


def _requests(test: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The questions of a test; its first form called them queries."""
    found: Sequence[Mapping[str, Any]] = test["requests"] if "requests" in test else test["queries"]
    return found


def _ask(engine: Cedar, asked: Mapping[str, Any]) -> Answer:
    from remit.access.policy.cedar import parse_entity

    who, what, which = (parse_entity(asked.get(part)) for part in ("principal", "action", "resource"))
    validate = asked.get("validateRequest", asked.get("enable_request_validation")) is True
    return engine.authorize(who, what, which, asked.get("context"), validate=validate)


def _difference(name: str, answer: Answer, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    reasons = asked.get("reason", asked.get("reasons", ()))
    for what, ours, theirs in (
        ("decision", _word(answer), str(asked["decision"]).lower()),
        ("reasons", sorted(answer.reasons), sorted(reasons)),
        ("errors", sorted(answer.errors), sorted(asked.get("errors", ()))),
    ):
        if ours != theirs:
            return {"request": name, "what": what, "ours": str(ours), "cedar": str(theirs)}
    return None


def _test(file: Path) -> Mapping[str, Any] | None:
    """The test in this file; `None` for the JSON of entities and schemas that lie beside."""
    found = _json(file)
    shaped = isinstance(found, dict) and {"policies", "entities"} <= found.keys()
    return found if shaped and isinstance(found.get("requests", found.get("queries")), list) else None


def _beside(file: Path, named: str, top: Path) -> Path:
    for above in file.resolve().parents:
        if (above / named).is_file():
            return above / named
        if above == top.resolve().parent:
            break
    here = file.resolve().parent / Path(named).name
    if here.is_file():
        return here
    raise Rejected("access.policy.entities", f"`{file.name}` names `{named[:200]}`, which is not there")


def _links(path: Path | None) -> Sequence[TemplateLink]:
    from remit.access.policy.cedar import read_links

    return read_links(_text(path)) if path is not None else ()


def _word(answer: Answer) -> str:
    return "allow" if answer.allowed else "deny"


def _text(path: Path) -> str:
    if path.stat().st_size > _MOST_BYTES:
        raise Rejected("surface.file.too_large", f"`{path}` is larger than {_MOST_BYTES >> 20} MiB")
    return path.read_bytes().decode()


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError):
        raise Rejected("surface.file.no_json", f"`{path}` is no JSON") from None
