"""Policy documents → statements.

Spec: IAM User Guide, "IAM JSON policy reference".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from remit.inventory.connectors.aws.patterns import MAX_PATTERN, covers, meets

_FIRST, _SECOND = "2008-10-17", "2012-10-17"
_MAX_STATEMENTS = 10_000
_MAX_VALUES = 5000


class MalformedPolicyError(ValueError):
    """A policy document that cannot be read; the message never quotes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One test of a condition block: `operator` (with its set prefix and `IfExists`), `key`, any of `values`."""

    operator: str
    key: str
    values: tuple[str, ...]
    literal: bool = False
    """Whether `${` is plain text: policies older than version 2012-10-17 have no variables."""
    words: str = ""
    """What is shown in its place, where it is no test of a document."""

    @property
    def text(self) -> str:
        if self.words:
            return self.words
        shown = ", ".join(self.values[:3]) + (f" +{len(self.values) - 3}" if len(self.values) > 3 else "")
        return f"{self.operator} {self.key} = {shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement. `actions` are lower case; with `not_actions` the statement is about every other action."""

    allow: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]
    shown_actions: tuple[str, ...]
    """The actions as they were written."""
    principals: tuple[tuple[str, str], ...] = ()
    """(kind, value) of a trust policy: kind is `AWS`, `Service`, `Federated`, `CanonicalUser` or `*`."""
    not_principals: bool = False
    sid: str = ""
    literal: bool = False
    """Whether `${` is plain text: policies older than version 2012-10-17 have no variables."""

    def meets_action(self, action: str) -> bool:
        """Tell whether the statement speaks of something that `action` (lower case, may be a pattern) matches."""
        if self.not_actions:
            return not any(covers(pattern, action) for pattern in self.actions)
        return any(meets(pattern, action) for pattern in self.actions)

    def covers_action(self, action: str) -> bool:
        """Tell whether it speaks of everything that `action` matches."""
        if self.not_actions:
            return not any(meets(pattern, action) for pattern in self.actions)
        return any(covers(pattern, action) for pattern in self.actions)

    def meets_resource(self, resource: str) -> bool:
        """Tell whether it speaks of a resource that the pattern matches."""
        if self.not_resources:
            return not any(covers(pattern, resource) for pattern in self.resources)
        return any(meets(pattern, resource) for pattern in self.resources)

    def covers_resource(self, resource: str) -> bool:
        """Tell whether it speaks of every resource that the pattern matches."""
        if self.not_resources:
            return not any(meets(pattern, resource) for pattern in self.resources)
        return any(covers(pattern, resource) for pattern in self.resources)

    def takes_action(self, action: str) -> bool:
        """Tell whether it speaks of the action; of a pattern: of an action that no list names, which it matches."""
        return any(covers(pattern, action) for pattern in self.actions) != self.not_actions

    def takes_resource(self, resource: str) -> bool:
        """Tell whether it speaks of the resource; of a pattern: of one that nobody names, which it matches."""
        return any(covers(pattern, resource) for pattern in self.resources) != self.not_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy with the words by which evidence names it."""

    label: str
    arn: str | None
    statements: tuple[Statement, ...]


def parse_document(document: Any) -> tuple[Statement, ...]:
    """Parse a policy document: a mapping, JSON text, or percent-encoded JSON text as the API gives it.

    Raises `MalformedPolicyError`.
    """
    if isinstance(document, str):
        text = document if document.lstrip().startswith("{") else unquote(document)
        try:
            document = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            raise MalformedPolicyError("not JSON") from None
    if not isinstance(document, dict):
        raise MalformedPolicyError("not an object")
    entries = document.get("Statement", [])
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list) or len(entries) > _MAX_STATEMENTS:
        raise MalformedPolicyError("no list of statements, or too many")
    # Without a version a document is of the first, 2008-10-17, which has no variables.
    version = document.get("Version") or _FIRST
    if version not in (_FIRST, _SECOND):
        raise MalformedPolicyError("a version that there is not")
    literal = version == _FIRST
    return tuple(_statement(entry, literal) for entry in entries)


def _statement(entry: Any, literal: bool) -> Statement:
    if not isinstance(entry, dict) or entry.get("Effect") not in ("Allow", "Deny"):
        raise MalformedPolicyError("a statement without an effect")
    not_actions, not_resources = "NotAction" in entry, "NotResource" in entry
    if any(one in entry and f"Not{one}" in entry for one in ("Action", "Resource", "Principal")):
        raise MalformedPolicyError("a statement with an element and its opposite")
    if not (not_actions or "Action" in entry):
        raise MalformedPolicyError("a statement without actions")
    shown = _values(entry.get("NotAction" if not_actions else "Action"))
    resources = _values(entry.get("NotResource" if not_resources else "Resource"))
    not_principals = "NotPrincipal" in entry
    return Statement(
        allow=entry["Effect"] == "Allow",
        actions=tuple("*" if action == "*:*" else action.lower() for action in shown),
        not_actions=not_actions,
        resources=resources,
        not_resources=not_resources,
        conditions=tuple(_conditions(entry.get("Condition"), literal)),
        shown_actions=shown,
        principals=tuple(_principals(entry.get("NotPrincipal" if not_principals else "Principal"))),
        not_principals=not_principals,
        sid=str(entry.get("Sid") or "")[:128],
        literal=literal,
    )


def _values(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    values = [value] if isinstance(value, str | bool | int | float) else value
    if not isinstance(values, list) or len(values) > _MAX_VALUES:
        raise MalformedPolicyError("neither a text nor a list of texts")
    texts = tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in values)
    if any(len(text) > MAX_PATTERN for text in texts):
        raise MalformedPolicyError(f"a text longer than {MAX_PATTERN}")
    return texts


def _conditions(block: Any, literal: bool) -> Iterator[Condition]:
    if block is None:
        return
    if not isinstance(block, dict):
        raise MalformedPolicyError("a condition that is no object")
    for operator, tests in block.items():
        if not isinstance(tests, dict):
            raise MalformedPolicyError("a condition that is no object")
        for key, values in tests.items():
            yield Condition(operator=str(operator), key=str(key), values=_values(values), literal=literal)


def _principals(value: Any) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if value == "*":
        yield "*", "*"
        return
    if not isinstance(value, dict):
        raise MalformedPolicyError("a principal that is neither `*` nor an object")
    for kind, values in value.items():
        for item in _values(values):
            yield ("*", "*") if kind == "AWS" and item == "*" else (str(kind), item)


def text_of(conditions: Mapping[str, None] | tuple[str, ...]) -> tuple[str, ...]:
    """Conditions in a stable order, each once."""
    return tuple(dict.fromkeys(conditions))
