"""What records of logs tell was done: statements of SQL, events of AWS, calls of Kubernetes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from remit.inventory.use.model import Act, Use
from remit.inventory.use.readers import Context, kinds
from remit.inventory.use.readers.aws_actions import actions_of
from remit.inventory.use.readers.statements import acts_in

_CONTEXT = Context(instance="db:5432", fallback=datetime(2026, 11, 1, tzinfo=UTC))


def _of(statement: str) -> set[tuple[str, str]]:
    return {(act.action, act.resource) for act in acts_in(statement, "db") if act.action != "EXECUTE"}


@pytest.mark.parametrize(
    ("statement", "needs"),
    [
        ("SELECT * FROM a.b JOIN c ON c.id = b.id", {("SELECT", "db.a.b"), ("SELECT", "db.?.c")}),
        ("SELECT 1 FROM (a JOIN b ON true), f(1) g, c", {("SELECT", f"db.?.{each}") for each in "abc"}),
        ("SELECT 1 FROM only (t), u", {("SELECT", "db.?.t"), ("SELECT", "db.?.u")}),
        ("WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x",
         {("DELETE", "db.?.a"), ("SELECT", "db.?.a"), ("INSERT", "db.?.b"), ("SELECT", "db.?.x")}),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", {("INSERT", "db.?.t"), ("UPDATE", "db.?.t"), ("SELECT", "db.?.t")}),
        ("SELECT * FROM t FOR UPDATE", {("SELECT", "db.?.t"), ("UPDATE", "db.?.t")}),
        ("SELECT 'FROM secrets' -- FROM hidden", set()),
        ("COPY s.t (a) FROM STDIN", {("INSERT", "db.s.t")}),
        ("TRUNCATE a, b", {("TRUNCATE", "db.?.a"), ("TRUNCATE", "db.?.b")}),
        ('SELECT * FROM "Odd ""name"', {("SELECT", 'db.?.Odd "name')}),
        ("BEGIN; SET x = 1; COMMIT", set()),
        ("DO $$ BEGIN DELETE FROM t; END $$", {("?", "db")}),
        ("ALTER TABLE t ADD x int", {("?", "db")}),
        ("SELECT nextval('app.seq')", {("USAGE", "db.app.seq")}),
        ("EXPLAIN ANALYZE SELECT * FROM t", {("SELECT", "db.?.t")}),
    ],
)  # fmt: skip
def test_a_statement_tells_what_it_needs(statement: str, needs: set[tuple[str, str]]) -> None:
    assert _of(statement) == needs


@pytest.mark.parametrize(
    ("source", "event", "action"),
    [
        ("s3", "ListBuckets", "s3:ListAllMyBuckets"), ("lambda", "CreateFunction20150331", "lambda:CreateFunction"),
        ("lambda", "GetFunction20150331v2", "lambda:GetFunction"), ("monitoring", "PutMetricData", "cloudwatch:PutMetricData"),
        ("cloudfront", "CreateDistribution2020_05_31", "cloudfront:CreateDistribution"),
        ("tagging", "GetResources", "tag:GetResources"), ("s3", "HeadObject", "s3:GetObject"),
        ("apigateway", "CreateRestApi", "apigateway:POST"),
    ],
)  # fmt: skip
def test_an_event_is_an_action_of_iam(source: str, event: str, action: str) -> None:
    assert actions_of(f"{source}.amazonaws.com", event) == (action,)


def test_what_needs_no_right_is_no_action() -> None:
    assert actions_of("sts.amazonaws.com", "GetCallerIdentity") == ()


def _uses(kind: str, record: bytes) -> list[Use]:
    return [use for told in kinds()[kind].read(record, _CONTEXT) for use in told.uses]


def test_an_audited_call_of_kubernetes() -> None:
    event = {
        "stage": "ResponseComplete", "requestReceivedTimestamp": "2026-11-01T00:00:00Z", "verb": "patch",
        "user": {"username": "system:serviceaccount:shop:web"}, "responseStatus": {"code": 200},
        "objectRef": {"apiGroup": "apps", "resource": "deployments", "subresource": "scale", "namespace": "shop", "name": "web"},
    }  # fmt: skip
    assert _uses("kubernetes-audit", json.dumps(event).encode())[0].acts == (
        Act(action="patch apps/deployments/scale", resource="shop/web"),
    )


def _csv(message: str, state: str = "00000", query: str = "") -> bytes:
    fields = ["2026-11-01 10:00:00.000 UTC", "app", "db", "1", "10.0.0.1:5", "s", "1", "SELECT", "", "", "0", "LOG", state,
              message, "", "", "", "", "", query, "", "", "api", "client backend"]  # fmt: skip
    return ('"' + '","'.join(each.replace('"', '""') for each in fields) + '"\n').encode()


def test_pgaudit_names_the_object() -> None:
    record = _csv('AUDIT: SESSION,1,1,READ,SELECT,TABLE,shop.orders,"select * from orders",<none>')
    assert _uses("postgres-csv", record)[0].acts == (Act(action="SELECT", resource="db.shop.orders"),)


def test_a_refused_statement_is_no_use() -> None:
    record = _csv("permission denied for table pay", "42501", "SELECT * FROM shop.pay, shop.orders")
    found = _uses("postgres-csv", record)[0]
    assert found.admitted is False
    assert found.acts == (Act(action="SELECT", resource="db.shop.pay"),)
