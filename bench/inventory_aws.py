"""AREA=inventory: what 10,000 principals of an AWS account cost to discover, and whether it grows faster than they."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from bench.race import Row, scaled
from remit.inventory.connectors.aws import AwsConnector
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, fingerprint
from remit.inventory.model import Fact, Skipped

PRINCIPALS, FEWER = scaled(10_000, 200), scaled(2_500, 50)
_ACCOUNT = "111122223333"
_ACTIONS = (
    "s3:GetObject", "s3:*", "dynamodb:GetItem", "dynamodb:Put*", "sqs:SendMessage", "secretsmanager:GetSecretValue",
    "kms:Decrypt", "ec2:Describe*", "lambda:InvokeFunction", "sts:AssumeRole", "iam:PassRole", "logs:*",
)  # fmt: skip
_SERVICES = ("lambda", "ec2", "ecs-tasks")


def before_aws(tell: Callable[[str], None]) -> Iterator[Row]:
    """Seconds for all principals, against what linear growth from a quarter of them would need."""
    tell(f"discovering {PRINCIPALS:,} AWS principals")
    few, _ = discovered(FEWER)
    many, facts = discovered(PRINCIPALS)
    yield Row(
        name=f"discovery of {PRINCIPALS:,} AWS principals ({facts:,} facts)",
        ours=many,
        unit="s",
        against=f"linear growth from {FEWER:,}",
        theirs=few * PRINCIPALS / FEWER,
        better="lower",
        bar=0.5,
    )


def discovered(principals: int) -> tuple[float, int]:
    """Seconds and facts of one run over a generated account."""
    with _described(principals) as file:
        began = time.perf_counter()
        facts = sum(1 for _ in _told(file))
        return time.perf_counter() - began, facts


def facts_of(principals: int) -> Iterator[Fact]:
    """What one run over a generated account finds."""
    with _described(principals) as file:
        yield from (fact for fact in _told(file) if not isinstance(fact, Skipped))


@contextmanager
def _described(principals: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "account.json"
        file.write_text(json.dumps(account(principals)))
        yield file


def _told(file: Path) -> Iterator[Fact | Skipped]:
    connector = AwsConnector.at(str(file))
    connector.open()
    scan = Scan(now=NOW, fingerprint=fingerprint)
    for raw in connector.fetch(scan):
        if isinstance(raw, Skipped):
            yield raw
        else:
            yield from connector.translate(raw, scan)
    connector.close()


def account(principals: int) -> dict[str, Any]:
    """Half users, half roles; six statements each, one in seven with a wildcard; one role in ten trusts the account."""
    random = Random(1)
    users: list[dict[str, Any]] = []
    roles: list[dict[str, Any]] = []
    for number in range(principals):
        policy = {"PolicyName": "own", "PolicyDocument": {"Statement": list(_statements(random, number, principals))}}
        common = {"Path": "/", "CreateDate": "2025-01-01T00:00:00Z", "AttachedManagedPolicies": []}
        if number % 2:
            roles.append({
                **common, "RoleName": f"role-{number}", "Arn": f"arn:aws:iam::{_ACCOUNT}:role/role-{number}",
                "AssumeRolePolicyDocument": {"Statement": _trust(random, number)}, "RolePolicyList": [policy],
                "InstanceProfileList": [],
            })  # fmt: skip
        else:
            arn = f"arn:aws:iam::{_ACCOUNT}:user/user-{number}"
            users.append(
                {**common, "UserName": f"user-{number}", "Arn": arn, "UserPolicyList": [policy], "GroupList": []}
            )
    return {"UserDetailList": users, "RoleDetailList": roles, "GroupDetailList": [], "Policies": []}


def _statements(random: Random, number: int, principals: int) -> Iterator[dict[str, Any]]:
    for _ in range(6):
        actions = random.sample(_ACTIONS, random.randint(1, 3))
        # Who may become whom is said by role: a right to assume every role is an edge for each, however it is found.
        actions = next(([one] for one in actions if one.startswith(("iam:", "sts:"))), actions)
        service = actions[0].partition(":")[0]
        resources = [_resource(random, service, principals) for _ in range(random.randint(1, 3))]
        if random.random() < 0.15 and service not in ("iam", "sts"):
            resources = ["*"]
        yield {"Effect": "Allow", "Action": actions, "Resource": resources}
    if number % 10 == 0:
        yield {"Effect": "Deny", "Action": "s3:Delete*", "Resource": "*"}


def _resource(random: Random, service: str, principals: int) -> str:
    if service in ("iam", "sts"):
        return f"arn:aws:iam::{_ACCOUNT}:role/role-{random.randrange(principals)}"
    if service == "s3":
        return f"arn:aws:s3:::bucket-{random.randrange(principals)}/*"
    return f"arn:aws:{service}:eu-west-1:{_ACCOUNT}:thing/{random.randrange(principals)}"


def _trust(random: Random, number: int) -> list[dict[str, Any]]:
    trusted: list[dict[str, str]] = [{"Service": f"{random.choice(_SERVICES)}.amazonaws.com"}]
    trusted += [{"AWS": f"arn:aws:iam::{_ACCOUNT}:root"}] if number % 5 == 0 else []
    return [{"Effect": "Allow", "Principal": each, "Action": "sts:AssumeRole"} for each in trusted]
