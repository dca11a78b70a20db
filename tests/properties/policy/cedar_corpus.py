"""Worlds in the form of Cedar's own test corpus, from a seed: schema, policies, entities and requests.

Typed by their schema most of the time, and odd wherever Cedar allows it: names, escapes, spacing, nesting, edges of
numbers and extension values.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

NAMES = ("a", "b", "principal", "permit", "when", "Set", "_x1", "ip", "String", "context", "U")
KEYS = (*NAMES, "a b", "", "if", "in", "ünï", 'q"', "\\", "__x", "type", "id", "fn", "new\nline")
IDENTIFIERS = frozenset(NAMES)
TEXTS = (
    "",
    "a",
    "ab",
    "a*b",
    "*",
    "\\",
    '"',
    "ünï",
    "😀",
    "\n\t",
    "\0",
    "\x7f",
    "\u2028",
    "e\u0301",
    "//;",
    "//",
    "'",
    "\ufeff",
    "İ",
)
LONGS = (0, 1, -1, 2, 7, 2**31, 2**62, -(2**62), 3037000500, 2**63 - 1, -(2**63) + 1, -(2**63))
IPS = ("10.0.0.1", "10.0.0.0/8", "10.0.0.1/8", "0.0.0.0/0", "127.0.0.1", "127.0.0.0/7", "127.9.9.9/31", "224.0.0.0/4",
       "224.0.0.0/3", "255.255.255.255/32", "::", "::1", "::1/127", "::/0", "ff00::/8", "ff00::/7", "fe80::1",
       "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "2001:DB8::1/64", "2001:db8::1/64", "::ffff:0:1")  # fmt: skip
BAD_IPS = ("", "zz", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/08", "::ffff:1.2.3.4", "01.2.3.4", "::1/129", "::/+1",
           "1.2.3.4/8/8", "fe80::1%eth0", "1:2:3:4:5:6:7:8:9", ":::", "1.2.3.4 ", "::00000", "1.2.3.256", "٣.1.1.1")  # fmt: skip
DECIMALS = ("0.0", "-0.0", "1.0", "1.00", "01.5000", "-1.5", "0.0001", "-0.0001", "922337203685477.5807",
            "-922337203685477.5808", "00000000000000000000000000001.1")  # fmt: skip
BAD_DECIMALS = ("", "1", "1.", ".5", "+1.0", "1.23456", "922337203685477.5808", "-922337203685477.5809", "1e5", "--1.0",
                "1.0 ", " 1.0", "1_0.0", "٣.٣", "-.1", "99999999999999999999999.0", "1.-1", "1.00000")  # fmt: skip
MOMENTS = ("1970-01-01", "2024-02-29", "1969-12-31T23:59:59.999Z", "2024-02-29T12:34:56Z", "2024-01-01T00:00:00+0130",
           "2024-01-01T00:00:00.001-2359", "0000-01-01", "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00+2359",
           "2000-02-29", "9999-12-31T23:59:59.999-2359", "0000-01-01T00:00:00.000+2359")  # fmt: skip
BAD_MOMENTS = ("", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "2024-01-32", "24-01-01",
               "2024-01-01T", "2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T23:59:60Z",
               "2024-01-01T00:00:00", "2024-01-01T00:00:00.1Z", "2024-01-01T00:00:00z", "2024-01-01t00:00:00Z",
               "2024-01-01T00:00:00+2400", "2024-01-01T00:00:00+0060", "2024-01-01T00:00:00+01:00", "2024-01-01Z",
               "-001-01-01", "10000-01-01", "2024-01-01 ", "2024-01-01T00:00:00.000000Z", "2024-04-31", "٢٠٢٤-01-01",
               "2024-01-01T00:00:00.000", "2024-01-01T00:00Z", "2024-01-01T00:00:00-0000Z")  # fmt: skip
SPANS = ("0ms", "-0ms", "1d", "1d2h3m4s5ms", "-1ms", "-1d", "1h1ms", "86399999ms", "106751991167d", "-106751991167d",
         "9223372036854775807ms", "-9223372036854775808ms", "00001s", "90m", "24h", "-36h")  # fmt: skip
BAD_SPANS = ("", "-", "1", "d", "1m1d", "1d1d", "+1d", "1.5h", "1 d", "--1d", "9223372036854775808ms", "106751991168d",
             "-9223372036854775809ms", "1us", "1D", "1d-1h", "99999999999999999999d", "١d", "106751991167d24h")  # fmt: skip
EXTENSIONS = {"ipaddr": ("ip", IPS, BAD_IPS), "decimal": ("decimal", DECIMALS, BAD_DECIMALS),
              "datetime": ("datetime", MOMENTS, BAD_MOMENTS), "duration": ("duration", SPANS, BAD_SPANS)}  # fmt: skip
PRIMITIVES = ("Long", "String", "Bool", *EXTENSIONS)
PATTERN = ("a", "*", "\\*", "ü", "\\u{2a}", "\\0", "\\\\", "b", "😀", "'", "\\'", "\\x2a")
GAPS = ("", "", "", "", "", " ", "\n", "\t", ' // a comment; "\n', "//\r", "\u2028", "\xa0", "\x0b")


@dataclass(frozen=True)
class Kind:
    """A type: a primitive's name, `Set`, `Record`, or an entity type."""

    name: str
    element: Kind | None = None
    attributes: dict[str, tuple[Kind, bool]] = field(default_factory=dict)
    common: str = ""


@dataclass
class World:
    """One test: its three files and its questions."""

    policies: str
    entities: list[Any]
    schema: str
    requests: list[dict[str, Any]]


def world(seed: int) -> World:
    """The world of a seed."""
    return _Maker(random.Random(seed)).world()


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.space = ""
        self.spaces = rng.choice((("",), ("A",), ("A::B",), ("", "A"), ("A", "A::B"), ("", "in_1::when")))
        self.types: dict[str, dict[str, Any]] = {}
        self.actions: dict[tuple[str, str], dict[str, Any]] = {}
        self.commons: dict[str, Kind] = {}

    # Schema.

    def world(self) -> World:
        rng = self.rng
        for _ in range(rng.randint(2, 4)):
            self.types.setdefault(
                self._full(rng.choice(self.spaces), rng.choice(("U", "T", "permit", "x_9", "Group", "Action1"))), {}
            )
        for _ in range(rng.randint(0, 2)):
            name = self._full(rng.choice(self.spaces), rng.choice(("C", "Rec", "when_t")))
            if name not in self.types:
                self.commons[name] = self.kind(2, plain=True)
        for each in self.types.values():
            each["attributes"] = self.attributes(1)
            each["parents"] = rng.sample(sorted(self.types), rng.randint(0, len(self.types)))
            each["tags"] = self.kind(2) if rng.random() < 0.4 else None
            each["enum"] = False
        if rng.random() < 0.2 and len(self.types) > 2:
            chosen = self.types[rng.choice(sorted(self.types))]
            chosen.update(attributes={}, parents=[], tags=None, enum=True)
        groups: list[tuple[str, str]] = []
        for _ in range(rng.randint(1, 4)):
            space = rng.choice(self.spaces)
            key = (self._full(space, "Action"), rng.choice(("view", "all", "a b", "", "ünï", 'q"')))
            if key in self.actions:
                continue
            context = (
                rng.choice([k for k in self.commons.values() if k.name == "Record"] or [None])
                if rng.random() < 0.4
                else None
            )
            self.actions[key] = {
                "parents": rng.sample(groups, rng.randint(0, min(2, len(groups)))),
                "principals": rng.sample(sorted(self.types), rng.randint(1, len(self.types))),
                "resources": rng.sample(sorted(self.types), rng.randint(1, len(self.types))),
                "context": context or Kind("Record", attributes=self.attributes(1)),
            }
            groups.append(key)
        schema = self.schema_json() if rng.random() < 0.5 else self.schema_text()
        entities = self.entities()
        policies = self.policies()
        requests = [self.request() for _ in range(8)]
        return World(policies, entities, schema, requests)

    def _full(self, space: str, name: str) -> str:
        return f"{space}::{name}" if space else name

    def near(self, names: list[str]) -> list[str]:
        """Names as the namespace that is being written may shorten them."""
        start = f"{self.space}::" if self.space else ""
        return [
            n.removeprefix(start) if "::" not in n.removeprefix(start) and self.rng.random() < 0.5 else n for n in names
        ]

    def kind(self, depth: int, plain: bool = False) -> Kind:
        rng = self.rng
        roll = rng.random()
        if roll < 0.12 and depth < 4:
            return Kind("Set", element=self.kind(depth + 1, plain))
        if roll < 0.27 and depth < 4:
            return Kind("Record", attributes=self.attributes(depth + 1, plain))
        if roll < 0.4 and self.types:
            return Kind(rng.choice(sorted(self.types)))
        if roll < 0.5 and self.commons and not plain:
            name = rng.choice(sorted(self.commons))
            found = self.commons[name]
            return Kind(found.name, found.element, found.attributes, name)
        return Kind(rng.choice(PRIMITIVES))

    def attributes(self, depth: int, plain: bool = False) -> dict[str, tuple[Kind, bool]]:
        names = self.rng.sample(KEYS, self.rng.randint(0, 5))
        return {name: (self.kind(depth, plain), self.rng.random() < 0.7) for name in names}

    def schema_json(self) -> str:
        spaces: dict[str, dict[str, Any]] = {s: {"entityTypes": {}, "actions": {}} for s in self.spaces}
        for full, each in self.types.items():
            space, _, name = full.rpartition("::")
            if each["enum"]:
                spaces[space]["entityTypes"][name] = {"enum": ["e", "f"]}
                continue
            self.space = space
            made: dict[str, Any] = {"memberOfTypes": self.near(each["parents"])}
            made["shape"] = self.type_json(Kind("Record", attributes=each["attributes"]))
            if each["tags"]:
                made["tags"] = self.type_json(each["tags"])
            spaces[space]["entityTypes"][name] = made
        for full, kind in self.commons.items():
            self.space, _, name = full.rpartition("::")
            spaces[self.space].setdefault("commonTypes", {})[name] = self.type_json(kind)
        for (kind_name, name), each in self.actions.items():
            self.space = space = kind_name.removesuffix("Action").removesuffix("::")
            spaces[space]["actions"][name] = {
                "memberOf": [
                    {"id": up} if kind == kind_name and self.rng.random() < 0.5 else {"id": up, "type": kind}
                    for kind, up in each["parents"]
                ],
                "appliesTo": {
                    "principalTypes": self.near(each["principals"]),
                    "resourceTypes": self.near(each["resources"]),
                    "context": self.type_json(each["context"]),
                },
            }
        return json.dumps(spaces)

    def type_json(self, kind: Kind) -> dict[str, Any]:
        if kind.common:
            return {"type": self.near([kind.common])[0]}
        if kind.name == "Set":
            assert kind.element
            return {"type": "Set", "element": self.type_json(kind.element)}
        if kind.name == "Record":
            return {
                "type": "Record",
                "attributes": {n: {**self.type_json(k), "required": r} for n, (k, r) in kind.attributes.items()},
            }
        if kind.name in EXTENSIONS:
            return {"type": "Extension", "name": kind.name}
        if kind.name in PRIMITIVES:
            return {"type": "Boolean" if kind.name == "Bool" else kind.name}
        return {"type": self.rng.choice(("Entity", "EntityOrCommon")), "name": self.near([kind.name])[0]}

    def schema_text(self) -> str:
        rng, parts = self.rng, []
        for space in self.spaces:
            self.space, lines = space, []
            for full, each in self.types.items():
                if full.rpartition("::")[0] != space:
                    continue
                name = full.rpartition("::")[2]
                if each["enum"]:
                    lines.append(f'entity {name} enum ["e", "f"];')
                    continue
                parents = f" in [{', '.join(self.near(each['parents']))}]" if each["parents"] else ""
                shape = self.type_text(Kind("Record", attributes=each["attributes"]))
                tags = f" tags {self.type_text(each['tags'])}" if each["tags"] else ""
                note = rng.choice(("", '@doc("a\\"b") ', "@x "))
                lines.append(f"{note}entity {name}{parents}{rng.choice((' = ', ' '))}{shape}{tags};")
            for full, kind in self.commons.items():
                if full.rpartition("::")[0] == space:
                    lines.append(f"type {full.rpartition('::')[2]} = {self.type_text(kind)};")
            for (kind_name, name), each in self.actions.items():
                if kind_name == self._full(space, "Action"):
                    parents = [
                        quote(rng, up) if kind == kind_name and rng.random() < 0.6 else f"{kind}::{quote(rng, up)}"
                        for kind, up in each["parents"]
                    ]
                    inside = f" in [{', '.join(parents)}]" if parents else ""
                    lines.append(
                        f"action {quote(rng, name)}{inside} appliesTo {{ principal: [{', '.join(self.near(each['principals']))}], "
                        f"resource: [{', '.join(self.near(each['resources']))}], context: {self.type_text(each['context'])}{rng.choice((',', ''))} }};"
                    )
            rng.shuffle(lines)
            body = " // a comment }\n".join(lines) + "\n"
            parts.append(f"namespace {space} {{\n{body}}}\n" if space else body)
        rng.shuffle(parts)
        return "".join(parts)

    def type_text(self, kind: Kind) -> str:
        if kind.common:
            return self.near([kind.common])[0]
        if kind.name == "Set":
            assert kind.element
            return f"Set<{self.type_text(kind.element)}>"
        if kind.name == "Record":
            items = [
                f"{n if n in IDENTIFIERS and self.rng.random() < 0.7 else quote(self.rng, n)}{'' if r else '?'}: {self.type_text(k)}"
                for n, (k, r) in kind.attributes.items()
            ]
            return "{" + ", ".join(items) + ("," if items and self.rng.random() < 0.3 else "") + "}"
        return (
            f"__cedar::{kind.name}"
            if kind.name in PRIMITIVES and self.rng.random() < 0.2
            else self.near([kind.name])[0]
        )

    # Entities and requests.

    def uid(self, kind: str | None = None) -> dict[str, str]:
        kind = kind or self.rng.choice(sorted(self.types))
        if self.types.get(kind, {}).get("enum"):
            return {"type": kind, "id": self.rng.choice("ef")}
        return {"type": kind, "id": self.rng.choice(("e", "f", "g", *TEXTS[:9]))}

    def value(self, kind: Kind, loose: bool = True) -> Any:
        """A value in Cedar's JSON, with its escapes or, if `loose`, without them where the schema tells."""
        rng = self.rng
        if kind.name == "Long":
            return rng.choice(LONGS)
        if kind.name == "String":
            return rng.choice(TEXTS)
        if kind.name == "Bool":
            return rng.random() < 0.5
        if kind.name == "Set":
            assert kind.element
            return [self.value(kind.element, loose) for _ in range(rng.randint(0, 3))]
        if kind.name == "Record":
            return {
                n: self.value(k, loose)
                for n, (k, required) in kind.attributes.items()
                if required or rng.random() < 0.5
            }
        if kind.name in EXTENSIONS:
            name, texts, _ = EXTENSIONS[kind.name]
            made: Any = {"fn": name, "arg": rng.choice(texts)}
            if kind.name == "datetime" and rng.random() < 0.3:
                parts = ("datetime", "1970-01-01"), ("duration", rng.choice(SPANS))
                made = {"fn": "offset", "args": [{"__extn": {"fn": fn, "arg": arg}} for fn, arg in parts]}
                return {"__extn": made}
            return rng.choice((made["arg"], made, {"__extn": made})) if loose else {"__extn": made}
        uid = self.uid(kind.name)
        return uid if loose and rng.random() < 0.5 else {"__entity": uid}

    def entities(self) -> list[Any]:
        rng, found, order = self.rng, {}, []
        for kind in sorted(self.types):
            order += [(kind, uid) for uid in ({self.uid(kind)["id"] for _ in range(rng.randint(0, 4))})]
        order.sort()
        rng.shuffle(order)
        for number, (kind, name) in enumerate(order):
            each = self.types[kind]
            above = [u for u in order[:number] if u[0] in each["parents"]]
            parents = rng.sample(above, rng.randint(0, min(2, len(above))))
            ups: list[Any] = [{"type": k, "id": i} for k, i in parents]
            if each["parents"] and rng.random() < 0.2:
                wanted = [k for k in each["parents"] if not self.types[k]["enum"]]
                ups += [{"type": k, "id": "nobody"} for k in wanted[:1]]
            tags = (
                {rng.choice(TEXTS): self.value(each["tags"]) for _ in range(rng.randint(0, 3))} if each["tags"] else {}
            )
            row = {
                "uid": rng.choice(({"type": kind, "id": name}, {"__entity": {"type": kind, "id": name}})),
                "attrs": self.value(Kind("Record", attributes=each["attributes"])),
                "parents": [rng.choice((up, {"__entity": up})) for up in ups],
            }
            if tags or rng.random() < 0.5:
                row["tags"] = tags
            found[(kind, name)] = row
        rows = list(found.values())
        if rng.random() < 0.3:
            rows += [self.action_entity(key) for key in self.actions]
        rng.shuffle(rows)
        return rows

    def action_entity(self, key: tuple[str, str]) -> dict[str, Any]:
        above: set[tuple[str, str]] = set()
        waiting = list(self.actions[key]["parents"])
        while waiting:
            one = waiting.pop()
            above.add(one)
            waiting += self.actions[one]["parents"]
        return {
            "uid": {"type": key[0], "id": key[1]},
            "attrs": {},
            "parents": [{"type": kind, "id": name} for kind, name in sorted(above)],
        }

    def request(self) -> dict[str, Any]:
        rng = self.rng
        key = rng.choice(sorted(self.actions))
        action = self.actions[key]
        strict = rng.random() < 0.7
        return {
            "description": "a request",
            "principal": self.uid(rng.choice(action["principals"]) if strict else None),
            "action": {"type": key[0], "id": key[1]},
            "resource": self.uid(rng.choice(action["resources"]) if strict else None),
            "context": self.value(action["context"]),
            "validateRequest": strict,
        }

    # Policies.

    def policies(self) -> str:
        return "".join(self.gap() + self.policy() + self.gap() for _ in range(self.rng.randint(1, 5))) + self.gap()

    def gap(self) -> str:
        return self.rng.choice(GAPS)

    def policy(self) -> str:
        rng = self.rng
        self.action = self.actions[rng.choice(sorted(self.actions))]
        self.bases = {
            "principal": rng.choice(self.action["principals"]),
            "resource": rng.choice(self.action["resources"]),
        }
        notes = "".join(
            f"@{name}{rng.choice(('', '(' + quote(rng, rng.choice(TEXTS)) + ')'))}{self.gap() or ' '}"
            for name in rng.sample(("id", "if", "a", "reason", "obligation", "permit"), rng.choice((0, 0, 1, 2)))
        )
        head = f"{rng.choice(('permit', 'permit', 'forbid'))}{self.gap()}({self.scope('principal')},{self.gap()}{self.scope('action')}, {self.scope('resource')}{rng.choice(('', '', ','))})"
        clauses = "".join(
            f"{self.gap()} {rng.choice(('when', 'when', 'unless'))}{self.gap()}{{{self.gap()}{self.expression(Kind('Bool'), 0)}{self.gap()}}}"
            for _ in range(rng.choice((0, 1, 1, 1, 2)))
        )
        return f"{notes}{head}{clauses}{self.gap()};"

    def scope(self, variable: str) -> str:
        rng = self.rng
        if rng.random() < 0.55:
            return variable
        if variable == "action":
            uids = [
                f"{kind}::{quote(rng, name)}" for kind, name in rng.choices(sorted(self.actions), k=rng.randint(0, 3))
            ]
            return rng.choice(
                (f"action in [{', '.join(uids)}]", *(f"action {op} {uid}" for uid in uids for op in ("==", "in")))
            )
        kind = self.bases[variable] if rng.random() < 0.8 else rng.choice(sorted(self.types))
        uid = self.uid_text(kind)
        return rng.choice(
            (f"{variable} == {uid}", f"{variable} in {uid}", f"{variable} is {kind}", f"{variable} is {kind} in {uid}")
        )

    def uid_text(self, kind: str | None = None) -> str:
        if kind is None and self.rng.random() < 0.15:
            action, name = self.rng.choice(sorted(self.actions))
            return f"{action}::{quote(self.rng, name)}"
        uid = self.uid(kind)
        return f"{uid['type']}::{quote(self.rng, uid['id'])}"

    def some_kind(self) -> Kind:
        rng = self.rng
        roll = rng.random()
        if roll < 0.15:
            return Kind("Set", element=self.some_kind())
        if roll < 0.22:
            return Kind("Record", attributes={"a": (Kind("Long"), True), "b c": (Kind("Bool"), True)})
        return Kind(rng.choice(sorted(self.types))) if roll < 0.35 else Kind(rng.choice(PRIMITIVES))

    def expression(self, kind: Kind, depth: int) -> str:
        rng = self.rng
        if rng.random() < 0.02:
            kind = self.some_kind()
        if depth > 5 or rng.random() < 0.2 + 0.08 * depth:
            return self.leaf(kind, depth)
        made = self.compound(kind, depth + 1)
        return f"({self.gap()}{made}{self.gap()})"

    def leaf(self, kind: Kind, depth: int) -> str:
        rng = self.rng
        if rng.random() < 0.55:
            reached = self.reach(kind)
            if reached:
                return reached
        return self.literal(kind, depth)

    def reach(self, wanted: Kind) -> str:
        """A path of attributes from a variable to a value of the kind."""
        rng = self.rng
        starts = [(name, Kind(kind)) for name, kind in self.bases.items()]
        starts += [("context", self.action["context"])]
        paths = []
        for _ in range(3):
            grown = []
            for text, kind in starts:
                if (kind.name, kind.element) == (wanted.name, wanted.element):
                    paths.append(text)
                known = self.types[kind.name]["attributes"] if kind.name in self.types else kind.attributes
                for name, (below, required) in known.items():
                    if required or rng.random() < 0.5:
                        grown.append((text + self.access(name), below))
            starts = grown
        return rng.choice(paths) if paths else ""

    def access(self, name: str) -> str:
        if name in IDENTIFIERS and self.rng.random() < 0.7:
            return f"{self.gap()}.{self.gap()}{name}"
        return f"[{quote(self.rng, name)}]"

    def literal(self, kind: Kind, depth: int) -> str:
        rng = self.rng
        if kind.name == "Long":
            return f"({rng.choice(LONGS)})"
        if kind.name == "String":
            return quote(rng, rng.choice(TEXTS))
        if kind.name == "Bool":
            return rng.choice(("true", "false"))
        if kind.name == "Set":
            assert kind.element
            return "[" + ", ".join(self.expression(kind.element, depth + 2) for _ in range(rng.randint(0, 3))) + "]"
        if kind.name == "Record":
            items = (
                f"{n if n in IDENTIFIERS else quote(rng, n)}: {self.expression(k, depth + 2)}"
                for n, (k, required) in kind.attributes.items()
                if required or rng.random() < 0.5
            )
            return "{" + ", ".join(items) + "}"
        if kind.name in EXTENSIONS:
            name, good, bad = EXTENSIONS[kind.name]
            return f"{name}({quote(rng, rng.choice(good if rng.random() < 0.88 else bad))})"
        return self.uid_text(kind.name if kind.name in self.types else None)

    def compound(self, kind: Kind, depth: int) -> str:
        rng = self.rng
        of = lambda each: self.expression(each, depth)  # noqa: E731
        one = lambda name: self.expression(Kind(name), depth)  # noqa: E731
        if rng.random() < 0.15:
            return f"if {one('Bool')} then {of(kind)} else {of(kind)}"
        if rng.random() < 0.04:
            taken = rng.choice((".k", '["k"]'))
            return f'{{"k": {of(kind)}, o: {one("Long")}}}' + taken
        if kind.name == "Bool":
            return self.truth(depth)
        if kind.name == "Long":
            return rng.choice(
                (
                    lambda: f"{one('Long')} {rng.choice('+-*')} {one('Long')}",
                    lambda: f"{rng.choice(('-', '--', '- '))}{one('Long')}",
                    lambda: (
                        f"{one('duration')}.to{rng.choice(('Milliseconds', 'Seconds', 'Minutes', 'Hours', 'Days'))}()"
                    ),
                )
            )()
        if kind.name == "datetime":
            return rng.choice((f"{one('datetime')}.offset({one('duration')})", f"{one('datetime')}.toDate()"))
        if kind.name == "duration":
            return rng.choice((f"{one('datetime')}.durationSince({one('datetime')})", f"{one('datetime')}.toTime()"))
        tagged = [
            n
            for n, t in self.types.items()
            if t["tags"] and (t["tags"].name, t["tags"].element) == (kind.name, kind.element)
        ]
        if tagged:
            return f"{one(rng.choice(tagged))}.getTag({one('String')})"
        if kind.name == "Set":
            assert kind.element
            return (
                "["
                + ", ".join(self.expression(kind.element, depth + 1) for _ in range(rng.randint(1, 4)))
                + rng.choice(("", ","))
                + "]"
            )
        return self.leaf(kind, depth)

    def truth(self, depth: int) -> str:
        rng = self.rng
        of = lambda each: self.expression(each, depth)  # noqa: E731
        one = lambda name: self.expression(Kind(name), depth)  # noqa: E731
        entity = lambda: self.expression(Kind(rng.choice(sorted(self.types))), depth)  # noqa: E731
        group = lambda: Kind("Set", element=self.some_kind())  # noqa: E731
        kind = self.some_kind()
        other = kind if rng.random() < 0.85 else self.some_kind()
        sets = group()
        variable = rng.choice(sorted(self.bases))
        known = list(self.types[self.bases[variable]]["attributes"]) or ["zz"]
        name = rng.choice(known)
        member = name if name in IDENTIFIERS and rng.random() < 0.6 else quote(rng, name)
        return rng.choice(
            (
                lambda: f"{one('Bool')}{self.gap()}&&{self.gap()}{one('Bool')}",
                lambda: f"{one('Bool')} || {one('Bool')}",
                lambda: f"{one('Bool')} && {one('Bool')} || {one('Bool')} && {one('Bool')}",
                lambda: f"{rng.choice(('!', '!!', '! ', '!!!!'))}{one('Bool')}",
                lambda: f"{of(kind)} {rng.choice(('==', '!='))} {of(other)}",
                lambda: f"{of(kind)} == {of(other)}",
                lambda: f"{one('Long')} {rng.choice(('<', '<=', '>', '>='))} {one('Long')}",
                lambda: f"{one('datetime')} {rng.choice(('<', '<=', '>', '>='))} {one('datetime')}",
                lambda: f"{one('duration')} {rng.choice(('<', '<=', '>', '>='))} {one('duration')}",
                lambda: f"{of(kind)} < {of(kind)}",
                lambda: f"{entity()} in {entity()}",
                lambda: f"action in {self.uid_text()}",
                lambda: f"{entity()} in [{', '.join(entity() for _ in range(rng.randint(0, 3)))}]",
                lambda: (
                    f"{entity()} in {self.expression(Kind('Set', element=Kind(rng.choice(sorted(self.types)))), depth)}"
                ),
                lambda: f"{entity()} is {rng.choice(sorted(self.types))}",
                lambda: f"{entity()} is {rng.choice(sorted(self.types))} in {entity()}",
                lambda: f"{variable} has {member}",
                lambda: (
                    f"{variable} has {member} && {variable}{self.access(name)} == {of(self.types[self.bases[variable]]['attributes'].get(name, (kind, True))[0])}"
                ),
                lambda: (
                    f"{rng.choice(('context', variable, of(kind)))} has {rng.choice(('a', 'a.b', 'U.a.b', 'permit.when', quote(rng, rng.choice(KEYS))))}"
                ),
                lambda: f'{one("String")} like "{"".join(rng.choices(PATTERN, k=rng.randint(0, 5)))}"',
                lambda: f"{of(sets)}.contains({of(sets.element or kind)})",
                lambda: f"{of(sets)}.{rng.choice(('containsAll', 'containsAny'))}({of(sets)})",
                lambda: f"{of(sets)}.isEmpty()",
                lambda: f"{entity()}.hasTag({one('String')})",
                lambda: f"{one('ipaddr')}.{rng.choice(('isIpv4', 'isIpv6', 'isLoopback', 'isMulticast'))}()",
                lambda: f"{one('ipaddr')}.isInRange({one('ipaddr')})",
                lambda: (
                    f"{one('decimal')}.{rng.choice(('lessThan', 'lessThanOrEqual', 'greaterThan', 'greaterThanOrEqual'))}({one('decimal')})"
                ),
                lambda: f"{one('ipaddr')}.{rng.choice(('isIpv4(1)', 'isInRange()', 'offset()', 'toDate(true, 2)'))}",
            )
        )()


def quote(rng: random.Random, text: str) -> str:
    """A string literal with this text, its characters escaped at random."""
    made = []
    for char in text:
        code = ord(char)
        plain = {"\n": "\\n", "\t": "\\t", "\0": "\\0", '"': '\\"', "\\": "\\\\", "'": "\\'", "\r": "\\r"}.get(
            char, char
        )
        forms = [plain, plain, f"\\u{{{code:x}}}"] + ([f"\\x{code:02x}"] if code < 128 else [])
        if char not in '"\\' and char.isprintable():
            forms.append(char)
        made.append(rng.choice(forms))
    return '"' + "".join(made) + '"'
