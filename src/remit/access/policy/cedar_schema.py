"""Cedar schemas, in both of their forms, as far as reading entities needs them: attribute types and action groups.

Whether policies fit a schema is the reference engine's to say (`check`); this reads which types values have, so that
JSON without escapes (`"10.0.0.1"` for an `ipaddr`, `{"type", "id"}` for an entity) means what Cedar takes it to mean.

Spec: Cedar language reference, "Schema grammar" and "JSON schema format"; "Entities JSON format".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from remit.access.policy.values import Uid
from remit.kernel.errors import Rejected

MAX_SCHEMA_BYTES = 8 << 20
MAX_NESTING = 64
_PRIMITIVES = {"String": "string", "Long": "long", "Bool": "bool", "Boolean": "bool"}
EXTENSION_TYPES = ("ipaddr", "decimal", "datetime", "duration")
_TOKEN = re.compile(
    r'(?P<space>(?:\s|//[^\n]*)+)|(?P<string>"(?:\\.|[^"\\])*")|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>::|[{}()\[\]<>,;:=?@])',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The type of a value: `string`, `long`, `bool`, `entity`, `extension`, `set` or `record`."""

    name: str
    of: str = ""
    """The entity's type, or the extension's."""
    element: Kind | None = None
    attributes: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityKind:
    """What an entity type has."""

    attributes: Mapping[str, Kind]
    tags: Kind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionKind:
    """An action: the groups that it is in, directly, and the record that comes with it."""

    parents: tuple[Uid, ...]
    context: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class CedarSchema:
    """Entity types by their full name, and actions."""

    entities: Mapping[str, EntityKind]
    actions: Mapping[Uid, ActionKind]


def read_schema(text: str) -> CedarSchema:
    """Read a schema in Cedar's own syntax or in JSON. `Rejected` (`access.policy.schema`)."""
    if len(text.encode(errors="surrogatepass")) > MAX_SCHEMA_BYTES:
        raise _bad("it is larger than 8 MiB")
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else _Parser(text).document()
        return _Resolver(document).schema()
    except (json.JSONDecodeError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise _bad(f"{type(error).__name__.lower()} {error}"[:200]) from None


class _Parser:
    """Cedar's schema syntax into the JSON form."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._peek():
            self._annotations()
            if self._peek() == "namespace":
                self._next()
                name = self._path()
                self._expect("{")
                space = found.setdefault(name, _empty())
                while self._peek() != "}":
                    self._declaration(space)
                self._expect("}")
            else:
                self._declaration(found.setdefault("", _empty()))
        return found

    def _declaration(self, space: dict[str, Any]) -> None:
        self._annotations()
        word = self._next()
        if word == "entity":
            self._entity(space)
        elif word == "action":
            self._action(space)
        elif word == "type":
            name = self._next()
            self._expect("=")
            space["commonTypes"][name] = self._type()
            self._expect(";")
        else:
            raise _bad(f"`{word[:40]}` begins no declaration")

    def _entity(self, space: dict[str, Any]) -> None:
        names, made = self._list(self._next), dict[str, Any]()
        if self._take("enum"):
            self._expect("[")
            made["enum"] = self._list(self._string)
            self._expect("]")
        if self._take("in"):
            self._paths()
        if self._peek() in ("=", "{"):
            self._take("=")
            made["shape"] = self._type()
        if self._take("tags"):
            made["tags"] = self._type()
        self._expect(";")
        space["entityTypes"].update(dict.fromkeys(names, made))

    def _action(self, space: dict[str, Any]) -> None:
        names, made = self._list(self._name), dict[str, Any]()
        if self._take("in"):
            made["memberOf"] = self._references()
        if self._take("appliesTo"):
            made["appliesTo"] = self._applies()
        if self._take("attributes"):
            self._type()
        self._expect(";")
        space["actions"].update(dict.fromkeys(names, made))

    def _applies(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._expect("{")
        while self._peek() != "}":
            word = self._next()
            self._expect(":")
            if word == "context":
                found["context"] = self._type()
            else:
                found[f"{word}Types"] = self._paths()
            self._take(",")
        self._expect("}")
        return found

    def _references(self) -> list[dict[str, str]]:
        if not self._take("["):
            return [self._reference()]
        found = [] if self._peek() == "]" else self._list(self._reference)
        self._expect("]")
        return found

    def _reference(self) -> dict[str, str]:
        """`name`, `"name"` or `Namespace::Action::"name"`."""
        parts = []
        while not self._peek().startswith('"'):
            parts.append(self._next())
            if not self._take("::"):
                return {"id": parts[0]} if len(parts) == 1 else {"id": parts[-1], "type": "::".join(parts[:-1])}
        return {"id": self._string(), **({"type": "::".join(parts)} if parts else {})}

    def _type(self) -> dict[str, Any]:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise _bad(f"types nest deeper than {MAX_NESTING}")
        try:
            if self._peek() == "{":
                return self._record()
            name = self._path()
            if name == "Set" and self._take("<"):
                element = self._type()
                self._expect(">")
                return {"type": "Set", "element": element}
            return {"type": "EntityOrCommon", "name": name}
        finally:
            self._depth -= 1

    def _record(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        self._expect("{")
        while self._peek() != "}":
            self._annotations()
            name = self._name()
            self._take("?")
            self._expect(":")
            attributes[name] = self._type()
            if not self._take(","):
                break
        self._expect("}")
        return {"type": "Record", "attributes": attributes}

    def _annotations(self) -> None:
        while self._take("@"):
            self._next()
            if self._take("("):
                self._string()
                self._expect(")")

    def _paths(self) -> list[str]:
        if not self._take("["):
            return [self._path()]
        found = [] if self._peek() == "]" else self._list(self._path)
        self._expect("]")
        return found

    def _list(self, one: Any) -> list[Any]:
        found = [one()]
        while self._take(","):
            if self._peek() in ("]", "}"):
                break
            found.append(one())
        return found

    def _path(self) -> str:
        parts = [self._next()]
        while self._take("::"):
            parts.append(self._next())
        return "::".join(parts)

    def _name(self) -> str:
        return self._string() if self._peek().startswith('"') else self._next()

    def _string(self) -> str:
        token = self._next()
        if not token.startswith('"'):
            raise _bad(f"`{token[:40]}` stands where a string belongs")
        return unescape(token[1:-1])

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise _bad("it ends too early")
        self._at += 1
        return token

    def _take(self, token: str) -> bool:
        if self._peek() == token:
            self._at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise _bad(f"`{token}` is missing before `{self._peek()[:40]}`")


class _Resolver:
    """The JSON form with every name made full."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._common = {_full(ns, name) for ns, space in document.items() for name in space.get("commonTypes", {})}
        self._types = {_full(ns, name) for ns, space in document.items() for name in space.get("entityTypes", {})}
        self._actions = {
            Uid(_full(ns, "Action"), name) for ns, space in document.items() for name in space.get("actions", {})
        }
        self._depth = 0

    def schema(self) -> CedarSchema:
        entities, actions = {}, {}
        for ns, space in self._document.items():
            for name, raw in space.get("entityTypes", {}).items():
                shape = self._kind(raw["shape"], ns) if "shape" in raw else Kind(name="record")
                tags = self._kind(raw["tags"], ns) if "tags" in raw else None
                entities[_full(ns, name)] = EntityKind(attributes=shape.attributes, tags=tags)
            for name, raw in space.get("actions", {}).items():
                actions[Uid(_full(ns, "Action"), name)] = self._action(raw, ns)
        return CedarSchema(entities=entities, actions=actions)

    def _action(self, raw: Mapping[str, Any], ns: str) -> ActionKind:
        parents = tuple(self._parent(one, ns) for one in raw.get("memberOf") or ())
        context = (raw.get("appliesTo") or {}).get("context") or {"type": "Record", "attributes": {}}
        return ActionKind(parents=parents, context=self._kind(context, ns))

    def _parent(self, raw: Mapping[str, str], ns: str) -> Uid:
        """A group, by its id alone in the same namespace; with a type, one that is declared there, or as it stands."""
        if not raw.get("type"):
            return Uid(_full(ns, "Action"), raw["id"])
        near = Uid(_full(ns, raw["type"]), raw["id"])
        return near if near in self._actions else Uid(raw["type"], raw["id"])

    def _kind(self, raw: Mapping[str, Any], ns: str) -> Kind:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise _bad("its types refer to one another without an end")
        try:
            return self._kind_of(raw, ns)
        finally:
            self._depth -= 1

    def _kind_of(self, raw: Mapping[str, Any], ns: str) -> Kind:
        name = raw["type"]
        if name == "Set":
            return Kind(name="set", element=self._kind(raw["element"], ns))
        if name == "Record":
            attributes = {key: self._kind(value, ns) for key, value in raw.get("attributes", {}).items()}
            return Kind(name="record", attributes=attributes)
        if name == "Entity":
            return Kind(name="entity", of=self._entity_name(raw["name"], ns))
        if name == "Extension":
            return Kind(name="extension", of=raw["name"])
        return self._named(raw["name"] if name == "EntityOrCommon" else name, ns)

    def _named(self, name: str, ns: str) -> Kind:
        for full in dict.fromkeys((_full(ns, name), name)):
            if full in self._common:
                space, _, short = full.rpartition("::")
                return self._kind(self._document[space]["commonTypes"][short], space)
            if full in self._types:
                return Kind(name="entity", of=full)
        plain = name.removeprefix("__cedar::")
        if plain in _PRIMITIVES:
            return Kind(name=_PRIMITIVES[plain])
        if plain in EXTENSION_TYPES:
            return Kind(name="extension", of=plain)
        raise _bad(f"nothing is called `{name[:80]}`")

    def _entity_name(self, name: str, ns: str) -> str:
        full = _full(ns, name)
        return full if full in self._types else name


_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\", '"': '"', "'": "'", "*": "*"}


def unescape(text: str) -> str:
    """The characters that a Cedar string literal stands for."""

    def one(found: re.Match[str]) -> str:
        if found[3] is None:
            return chr(int(found[1] or found[2], 16))
        if found[3] not in _PLAIN:
            raise _bad(f"`\\{found[3]}` is no escape")
        return _PLAIN[found[3]]

    return _ESCAPE.sub(one, text)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _bad(f"`{text[at : at + 20]}` is no part of a schema")
        if found.lastgroup != "space":
            yield found.group()
        at = found.end()


def _full(namespace: str, name: str) -> str:
    return f"{namespace}::{name}" if namespace and not name.startswith("__cedar::") else name


def _empty() -> dict[str, dict[str, Any]]:
    return {"commonTypes": {}, "entityTypes": {}, "actions": {}}


def _bad(why: str) -> Rejected:
    return Rejected("access.policy.schema", f"this is no Cedar schema: {why}")


def action_closure(schema: CedarSchema) -> Mapping[Uid, frozenset[Uid]]:
    """Every action with all groups that it is in, itself included."""
    found: dict[Uid, frozenset[Uid]] = {}
    for action in schema.actions:
        seen: set[Uid] = set()
        waiting: Sequence[Uid] = [action]
        while waiting:
            *waiting, one = waiting
            if one not in seen:
                seen.add(one)
                waiting = [*waiting, *(schema.actions[one].parents if one in schema.actions else ())]
        found[action] = frozenset(seen)
    return found
