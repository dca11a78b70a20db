"""Each kind of log: what one record tells."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from remit.inventory.use.model import Use
from remit.inventory.use.readers import NAMES, Context, kinds
from remit.inventory.use.readers.sshd import key_name
from remit.kernel.ids import credential_name, name

_CONTEXT = Context(instance="here", fallback=datetime(2026, 11, 23, 12, tzinfo=UTC))
_KEY = "AKIAIOSFODNN7EXAMPLE"


def _uses(kind: str, record: Any) -> list[Use]:
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    return [use for told in kinds()[kind].read(raw, _CONTEXT) for use in told.uses]


def _event(**more: Any) -> dict[str, Any]:
    session = "arn:aws:sts::111122223333:assumed-role/deployer/run-7"
    return {
        "eventTime": "2026-11-20T10:00:00Z", "eventName": "GetObject", "sourceIPAddress": "192.0.2.7",
        "userAgent": "Boto3/1.34 md/x", "recipientAccountId": "111122223333",
        "userIdentity": {
            "type": "AssumedRole", "arn": session, "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
            "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::111122223333:role/apps/deployer"}},
        },
        **more,
    }  # fmt: skip


def test_every_kind_is_named_for_people() -> None:
    assert set(NAMES) == set(kinds())


def test_a_session_of_cloudtrail_is_its_role_with_its_path() -> None:
    (use,) = _uses("cloudtrail", {"Records": [_event()]})
    assert use.name == name("aws", "111122223333", "role", "apps/deployer")
    assert use.consumer == "192.0.2.7 Boto3/1.34"
    assert use.moment == datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_an_access_key_of_cloudtrail_is_the_credential_that_connectors_know() -> None:
    who = {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ci", "accessKeyId": _KEY}
    names = {use.name for use in _uses("cloudtrail", _event(userIdentity=who))}
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    assert names == {name("aws", "111122223333", "user", "ci"), credential_name(f"sha256:{digest}")}


def test_a_refused_call_is_a_failure_and_a_console_session_a_person() -> None:
    (use,) = _uses("cloudtrail", _event(errorCode="AccessDenied", sessionCredentialFromConsole="true"))
    assert (use.admitted, use.person) == (False, "AWS console")


def test_a_service_account_of_an_audit_log() -> None:
    event = {
        "kind": "Event", "stage": "ResponseComplete", "requestReceivedTimestamp": "2026-11-20T10:00:00.123456Z",
        "user": {"username": "system:serviceaccount:shop-prod:orders"}, "sourceIPs": ["10.1.2.3"],
        "userAgent": "kubectl/v1.31 (linux/amd64)", "objectRef": {"namespace": "shop-prod"},
        "responseStatus": {"code": 200},
    }  # fmt: skip
    (use,) = _uses("kubernetes-audit", event)
    assert use.name == name("kubernetes", "here", "serviceaccount", "shop-prod/orders")
    assert (use.environment, use.person) == ("production", "kubectl/v1.31")
    assert _uses("kubernetes-audit", {**event, "stage": "RequestReceived"}) == []


def test_an_entity_of_openbao() -> None:
    entry = {
        "time": "2026-11-20T10:00:00.123456789Z", "type": "response", "auth": {"entity_id": "e-1", "display_name": "ci"},
        "request": {"path": "secret/data/prod/app", "remote_address": "10.0.0.9"},
    }  # fmt: skip
    (use,) = _uses("openbao-audit", entry)
    assert (use.name, use.environment) == (name("openbao", "here", "entity", "e-1"), "production")
    assert _uses("openbao-audit", {**entry, "type": "request"}) == []


def test_a_client_of_redis() -> None:
    line = b"id=7 addr=10.0.0.5:51000 laddr=10.0.0.1:6379 name=worker user=queue lib-name=redis-py lib-ver=5\n"
    (use,) = _uses("redis-clients", line)
    assert (use.name, use.consumer) == (name("redis", "here", "user", "queue"), "10.0.0.5 worker")


def test_connections_of_rabbitmq() -> None:
    entry = {"user": "orders", "peer_host": "10.0.0.6", "vhost": "/", "client_properties": {"product": "pika"}}
    (use,) = _uses("rabbitmq-connections", [entry, {"type": "direct"}])
    assert (use.name, use.consumer) == (name("rabbitmq", "here", "user", "orders"), "10.0.0.6 pika")


@pytest.mark.parametrize(
    "before",
    [
        "Nov 20 10:00:00 host sshd[7]: ",
        "2026-11-20T10:00:00+00:00 host sshd[7]: ",
        "2026-11-20T12:00:00+02:00 h sshd: ",
    ],
)
def test_a_login_by_key_is_a_use_of_the_account_and_of_the_key(before: str) -> None:
    shown = "SHA256:" + "A" * 43
    line = f"{before}Accepted publickey for deploy from 10.0.0.8 port 4711 ssh2: ED25519 {shown}\n".encode()
    account, key = _uses("sshd", line)
    assert (account.name, key.name) == (name("host", "here", "unix-account", "deploy"), key_name(shown))
    assert {account.moment, key.moment} == {datetime(2026, 11, 20, 10, tzinfo=UTC)}


def test_a_syslog_line_that_would_be_in_the_future_is_of_last_year() -> None:
    (use,) = _uses("sshd", b"Dec 24 10:00:00 h sshd[7]: Accepted password for ana from 10.0.0.8 port 4711 ssh2\n")
    assert (use.moment.year, use.person) == (2025, "a password typed")


def test_a_name_in_a_log_cannot_forge_another() -> None:
    event = {
        "stage": "ResponseComplete", "requestReceivedTimestamp": "2026-11-20T10:00:00Z",
        "user": {"username": "a:serviceaccount:x"},
    }  # fmt: skip
    (use,) = _uses("kubernetes-audit", event)
    assert use.name.count(":") == 5


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(
    "record",
    [b"", b"\n", b"{", b"[1]", b"null", b'{"Records": 7}', b'{"user": 5, "time": 3}', b"\xff\xfe\x00", b"[" * 5000,
     b'"unterminated', b'{"requestReceivedTimestamp":"9999-99-99","stage":[]}', b'{"eventTime":"0001-01-01T00:00:00+14:00","eventName":"x"}'],
)  # fmt: skip
def test_what_is_no_record_tells_no_use(kind: str, record: bytes) -> None:
    assert [use for told in kinds()[kind].read(record, _CONTEXT) for use in told.uses] == []
