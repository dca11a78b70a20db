"""Plain Cedar: policies, entities, a request and a schema as Cedar has them, decided by our engine.

For whoever wants to hold the engine to Cedar's own answers, or to try a policy without an installation. Nothing of
Remit's facts is here: `decide` is what the product asks.

Spec: Cedar language reference, "Authorization", "Entities JSON format", "Templates"; cedar-integration-tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remit.access.policy.cedar_reference import PlainReference, check_entities
from remit.access.policy.cedar_schema import CedarSchema, Kind, action_closure, read_schema, unescape
from remit.access.policy.compile import Engine, compile_sources
from remit.access.policy.entities import EntityTable, EntityView, missing
from remit.access.policy.extensions import CONSTRUCTORS
from remit.access.policy.operators import METHODS, call
from remit.access.policy.source import PolicySource, TemplateLink, link_templates, read_templates
from remit.access.policy.values import LONG_MAX, LONG_MIN, CedarSet, EvaluationError, Uid, Value, equal
from remit.kernel.errors import Rejected

MAX_DEPTH = 128
MAX_ENTITIES = 1_000_000
_ENTITY = re.compile(r'([A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*)::"((?:\\.|[^"\\])*)"', re.DOTALL)
_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*")
_RESERVED = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"})
_CONSTRUCTOR_OF = {"ipaddr": "ip", "decimal": "decimal", "datetime": "datetime", "duration": "duration"}
_KIND_OF = {constructor: kind for kind, constructor in _CONSTRUCTOR_OF.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Cedar's answer to one request."""

    allowed: bool
    reasons: frozenset[str]
    """Ids of the policies that determined it."""
    errors: frozenset[str]
    """Ids of the policies that could not be evaluated, and were skipped."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """What went wrong, by policy."""
    engine: Engine = "compiled"
    """`reference` where cedarpy decided the whole request, or one of the policies that are not compiled."""


class Cedar:
    """One policy set over one set of entities.

    Ids of policies are `policy0`, `policy1`, … by position, as Cedar has it; with `annotated_ids` a policy's `@id`
    names it instead. What our own reading does not cover is decided by cedarpy, and `Answer.engine` says so.
    Raises `Rejected` for what neither can read.
    """

    def __init__(
        self,
        policies: str,
        entities: str | Sequence[Any] = "[]",
        schema: str = "",
        *,
        links: Sequence[TemplateLink] = (),
        annotated_ids: bool = False,
    ) -> None:
        self._texts = (policies, entities if isinstance(entities, str) else json.dumps(entities), schema, links)
        self._annotated = annotated_ids
        self._judge: PlainReference | None = None
        self.uncovered = ""
        """Why cedarpy decides instead of the compiled policies."""
        check_entities(self._texts[1], schema)
        self.policies = compile_sources(_sources(policies, links, annotated_ids))
        """The compiled set: `engine` of each policy says who evaluates it."""
        try:
            self._schema = read_schema(schema) if schema else None
            self._entities = read_entities(entities, self._schema)
        except Rejected as refused:
            if annotated_ids:
                raise
            self._judge, self.uncovered = PlainReference(*self._texts), str(refused)

    def authorize(
        self,
        principal: Mapping[str, str],
        action: Mapping[str, str],
        resource: Mapping[str, str],
        context: Any = None,
        *,
        validate: bool = False,
    ) -> Answer:
        """Decide one request; entities are `{"type", "id"}`, `context` is in Cedar's JSON.

        `validate` holds the request to the schema first. Raises `Rejected` for what cannot be read, or does not fit.
        """
        asked = {"principal": principal, "action": action, "resource": resource, "context": context or {}}
        if validate:
            self._reference().check(asked)
        if self.uncovered:
            return self._by_reference(asked)
        who, what, which = (self._view(_uid(one)) for one in (principal, action, resource))
        try:
            values = self._context(what.uid, context)
        except Rejected:
            if self._annotated:
                raise
            return self._by_reference(asked)
        verdict = self.policies.evaluate(who, what, which, values, self._entities)
        return Answer(
            allowed=verdict.allowed,
            reasons=frozenset(policy.id for policy in verdict.determining),
            errors=frozenset(policy.id for policy, _ in verdict.errors),
            messages={policy.id: text for policy, text in verdict.errors},
            engine=self.policies.engine,
        )

    def _context(self, action: Uid, raw: Any) -> dict[str, Value]:
        kind = None
        if self._schema is not None and action in self._schema.actions:
            kind = self._schema.actions[action].context
        values = read_value({} if raw is None else raw, kind)
        if not isinstance(values, dict):
            raise _bad("the context is no record")
        return values

    def _by_reference(self, asked: Mapping[str, Any]) -> Answer:
        allowed, reasons, messages = self._reference().ask(asked)
        return Answer(
            allowed=allowed, reasons=reasons, errors=frozenset(messages), messages=messages, engine="reference"
        )

    def _reference(self) -> PlainReference:
        if self._judge is None:
            self._judge = PlainReference(*self._texts)
        return self._judge

    def _view(self, uid: Uid) -> EntityView:
        return self._entities.entity(uid) or missing(uid)


def read_entities(raw: str | Sequence[Any], schema: CedarSchema | None = None) -> EntityTable:
    """Read entities in Cedar's JSON, close their hierarchy, and add the actions of the schema.

    Raises `Rejected` (`access.policy.entities`): no list, an entity twice with different content, a cycle.
    """
    document = _loaded(raw) if isinstance(raw, str) else raw
    if not isinstance(document, list) or len(document) > MAX_ENTITIES:
        raise _bad("the entities are no list of a bounded length")
    plain: dict[Uid, tuple[frozenset[Uid], dict[str, Value], dict[str, Value]]] = {}
    for one in document:
        uid, parents, attributes, given = _parts(one)
        shape = schema.entities.get(uid.type) if schema is not None else None
        kinds, tags = (shape.attributes, shape.tags) if shape is not None else ({}, None)
        row = (
            frozenset(_uid(up) for up in parents),
            {name: read_value(value, kinds.get(name)) for name, value in attributes.items()},
            {name: read_value(value, tags) for name, value in given.items()},
        )
        known = plain.setdefault(uid, row)
        if known[0] != row[0] or not equal(known[1], row[1]) or not equal(known[2], row[2]):
            raise _bad(f"`{uid}` is there twice")
    ancestors = _closure({uid: row[0] for uid, row in plain.items()})
    rows = {
        uid: EntityView(uid=uid, ancestors=ancestors[uid], attributes=attributes, tags=tags)
        for uid, (_, attributes, tags) in plain.items()
    }
    for action, groups in (action_closure(schema) if schema is not None else {}).items():
        rows[action] = EntityView(uid=action, ancestors=groups)
    return EntityTable(rows)


def _parts(one: Any) -> tuple[Uid, list[Any], dict[str, Any], dict[str, Any]]:
    """An entity's uid, parents, attributes and tags."""
    if not isinstance(one, dict):
        raise _bad(f"`{str(one)[:40]}` is no entity")
    uid, parents, attributes, tags = (one.get(part) for part in ("uid", "parents", "attrs", "tags"))
    if not isinstance(parents, list) or not isinstance(attributes, dict) or not isinstance(tags or {}, dict):
        raise _bad(f"the entity `{str(uid)[:80]}` needs its parents and attributes")
    return _uid(uid), parents, attributes, tags or {}


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _bad("the entities are no JSON") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; Cedar refuses a name that is there twice. `ValueError`."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def read_links(text: str) -> tuple[TemplateLink, ...]:
    """Read template links in Cedar's JSON: a list of `{"template_id", "link_id", "args": {"?principal": …}}`.

    Raises `Rejected` (`access.policy.link`).
    """
    try:
        return tuple(
            TemplateLink(
                template=str(one.get("template_id", one.get("templateId"))),
                id=str(one.get("link_id", one.get("newId"))),
                values={
                    slot: (entity["type"], entity["id"])
                    for slot, raw in one.get("args", one.get("values", {})).items()
                    for entity in (parse_entity(raw),)
                },
            )
            for one in json.loads(text)
        )
    except (ValueError, AttributeError, TypeError, RecursionError, Rejected):
        raise Rejected("access.policy.link", "the file of links is no list of Cedar's template links") from None


def parse_entity(raw: Any) -> dict[str, str]:
    """An entity as `{"type", "id"}`, read from that, from its escape, or from `Type::"id"`. `Rejected`."""
    if isinstance(raw, str):
        found = _ENTITY.fullmatch(raw.strip())
        if found is None:
            raise _bad(f"`{raw[:80]}` names no entity")
        return {"type": found[1], "id": unescape(found[2])}
    uid = _raw_uid(raw)
    return {"type": uid.type, "id": uid.id}


def read_value(raw: Any, kind: Kind | None = None, depth: int = 0) -> Value:
    """A value of Cedar's JSON, with or without its escapes where `kind` says what it is.

    Raises `Rejected` (`access.policy.entities`).
    """
    if depth > MAX_DEPTH:
        raise _bad(f"a value nests deeper than {MAX_DEPTH}")
    if kind is not None and kind.name == "entity":
        return _uid(raw)
    if kind is not None and kind.name == "extension":
        return _extension(raw, kind.of, depth)
    if isinstance(raw, (bool, str)):
        return raw
    if isinstance(raw, int) and LONG_MIN <= raw <= LONG_MAX:
        return raw
    if isinstance(raw, list):
        element = kind.element if kind is not None else None
        return CedarSet(read_value(item, element, depth + 1) for item in raw)
    if isinstance(raw, dict):
        if raw.keys() == {"__entity"} and _names_entity(raw["__entity"]):
            return _uid(raw)
        if raw.keys() == {"__extn"} and _calls(raw["__extn"]):
            return _extension(raw, "", depth)
        kinds = kind.attributes if kind is not None else {}
        return {str(name): read_value(item, kinds.get(name), depth + 1) for name, item in raw.items()}
    raise _bad(f"`{str(raw)[:40]}` is no Cedar value")


def _names_entity(raw: Any) -> bool:
    """Tell an escape from a record that happens to have its name."""
    return isinstance(raw, dict) and isinstance(raw.get("type"), str) and isinstance(raw.get("id"), str)


def _calls(raw: Any) -> bool:
    arguments = isinstance(raw, dict) and ("arg" in raw or isinstance(raw.get("args"), list))
    return arguments and isinstance(raw.get("fn"), str)


def _extension(raw: Any, kind: str, depth: int) -> Value:
    """`{"__extn": {"fn", "arg" | "args"}}`, the same without its escape, or the argument alone."""
    if depth > MAX_DEPTH:
        raise _bad(f"a value nests deeper than {MAX_DEPTH}")
    if isinstance(raw, str) and kind in _CONSTRUCTOR_OF:
        return _construct(_CONSTRUCTOR_OF[kind], raw)
    escaped = isinstance(raw, dict) and _calls(raw.get("__extn"))
    made = raw["__extn"] if escaped else raw
    if not _calls(made):
        raise _bad(f"`{str(raw)[:40]}` is no {kind or 'extension value'}")
    arguments = [made["arg"]] if "arg" in made else made["args"]
    name = made["fn"]
    if name in CONSTRUCTORS and len(arguments) == 1:
        return _construct(name, arguments[0])
    if name not in METHODS or len(METHODS[name][0]) != len(arguments):
        raise _bad(f"no extension is called `{name[:40]}`")
    wanted = [_KIND_OF[each.constructor] if kind else "" for each in METHODS[name][0]]
    try:
        return call(name, tuple(_argument(item, of, depth + 1) for item, of in zip(arguments, wanted, strict=True)))
    except EvaluationError as error:
        raise _bad(str(error)) from None


def _argument(raw: Any, kind: str, depth: int) -> Value:
    """What an extension is called with: by its type where the schema says that an extension stands here."""
    return _extension(raw, kind, depth) if kind else read_value(raw, None, depth)


def _construct(name: str, text: Any) -> Value:
    if name not in CONSTRUCTORS or not isinstance(text, str):
        raise _bad(f"no extension is called `{name[:40]}`")
    try:
        return CONSTRUCTORS[name](text)
    except ValueError:
        raise _bad(f"`{text[:80]}` is no {name}") from None


def _raw_uid(raw: Any) -> Uid:
    named = raw["__entity"] if isinstance(raw, dict) and _names_entity(raw.get("__entity")) else raw
    if not _names_entity(named):
        raise _bad(f"`{str(raw)[:80]}` names no entity")
    return Uid(named["type"], named["id"])


def _uid(raw: Any) -> Uid:
    uid = _raw_uid(raw)
    if _TYPE.fullmatch(uid.type) is None or not _RESERVED.isdisjoint(uid.type.split("::")):
        raise _bad(f"`{uid.type[:80]}` is no entity type")
    return uid


def _closure(parents: Mapping[Uid, frozenset[Uid]]) -> Mapping[Uid, frozenset[Uid]]:
    """Every entity with all that is above it, itself included; without recursion, for hierarchies of any depth."""
    done: dict[Uid, frozenset[Uid]] = {}
    for start in parents:
        stack: list[tuple[Uid, bool]] = [(start, False)]
        open_now: set[Uid] = set()
        while stack:
            uid, ready = stack.pop()
            if uid in done:
                continue
            above = parents.get(uid, frozenset())
            if ready:
                open_now.discard(uid)
                done[uid] = frozenset((uid,)).union(*(done[up] for up in above))
                continue
            if uid in open_now:
                raise _bad(f"`{uid}` is above itself")
            open_now.add(uid)
            stack.append((uid, True))
            for up in above:
                if up in open_now:
                    raise _bad(f"`{up}` is above itself")
                if up not in done:
                    stack.append((up, False))
    return done


def _sources(policies: str, links: Sequence[TemplateLink], annotated_ids: bool) -> Iterable[PolicySource]:
    read, templates = read_templates(policies, positional=not annotated_ids)
    return (*read, *link_templates(templates, links))


def _bad(why: str) -> Rejected:
    return Rejected("access.policy.entities", f"this cannot be decided: {why}")
