"""Questions about several actions at once: are they all allowed, on one and the same thing where they are about one?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final

from remit.inventory.connectors.aws.account import Account
from remit.inventory.connectors.aws.catalogue import ON
from remit.inventory.connectors.aws.patterns import shared
from remit.inventory.connectors.aws.permissions import Permissions, Right
from remit.inventory.connectors.aws.tagging import retagged
from remit.inventory.connectors.aws.variables import Value

NOTHING: Final = "-"
"""The resource of an action that takes none: only `*` covers it."""
_CHOSEN: Final = re.compile(
    r"(?:unless )?(?:String|Arn)\w+ (aws:RequestedRegion|ec2:InstanceType) = (?:(?! and |; ).)*", re.IGNORECASE
)
_MAX_SHARED: Final = 64
_COLONS: Final = 5
_REGION_AT: Final = 3
_REGION: Final = "us-east-1"
_NAME: Final = "x0"
"""The name of a thing of which no policy speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Actions that are all allowed: why, under which conditions, and what each was asked on."""

    why: str
    conditions: tuple[str, ...] = ()
    asked: tuple[tuple[str, str, str], ...] = ()
    """(action, resource, the words of the statement that allows it)."""


def spoken_of(permissions: Permissions) -> frozenset[str] | None:
    """The services of which its statements allow something; `None` where one may be about any."""
    found: set[str] = set()
    for entry in permissions.allows:
        if entry.statement.not_actions:
            return None
        for action in entry.statement.actions:
            service = action.partition(":")[0]
            if "*" in service or "?" in service:
                return None
            found.add(service)
    return frozenset(found)


def may_speak(spoken: frozenset[str] | None, actions: Iterable[str]) -> bool:
    """Tell whether statements may be about all of the actions: what is quickly ruled out need not be asked."""
    return spoken is None or all(action.partition(":")[0] in spoken for action in actions)


def place_of(account: Account, template: str) -> str:
    """`lambda:function:*` → the ARN pattern of the account; `ssm::document/x` → that of any account."""
    service, _, rest = template.partition(":")
    if rest.startswith(":"):
        return f"arn:{account.partition}:{service}:*:*:{rest[1:]}"
    return f"arn:{account.partition}:{service}:{'' if service == 'iam' else '*'}:{account.id}:{rest}"


def asked_on(account: Account, action: str) -> tuple[str, ...]:
    """What an action is asked on."""
    return tuple(place_of(account, template) for template in ON.get(action, ())) or (NOTHING,)


def held_all(
    account: Account, permissions: Permissions, actions: Iterable[str], thing: str = "", exact: str = ""
) -> Held | None:
    """Whether all actions are allowed; those on one pattern on something that all of them name.

    `exact`, where given, is the thing itself, in place of the pattern `thing`.
    """
    groups: dict[str, list[str]] = {}
    for action in actions:
        for place in asked_on(account, action):
            groups.setdefault(exact if exact and place == thing else place, []).append(action)
    found: list[Held] = []
    for place, group in groups.items():
        if place == NOTHING:
            held = join(ask(permissions, action, NOTHING) for action in group)
        else:
            held = together(permissions, group, place)
        if held is None:
            return None
        found.append(held)
    return join(found)


def ask(permissions: Permissions, action: str, resource: str, **known: str | tuple[str, ...]) -> Held | None:
    """One action on one resource; `known` are condition keys with `__` for `:`."""
    given: dict[str, Value] = {key.replace("__", ":"): value for key, value in known.items()}
    everywhere = action.startswith("iam:")
    if everywhere:
        given["aws:requestedregion"] = _REGION  # IAM has this one region
    right = permissions.may(action, resource, given)
    if right is not None and right.conditions and not everywhere:
        right = replace(right, conditions=not_chosen(right.conditions))
    if everywhere and (right is None or right.conditions):
        return with_tags(permissions, action, resource, given, right)
    return held_of(action, resource, right)


def with_tags(
    permissions: Permissions, action: str, resource: str, known: Mapping[str, Value], right: Right | None
) -> Held | None:
    """A right to a user or role, or the same once its tags were written, where that takes fewer conditions."""
    best = held_of(action, resource, right)
    target = permissions.account.by_arn(resource) if "*" not in resource else None
    for tagged in retagged(permissions, action, target) if target is not None else ():
        other = permissions.may(action, resource, {**known, **tagged.known})
        if other is None:
            continue
        conditions = tuple(dict.fromkeys((*tagged.right.conditions, *other.conditions)))
        if best is None or len(conditions) < len(best.conditions):
            why = ", ".join(dict.fromkeys((other.why, tagged.right.why)))
            best = Held(why=why, conditions=conditions, asked=((action, resource, other.why), *tagged.asked))
    return best


def not_chosen(conditions: tuple[str, ...]) -> tuple[str, ...]:
    """The conditions that whoever asks cannot meet by choosing: a region, or the type of a machine, is chosen.

    Where two conditions are about the choice, they may exclude each other: both stay.
    """
    chosen = [(match[1], text) for text in conditions if (match := _CHOSEN.fullmatch(text))]
    single = {text for key, text in chosen if sum(key == other for other, _ in chosen) == 1}
    return tuple(text for text in conditions if text not in single)


def held_of(action: str, resource: str, right: Right | None) -> Held | None:
    if right is None:
        return None
    return Held(why=right.why, conditions=right.conditions, asked=((action, resource, right.why),))


def together(
    permissions: Permissions, actions: Sequence[str], place: str, **known: str | tuple[str, ...]
) -> Held | None:
    """All actions on one thing that `place` matches."""
    if any(not permissions.allowing(action.lower()) for action in actions):
        return None
    best: Held | None = None
    for thing in _things(permissions, actions, place):
        held = join(ask(permissions, action, thing, **known) for action in actions)
        if held is not None and (best is None or len(held.conditions) < len(best.conditions)):
            best = held
            if not best.conditions:
                break
    return best


def _things(permissions: Permissions, actions: Sequence[str], place: str) -> Iterator[str]:
    """Things of a place by name, one for each part that statements take of it.

    A name holds no colon, so parts of ARNs are compared one by one: a star that reaches over colons is no foreign
    account's thing.
    """
    if "*" not in place:
        yield place
        return
    found = {place: None}
    for action in actions:
        patterns = list(dict.fromkeys(_spoken(permissions, action.lower())))
        known = list(found)
        common = (both for one in known for pattern in patterns if (both := _common(one, pattern)) is not None)
        found = dict.fromkeys(islice(chain(known, common), _MAX_SHARED))
    for pattern in found:
        parts = pattern.split(":", _COLONS)
        parts[_REGION_AT] = _REGION if parts[_REGION_AT] == "*" else parts[_REGION_AT]
        yield ":".join(parts).replace("*", _NAME).replace("?", _NAME[0])


def _spoken(permissions: Permissions, action: str) -> Iterator[str]:
    """The resources of which statements about an action speak, of allowing ones and of exceptions to refusals."""
    for entry in (*permissions.allowing(action), *(permissions.bounds or ())):
        statement = entry.statement
        if statement.allow and not statement.not_resources and statement.meets_action(action):
            yield from statement.resources
    for entry in permissions.denying(action):
        if entry.statement.not_resources:
            yield from entry.statement.resources


def _common(place: str, pattern: str) -> str | None:
    """What two patterns of ARNs have in common, part by part."""
    mine, theirs = place.split(":", _COLONS), pattern.split(":", _COLONS)
    if len(mine) != len(theirs) or len(mine) <= _COLONS:
        return None
    both = [shared(one, other) for one, other in zip(mine, theirs, strict=True)]
    return ":".join(one[0] for one in both if one) if all(one is not None for one in both) else None


def join(found: Iterable[Held | None]) -> Held | None:
    """All of them as one; `None` where one is missing."""
    parts = list(found)
    held = [part for part in parts if part is not None]
    if len(held) != len(parts):
        return None
    return Held(
        why=", ".join(dict.fromkeys(part.why for part in held)),
        conditions=tuple(dict.fromkeys(condition for part in held for condition in part.conditions)),
        asked=tuple(one for part in held for one in part.asked),
    )
