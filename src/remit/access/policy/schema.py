"""The Cedar schema: what a policy can say about identities, resources, actions and context.

It is generated from one `Vocabulary`, which is also what decides how facts and claims are typed, so that a policy
that passes the schema meets exactly the values that the schema promises.

*Names.* An entity's id is the registry's id. Each other name of it (SPIFFE ID, URN) is an ancestor, so
`principal in Remit::Identity::"spiffe://…"` holds by any name; `==` holds by the id alone.

*Claims.* What a caller says about itself comes under `context.claimed`. A claim is seen by policies if the vocabulary
declares it and its value has the declared type; anything else is left out, as if the caller had not said it: it
could have kept silent as well. Properties of subject and resource come as `subject_<name>` and `resource_<name>`.
Nothing claimed is ever seen outside `context.claimed`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from remit.kernel.errors import Misconfigured

IDENTITY, RESOURCE, ACTION = "Remit::Identity", "Remit::Resource", "Remit::Action"

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "lease": ("lease:issue", "lease:renew"),
    "grant": ("grant:request", "grant:use"),
    "svid": ("svid:x509", "svid:jwt", "svid:ssh"),
    "token": ("token:issue", "token:exchange", "token:introspect"),
    "tool": ("tool:list", "tool:call"),
    "secret": ("secret:read", "secret:rotate"),
    "data": ("read", "list", "write", "delete", "connect", "execute"),
}
"""Groups of actions → their members. A group is an action too: asking for `lease` is asking for any lease."""


class Kind(StrEnum):
    """The Cedar type of a fact."""

    BOOL = "Bool"
    LONG = "Long"
    STRING = "String"
    STRINGS = "Set<String>"
    IP = "ipaddr"
    DATETIME = "datetime"


IDENTITY_ATTRIBUTES: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "kind": Kind.STRING,
    "state": Kind.STRING,
    "owner?": Kind.STRING,
    "owner_active": Kind.BOOL,
    "tier": Kind.LONG,
    "environment?": Kind.STRING,
    "service?": Kind.STRING,
    "purpose?": Kind.STRING,
    "autonomy?": Kind.STRING,
    "system?": Kind.STRING,
    "privileged": Kind.BOOL,
    "quarantined": Kind.BOOL,
    "risk": Kind.LONG,
    "blast_radius": Kind.LONG,
    "partner?": Kind.STRING,
    "partner_id?": Kind.STRING,
}
RESOURCE_ATTRIBUTES: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "kind": Kind.STRING,
    "known": Kind.BOOL,
    "system?": Kind.STRING,
    "sensitivity": Kind.STRING,
    "environment?": Kind.STRING,
    "owner?": Kind.STRING,
}
PROVEN: Mapping[str, Kind] = {
    "attested": Kind.BOOL,
    "attestation_method": Kind.STRING,
    "attested_at": Kind.LONG,
    "attestation_age": Kind.LONG,
    "step_up_at": Kind.LONG,
    "selectors": Kind.STRINGS,
    "sha256": Kind.STRING,
    "grant": Kind.STRING,
    "grant_digest": Kind.STRING,
    "lease": Kind.STRING,
    "credential": Kind.STRING,
    "task": Kind.STRING,
    "task_digest": Kind.STRING,
    "role": Kind.STRING,
    "database": Kind.STRING,
    "target": Kind.STRING,
    "node": Kind.STRING,
    "source_address": Kind.IP,
    "user": Kind.STRING,
    "device": Kind.STRING,
    "application": Kind.STRING,
    "location": Kind.STRING,
    "destination": Kind.STRING,
    "environment": Kind.STRING,
    "scope": Kind.STRING,
    "client": Kind.STRING,
    "sender_constraint": Kind.STRING,
    "actors": Kind.STRINGS,
    "on_behalf_of": Kind.STRING,
    "intent": Kind.STRING,
    "tool": Kind.STRING,
    "data_label": Kind.STRING,
    "argument_origins": Kind.STRINGS,
    "tainted": Kind.BOOL,
    "authorization_type": Kind.STRING,
    "authorization_actions": Kind.STRINGS,
    "authorization_locations": Kind.STRINGS,
}
"""What an enforcement point may derive from proof; `attestation_age` is the decision point's own arithmetic."""

CLAIMS: Mapping[str, Kind] = {
    "purpose": Kind.STRING,
    "reason": Kind.STRING,
    "task": Kind.STRING,
    "intent": Kind.STRING,
    "ticket": Kind.STRING,
    "user": Kind.STRING,
    "device": Kind.STRING,
    "application": Kind.STRING,
    "location": Kind.STRING,
    "destination": Kind.STRING,
    "environment": Kind.STRING,
    "tool": Kind.STRING,
    "operation": Kind.STRING,
    "method": Kind.STRING,
    "path": Kind.STRING,
    "data_class": Kind.STRING,
    "data_classes": Kind.STRINGS,
    "amount": Kind.LONG,
    "rows": Kind.LONG,
    "interactive": Kind.BOOL,
    "subject_role": Kind.STRING,
    "resource_status": Kind.STRING,
    "resource_owner": Kind.STRING,
}

_ALWAYS = frozenset({"attested", "selectors"})
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ACTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words of the policies of one installation."""

    actions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ACTIONS)
    claims: Mapping[str, Kind] = field(default_factory=lambda: CLAIMS)

    def __post_init__(self) -> None:
        names = {*self.actions, *(member for members in self.actions.values() for member in members)}
        wrong = [name for name in names if not is_action_name(name)]
        wrong += [name for name in self.claims if not _WORD.fullmatch(name)]
        if wrong:
            raise Misconfigured(
                "access.policy.vocabulary",
                f"`{wrong[0]}` can name neither an action nor a claim",
                next_step="use letters, digits and `_`; in actions also `.`, `:`, `/` and `-`",
            )

    def with_claims(self, claims: Mapping[str, Kind]) -> Vocabulary:
        """The same vocabulary with more claims declared."""
        return Vocabulary(actions=self.actions, claims={**self.claims, **claims})

    def groups_of(self, action: str) -> tuple[str, ...]:
        """The groups of which `action` is a member; none for an action that the vocabulary does not know."""
        return tuple(group for group, members in self.actions.items() if action in members)

    def known_actions(self) -> frozenset[str]:
        """Groups and members."""
        return frozenset(self.actions) | {member for members in self.actions.values() for member in members}

    def schema(self, generic_actions: Iterable[str] = ()) -> str:
        """The schema as Cedar text; `generic_actions` are declared by name, in no group."""
        lines = ["namespace Remit {", "  type Claims = {", *_fields(_optional(self.claims)), "  };"]
        lines += ["  type Context = {", *_fields(_context()), "    claimed: Claims,", "  };"]
        lines += ["  entity Identity in [Identity] = {", *_fields(IDENTITY_ATTRIBUTES), "  } tags String;"]
        lines += ["  entity Resource in [Resource] = {", *_fields(RESOURCE_ATTRIBUTES), "  } tags String;"]
        applies = "appliesTo { principal: [Identity], resource: [Resource], context: Context }"
        for name in sorted({*self.known_actions(), *generic_actions}):
            groups = ", ".join(f'"{group}"' for group in self.groups_of(name))
            lines.append(f'  action "{name}"' + (f" in [{groups}]" if groups else "") + f" {applies};")
        return "\n".join((*lines, "}", ""))


def is_action_name(name: str) -> bool:
    """Tell whether an action may be called so: it becomes part of schema text."""
    return _ACTION_NAME.fullmatch(name) is not None


def context_kinds() -> Mapping[str, Kind]:
    """The facts of every context but `claimed`, by name; with `?` where a request may lack it."""
    return _context()


def _context() -> dict[str, Kind]:
    proven = {name if name in _ALWAYS else f"{name}?": kind for name, kind in PROVEN.items()}
    return {**proven, "exception": Kind.BOOL, "exceptions": Kind.STRINGS, "time": Kind.DATETIME}


def _optional(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    return {f"{name}?": kind for name, kind in kinds.items()}


def _fields(kinds: Mapping[str, Kind]) -> Iterator[str]:
    for name, kind in kinds.items():
        yield f"    {name}: {_TYPES[kind]},"


_TYPES: Mapping[Kind, str] = {
    Kind.BOOL: "__cedar::Bool",
    Kind.LONG: "__cedar::Long",
    Kind.STRING: "__cedar::String",
    Kind.STRINGS: "Set<__cedar::String>",
    Kind.IP: "__cedar::ipaddr",
    Kind.DATETIME: "__cedar::datetime",
}


def actions_named(est: Any) -> Iterator[str]:
    """Every action that a policy's JSON names."""
    waiting = [est]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.keys() == {"type", "id"} and node["type"] == ACTION and isinstance(node["id"], str):
                yield node["id"]
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


STANDARD = Vocabulary()
