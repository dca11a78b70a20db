"""What a principal may do: the sum of its policies, less what is denied, within its boundary.

A first cut, cautious on both sides: a right is claimed where some request would be allowed; a Deny takes it away where
it certainly covers the request; what depends on the request stays a condition. Organisation policies, session policies
and resource policies other than trust are not seen (the connector says so).

Spec: IAM User Guide, "Policy evaluation logic".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.patterns import covers, meets
from remit.inventory.connectors.aws.policy import Policy, Statement

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """An action (or pattern of actions) that is allowed on a resource pattern: why, and under which conditions."""

    why: str
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """A statement with the policy that it is from, policy variables filled in."""

    statement: Statement
    label: str
    open: tuple[str, ...]
    """Variables that only a request could fill in."""


class Permissions:
    """The effective permissions of one principal."""

    def __init__(self, account: Account, principal: Principal, *, joining: tuple[Policy, ...] = ()) -> None:
        self.principal = principal
        policies = list(principal.policies)
        for name in principal.groups:
            group = account.groups.get(name)
            policies.extend(group.policies if group else ())
        policies.extend(joining)
        self.context = _context(account, principal)
        said = [self._fill(s, policy.label) for policy in policies for s in policy.statements]
        self.allows = [entry for entry in said if entry.statement.allow]
        boundary = principal.boundary
        self.bounds = [self._fill(s, f"boundary {boundary.label}") for s in boundary.statements] if boundary else None
        self.denies = [entry for entry in said if not entry.statement.allow]
        self.denies += [entry for entry in self.bounds or () if not entry.statement.allow]
        self._about: dict[str, list[Said]] = {}

    def _fill(self, statement: Statement, label: str) -> Said:
        left: dict[str, None] = {}

        def value(match: re.Match[str]) -> str:
            key = match[1].partition(",")[0].strip().lower()
            if key in ("*", "?", "$"):
                return key
            if key not in self.context:
                left[f"depends on {match[0]}"] = None
            return self.context.get(key, "*")

        resources = tuple(_VARIABLE.sub(value, resource) for resource in statement.resources)
        return Said(replace(statement, resources=resources), label, tuple(left))

    def _allowing(self, action: str) -> list[Said]:
        """The statements that allow something that `action` (lower case) matches, remembered: many ask for the same."""
        found = self._about.get(action)
        if found is None:
            found = self._about[action] = [entry for entry in self.allows if entry.statement.meets_action(action)]
        return found

    def may(
        self, action: str, resource: str, known: Mapping[str, str] | None = None, *, whole: bool = False
    ) -> Right | None:
        """Tell whether some request for `action` on something that `resource` matches would be allowed.

        `known` are context keys of that request beyond those of the principal. With `whole`, one statement must allow
        it on everything that `resource` matches, and no denial may be about any of it.
        """
        lowered, context = action.lower(), {**self.context, **(known or {})}
        best: Right | None = None
        if whole and any(
            d.statement.meets_action(lowered) and d.statement.meets_resource(resource) for d in self.denies
        ):
            return None
        for entry in self._allowing(lowered):
            if whole and not entry.statement.covers_resource(resource):
                continue
            right = self._allowed(entry, lowered, resource, context)
            if right is not None and (best is None or len(right.conditions) < len(best.conditions)):
                best = right
                if not best.conditions:
                    break
        return best

    def _allowed(self, entry: Said, action: str, resource: str, context: Mapping[str, str]) -> Right | None:
        statement = entry.statement
        if not statement.meets_resource(resource):
            return None
        open_tests = remaining(statement.conditions, context)
        if open_tests is None:
            return None
        possible = (self.limits(action, asked, context) for asked in _shared(resource, statement))
        limits = min((found for found in possible if found is not None), key=len, default=None)
        if limits is None:
            return None
        return Right(why=entry.label, conditions=tuple(dict.fromkeys((*entry.open, *open_tests, *limits))))

    def limits(
        self, action: str, resource: str, context: Mapping[str, str] | None = None, *, bounded: bool = True
    ) -> tuple[str, ...] | None:
        """The conditions that denials and the boundary set; `None` where they certainly refuse."""
        context = self.context if context is None else context
        found: list[str] = []
        for entry in self.denies:
            statement = entry.statement
            if not (statement.covers_action(action) and statement.covers_resource(resource)):
                continue
            open_tests = remaining(statement.conditions, context)
            if open_tests is None:
                continue
            if not open_tests and not entry.open:
                return None
            found.append(f"unless {' and '.join((*open_tests, *entry.open))} ({entry.label} denies)")
        if bounded and self.bounds is not None:
            within = self._within(action, resource, context)
            if within is None:
                return None
            found.extend(within)
        return tuple(found)

    def _within(self, action: str, resource: str, context: Mapping[str, str]) -> tuple[str, ...] | None:
        best: tuple[str, ...] | None = None
        for entry in self.bounds or ():
            statement = entry.statement
            if not statement.allow or not statement.meets_action(action) or not statement.meets_resource(resource):
                continue
            open_tests = remaining(statement.conditions, context)
            if open_tests is None:
                continue
            found = (*open_tests, *entry.open)
            if not (statement.covers_action(action) and statement.covers_resource(resource)):
                found = (*found, f"within {entry.label}")
            if best is None or len(found) < len(best):
                best = found
        return best

    @property
    def admin(self) -> Right | None:
        """The right to everything: `*` on `*` of one statement, not denied, not bounded."""
        for entry in self.allows:
            statement = entry.statement
            if not (statement.covers_action("*") and statement.covers_resource("*")):
                continue
            open_tests = remaining(statement.conditions, self.context)
            limits, lists = self.limits("*", "*"), self._allow_lists()
            if self.bounds is not None and not any(
                b.statement.allow and b.statement.covers_action("*") and b.statement.covers_resource("*")
                for b in self.bounds
            ):
                return None
            if open_tests is not None and limits is not None and lists is not None:
                return Right(why=entry.label, conditions=(*entry.open, *open_tests, *limits, *lists))
        return None

    def _allow_lists(self) -> tuple[str, ...] | None:
        """The conditions of denials of everything but a list of actions; `None` where one holds always."""
        found = []
        for entry in self.denies:
            if not entry.statement.not_actions:
                continue
            open_tests = remaining(entry.statement.conditions, self.context)
            if open_tests == () and not entry.open:
                return None
            if open_tests is not None:
                found.append(f"unless {' and '.join((*open_tests, *entry.open))} ({entry.label} denies the rest)")
        return tuple(found)


def _shared(resource: str, statement: Statement) -> list[str]:
    """What a question and a statement have in common: the statement's patterns inside the question, or the question."""
    if statement.not_resources:
        return [resource]
    inside = [pattern for pattern in statement.resources if covers(resource, pattern)]
    wider = any(pattern not in inside and meets(pattern, resource) for pattern in statement.resources)
    return [*inside, resource] if wider or not inside else inside


def _context(account: Account, principal: Principal) -> dict[str, str]:
    """The global condition keys that a principal carries into each request."""
    known = {
        "aws:principalaccount": account.id,
        "aws:principaltype": "User" if principal.kind == "user" else "AssumedRole",
        "aws:principalarn": principal.arn,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "false",
        "aws:viaawsservice": "false",
    }
    if principal.kind == "user":
        known["aws:username"] = principal.name
    known.update((f"aws:principaltag/{key.lower()}", value) for key, value in principal.tags.items())
    return known
