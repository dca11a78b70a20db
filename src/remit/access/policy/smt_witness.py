"""A model of the solver as a situation of Remit's, to be asked again of the real decision point.

What the solver finds is never shown by itself: `prove` puts these facts before the engine, and only what the engine
itself answers is evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import z3

from remit.access.model import Entity
from remit.access.policy.extensions import IpRange
from remit.access.policy.facts import GrantFacts, IdentityFacts, ResourceFacts
from remit.access.policy.operators import like
from remit.access.policy.schema import IDENTITY, PROVEN, RESOURCE
from remit.access.policy.situation import MOMENT, Situation
from remit.access.policy.smt_requests import Requests, above, matches, tag_of, tagged
from remit.access.policy.smt_terms import Field, Group, Ip, code_of
from remit.access.policy.smt_text import Patterns
from remit.kernel.canonical import Json

_OTHER_ACTION = "example:action"
_DEFAULTS = {
    "principal.id": "id_example",
    "principal.name": "urn:remit:example:local:workload:example",
    "principal.kind": "workload",
    "principal.state": "active",
    "resource.name": "example/resource",
    "resource.kind": "example",
    "context.grant": "gr_example",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads one model. Texts that nobody named get words of their own, that match what they have to."""

    model: Any
    requests: Requests
    _named: dict[int, str] = field(default_factory=dict)

    def situation(self) -> Situation | None:
        """The model as a request with its facts; None when it has text or a moment that no request can have."""
        try:
            at = self._moment()
            proven = self._proven()
            return Situation(
                identity=self._identity(),
                action=self._action(),
                resource=self._resource(),
                known=self._known(),
                proven=proven,
                claimed=self._record("context.claimed", self.requests.vocabulary.claims),
                grant=self._grant(proven, at),
                exceptions=self._exceptions(),
                at=at,
            )
        except (ValueError, OverflowError):
            return None

    # Parts.

    def _identity(self) -> IdentityFacts:
        facts: dict[str, Any] = {"tier": 3, "name": _DEFAULTS["principal.name"], "kind": "workload"}
        facts |= {name: value for name, value in self._attributes("principal") if name in _IDENTITY_FIELDS}
        name = self._text("principal.id", z3.Int("principal.id"))
        return IdentityFacts(
            **{**facts, "id": name, "names": self._above(IDENTITY, name), "labels": self._labels("principal")}
        )

    def _resource(self) -> Entity:
        known, kind, name = self._known(), self._resource_kind(), self._resource_name()
        return Entity(type=kind, id=name if known is not None else name.removeprefix(f"{kind}/"))

    def _known(self) -> ResourceFacts | None:
        facts: dict[str, Any] = dict(self._attributes("resource"))
        if facts.pop("known", True) is False:
            return None
        kept = {name: value for name, value in facts.items() if name in _RESOURCE_FIELDS}
        name = self._resource_name()
        parents = self._above(RESOURCE, name)
        return ResourceFacts(
            **{
                **kept,
                "name": name,
                "kind": self._resource_kind(),
                "parents": parents,
                "labels": self._labels("resource"),
            }
        )

    def _resource_name(self) -> str:
        return self._text("resource.name", z3.Int("resource.name"))

    def _resource_kind(self) -> str:
        made = self.requests.fields.get("resource.kind")
        return self._text("resource.kind", made.term.value) if made else _DEFAULTS["resource.kind"]

    def _action(self) -> str:
        code = self._value(z3.Int("action")).as_long()
        names = {code: name for name, code in self.requests.actions.items()}
        return names.get(code, _OTHER_ACTION)

    def _proven(self) -> dict[str, Json]:
        proven = self._record("context", PROVEN)
        if "attested_at" in proven:
            proven.pop("attestation_age", None)  # the decision point computes it
        return proven

    def _grant(self, proven: Mapping[str, Json], at: datetime) -> GrantFacts | None:
        if "grant" not in proven:
            return None
        digest = str(proven.get("grant_digest", "sha256:example"))
        return GrantFacts(
            id=str(proven["grant"]),
            identity=self._text("principal.id", z3.Int("principal.id")),
            digest=digest,
            approved=(digest,) if z3.is_true(self._value(self.requests.approved)) else (),
            usable=True,
            expires=at + timedelta(hours=1),
            task_digest=str(proven.get("task_digest", "")),
        )

    def _exceptions(self) -> tuple[str, ...]:
        made = self.requests.fields.get("context.exceptions")
        if made is None:
            return ()
        rules = [str(rule) for rule in self._members(made.term.value)]
        flagged = z3.is_true(self._value(z3.Bool("context.exception")))
        return tuple(rules) or (("example-rule",) if flagged else ())

    def _moment(self) -> datetime:
        made = self.requests.fields.get("context.time")
        if made is None:
            return MOMENT
        seconds, ms = divmod(self._value(made.term.value).as_long(), 1000)
        return datetime.fromtimestamp(seconds, UTC) + timedelta(milliseconds=ms)

    # Values.

    def _attributes(self, owner: str) -> Iterator[tuple[str, Json]]:
        for path, each in self.requests.fields.items():
            before, _, name = path.rpartition(".")
            if before == owner and self._is_there(each):
                yield name, self._json(path, each)

    def _record(self, owner: str, names: Mapping[str, Any]) -> dict[str, Json]:
        return {name: value for name, value in self._attributes(owner) if name in names}

    def _is_there(self, each: Field) -> bool:
        return each.present is True or z3.is_true(self._value(each.present))

    def _json(self, path: str, each: Field) -> Json:
        value = each.term.value
        match each.term.kind:
            case "bool":
                return value if isinstance(value, bool) else z3.is_true(self._value(value))
            case "string":
                return self._text(path, value)
            case "set":
                return self._members(value)
            case "ip":
                return self._address(value)
            case "record":
                return None
        return int(self._value(value).as_long())

    def _text(self, path: str, value: Any) -> str:
        """The text of a number: a constant, or a new one that matches the patterns that it has to."""
        code = self._value(code_of(value)).as_long()
        if not self._named:
            self._named.update({each.code: each.text for each in self.requests.texts.values()})
        if code not in self._named:
            self._named[code] = self._new_text(path, code)
        return self._named[code]

    def _new_text(self, path: str, code: int) -> str:
        used = set(self._named.values())
        patterns = self.requests.patterns
        wanted = tuple(z3.is_true(self._value(matches(each)(code))) for each in patterns)
        wished = (_DEFAULTS.get(path, "example"), *(f"example-{number}" for number in range(len(used) + 1)))
        fitting = (each for each in wished if each not in used and tuple(like(each, one) for one in patterns) == wanted)
        found = next(fitting, None) or Patterns(patterns).example(wanted, used)
        if found is None:
            raise ValueError("no text matches")
        return found

    def _members(self, group: Group) -> list[str]:
        """The elements that the model's own description of the set names, and the constants."""
        array = self._value(group.array)
        codes = dict.fromkeys([*_constants(array), *(each.code for each in self.requests.texts.values())])
        there = (code for code in codes if z3.is_true(self._value(z3.Select(group.array, code))))
        return sorted(self._text("", z3.IntVal(code)) for code in there)

    def _address(self, ip: Ip) -> str:
        version = 4 if z3.is_true(self._value(ip.v4)) else 6
        return IpRange(version, self._value(ip.address).as_long(), self._value(ip.prefix).as_long()).text()

    def _above(self, kind: str, name: str) -> tuple[str, ...]:
        found = {
            self._text("", group): None
            for of, one, group in self.requests.inside
            if of == kind and self._text("", one) == name and z3.is_true(self._value(above(kind, one, group)))
        }
        return tuple(found)

    def _labels(self, owner: str) -> tuple[tuple[str, str], ...]:
        labels = {
            self._text("", tag): self._text("", tag_of(owner)(code_of(tag)))
            for of, tag in self.requests.tags
            if of == owner and z3.is_true(self._value(tagged(owner)(code_of(tag))))
        }
        return tuple(sorted(labels.items()))

    def _value(self, term: Any) -> Any:
        if isinstance(term, (bool, int)):
            term = z3.BoolVal(term) if isinstance(term, bool) else z3.IntVal(term)
        return self.model.eval(term, model_completion=True)


_IDENTITY_FIELDS = frozenset(IdentityFacts.__struct_fields__) - {"id", "names", "labels", "groups"}
_RESOURCE_FIELDS = frozenset(ResourceFacts.__struct_fields__) - {"name", "kind", "names", "labels", "parents"}


def _constants(array: Any) -> Iterator[int]:
    """Every number in the description of an array."""
    waiting = [array]
    while waiting:
        node = waiting.pop()
        if z3.is_int_value(node):
            yield node.as_long()
        waiting += node.children()
