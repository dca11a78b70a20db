"""Policy text read into one record for each policy.

The text is cut into statements by its own small scanner (strings and comments respected), because cedarpy's JSON
conversion is super-linear in the number of policies, and because a statement's line is what a person looks for:
cedarpy's messages carry no position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from remit.access.model import Effect
from remit.kernel.errors import Rejected

MAX_TEXT_BYTES = 8 << 20
MAX_POLICIES = 20_000
MAX_NESTING = 250
"""Brackets within brackets, `if` within `if`. The engine's parser recurses: deeper text would end the whole process."""
MAX_OPERATORS = 2000
"""One after another in a policy's tree, from its root to a leaf."""

_TOKEN = re.compile(r'//[^\n\r]*|"(?:\\.|[^"\\])*"|;', re.DOTALL)
_ANNOTATIONS = re.compile(r'(?:\s*@\w+(?:\s*\(\s*"(?:\\.|[^"\\])*"\s*\))?(?:\s|//[^\n]*\n)*)*')
_NESTING = re.compile(r'//[^\n\r]*|"(?:\\.|[^"\\])*"|[(\[{]|[)\]}]|,|&&|\|\||[-+*.!]|\bif\b', re.DOTALL)
_SLOT = re.compile(r'//[^\n\r]*|"(?:\\.|[^"\\])*"|\?principal\b|\?resource\b', re.DOTALL)
_TYPE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)*")
_BLANK = re.compile(r"(?:[^\S\x1c-\x1f]|//[^\n\r]*)*")
"""White space and comments, as Cedar has them: a comment ends with either end of a line, and U+001C is no blank."""
_HEAD = re.compile(r'//[^\n\r]*|"(?:\\.|[^"\\])*"|@\s*\w+|[(\[\])]|\b(?:when|unless)\b', re.DOTALL)
_NAMED_ENTITY = re.compile(r'\{"type":("(?:\\.|[^"\\])*"),"id":("(?:\\.|[^"\\])*")\}')
"""Each entity of a policy's JSON form; inside a string of it every quote is escaped, so that none is found there."""
UNREAD = "unread"
"""The operator of conditions that are deeper than JSON is read here."""
_NAMED = re.compile(r"`([^`]+)`|: (\S+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySource:
    """One policy as it was written. `est` is Cedar's JSON form of it."""

    id: str
    effect: Effect
    annotations: Mapping[str, str]
    text: str
    line: int
    """Where the statement begins in its file, counted from 1."""
    est: Mapping[str, Any] = field(repr=False)
    ordinal: int = 0
    """Which statement of its text it is, templates counted: Cedar's own `policy<ordinal>`."""
    slots: frozenset[str] = frozenset()
    """`?principal`, `?resource`: what a template leaves open. Only a link of it decides anything."""

    @property
    def reason(self) -> str:
        """What a person should read: `@reason`, or the statement's first line after its annotations."""
        first = _ANNOTATIONS.sub("", self.text, count=1).splitlines()[0]
        return self.annotations.get("reason") or first[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyProblem:
    """Something is wrong with a policy, or worth a second look."""

    code: str
    line: int
    policy: str
    """The policy's id, or empty where it has none yet."""
    message: str
    next_step: str = ""
    error: bool = True
    """False for advice: the policy can be activated all the same."""

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", policy `{self.policy}`" if self.policy else "")
        return f"{where}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateLink:
    """A template with its slots filled: a policy of its own."""

    template: str
    """The id of the template."""
    id: str
    values: Mapping[str, tuple[str, str]]
    """The entity, as type and id, for each slot."""


def read_policies(text: str) -> tuple[PolicySource, ...]:
    """Parse `text`; ids are `@id` where there is one, else `policy0`, `policy1`, … by position.

    Raises `Rejected` (`access.policy.<what>` of the first problem) when anything is wrong; `scan` lists all of it.
    """
    sources, problems = scan(text)
    if problems:
        first = problems[0]
        raise Rejected(first.code, str(first), next_step=first.next_step)
    return sources


def read_templates(text: str, *, positional: bool = False) -> tuple[tuple[PolicySource, ...], tuple[PolicySource, ...]]:
    """As `read_policies`, with the templates apart: policies, and templates.

    With `positional` every id is `policy<ordinal>`, whatever an `@id` says, which may then be there twice.
    """
    found, problems = scan(text, templates=True, positional=positional)
    if problems:
        first = problems[0]
        raise Rejected(first.code, str(first), next_step=first.next_step)
    return tuple(one for one in found if not one.slots), tuple(one for one in found if one.slots)


def link_templates(templates: Sequence[PolicySource], links: Sequence[TemplateLink]) -> tuple[PolicySource, ...]:
    """The policy that each link makes. `Rejected`: `access.policy.link` (no such template, a slot without a value)."""
    known = {one.id: one for one in templates}
    made: dict[str, PolicySource] = {}
    for link in links:
        template = known.get(link.template)
        if template is None or template.slots != link.values.keys() or link.id in made:
            raise Rejected(
                "access.policy.link",
                f"`{link.id[:80]}` does not fill the slots of a template `{link.template[:80]}`, or is there twice",
                next_step="name a template of the same text, and an entity for each of its slots",
            )
        read = _read_one(_filled(template.text, link.values), template.line, template.ordinal)
        if isinstance(read, PolicyProblem):
            raise Rejected(read.code, str(read), next_step=read.next_step)
        made[link.id] = replace(read, id=link.id)
    return tuple(made.values())


def _filled(text: str, values: Mapping[str, tuple[str, str]]) -> str:
    """The statement with entities in place of its slots; strings and comments stay as they are."""

    def one(found: re.Match[str]) -> str:
        if found.group() not in values:
            return found.group()
        kind, name = values[found.group()]
        if _TYPE_NAME.fullmatch(kind) is None:
            raise Rejected("access.policy.link", f"`{kind[:80]}` is no entity type")
        return f"{kind}::{quoted(name)}"

    return _SLOT.sub(one, text)


def quoted(text: str) -> str:
    """A Cedar string literal."""
    plain = (c if c.isprintable() and c not in '"\\' else f"\\u{{{ord(c):x}}}" for c in text)
    return '"' + "".join(plain) + '"'


def scan(
    text: str, *, templates: bool = False, positional: bool = False
) -> tuple[tuple[PolicySource, ...], tuple[PolicyProblem, ...]]:
    """Parse what can be parsed, and name what cannot."""
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        return (), (_problem("too-large", 1, f"the text is larger than {MAX_TEXT_BYTES} bytes", "split it"),)
    sources: list[PolicySource] = []
    problems: list[PolicyProblem] = []
    seen: dict[str, int] = {}
    for ordinal, (line, statement) in enumerate(_statements(text)):
        if ordinal >= MAX_POLICIES:
            problems.append(_problem("too-many", line, f"there are more than {MAX_POLICIES} policies"))
            break
        found = _read_one(statement, line, ordinal)
        if positional and isinstance(found, PolicySource):
            found = replace(found, id=f"policy{ordinal}")
        if isinstance(found, PolicyProblem):
            problems.append(found)
        elif found.slots and not templates:
            message = "a policy with a slot (`?principal`, `?resource`) is a template, which decides nothing by itself"
            problems.append(_problem("template", line, message, "name the entity itself, or link it", found.id))
        elif found.id in seen:
            message = f"the id `{found.id}` is that of the policy on line {seen[found.id]} too"
            problems.append(_problem("duplicate-id", line, message, "give each policy its own `@id`", found.id))
        else:
            seen[found.id] = line
            sources.append(found)
    return tuple(sources), tuple(problems)


def _problem(what: str, line: int, message: str, next_step: str = "", policy: str = "") -> PolicyProblem:
    return PolicyProblem(code=f"access.policy.{what}", line=line, policy=policy, message=message, next_step=next_step)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with the line on which it begins; comments before it are left out."""
    start, line, counted = 0, 1, 0
    ends = [match.end() for match in _TOKEN.finditer(text) if match.group() == ";"]
    for end in (*ends, len(text)):
        blank = _BLANK.match(text, start)
        begin = blank.end() if blank else start
        if begin < end:
            line += text.count("\n", counted, begin)
            counted = begin
            yield line, text[begin:end]
        start = end


def _read_one(statement: str, line: int, ordinal: int) -> PolicySource | PolicyProblem:
    import cedarpy

    if _too_deep(statement):
        return _problem("too-deep", line, "the condition is nested too deeply", "split it into several policies")
    try:
        written = cedarpy.policies_to_json_str(statement)
        est: Mapping[str, Any] | None = _only(json.loads(written))
    except ValueError as error:
        return _syntax_problem(statement, line, str(error))
    except RecursionError:
        est = _unread(statement, written)
    if est is None:
        return _problem("too-deep", line, "the condition is nested too deeply", "split it into several policies")
    slots = frozenset(_slots(est))
    annotations = {name: value or "" for name, value in est.get("annotations", {}).items()}
    return PolicySource(
        id=annotations.get("id") or f"policy{ordinal}",
        effect=Effect(est["effect"]),
        annotations=annotations,
        text=statement,
        line=line,
        est=est,
        ordinal=ordinal,
        slots=slots,
    )


def _only(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found: list[Mapping[str, Any]] = [*document["staticPolicies"].values(), *document["templates"].values()]
    (est,) = found
    return est


def _unread(statement: str, written: str) -> Mapping[str, Any] | None:
    """A policy whose conditions are deeper than JSON is read here: its head, and the entities that it names.

    The conditions are one expression `UNREAD`, which nothing but the reference engine evaluates, from the text.
    None where the head cannot be told from the conditions.
    """
    import cedarpy

    depth = 0
    for match in _HEAD.finditer(statement):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(match.group(), 0)
        if depth == 0 and match.group() in ("when", "unless"):
            break
    else:
        return None
    try:
        head = _only(json.loads(cedarpy.policies_to_json_str(statement[: match.start()] + ";")))
    except (ValueError, RecursionError):
        return None
    named = [{"type": json.loads(kind), "id": json.loads(name)} for kind, name in _NAMED_ENTITY.findall(written)]
    body = {UNREAD: {"text": statement, "entities": named}}
    return {**head, "conditions": [{"kind": "when", "body": body}]}


def _slots(est: Mapping[str, Any]) -> Iterator[str]:
    for variable in ("principal", "resource"):
        constraint = est[variable]
        slot = constraint.get("slot") or (constraint.get("in") or {}).get("slot")
        if slot:
            yield slot


def _too_deep(statement: str) -> bool:
    """Tell whether brackets or `if` nest too deeply, or too many operators lie between the tree's root and a leaf."""
    levels, choices = [_Level()], 0
    for match in _NESTING.finditer(statement):
        token = match.group()
        if token[0] in '"/':
            continue
        if token in "([{":
            levels.append(_Level())
        elif token in ")]}":
            closed = levels.pop() if len(levels) > 1 else _Level()
            levels[-1].below = max(levels[-1].below, closed.operators + closed.below + 1)
            choices -= closed.choices
        elif token == ",":
            levels[-1].below = max(levels[-1].below, levels[-1].operators)
            choices -= levels[-1].choices
            levels[-1].operators = levels[-1].choices = 0
        else:
            levels[-1].operators += 1
            levels[-1].choices += token == "if"
            choices += token == "if"
        if len(levels) + choices > MAX_NESTING:
            return True
        if levels[-1].operators + levels[-1].below > MAX_OPERATORS:
            return True
    return False


@dataclass(slots=True)
class _Level:
    """What was met between two brackets, since the last comma: operators, and the deepest of what is bracketed."""

    operators: int = 0
    choices: int = 0
    below: int = 0


def _syntax_problem(statement: str, line: int, message: str) -> PolicyProblem:
    """The engine gives no position: the token that it names is looked for in the statement."""
    named = _NAMED.search(message)
    at = statement.find(named[1] or named[2]) if named else -1
    if at >= 0:
        line += statement.count("\n", 0, at)
    elif "end of input" in message:
        line += statement.rstrip().count("\n")
    return _problem("syntax", line, message, "see the Cedar grammar, or `remit policy check` a smaller file")
