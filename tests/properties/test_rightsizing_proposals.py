"""Of every proposal: no observed act is refused, nothing is given that was not held, and proposing again is no change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.governance.rightsizing.languages.aws import principal_of
from remit.governance.rightsizing.languages.kubernetes import Account, Grant, grants_in
from remit.governance.rightsizing.languages.postgres import Login, Privilege
from remit.governance.rightsizing.model import Holding
from remit.governance.rightsizing.replay import replay
from remit.inventory.use.deeds import Book
from remit.inventory.use.model import Act, Deed
from remit.kernel.ids import name

_NOW = datetime(2026, 11, 1, tzinfo=UTC)
_ME = name("aws", "1", "user", "me")
_ARN = "arn:aws:iam::111122223333:user/me"

_actions = st.sampled_from(
    ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:ListAllMyBuckets", "ec2:DescribeInstances", "iam:PassRole",
     "lambda:CreateFunction", "lambda:InvokeFunction", "sqs:SendMessage", "dynamodb:GetItem", "kms:Decrypt"]
)  # fmt: skip
_patterns = st.sampled_from(
    ["*", "s3:*", "s3:Get*", "lambda:*", "iam:PassRole", "dynamodb:*", "sqs:Send*", "ec2:Describe*", "kms:Decrypt"]
)
_resources = st.sampled_from(
    ["", "arn:aws:s3:::a", "arn:aws:s3:::a/k/1", "arn:aws:s3:::b/x", "arn:aws:sqs:eu-west-1:111122223333:q",
     "arn:aws:dynamodb:eu-west-1:111122223333:table/t", "arn:aws:kms:eu-west-1:111122223333:key/1"]
)  # fmt: skip
_limits = st.sampled_from(
    ["*", "arn:aws:s3:::a*", "arn:aws:s3:::a/k/*", "arn:aws:s3:::${aws:username}/*", "arn:aws:sqs:*"]
)
_conditions = st.sampled_from(
    [None, None, {"Bool": {"aws:SecureTransport": "true"}}, {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}]
)


@st.composite
def _statement(draw: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Allow", "Deny"]))}
    made[draw(st.sampled_from(["Action", "Action", "Action", "NotAction"]))] = draw(
        st.lists(_patterns, min_size=1, max_size=3)
    )
    made[draw(st.sampled_from(["Resource", "Resource", "NotResource"]))] = draw(
        st.lists(_limits, min_size=1, max_size=2)
    )
    if condition := draw(_conditions):
        made["Condition"] = condition
    return made


def _account(statements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    user = {"UserName": "me", "UserId": "x", "Path": "/", "Arn": _ARN, "AttachedManagedPolicies": [], "GroupList": [],
            "UserPolicyList": [{"PolicyName": f"p{at}", "PolicyDocument": {"Version": "2012-10-17", "Statement": [each]}}
                               for at, each in enumerate(statements)]}  # fmt: skip
    return {"UserDetailList": [user], "RoleDetailList": [], "GroupDetailList": [], "Policies": []}


def _booked(acts: Sequence[tuple[str, str]]) -> list[Deed]:
    book = Book()
    for action, resource in acts:
        book.act(_ME, Act(action=action, resource=resource, wide=resource.endswith("*")), _NOW, "", admitted=True)
    return list(book.rows.values())


def _holds(holding: Holding, deeds: Sequence[Deed]) -> Any:
    draft, judge = holding.draft(deeds)
    assert replay(deeds, holding, judge).refused == ()
    again, _ = getattr(judge, "proposed", judge).draft(deeds)
    assert again.commands == ()
    return draft, judge


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_statement(), min_size=1, max_size=4), st.lists(st.tuples(_actions, _resources), min_size=1, max_size=12)
)
def test_policies_of_aws(statements: list[dict[str, Any]], acts: list[tuple[str, str]]) -> None:
    holding = principal_of(_account(statements), _ARN)
    assert holding is not None
    _, judge = _holds(holding, _booked(acts))
    assert set(judge.proposed.rights()) <= set(holding.rights())
    now, then = holding.permissions(), judge.proposed.permissions()
    assert now is not None and then is not None
    for action in ("s3:GetObject", "s3:DeleteObject", "iam:CreateUser", "sqs:SendMessage", "lambda:InvokeFunction"):
        for resource in ("arn:aws:s3:::a/k/1", "arn:aws:s3:::c/1", "arn:aws:sqs:eu-west-1:111122223333:q", "*"):
            assert then.may(action, resource) is None or now.may(action, resource) is not None, (action, resource)


_verbs = ("get", "list", "watch", "create", "update", "delete")
_kinds = (("", "pods"), ("", "secrets"), ("apps", "deployments"), ("", "pods/log"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            Grant, namespace=st.sampled_from(["*", "shop", "pay"]), group=st.sampled_from(["", "apps", "*"]),
            resource=st.sampled_from(["pods", "secrets", "deployments", "*", "pods/log"]),
            verb=st.sampled_from([*_verbs, "*"]), name=st.sampled_from(["", "", "one"]),
        ), min_size=1, max_size=6,
    ),
    st.lists(
        st.tuples(st.sampled_from(_verbs), st.sampled_from(_kinds), st.sampled_from(["shop", "pay", ""]),
                  st.sampled_from(["one", "two", ""])), min_size=1, max_size=12,
    ),
)  # fmt: skip
def test_roles_of_kubernetes(grants: list[Grant], calls: list[Any]) -> None:
    holding = Account("ServiceAccount", "shop", "web", grants)
    acts = [(f"{verb} {group or 'core'}/{kind}", f"{space}/{local}") for verb, (group, kind), space, local in calls]
    _, judge = _holds(holding, _booked(acts))
    for grant in judge.grants:
        name_of = grant.name or "never-seen-before"
        deed = _booked([(f"{grant.verb} {grant.group or 'core'}/{grant.resource}",
                         f"{'' if grant.namespace == '*' else grant.namespace}/{name_of}")])[0]  # fmt: skip
        assert holding.allows(deed), grant
    assert grants_in(judge.text()) == list(judge.grants)


_tables = ("db.shop.orders", "db.shop.pay", "db.hr.people")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            Privilege, kind=st.just("table"), path=st.sampled_from(_tables),
            action=st.sampled_from(["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]),
            via=st.sampled_from(["", "app_rw", "staff"]), grantable=st.booleans(),
        ), min_size=1, max_size=14,
    ),
    st.lists(
        st.tuples(st.sampled_from(["SELECT", "INSERT", "UPDATE", "DELETE"]),
                  st.sampled_from([*_tables, "db.?.orders", "db.?.nothing"])), min_size=1, max_size=8,
    ),
)  # fmt: skip
def test_privileges_of_postgres(privileges: list[Privilege], acts: list[tuple[str, str]]) -> None:
    holding = Login("app", privileges)
    draft, judge = _holds(holding, _booked(acts))
    assert {each.key for each in judge.proposed.privileges} <= {each.key for each in holding.privileges}
    assert bool(draft.commands) == bool(draft.inverse)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), max_size=600))
def test_nothing_that_was_done_is_forgotten(numbers: list[tuple[int, int]]) -> None:
    book = Book()
    acts = [
        (f"s3:Action{action}", f"arn:aws:s3:::bucket{resource % 60}/key/{resource}") for action, resource in numbers
    ]
    for action, resource in acts:
        book.act(_ME, Act(action=action, resource=resource), _NOW, "", admitted=True)
    assert sum(row.count for row in book.rows.values()) + book.beyond == len(acts)
    rows = {(row.action, row.resource): row for row in book.rows.values()}
    kept = {row.action for row in book.rows.values()}
    for action, resource in acts:
        if action in kept:
            assert (action, resource) in rows or any(
                of == action and row.wide and resource.startswith(pattern[:-1]) for (of, pattern), row in rows.items()
            )
