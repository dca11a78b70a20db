"""Asking for what policy does not give by itself: two people, a real PostgreSQL, and what becomes of it afterwards."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import json
import os
import secrets
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from installation import REMIT, Installation, installation
from ports import free_port
from remit.client.workload import WorkloadApi
from servers import LocalServer, postgres_server

NEED = "postgres://orders?role=write"
POLICY = """
@id("write")
@reason("writing needs somebody's approval")
@obligation("approval")
permit (principal, action in Remit::Action::"lease", resource)
when { context.attested && context has role && context.role == "write" };
"""
JOB = """#!{python}
import json, os, pathlib, time
said = dict((key, value) for key, value in os.environ.items() if key.startswith("PG") or key.startswith("ORDERS"))
pathlib.Path({out!r}).write_text(json.dumps(said))
time.sleep(60)
"""


@dataclass
class Person:
    """Somebody at a terminal, with a key of their own."""

    made: Installation
    key: Path

    def types(self, *args: str | Path, code: int | None = 0) -> str:
        done = self.made.cli(*args, code=code, REMIT_PERSON_KEY=str(self.key))
        return done.stdout + done.stderr

    def json(self, *args: str) -> Any:
        return json.loads(self.made.cli(*args, "--format", "json", REMIT_PERSON_KEY=str(self.key)).stdout)


@dataclass
class House:
    """One installation for this module: Ana, who asks, and Ben, who approves; a database and a task."""

    made: Installation
    database: LocalServer
    ana: Person
    ben: Person
    out: Path
    port: int
    """Of the listener of workloads."""

    def run(self) -> tuple[str, ...]:
        return ("run", "--task", "fix", "--need", NEED, "--env", "--", str(self.made.root / "fix.py"))

    def asked(self, *more: str) -> str:
        words = ("request", "--task", "fix", "--need", NEED, "--reason", "order 17", "--for", "30m", *more)
        return str(self.ana.json(*words)["id"])

    def approved(self, *more: str) -> str:
        grant = self.asked(*more)
        assert "is approved" in self.ben.types("approve", grant)
        return grant

    def database_row(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self.made.data / "remit.db", timeout=60) as connection:
            connection.execute(statement, values)
        connection.close()


def until(met: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if met():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    port = free_port()
    with (
        postgres_server() as database,
        installation(
            start=False, REMIT_TRUST_LISTEN=f"127.0.0.1:{port}", REMIT_GRANTS_CHANNELS_FILE="../channels"
        ) as made,
    ):
        (made.root / "channels").touch(0o600)
        made.start()
        asyncio.run(_login(_url(database), "CREATE ROLE app_rw NOLOGIN"))
        ana, ben = Person(made, made.root / "ana.json"), Person(made, made.root / "ben.json")
        ana.types("people", "enrol", "ana")
        seed = secrets.token_bytes(32)
        ben.key.write_text(json.dumps({"name": "ben", "seed": seed.hex()}))
        ben.key.chmod(0o600)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
        ana.types("people", "enrol", "ben", "--public-key", public)
        url = f"postgres://{database.user}@127.0.0.1:{database.port}/postgres"
        made.cli("target", "add", "postgres", "--name", "orders", "--url", url, "--role", "write=app_rw",
                 "--password-stdin", stdin=database.password + "\n", REMIT_PERSON_KEY=str(ana.key))  # fmt: skip
        out = made.root / "credential"
        (made.root / "fix.py").write_text(JOB.format(python=sys.executable, out=str(out)))
        (made.root / "fix.py").chmod(0o755)
        ben.types("task", "add", "fix", "--", made.root / "fix.py")
        (made.root / "p.cedar").write_text(POLICY)
        ana.types("policy", "apply", made.root / "p.cedar")
        version = next(word for word in ana.types("policy", "activate", code=None).split() if word.startswith("pv_"))
        ben.types("policy", "activate", version)
        yield House(made, database, ana, ben, out, port)


def _url(server: LocalServer) -> str:
    return f"postgres://{server.user}:{server.password}@127.0.0.1:{server.port}/postgres"


async def _login(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url, ssl=False, timeout=60)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_asked_approved_used_withdrawn_and_refused(house: House) -> None:
    assert "needs" in house.made.cli(*house.run(), code=None).stderr  # policy alone does not give it
    grant = house.asked()
    assert "access.approval.self" in house.ana.types("approve", grant, code=None)
    assert "is approved" in house.ben.types("approve", grant)
    task = _running(house)
    try:
        url = "postgres://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(
            **json.loads(house.out.read_text())
        )
        assert asyncio.run(_login(url, "SELECT 1")) == 1
        said = house.ana.types("request", "withdraw", grant, "--reason", "not needed any more")
        assert "withdrawn" in said and "revoked" in said
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            asyncio.run(_login(url, "SELECT 1"))
    finally:
        task.terminate()
        task.wait(60)
    told = [each["type"] for each in house.ana.json("request", "show", grant)["history"]]
    assert {"access.grant.requested", "access.grant.approved", "access.grant.used", "access.grant.withdrawn"} <= set(
        told
    )


def _running(house: House) -> subprocess.Popen[bytes]:
    house.out.unlink(missing_ok=True)
    command = [sys.executable, "-c", REMIT[2], *house.run()]
    task = subprocess.Popen(command, env=house.made.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert until(lambda: house.out.exists() and bool(house.out.read_text()))
    return task


def test_a_row_that_somebody_changed_ends_the_run_and_is_not_what_was_approved(house: House) -> None:
    grant = house.approved()
    task = _running(house)
    try:
        house.database_row("UPDATE access_grant SET expires = expires + 36000000000 WHERE id = ?", grant)
        assert until(lambda: not house.made.json("leases"))
    finally:
        task.terminate()
        task.wait(60)
    said = house.ana.json("request", "show", grant)
    assert said["state"] == "voided"
    assert {each["state"] for each in said["leases"]} == {"revoked"}


def test_a_program_that_is_another_one_is_refused_as_not_what_was_approved(house: House) -> None:
    grant = house.approved()
    script = house.made.root / "fix.py"
    before = script.read_text()
    try:
        script.write_text(before + "# another line\n")
        house.ben.types("task", "add", "fix", "--", script)
        refused = house.made.cli(*house.run(), code=None)
        assert refused.returncode == 125
        assert "not what was approved" in refused.stderr
        changed = house.made.json("request", "show", grant)["changed"]
        assert changed == "the task's definition is another", changed
    finally:
        script.write_text(before)
        house.ben.types("task", "add", "fix", "--", script)
        house.ana.types("request", "withdraw", grant)


def test_opening_the_link_approves_nothing_and_the_console_takes_a_signature(house: House) -> None:
    grant = house.asked()
    cookie = house.made.sign_in()
    for path in (f"/requests/{grant}", f"/requests/{grant}/approve", "/requests"):
        with house.made.http("GET", path, headers={"Cookie": cookie, "Host": _place(house)}) as answer:
            text = answer.read().decode()
            assert answer.status == (405 if path.endswith("approve") else 200)
            assert path.endswith("approve") or grant in text
    assert house.ana.json("request", "show", grant)["state"] == "requested"
    assert _post(house, grant, cookie, "forged") == 400
    digest = house.ana.json("request", "show", grant)["digest"]
    own = house.ana.types("approve", grant, "--print-signature").strip()
    assert _post(house, grant, cookie, own, digest) == 403  # who asked
    theirs = house.ben.types("approve", grant, "--print-signature").strip()
    assert _post(house, grant, "", theirs, digest) in (401, 403)  # nobody is signed in
    assert _post(house, grant, cookie, theirs, digest) == 303
    assert house.ana.json("request", "show", grant)["state"] == "approved"
    house.ana.types("request", "withdraw", grant)


def _place(house: House) -> str:
    return house.made.url.removeprefix("http://").rstrip("/")


def _post(house: House, grant: str, cookie: str, signature: str, digest: str = "x") -> int:
    form = urlencode({"digest": digest, "signature": signature}).encode()
    headers = {
        "Cookie": cookie, "Host": _place(house), "Origin": house.made.url.rstrip("/"),
        "Content-Type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    with house.made.http("POST", f"/requests/{grant}/approve", form, headers) as answer:
        answer.read()
        return answer.status


def test_a_workload_asks_for_its_own_task_and_approves_nothing(house: House) -> None:
    spiffe_id = "spiffe://remit.local/task/fix"
    house.ana.types("entry", "create", "--spiffe-id", spiffe_id, "--selector", f"unix:uid:{os.getuid()}")
    found = asyncio.run(WorkloadApi(f"unix://{house.made.data / 'agent.sock'}").x509()).named(spiffe_id)
    (house.made.root / "svid.pem").write_bytes(found.chain_pem + found.key_pem())
    body = {"task": "fix", "needs": [NEED], "reason": "by itself", "seconds": 600}
    status, answer = _by_svid(house, "POST", "/api/v1/grants", body)
    assert (status, answer["state"]) == (200, "requested")
    assert answer["requested_by"] == answer["identity"]
    status, _ = _by_svid(house, "POST", f"/api/v1/grants/{answer['id']}/approve", {"digest": answer["digest"]})
    assert status in (401, 403, 404)
    assert "is approved" in house.ben.types("approve", answer["id"])
    status, answer = _by_svid(house, "POST", f"/api/v1/grants/{answer['id']}/withdraw", {})
    assert (status, answer["state"]) == (200, "withdrawn")


def _by_svid(house: House, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(house.made.root / "svid.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", house.port, context=context, timeout=60)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_glass_breaks_when_two_channels_hear_of_it_and_not_before(house: House) -> None:
    pytest.importorskip("apprise")
    words = ("break-glass", "--task", "fix", "--need", NEED, "--reason", "nobody answers", "--for", "10m")
    assert "access.break_glass.unheard" in house.ana.types(*words, code=None)
    with hook() as (place, heard):
        channels = house.made.root / "channels"
        channels.write_text(f"one json://{place}/one\ntwo json://{place}/two\n")
        told = house.ana.types(*words)
        assert "the glass is broken" in told
        assert {"/one", "/two"} == {path for path, _ in heard}
        assert all("BREAK-GLASS" in said and "/requests/gr_" in said for _, said in heard)
        channels.write_text("")
    grant = next(word for word in told.split() if word.startswith("gr_"))
    assert "not over" in house.ben.types("request", "review", grant, "--finding", "too early", code=None)
    house.ana.types("request", "withdraw", grant)
    assert "reviewed" in house.ben.types("request", "review", grant, "--finding", "it was needed")


def test_what_a_lease_reached_at_a_past_moment_and_who_had_approved_it(house: House) -> None:
    url = _url(house.database)
    asyncio.run(_login(url, "CREATE TABLE IF NOT EXISTS invoices (id int)"))
    asyncio.run(_login(url, "GRANT SELECT, INSERT ON invoices TO app_rw"))
    house.ana.types("discover", "postgres", "orders", code=None)
    grant = house.asked()
    before = _now()
    house.ben.types("approve", grant)
    task = _running(house)
    try:
        during = _now()
        login = json.loads(house.out.read_text())["PGUSER"]
    finally:
        house.ana.types("request", "withdraw", grant)
        task.terminate()
        task.wait(60)
    assert until(lambda: not house.made.json("leases"))
    after = _now()
    asyncio.run(_login(url, "REVOKE ALL ON invoices FROM app_rw"))  # what is so now says nothing of then
    house.ana.types("discover", "postgres", "orders", code=None)
    held = {moment: _past(house, login, moment) for moment in (before, during, after)}
    assert {moment: found["thing"]["held"] for moment, found in held.items()} == {
        before: False, during: True, after: False
    }  # fmt: skip
    (given,) = held[during]["grants"]
    assert (given["id"], given["asked"]["by"]) == (grant, "person:ana")
    assert [each["by"] for each in given["approved"]] == ["person:ben"]
    assert (given["ended"]["what"], given["ended"]["by"]) == ("withdrawn", "person:ana")
    assert held[before]["grants"] == held[after]["grants"] == []
    table = next(each for each in held[during]["reach"]["things"] if "invoices" in each["title"])
    assert [(each["id"], each["approved_by"]) for each in table["grants"]] == [(grant, ["person:ben"])]
    assert (held[during]["policies"]["staged_by"], held[during]["policies"]["activated_by"]) == (
        "person:ana", "person:ben"
    )  # fmt: skip
    assert held[before]["reach"] is None
    told = {each["leaf"]: each["type"] for each in house.made.json("ledger", "ls", "--limit", "1000")}
    assert {"access.grant.approved", "access.lease.issued"} <= {told[leaf] for leaf in held[during]["leaves"]}
    shown = house.made.cli("past", grant, "--at", during).stdout
    assert "approved by" in shown and "ben" in shown and "invoices" in shown
    assert house.made.cli("past", grant, "--at", after, code=None).returncode == 1


def test_a_team_is_said_by_two_people_and_ends_by_one(house: House) -> None:
    said = ("team", "set", "payments", "--lead", "ana", "--member", "ben", "--reason", "they pay")
    assert "takes two persons" in house.made.cli(*said, "--dry-run").stderr
    assert "waits for a second person" in house.ana.types(*said)
    assert "governance.team.own" in house.ana.types(*said, code=None)
    assert "asked by ana" in " ".join(house.made.cli("team", "ls").stdout.split())
    assert "is led by ana, with 1 others" in house.ben.types(*said)
    (team,) = house.ana.json("team", "ls")
    assert (team["lead"], team["members"], team["waiting"]) == ("ana", ["ben"], None)
    assert "has ended" in house.ben.types("team", "rm", "payments", "--reason", "merged")
    assert house.ana.json("team", "ls")[0]["active"] is False
    assert "governance.team.unknown" in house.ben.types("team", "rm", "nothing", "--reason", "x", code=None)


def _now() -> str:
    time.sleep(0.01)
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    time.sleep(0.01)
    return moment


def _past(house: House, what: str, moment: str) -> Any:
    return json.loads(house.made.cli("past", what, "--at", moment, "--format", "json", code=None).stdout)


@contextmanager
def hook() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that takes what apprise posts."""
    heard: list[tuple[str, str]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.path, self.rfile.read(int(self.headers["content-length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
