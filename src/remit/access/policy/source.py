"""Policy text read into one record for each policy.

The text is cut into statements by its own small scanner (strings and comments respected), because cedarpy's JSON
conversion is super-linear in the number of policies, and because a statement's line is what a person looks for:
cedarpy's messages carry no position.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remit.access.model import Effect
from remit.kernel.errors import Rejected

MAX_TEXT_BYTES = 8 << 20
MAX_POLICIES = 20_000
MAX_NESTING = 100
"""Brackets within brackets. The engine's parser recurses: deep enough text would end the whole process."""
MAX_OPERATORS = 2000
"""In one policy: each may be one more level of its tree."""

_TOKEN = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|;', re.DOTALL)
_ANNOTATIONS = re.compile(r'(?:\s*@\w+(?:\s*\(\s*"(?:\\.|[^"\\])*"\s*\))?(?:\s|//[^\n]*\n)*)*')
_NESTING = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"|[(\[{]|[)\]}]|&&|\|\||[-+*.]|\bif\b', re.DOTALL)
_BLANK = re.compile(r"(?:\s|//[^\n]*(?:\n|\Z))*")
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


def read_policies(text: str) -> tuple[PolicySource, ...]:
    """Parse `text`; ids are `@id` where there is one, else `policy0`, `policy1`, … by position.

    Raises `Rejected` (`access.policy.<what>` of the first problem) when anything is wrong; `scan` lists all of it.
    """
    sources, problems = scan(text)
    if problems:
        first = problems[0]
        raise Rejected(first.code, str(first), next_step=first.next_step)
    return sources


def scan(text: str) -> tuple[tuple[PolicySource, ...], tuple[PolicyProblem, ...]]:
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
        if isinstance(found, PolicyProblem):
            problems.append(found)
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
        document = json.loads(cedarpy.policies_to_json_str(statement))
    except ValueError as error:
        return _syntax_problem(statement, line, str(error))
    except RecursionError:
        return _problem("too-deep", line, "the condition is nested too deeply", "split it into several policies")
    if document["templates"] or len(document["staticPolicies"]) != 1:
        return _problem(
            "template", line, "a policy with a slot (`?principal`, `?resource`) is a template", "name the entity itself"
        )
    (est,) = document["staticPolicies"].values()
    annotations = {name: value or "" for name, value in est.get("annotations", {}).items()}
    return PolicySource(
        id=annotations.get("id") or f"policy{ordinal}",
        effect=Effect(est["effect"]),
        annotations=annotations,
        text=statement,
        line=line,
        est=est,
    )


def _too_deep(statement: str) -> bool:
    depth, operators = 0, 0
    for match in _NESTING.finditer(statement):
        token = match.group()
        if token[0] in '"/':
            continue
        if token in ")]}":
            depth -= 1
            continue
        depth += token in "([{"
        operators += token not in "({"
        if depth > MAX_NESTING or operators > MAX_OPERATORS:
            return True
    return False


def _syntax_problem(statement: str, line: int, message: str) -> PolicyProblem:
    """The engine gives no position: the token that it names is looked for in the statement."""
    named = _NAMED.search(message)
    at = statement.find(named[1] or named[2]) if named else -1
    if at >= 0:
        line += statement.count("\n", 0, at)
    elif "end of input" in message:
        line += statement.rstrip().count("\n")
    return _problem("syntax", line, message, "see the Cedar grammar, or `remit policy check` a smaller file")
