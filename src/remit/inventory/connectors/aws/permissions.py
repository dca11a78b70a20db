"""What a principal may do: the sum of its policies and of what resources grant it, less what is denied, within what
its boundary, its session and its organisation leave.

Cautious on both sides: a right is claimed without conditions only where some request would be allowed; a denial takes
it away where it certainly covers every such request; what depends on the request stays a condition.

Spec: IAM User Guide, "Policy evaluation logic", "Permissions boundaries for IAM entities".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.context import VIA, principal_context, resource_context
from remit.inventory.connectors.aws.gates import gate, granting, owner_of
from remit.inventory.connectors.aws.patterns import meets, shared
from remit.inventory.connectors.aws.policy import Policy, Statement
from remit.inventory.connectors.aws.resource_policies import Match, ResourcePolicy, match
from remit.inventory.connectors.aws.search import PART, TOO_MANY, Budget, Layer, Said, Search
from remit.inventory.connectors.aws.variables import Known, Value, fill

if TYPE_CHECKING:
    from remit.inventory.connectors.aws.asking import Held

__all__ = ["Permissions", "Right", "Said"]
_RCP_SERVICES: Final = frozenset(
    {"s3", "sts", "kms", "sqs", "secretsmanager", "ecr", "aoss", "cognito-idp", "dynamodb"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """An action (or pattern of actions) that is allowed on a resource pattern: why, and under which conditions."""

    why: str
    conditions: tuple[str, ...] = ()


class Permissions:
    """The effective permissions of one principal."""

    def __init__(
        self,
        account: Account,
        principal: Principal,
        *,
        joining: tuple[Policy, ...] = (),
        session: tuple[Policy, ...] | None = None,
        told: Mapping[str, Value] | None = None,
    ) -> None:
        """`joining`: policies as if they were its own; `session`: those with which a session was asked for; `told`:
        context keys (lower case) that are the same in every request."""
        self.principal = principal
        self.account = account
        policies = list(principal.policies)
        for name in principal.groups:
            group = account.groups.get(name)
            policies.extend(group.policies if group else ())
        policies.extend(joining)
        self.context: dict[str, Value] = {**principal_context(account, principal), **(told or {})}
        said = [self._fill(s, policy.label) for policy in policies for s in policy.statements]
        self.allows = [entry for entry in said if entry.statement.allow]
        self.allows += self._granted()
        self.denies = [entry for entry in said if not entry.statement.allow]
        boundary = principal.boundary
        self.bounds = [self._fill(s, f"boundary {boundary.label}") for s in boundary.statements] if boundary else None
        own = [] if self.bounds is None else [("the boundary", self.bounds)]
        if session is not None:
            own.append(("the session policy", [self._fill(s, p.label) for p in session for s in p.statements]))
        above = self._above()
        for _, entries in (*own, *above):
            self.denies += [entry for entry in entries if not entry.statement.allow]
        self.denies += self._controlled(account)
        self._own = [Layer(label, _allows(entries)) for label, entries in own]
        self._layers = [Layer(label, _allows(entries)) for label, entries in above]
        self.writable: dict[str, list[tuple[str, Held]]] = {}
        """By the action that attaches: the policies that it may write and attach, once it was asked for."""
        self.attachable: dict[tuple[str, str], list[tuple[Policy, Held]]] = {}
        """By that action and the ARN to which it attaches: the policies that are there, once it was asked for."""
        self._asking_tags: list[Statement] | None = None
        self._about: dict[str, list[Said]] = {}
        self._against: dict[str, list[Said]] = {}
        closed = any(not layer.open for layer in (*self._own, *self._layers))
        # Most principals have no denial and no limit: then there is nothing to search.
        self._unlimited = not (closed or self.denies or account.held.by_arn or account.others)
        self._asks_via = any(
            condition.key.lower() in VIA
            for entry in (*self.allows, *self.denies, *(one for layer in self._own for one in layer.allows))
            for condition in entry.statement.conditions
        )

    def _above(self) -> list[tuple[str, list[Said]]]:
        """The levels of the organisation that bind it; service-linked roles are free."""
        if self.principal.path.startswith("/aws-service-role/"):
            return []
        levels = (level for level in self.account.guards.levels if level)
        return [
            ("the organisation", [self._fill(s, policy.label) for policy in level for s in policy.statements])
            for level in levels
        ]

    def _controlled(self, account: Account) -> Iterator[Said]:
        """The denials of the resource control policies of an account."""
        if not self.principal.path.startswith("/aws-service-role/"):
            for policy in account.guards.resources:
                for statement in policy.statements:
                    if not statement.allow:
                        yield replace(self._fill(statement, policy.label), of_resource=account.id)

    def _granted(self) -> Iterator[Said]:
        for policy, statement, tests, direct in self.account.held.granting(self.principal):
            entry = self._fill(statement, policy.label)
            yield replace(entry, open=(*entry.open, *tests), direct=direct, of_resource=policy.owner)

    def _fill(self, statement: Statement, label: str) -> Said:
        if statement.literal or not any("${" in resource for resource in statement.resources):
            return Said(statement, label, ())
        filled = [fill(resource, self.context) for resource in statement.resources]
        left = dict.fromkeys(text for one in filled for text in one.open)
        # What is excepted but unknown is nothing certain: the statement may be about all of it.
        kept = [one.text for one in filled if not one.void and not (statement.not_resources and one.open)]
        return Said(replace(statement, resources=tuple(kept)), label, tuple(left))

    def speaking(self) -> list[Said]:
        """Every statement that takes part, allowing or denying."""
        return [*self.allows, *self.denies, *(one for layer in (*self._own, *self._layers) for one in layer.allows)]

    def asking_tags(self, action: str) -> list[Statement]:
        """The statements about an action (lower case) that ask for tags."""
        if self._asking_tags is None:
            found = (entry.statement for entry in self.speaking())
            self._asking_tags = [s for s in found if any("tag/" in test.key.lower() for test in s.conditions)]
        return [statement for statement in self._asking_tags if statement.meets_action(action)]

    def allowing(self, action: str) -> list[Said]:
        """The statements that allow something that `action` (lower case) matches, remembered: many ask for the same."""
        found = self._about.get(action)
        if found is None:
            found = self._about[action] = [entry for entry in self.allows if entry.statement.meets_action(action)]
        return found

    def denying(self, action: str) -> list[Said]:
        """The statements that deny `action` (lower case; of a pattern, what no list names of it), remembered."""
        found = self._against.get(action)
        if found is None:
            found = self._against[action] = [entry for entry in self.denies if entry.statement.takes_action(action)]
        return found

    def may(
        self,
        action: str,
        resource: str,
        known: Mapping[str, Value] | Mapping[str, str] | None = None,
        *,
        whole: bool = False,
    ) -> Right | None:
        """Tell whether some request for `action` on something that `resource` matches would be allowed.

        `known` are context keys of that request beyond those of the principal. With `whole`, one statement must allow
        it on everything that `resource` matches, and no denial may be about any of it.
        """
        lowered = action.lower()
        entries = self.allowing(lowered)
        if not entries:
            return None
        context = self._context(lowered, resource, known)
        found = self._may(entries, lowered, resource, context, whole)
        if self._asks_via and (found is None or found.conditions):
            # A service may make the call for it: then other statements may hold, or not.
            through = {key: value for key, value in context.items() if key not in VIA}
            found = found or self._may(entries, lowered, resource, through, whole)
        return found

    def _context(self, action: str, resource: str, known: Mapping[str, Value] | Mapping[str, str] | None) -> Known:
        about: dict[str, Value] = {} if "*" in resource else resource_context(self.account, action, resource)
        return {**self.context, **about, **(known or {})} if about or known else self.context

    def _may(self, entries: Iterable[Said], action: str, resource: str, context: Known, whole: bool) -> Right | None:
        if whole and self._denied_somewhere(action, resource, context):
            return None
        best: Right | None = None
        budget = Budget()
        for entry in entries:
            if not entry.statement.meets_resource(resource):
                continue
            if budget.left < 0:
                return best or Right(why=entry.label, conditions=TOO_MANY)
            if whole:
                conditions = self._whole(entry, action, resource, context)
            else:
                search = self._search(context, entry, budget=budget)
                conditions = search.first(entry, action, resource)
                if conditions is None and search.loose and not self._refusing(action, resource, context):
                    conditions = (PART,)
            if conditions is not None and (best is None or len(conditions) < len(best.conditions)):
                best = Right(why=entry.label, conditions=tuple(dict.fromkeys(conditions)))
                if not conditions:
                    break
        return best

    def _search(
        self, context: Known, entry: Said | None, *, bounded: bool = True, budget: Budget | None = None
    ) -> Search:
        free = not bounded or (entry is not None and entry.direct)
        granted = entry is not None and bool(entry.of_resource)
        return Search(
            layers=self._layers if free else (*self._own, *self._layers),
            denies=self._denials,
            gate=lambda action, asked, known: gate(self.account, self.principal, action, asked, known, granted=granted),
            context=context,
            budget=budget or Budget(),
        )

    def _denials(self, action: str, resource: str) -> Iterator[Said]:
        """What denies an action on a resource: own policies, those above, and that of the resource itself."""
        owner = owner_of(self.account, resource)
        controlled = action.partition(":")[0] in _RCP_SERVICES
        for entry in self.denying(action):
            if not entry.of_resource or (controlled and entry.of_resource == owner):
                yield entry
        other = self.account if owner == self.account.id else self.account.others.get(owner)
        if other is None:
            return
        if controlled and other is not self.account:
            yield from self._controlled(other)
        policy = other.held.of(resource)
        for statement in policy.statements if policy else ():
            found = None if statement.allow else match(statement, self.principal, other.id)
            if policy is not None and found is not None:
                entry = self._fill(statement, policy.label)
                yield replace(entry, open=(*entry.open, *found.conditions)) if found.conditions else entry

    def _denied_somewhere(self, action: str, resource: str, context: Known) -> bool:
        return any(
            one.statement.meets_action(action)
            and one.statement.meets_resource(resource)
            and remaining(one.statement.conditions, context) is not None
            for one in self.denies
        )

    def refusing(self, action: str, resource: str, known: Mapping[str, Value] | None = None) -> tuple[str, ...]:
        """The policies of which a statement certainly denies `action` (lower case) on all that `resource` matches."""
        return tuple(self._refusing(action, resource, self._context(action, resource, known)))

    def _refusing(self, action: str, resource: str, context: Known) -> dict[str, None]:
        return dict.fromkeys(
            one.label
            for one in self._denials(action, resource)
            if one.statement.covers_action(action)
            and one.statement.covers_resource(resource)
            and not one.open
            and remaining(one.statement.conditions, context) == ()
        )

    def _whole(self, entry: Said, action: str, resource: str, context: Known) -> tuple[str, ...] | None:
        """The conditions under which one statement allows it on everything, and each layer leaves it."""
        if not (entry.statement.covers_action(action) and entry.statement.covers_resource(resource)):
            return None
        found = remaining(entry.statement.conditions, context)
        if found is None:
            return None
        search = self._search(context, entry)
        for layer in search.layers:
            within = _covering(layer, action, resource, context)
            if within is None:
                return None
            found = (*found, *within)
        rest = search.gate(action, resource, context)
        return None if rest is None else (*entry.open, *found, *rest)

    def limits(
        self, action: str, resource: str, context: Known | None = None, *, bounded: bool = True
    ) -> tuple[str, ...] | None:
        """The conditions that denials, the organisation and (`bounded`) the boundary set; `None` where they refuse."""
        context = self.context if context is None else context
        if self._unlimited:
            return gate(self.account, self.principal, action, resource, context, granted=False)
        search = self._search(context, None, bounded=bounded)
        found = search.first(None, action, resource)
        if found is None and search.loose and not self._refusing(action, resource, context):
            return (PART,)
        return None if found is None else tuple(dict.fromkeys(found))

    def narrowed(self, entry: Said, action: str, pattern: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """What boundary and organisation leave of an action (as written) on a resource pattern that `entry` allows;
        of a resource of another account, what its policy lets in."""
        parts: dict[tuple[str, str], tuple[str, ...]] = {(action, pattern): ()}
        across = (
            granting(self.account, self.principal, pattern) if self.account.others and not entry.of_resource else []
        )
        for layer in (*(() if entry.direct else self._own), *self._layers, *self._let_in(across)):
            if layer.open:
                continue
            left: dict[tuple[str, str], tuple[str, ...]] = {}
            for (asked, place), held in parts.items():
                for part, tests in _within(layer, asked, place, self.context):
                    conditions = tuple(dict.fromkeys((*held, *tests)))
                    if part not in left or len(conditions) < len(left[part]):
                        left[part] = conditions
            parts = left
        for (asked, place), conditions in parts.items():
            yield asked, place, conditions

    def _let_in(self, across: list[tuple[ResourcePolicy, Statement, Match]]) -> Iterator[Layer]:
        entries = [(self._fill(statement, policy.label), found) for policy, statement, found in across]
        if entries:
            said = [replace(entry, open=(*entry.open, *found.conditions)) for entry, found in entries]
            yield Layer("the policy of the resource", said)

    @property
    def admin(self) -> Right | None:
        """The right to everything: `*` on `*` of one statement, not denied, not bounded."""
        for entry in self.allows:
            statement = entry.statement
            if not (statement.covers_action("*") and statement.covers_resource("*")):
                continue
            open_tests = remaining(statement.conditions, self.context)
            limits, lists = self.limits("*", "*"), self._allow_lists()
            within = [_covering(layer, "*", "*", self.context) for layer in (*self._own, *self._layers)]
            if open_tests is not None and limits is not None and lists is not None and None not in within:
                held = (*entry.open, *open_tests, *limits, *lists, *(text for one in within for text in one or ()))
                return Right(why=entry.label, conditions=tuple(dict.fromkeys(held)))
        return None

    def _allow_lists(self) -> tuple[str, ...] | None:
        """The conditions of denials of everything but a list of actions; `None` where one holds always."""
        found = []
        for entry in self.denies:
            if not entry.statement.not_actions or entry.of_resource:
                continue
            open_tests = remaining(entry.statement.conditions, self.context)
            if open_tests == () and not entry.open:
                return None
            if open_tests is not None:
                found.append(f"unless {' and '.join((*open_tests, *entry.open))} ({entry.label} denies the rest)")
        return tuple(found)


def _allows(entries: Iterable[Said]) -> list[Said]:
    return [entry for entry in entries if entry.statement.allow]


def _covering(layer: Layer, action: str, resource: str, context: Known) -> tuple[str, ...] | None:
    """The fewest conditions under which one statement of a layer allows all of it; `None` where none does."""
    best: tuple[str, ...] | None = () if layer.open else None
    for entry in layer.allows if best is None else ():
        statement = entry.statement
        if statement.covers_action(action) and statement.covers_resource(resource):
            tests = remaining(statement.conditions, context)
            if tests is not None and (best is None or len(tests) + len(entry.open) < len(best)):
                best = (*tests, *entry.open)
    return best


def _within(
    layer: Layer, action: str, pattern: str, context: Known
) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    """The parts that a layer leaves: the intersection with each of its statements."""
    lowered = action.lower()
    for entry in layer.allows:
        statement = entry.statement
        tests = remaining(statement.conditions, context)
        if tests is None or not statement.meets_action(lowered) or not statement.meets_resource(pattern):
            continue
        actions = [action] if statement.not_actions else _kept(statement.actions, lowered, action)
        places = [pattern] if statement.not_resources else _kept(statement.resources, pattern, pattern)
        for part in product(actions, places):
            yield part, (*tests, *entry.open)


def _kept(patterns: Iterable[str], asked: str, shown: str) -> list[str]:
    found = dict.fromkeys(both[0] for one in patterns if meets(one, asked) and (both := shared(asked, one)))
    return [shown if one == asked else one for one in found]
