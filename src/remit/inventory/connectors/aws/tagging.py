"""Tags as a way in: what a right asks of a tag is met by whoever may write the tag first.

Spec: IAM User Guide, "Controlling access to AWS resources using tags", "Passing session tags in AWS STS".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from remit.inventory.connectors.aws.account import Principal
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.policy import Condition, Statement
from remit.inventory.connectors.aws.variables import Known, Value, fill

Tags: TypeAlias = Mapping[str, str]
"""Tags to be written; an empty value stands for a tag to be taken away."""
OF_RESOURCES: Final = ("aws:resourcetag/", "iam:resourcetag/")
OF_PRINCIPALS: Final = ("aws:principaltag/",)
OF_REQUESTS: Final = ("aws:requesttag/",)
_ANY: Final = "x0"
"""A value of which no policy speaks."""
_MAX_WANTED: Final = 8
_MAX_STATEMENTS: Final = 2_000
_OWN: Final = re.compile(r"\$\{(?:aws|iam):(principaltag|resourcetag)/([^},]+)\}", re.IGNORECASE)
_EQUAL: Final = ("stringequals", "stringequalsignorecase", "stringlike", "arnlike", "arnequals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """Tags that may be written: what is known after, and what it takes."""

    known: Mapping[str, Value]
    right: Right
    asked: tuple[tuple[str, str, str], ...]


def wanted(statements: Iterable[Statement], heads: tuple[str, ...], context: Known) -> list[Tags]:
    """The tags that statements ask for, each statement's by themselves and then all at once; `_MAX_WANTED` at most."""
    found: dict[tuple[tuple[str, str], ...], None] = {}
    for statement in islice(statements, _MAX_STATEMENTS):
        for tags in _of_statement(statement, heads, context):
            found[tuple(sorted(tags.items()))] = None
    single: list[Tags] = [dict(pairs) for pairs in islice(found, _MAX_WANTED)]
    if len(single) < 2:
        return single
    merged: dict[str, str] = {}
    for one in single:
        merged = {**one, **merged}
    return [*single, merged]


def _of_statement(statement: Statement, heads: tuple[str, ...], context: Known) -> Iterator[dict[str, str]]:
    """Of an Allow all its tests must hold; of a Deny it is enough that one does not."""
    tests = [(key, test) for test in statement.conditions if (key := _key(test, heads)) is not None]
    values = [(key, _meeting(test, context, hold=statement.allow)) for key, test in tests]
    if not statement.allow:
        for key, value in values:
            if value is not None:
                yield {key: value}
            if value == _ANY:
                yield {key: ""}
    elif values and all(value is not None for _, value in values):
        yield {key: value for key, value in values if value is not None}


def alike(statements: Iterable[Statement], other: Principal) -> list[Tags]:
    """Where a tag of what is asked for must be one's own: the value that the other principal has."""
    found: dict[tuple[str, str], None] = {}
    has = {key.lower(): value for key, value in other.tags.items()}
    for statement in statements:
        for test in statement.conditions:
            of_other, of_self = _key(test, OF_RESOURCES), _key(test, OF_PRINCIPALS)
            for value in test.values:
                own = _OWN.fullmatch(value.strip())
                if own is None:
                    continue
                if of_other is not None and own[1].lower() == "principaltag" and of_other.lower() in has:
                    found[(own[2], has[of_other.lower()])] = None
                elif of_self is not None and own[1].lower() == "resourcetag" and own[2].lower() in has:
                    found[(of_self, has[own[2].lower()])] = None
    return [{key: value} for key, value in found]


def _key(test: Condition, heads: tuple[str, ...]) -> str | None:
    lowered = test.key.lower()
    return next((test.key[len(head) :] for head in heads if lowered.startswith(head)), None)


def _meeting(test: Condition, context: Known, *, hold: bool) -> str | None:
    """A value of the tag with which a test holds, or does not; empty for no tag, `None` where none is known."""
    operator = test.operator.lower().rpartition(":")[2].removesuffix("ifexists")
    if operator == "null":
        return "" if test.values and (test.values[0].lower() == "true") == hold else _ANY
    negated = "not" in operator
    if operator.replace("not", "") not in _EQUAL:
        return None
    if negated == hold:
        return _ANY
    for value in test.values:
        filled = fill(value, {} if test.literal else context)
        if not (filled.open or filled.void):
            return filled.text.replace("*", _ANY).replace("?", _ANY[0])
    return None


def after(known: Known, heads: tuple[str, ...], tags: Tags) -> dict[str, Value]:
    """What is known once the tags are written."""
    absent: Value = ()
    return {**known, **{f"{head}{key.lower()}": value or absent for head in heads for key, value in tags.items()}}


def may_tag(permissions: Permissions, target: Principal) -> bool:
    """Tell whether any statement lets it write or take away the tags of a user or role."""
    kind = target.kind
    if kind == "role" and target.path.startswith(("/aws-service-role/", "/aws-reserved/")):
        return False  # AWS itself keeps it
    return bool(permissions.allowing(f"iam:tag{kind}") or permissions.allowing(f"iam:untag{kind}"))


def tagging(permissions: Permissions, target: Principal, tags: Tags) -> Tagged | None:
    """Whether these tags of a user or role may be written (and those without a value taken away)."""
    kind = target.kind.capitalize()
    given = {key: value for key, value in tags.items() if value and target.tags.get(key) != value}
    gone = [key for key, value in tags.items() if not value and key in target.tags]
    whys: list[str] = []
    conditions: list[str] = []
    asked: list[tuple[str, str, str]] = []
    requests: list[tuple[str, dict[str, Value]]] = []
    if given:
        values: dict[str, Value] = {f"aws:requesttag/{key.lower()}": value for key, value in given.items()}
        requests.append((f"iam:Tag{kind}", {"aws:tagkeys": tuple(given), "aws:requesttag/*": (), **values}))
    if gone:
        requests.append((f"iam:Untag{kind}", {"aws:tagkeys": tuple(gone)}))
    for action, known in requests:
        right = permissions.may(action, target.arn, known)
        if right is None:
            return None
        whys.append(f"{right.why} ({action})")
        conditions += right.conditions
        asked.append((action, target.arn, right.why))
    if not requests:
        return None
    right = Right(why=", ".join(dict.fromkeys(whys)), conditions=tuple(dict.fromkeys(conditions)))
    return Tagged(known=after({}, OF_RESOURCES, tags), right=right, asked=tuple(asked))


def retagged(
    permissions: Permissions, action: str, target: Principal, more: Iterable[Statement] = ()
) -> Iterator[Tagged]:
    """The tags of a user or role that statements about an action (and `more`) ask for, as far as it may write them."""
    if not may_tag(permissions, target) or action.lower().startswith(("iam:tag", "iam:untag")):
        return
    for tags in wanted((*permissions.asking_tags(action.lower()), *more), OF_RESOURCES, permissions.context):
        found = tagging(permissions, target, tags)
        if found is not None:
            yield found
