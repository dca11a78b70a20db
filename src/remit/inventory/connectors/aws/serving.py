"""For which service a role may be used: the trust policy names the service, and nothing in it stops that.

Spec: IAM User Guide, "The confused deputy problem", "Granting a user permissions to pass a role to an AWS service".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.inventory.connectors.aws.account import Account, Principal
from remit.inventory.connectors.aws.conditions import remaining
from remit.inventory.connectors.aws.patterns import covers, meets
from remit.inventory.connectors.aws.policy import Condition, Statement
from remit.inventory.connectors.aws.variables import Value

_ASSUME: Final = "sts:assumerole"
_OF_A_SERVICE: Final[Mapping[str, Value]] = {
    "aws:principalisawsservice": "true",
    "aws:principaltype": "Service",
    "aws:securetransport": "true",
    "aws:multifactorauthpresent": (),
    "sts:externalid": (),
}


def services_of(role: Principal) -> tuple[str, ...]:
    """The services that a trust policy names."""
    return tuple(
        dict.fromkeys(value for s in role.trust if s.allow for kind, value in s.principals if kind == "Service")
    )


def serves(account: Account, role: Principal, service: str) -> tuple[str, ...] | None:
    """The conditions under which a service of the account may use the role; `None` where it may not."""
    best: tuple[str, ...] | None = None
    for statement in role.trust:
        if not _speaks(statement, service):
            continue
        tests = _tests(account, statement, service)
        if tests is None:
            continue
        if not statement.allow:
            if not tests:
                return None
            continue
        if best is None or len(tests) < len(best):
            best = tests
    return best


def _speaks(statement: Statement, service: str) -> bool:
    if not statement.covers_action(_ASSUME):
        return False
    named = any(
        (kind == "Service" and value == service) or (kind == "*" and not statement.allow)
        for kind, value in statement.principals
    )
    return named != statement.not_principals


def _tests(account: Account, statement: Statement, service: str) -> tuple[str, ...] | None:
    """A service that acts for the account says so: its number, and the ARN of what it acts for."""
    open_tests: list[str] = []
    for test in statement.conditions:
        if test.key.lower() == "aws:sourcearn":
            answer = _for_source(account, test, service)
        else:
            known: dict[str, Value] = {**_OF_A_SERVICE, "aws:sourceaccount": account.id}
            answer = remaining((test,), known)
        if answer is None:
            return None
        open_tests += answer
    return tuple(open_tests)


def _for_source(account: Account, test: Condition, service: str) -> tuple[str, ...] | None:
    operator = test.operator.lower().rpartition(":")[2].removesuffix("ifexists")
    if operator not in ("arnlike", "arnequals", "stringlike", "stringequals"):
        return (test.text,)
    short = service.partition(".")[0].removesuffix("-tasks")
    short = "apprunner" if service.endswith("apprunner.amazonaws.com") else short
    every = f"arn:{account.partition}:{short}:*:{account.id}:*"
    if any(covers(value, every) for value in test.values):
        return ()
    own = (value for value in test.values if meets(value, f"arn:{account.partition}:*:*:{account.id}:*"))
    return (test.text,) if any(own) else None
