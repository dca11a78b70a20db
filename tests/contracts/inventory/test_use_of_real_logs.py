"""Logs as real servers write them: OpenBao's audit device, PostgreSQL's `jsonlog`; and CloudTrail's files as documented."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from bench.openbao import available_openbao, dev_openbao

from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, fingerprint
from remit.inventory.connectors.use import UseConnector
from remit.inventory.use.model import UseFact, UseRow
from remit.inventory.use.tally import merged
from remit.kernel.ids import name
from servers import POSTGRES_MAJORS, postgres_server

_WORD = "kV7pQz3nWm8rTs5y"


def _told(path: Path, kind: str, instance: str = "", counted: dict[str, str] | None = None) -> dict[str, UseRow]:
    """What a run tells of each name."""
    connector = UseConnector(path, kind, instance=instance)
    connector.open()
    rows: dict[str, UseRow] = {}
    for fact in connector.fetch(Scan(now=NOW, fingerprint=fingerprint, recalled=counted or {})):
        assert isinstance(fact, UseFact), fact
        for row in fact.rows:
            rows[row.name] = merged(rows[row.name], row) if row.name in rows else row
        if counted is not None:
            counted[fact.log] = str(fact.end)
    return rows


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_entity_in_the_audit_log_of_openbao(tmp_path: Path) -> None:
    program = available_openbao()
    if program is None:
        pytest.skip("bao: not installed")
    log, config = tmp_path / "audit.log", tmp_path / "bao.hcl"
    config.write_text(f'audit "file" "main" {{\n  options = {{ file_path = "{log}" }}\n}}\n')
    with dev_openbao(program, config=config) as bao:
        bao.write("sys/auth/userpass", {"type": "userpass"})
        bao.write("sys/policies/acl/own", {"policy": 'path "secret/data/prod/*" { capabilities = ["read"] }'})
        bao.write("auth/userpass/users/ci", {"password": _WORD, "token_policies": "own"})
        bao.write("secret/data/prod/app", {"data": {"word": _WORD}})
        auth = bao.write("auth/userpass/login/ci", {"password": _WORD})["auth"]
        for path in ("secret/data/prod/app", "secret/data/prod/app", "sys/mounts"):
            bao.ask("GET", path, token=auth["client_token"])
        entity = auth["entity_id"]
    row = _told(log, "openbao-audit", "vault-1")[name("openbao", "vault-1", "entity", entity)]
    assert (row.count, row.failures) == (3, 1)
    assert row.environments == ("production",)
    assert set(row.consumers) == {"127.0.0.1 userpass-ci"}
    assert _WORD not in log.read_text()


def test_roles_in_the_json_log_of_postgresql(tmp_path: Path) -> None:
    newest = max((major for major in POSTGRES_MAJORS if major), default=0)
    if newest < 15:
        pytest.skip("postgres 15: not installed")
    settings = {
        "logging_collector": "on", "log_destination": "jsonlog", "log_directory": "log", "log_filename": "pg.log",
        "log_connections": "on", "log_timezone": "UTC",
    }  # fmt: skip
    with postgres_server(newest, settings=settings) as server:
        asyncio.run(_play(server))
        log = server.data / "log" / "pg.json"
        _until(lambda: log.exists() and "password authentication failed" in log.read_text())
        shutil.copy(log, tmp_path / "pg.json")
        row = _told(log, "postgres-json", "db:5432")[name("postgres", "db:5432", "role", "orders")]
    assert row.count == 2
    assert row.failures == 1
    assert "127.0.0.1 invoice-job" in row.consumers


async def _play(server: Any) -> None:
    async def connect(user: str, word: str, program: str) -> Any:
        return await asyncpg.connect(
            host="127.0.0.1", port=server.port, user=user, password=word, database="postgres",
            server_settings={"application_name": program},
        )  # fmt: skip

    admin = await connect(server.user, server.password, "set-up")
    await admin.execute(f"CREATE ROLE orders LOGIN PASSWORD '{_WORD}'")
    await admin.close()
    for program in ("invoice-job", "invoice-job"):
        await (await connect("orders", _WORD, program)).close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect("orders", "wrong", "invoice-job")


def _event(number: int, account: str = "111122223333") -> dict[str, Any]:
    return {
        "eventVersion": "1.08", "eventID": f"0000-{number}", "eventTime": f"2026-11-20T10:00:{number:02}Z",
        "eventSource": "s3.amazonaws.com", "eventName": "GetObject", "awsRegion": "eu-central-1",
        "sourceIPAddress": "192.0.2.7", "userAgent": "Boto3/1.34", "recipientAccountId": account,
        "userIdentity": {
            "type": "AssumedRole", "arn": f"arn:aws:sts::{account}:assumed-role/deployer/run", "accountId": account,
            "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": f"arn:aws:iam::{account}:role/deployer"}},
        },
    }  # fmt: skip


def test_files_of_cloudtrail_count_once_however_they_arrive(tmp_path: Path) -> None:
    day = tmp_path / "AWSLogs" / "111122223333" / "CloudTrail" / "eu-central-1" / "2026" / "11" / "20"
    day.mkdir(parents=True)
    for number in range(5):
        path = day / f"111122223333_CloudTrail_eu-central-1_20261120T100{number}Z_x.json.gz"
        path.write_bytes(gzip.compress(json.dumps({"Records": [_event(number), _event(number, "4" * 12)]}).encode()))
        os.utime(path, (1_790_000_000 - number, 1_790_000_000 - number))
    counted: dict[str, str] = {}
    rows = _told(tmp_path, "cloudtrail", counted=counted)
    for account in ("111122223333", "4" * 12):
        assert rows[name("aws", account, "role", "deployer")].count == 5
    shutil.copy(path, tmp_path / "a-copy.json.gz")
    (day / "later.json").write_text(json.dumps({"Records": [_event(9)]}))
    os.utime(day / "later.json", (1_700_000_000, 1_700_000_000))
    again = _told(tmp_path, "cloudtrail", counted=counted)
    assert {key: row.count for key, row in again.items()} == {name("aws", "111122223333", "role", "deployer"): 1}


_READ = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.use import UseConnector
connector = UseConnector(Path(sys.argv[1]), "kubernetes-audit", instance="prod")
scan = Scan(now=datetime.now(UTC), fingerprint=lambda secret: "")
connector.open()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
uses = sum(row.count for fact in connector.fetch(scan) for row in getattr(fact, "rows", ()))
print(uses, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_log_is_read_in_memory_that_its_size_does_not_move(tmp_path: Path) -> None:
    """80 MB when decompressed, and a record of 30 MB in it."""
    path = tmp_path / "audit.log.gz"
    event = {
        "stage": "ResponseComplete", "user": {"username": "system:serviceaccount:shop:a"}, "sourceIPs": ["10.0.0.1"],
        "requestReceivedTimestamp": "2026-11-20T10:00:00Z", "requestURI": "/" + "x" * 1800,
    }  # fmt: skip
    block = (json.dumps(event) + "\n").encode() * 1000
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(25):
            file.write(block)
        file.write(b"y" * (30 << 20) + b"\n" + block)
    said = subprocess.run([sys.executable, "-c", _READ, path], capture_output=True, text=True, check=True, timeout=60)
    uses, grown = map(int, said.stdout.split())
    assert uses == 26_000
    assert grown < 24_000, f"{grown} KiB"
