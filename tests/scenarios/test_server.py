"""The control plane from outside: who may reach what, and what a hostile caller gets."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from installation import Installation, environment, installation, plant
from remit.kernel.errors import Denied, NotFound, Rejected
from remit.surface.api.route import MAX_BODY_BYTES
from stores import fresh_database, postgres

__all__ = ["postgres"]

PUBLIC = ("/healthz", "/readyz", "/keys", "/.well-known/authzen-configuration", "/ledger/checkpoint", "/ledger/key.pub")
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def server() -> Iterator[Installation]:
    with installation() as made:
        yield made


def call(
    server: Installation, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """One request to the TCP listener."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with server.http(method, path, raw, headers) as answer:
        return answer.status, dict(answer.headers.items()), answer.read()


def over_admin(
    server: Installation, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """One request to admin.sock, as anybody with a socket and bytes can make it."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(server.data / "admin.sock"))
    connection.request(method, path, body=body or None, headers=dict(headers or {}))
    answer = connection.getresponse()
    result = answer.status, {key.lower(): value for key, value in answer.headers.items()}, answer.read()
    connection.close()
    return result


def problem(raw: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(raw)
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", body["code"]), body
    assert body["next_step"] and body["title"] and body["status"], body
    return body


@pytest.fixture(scope="module")
def cookie(server: Installation) -> str:
    return server.sign_in()


# -- TCP without and with proof


@pytest.mark.parametrize("path", PUBLIC)
def test_what_is_public_is_answered_without_proof(server: Installation, path: str) -> None:
    assert call(server, "GET", path)[0] == 200


def test_every_other_operation_answers_401_without_proof(server: Installation) -> None:
    document = json.loads(call(server, "GET", "/openapi.json")[2])
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation.get("security") == []:
                continue
            asked += 1
            status, headers, raw = call(server, method.upper(), re.sub(r"\{[a-z]+\}", "x", path))
            assert (status, headers["content-type"]) == (401, PROBLEM), path
            assert headers["www-authenticate"].startswith("Remit")
            assert problem(raw)["code"] == "surface.proof.missing"
    assert asked > 30
    opened = {path for path, each in document["paths"].items() for one in each.values() if one.get("security") == []}
    # The endpoints of OAuth authenticate their callers themselves; lists and keys are for verifiers anywhere.
    oauth = {"/oauth2/token", "/oauth2/introspect", "/oauth2/revoke", "/oauth2/keys", "/keys"}
    known = {"authzen-configuration", "oauth-authorization-server", "oauth-protected-resource", "openid-configuration"}
    lists = {"/bundle", "/crl", "/crl/{authority}", "/statuslists", "/statuslists/{list}"}
    lists |= {"/ssh-ca.pub", "/trust/v1/agents/attest"}
    # A run elsewhere proves itself by its platform's token and a key of its own, in the request.
    runs = {"/api/v1/runs", "/api/v1/runs/{run}/heartbeat", "/api/v1/runs/{run}/end"}
    for path in runs:
        assert call(server, "POST", path.replace("{run}", "x"))[0] in (400, 401), path
    assert opened == {
        "/healthz",
        "/readyz",
        "/ledger/{path}",
        *oauth,
        *lists,
        *runs,
        *(f"/.well-known/{each}" for each in known),
    }


@pytest.mark.parametrize(
    "page", ["/", "/inventory", "/inventory/rows", "/decisions", "/decisions/stream", "/findings", "/leases",
             "/ledger-entries", "/identities/x", "/decisions/x"],
)  # fmt: skip
def test_every_page_asks_to_sign_in_and_tells_how(server: Installation, page: str) -> None:
    status, headers, body = call(server, "GET", page)
    assert status == 401
    assert b"remit console" in body
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "", "evil.example:{port}"])
@pytest.mark.parametrize("path", ["/healthz", "/api/v1/summary", "/", "/sign-in?code=x"])
def test_a_host_that_is_not_ours_is_refused(server: Installation, cookie: str, host: str, path: str) -> None:
    port = str(urlsplit(server.url).port)
    headers = {"Host": host.format(port=port), "Cookie": cookie}
    assert call(server, "GET", path, headers=headers)[0] == 400


def test_localhost_by_name_is_ours(server: Installation) -> None:
    port = urlsplit(server.url).port
    assert call(server, "GET", "/healthz", headers={"Host": f"localhost:{port}"})[0] == 200


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:1"])
def test_a_change_with_a_cookie_needs_the_consoles_own_origin(
    server: Installation, cookie: str, origin: str | None
) -> None:
    headers = {"Cookie": cookie} | ({"Origin": origin} if origin is not None else {})
    status, _, raw = call(server, "POST", "/api/v1/policies/replay", {"text": ""}, headers)
    assert (status, problem(raw)["code"]) == (403, "surface.origin.foreign")


def test_a_change_from_the_consoles_own_page_passes(server: Installation, cookie: str) -> None:
    status, _, raw = call(
        server, "POST", "/api/v1/policies/replay", {"text": ""}, {"Cookie": cookie, "Origin": server.url}
    )
    assert (status, json.loads(raw)["changes"]) == (200, [])


def test_a_session_cannot_do_what_needs_a_persons_own_credential(server: Installation, cookie: str) -> None:
    headers = {"Cookie": cookie, "Origin": server.url}
    for path, body in (
        ("/api/v1/policies", {"text": ""}),
        ("/api/v1/people", {"name": "eve", "email": "e@x.y", "public_key": "00" * 32}),
        ("/api/v1/tasks", {"name": "t", "argv": ["/bin/true"]}),
    ):
        status, _, raw = call(server, "POST", path, body, headers)
        assert (status, problem(raw)["code"]) == (403, "surface.person.required"), path
    assert call(server, "POST", "/api/v1/sign-in", b"", headers)[0] == 403


# -- signing in


def test_a_sign_in_code_is_good_once(server: Installation) -> None:
    place = urlsplit(server.cli("console").stdout.strip())
    target = f"{place.path}?{place.query}"
    status, headers, _ = call(server, "GET", target)
    assert (status, headers["location"]) == (303, "/")
    assert call(server, "GET", target)[0] == 403


def test_the_cookie_is_for_this_site_and_no_script(server: Installation) -> None:
    place = urlsplit(server.cli("console").stdout.strip())
    cookie = call(server, "GET", f"{place.path}?{place.query}")[1]["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts


def test_signing_out_ends_the_session(server: Installation) -> None:
    mine = server.sign_in()
    assert call(server, "GET", "/api/v1/summary", headers={"Cookie": mine})[0] == 200
    assert call(server, "POST", "/sign-out", headers={"Cookie": mine})[0] == 403
    assert call(server, "POST", "/sign-out", headers={"Cookie": mine, "Origin": server.url})[0] == 303
    assert call(server, "GET", "/api/v1/summary", headers={"Cookie": mine})[0] == 401


@pytest.mark.parametrize("value", ["", "x", "remit_session=", "remit_session=guess", "remit_session=" + "a" * 4000])
def test_a_made_up_cookie_is_no_session(server: Installation, value: str) -> None:
    assert call(server, "GET", "/api/v1/summary", headers={"Cookie": value})[0] == 401


def test_what_a_request_says_of_itself_makes_nobody_an_administrator(server: Installation) -> None:
    headers = {
        "X-Forwarded-For": "127.0.0.1", "X-Remote-User": "root", "Authorization": "Bearer root",
        "X-Forwarded-Client-Cert": "URI=spiffe://remit.local/admin", "Remit-Signature": "person=root",
    }  # fmt: skip
    assert call(server, "GET", "/api/v1/summary", headers=headers)[0] == 401


# -- admin.sock


def test_admin_sock_and_all_state_are_for_their_owner_alone(server: Installation) -> None:
    modes = {path.name: path.lstat().st_mode & 0o777 for path in server.data.iterdir()}
    assert server.data.stat().st_mode & 0o777 == 0o711
    doors = ("agent.sock", "decide.sock", "enforce.sock", "ext-authz.sock")
    assert {name: modes.pop(name) for name in doors} == dict.fromkeys(doors, 0o666)
    assert modes.pop("admin.sock") == 0o600
    assert {name: mode & 0o077 for name, mode in modes.items()} == dict.fromkeys(modes, 0)


_PROBE = """
import http.client, os, socket, sys
os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
except PermissionError:
    print("refused by the file"); raise SystemExit
connection = http.client.HTTPConnection("localhost"); connection.sock = sock
connection.request("GET", "/api/v1/summary"); answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.mark.may_skip("only root can become another user")
def test_another_user_is_refused_by_the_file_and_by_the_kernels_word_on_the_peer() -> None:
    if os.geteuid():
        pytest.skip("needs root, to become the user nobody")
    with installation() as server:
        sock = server.data / "admin.sock"
        probe = [sys.executable, "-c", _PROBE, str(sock)]
        server.root.chmod(0o711)
        done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "refused by the file"
        sock.chmod(0o666)
        done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=True)
        status, _, body = done.stdout.partition(" ")
        assert (status, problem(body.encode())["code"]) == ("403", "surface.peer.refused")
        assert "65534" in body


# -- bodies, paths, identifiers


def test_a_body_that_is_too_large_is_refused_without_being_kept(server: Installation) -> None:
    status, _, raw = over_admin(server, "POST", "/api/v1/policies/replay", b" " * (MAX_BODY_BYTES + 1))
    assert (status, problem(raw)["code"]) == (400, "surface.body.too_large")


def test_an_endless_chunked_body_is_cut_off(server: Installation) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as sock:
        head = f"POST /api/v1/policies HTTP/1.1\r\nHost: {place.netloc}\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head.encode())
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                sock.sendall(chunk)
                sent += 65_536
        except OSError:
            pass
        assert sent < 40 * 1024 * 1024


def test_endless_headers_are_cut_off(server: Installation) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as sock:
        sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: {place.netloc}\r\n".encode())
        sent = 0
        try:
            while sent < 16 * 1024 * 1024:
                sock.sendall(b"x-a: " + b"y" * 8000 + b"\r\n")
                sent += 8000
        except OSError:
            pass
        assert sent < 8 * 1024 * 1024
    assert call(server, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"subject": 1}', b'{"subject": "x", "dryrun": true}', b"\xff\xfe",
     b'{"subject": "x", "dry_run": "yes"}', b"[" * 100_000],
    ids=range(10),
)  # fmt: skip
def test_a_body_that_the_operation_does_not_take_is_400(server: Installation, body: bytes) -> None:
    status, _, raw = over_admin(server, "POST", "/api/v1/revoke", body)
    assert (status, problem(raw)["code"]) == (400, "surface.body.invalid")


@pytest.mark.parametrize(
    "path",
    ["../remit.db", "..%2fremit.db", "%2e%2e/remit.db", "tile/../../keys/kek", "tile/0/../../../keys/kek",
     "/etc/passwd", "%2fetc%2fpasswd", "checkpoint/../../keys/kek", "checkpoint%00", "tile/0/x001/000.p/1/../../../../../keys/kek",
     "decisions/x", "tile", "", ".", "key.pub/", "tile/0/999", "tile/entries/000.p/256/x"],
)  # fmt: skip
def test_the_public_ledger_path_leads_nowhere_else(server: Installation, path: str) -> None:
    status, _, raw = call(server, "GET", f"/ledger/{path}")
    assert status in (404, 401), raw
    assert b"SQLite" not in raw and b"root:" not in raw


def test_the_tiles_that_it_serves_verify_elsewhere(server: Installation, tmp_path: Path) -> None:
    for path in ("checkpoint", "key.pub"):
        (tmp_path / path).write_bytes(call(server, "GET", f"/ledger/{path}")[2])
    size = int((tmp_path / "checkpoint").read_text().splitlines()[1])
    for tile in (f"tile/0/000.p/{size}", f"tile/entries/000.p/{size}"):
        (tmp_path / tile).parent.mkdir(parents=True, exist_ok=True)
        status, headers, raw = call(server, "GET", f"/ledger/{tile}")
        assert (status, headers["content-type"]) == (200, "application/octet-stream")
        (tmp_path / tile).write_bytes(raw)
    done = server.cli("ledger", "verify", "--from", tmp_path, "--key", tmp_path / "key.pub", "--format", "json")
    assert json.loads(done.stdout)["size"] == size


def test_a_request_id_comes_back_and_a_hostile_one_does_not(server: Installation) -> None:
    for path in ("/healthz", "/api/v1/summary", "/no/such/path"):
        assert call(server, "GET", path, headers={"X-Request-ID": "req-42"})[1]["x-request-id"] == "req-42", path
    for hostile in ("x" * 201, ""):
        headers = call(server, "GET", "/healthz", headers={"X-Request-ID": hostile})[1]
        assert "x-request-id" not in headers


def test_what_is_not_there_is_a_problem_as_well(server: Installation) -> None:
    status, headers, raw = call(server, "GET", "/no/such/path")
    assert (status, headers["content-type"]) == (404, PROBLEM)
    assert problem(raw)["code"] == "surface.path.unknown"
    status, headers, raw = call(server, "PATCH", "/healthz")
    assert (status, headers["content-type"]) == (405, PROBLEM)
    assert problem(raw)["code"] == "surface.method.unknown"
    assert "GET" in headers["allow"]


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "limit=1001", "offset=9999999999999", "sort=secret", "sort=;"]
)
def test_a_query_out_of_bounds_is_400(server: Installation, query: str) -> None:
    status, _, raw = over_admin(server, "GET", f"/api/v1/identities?{query}")
    assert status == 400
    problem(raw)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/identities/none", "/api/v1/identities/none/blast", "/api/v1/decisions/none", "/api/v1/incidents/none",
     "/api/v1/targets/none/install", "/api/v1/identities/%00", "/api/v1/identities/%F0%9F%98%80%FF"],
)  # fmt: skip
def test_an_unknown_thing_is_404(server: Installation, path: str) -> None:
    status, _, raw = over_admin(server, "GET", path)
    assert status == 404, raw
    problem(raw)


def test_metrics_speak_prometheus(server: Installation) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    status, headers, raw = over_admin(server, "GET", "/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    names = {family.name for family in text_string_to_metric_families(raw.decode())}
    assert {"remit_http_request_seconds", "remit_ledger_entries", "remit_identities"} <= names


# -- the document


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def test_the_openapi_document_is_whole(server: Installation) -> None:
    from remit.surface.api.routes import all_routes

    document = json.loads(call(server, "GET", "/openapi.json")[2])
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] and document["info"]["version"]
    operations = {
        (method.upper(), path): operation
        for path, each in document["paths"].items()
        for method, operation in each.items()
    }
    routes = {(route.method, route.path.replace(":path}", "}")): route for route in all_routes()}
    assert set(operations) == set(routes)
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))
    for (method, path), operation in operations.items():
        assert operation["summary"], path
        assert operation["responses"]["default"]["content"][PROBLEM]["schema"], path
        placed = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert placed == set(re.findall(r"\{(\w+)\}", path))
        assert all(each["required"] for each in operation["parameters"] if each["in"] == "path")
        takes = routes[(method, path)].body is not None
        assert ("requestBody" in operation) == takes, path
    for reference in _references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node
    problem_schema = document["components"]["schemas"]["Problem"]
    assert {"code", "title", "status", "next_step"} <= set(problem_schema["required"])


# -- AuthZEN


def ask(server: Installation, subject: str = "urn:remit:x:y:z:w", action: str = "read", resource: str = "r") -> Any:
    body = {"subject": {"type": "identity", "id": subject}, "action": {"name": action},
            "resource": {"type": "thing", "id": resource}}  # fmt: skip
    status, _, raw = over_admin(
        server, "POST", "/access/v1/evaluation", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    assert status == 200, raw
    return json.loads(raw)


def test_without_a_policy_everything_is_denied_then_what_one_permits_is_not() -> None:
    with installation() as server:
        plant(server.root / "tree")
        server.json("discover", "files", server.root / "tree")
        identity = next(each for each in server.json("ls") if each["record"] == "identity")
        before = ask(server, identity["name"])
        assert before["decision"] is False
        policies = server.root / "p.cedar"
        policies.write_text(
            '@id("read-r") @reason("reading r is fine")\n'
            'permit (principal, action == Remit::Action::"read", resource);\n'
        )
        applied = server.json("policy", "apply", policies)
        assert applied["count"] == 1
        after = ask(server, identity["name"])
        assert after["decision"] is True
        assert [each["id"] for each in after["context"]["reason"]["policies"]] == ["read-r"]
        assert after["context"]["reason"]["policies"][0]["text"] == "reading r is fine"
        assert ask(server, identity["id"])["decision"] is True
        assert ask(server, identity["name"], action="write")["decision"] is False
        assert ask(server, "nobody-knows-it")["decision"] is False
        told = server.json("explain", after["context"]["id"])
        assert told["allowed"] and told["id"] == after["context"]["id"]
        assert server.json("decisions")[0]["id"]


def test_authzen_refuses_what_it_cannot_read(server: Installation) -> None:
    for body in (b"", b"{}", b'{"subject": {}}', b"[]"):
        status, _, raw = over_admin(server, "POST", "/access/v1/evaluation", body, {"Content-Type": "application/json"})
        assert status == 400
        problem(raw)


def test_the_pdps_address_is_the_one_that_was_asked(server: Installation) -> None:
    document = json.loads(call(server, "GET", "/.well-known/authzen-configuration")[2])
    assert document["policy_decision_point"] == server.url


# -- one instance, its clean end, and what it refuses to start on


def test_a_second_instance_on_the_same_directory_is_refused(server: Installation) -> None:
    done = server.cli("up", "--listen", "127.0.0.1:0", code=3)
    assert "storage.datadir.locked" in done.stderr
    assert call(server, "GET", "/healthz")[0] == 200


def test_a_port_that_is_taken_is_told(server: Installation) -> None:
    port = urlsplit(server.url).port
    done = server.cli("up", "--data", server.root / "other", "--listen", f"127.0.0.1:{port}", code=3)
    assert "surface.listen.taken" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("listen", "code"),
    [
        ("0.0.0.0:0", "surface.listen.plain"),
        ("8420", "surface.listen.invalid"),
        ("127.0.0.1:99999", "surface.listen.invalid"),
    ],
)
def test_it_listens_in_clear_on_loopback_only(tmp_path: Path, listen: str, code: str) -> None:
    with installation(start=False) as made:
        assert code in made.cli("up", "--listen", listen, code=4).stderr


def test_sigterm_ends_it_cleanly_and_the_next_start_goes_on() -> None:
    with installation() as made:
        made.json("discover", "files", plant(made.root / "tree"))
        before = made.json("ls")
        assert made.stop() == 0
        assert made.cli("ls", code=3).stderr.startswith("error no control plane serves")
        assert not any(path.name.endswith(".sock") and _answers(path) for path in made.data.iterdir())
        made.start()
        assert made.json("ls") == before
        made.cli("ledger", "verify")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_killed_in_the_middle_of_a_scan_it_starts_again_and_the_ledger_verifies() -> None:
    with installation() as made:
        tree = made.root / "tree"
        for number in range(60):
            plant(tree / f"app{number}", secret=f"kV7pQz3nWm8rTs5yXb2dLc9gHf{number:03}")
        scan = subprocess.Popen(
            [sys.executable, "-c", "from remit.surface.cli.entry import main; main()", "discover", "files", str(tree)],
            env=made.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.8)
        made.stop(9)
        assert scan.wait(60) in (0, 3)
        made.start()
        made.json("discover", "files", tree)
        assert len({each["id"] for each in made.json("ls") if each["record"] == "identity"}) > 0
        made.cli("ledger", "verify")


def test_state_without_its_key_file_is_refused_and_no_new_key_is_made() -> None:
    with installation() as made:
        made.stop()
        kek = made.data / "keys" / "kek"
        held = kek.read_bytes()
        kek.unlink()
        done = made.cli("up", "--listen", "127.0.0.1:0", code=4)
        assert "storage.key.missing" in done.stderr
        assert not kek.exists()
        kek.write_bytes(bytes.fromhex("ab" * 32).hex().encode())
        assert "storage.key.wrong" in made.cli("up", "--listen", "127.0.0.1:0", code=4).stderr
        kek.write_bytes(held)
        made.start()


def test_on_postgresql_it_does_the_same_and_a_second_start_finds_everything(tmp_path: Path, postgres: Any) -> None:
    place, secret = fresh_database("postgresql", tmp_path, postgres), "kV7pQz3nWm8rTs5yXb2dLc9gHf4j"
    with installation("--database", place) as made:
        made.json("discover", "files", plant(made.root / "tree", secret=secret))
        made.cli("policy", "apply", _policy(made))
        rows = made.json("ls")
        assert {each["record"] for each in rows} == {"identity", "credential"}
        assert ask(made, next(each["name"] for each in rows if each["record"] == "identity"))["decision"] is True
        made.cli("claim", next(each["id"] for each in rows if each["record"] == "identity"))
        assert not (made.data / "remit.db").exists()
        made.stop()
        made.start()
        again = made.json("ls")
        assert [each.get("id") for each in again] == [each.get("id") for each in rows]
        assert "in force" not in made.cli("policy", "show").stderr and "permit" in made.cli("policy", "show").stdout
        made.cli("ledger", "verify")
        made.stop()
        password = urlsplit(place).password or "none"
        everything = b"".join(content for _, content in _everything_under(made.data)) + made.printed().encode()
        assert secret.encode() not in everything and password.encode() not in everything


# -- no secret anywhere


def _everything_under(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


def forms(secret: str) -> dict[str, bytes]:
    """A secret as it might be written down."""
    raw = secret.encode()
    shifts = {f"base64+{n}": base64.b64encode(b"x" * n + raw)[4 if n else 0 : -4] for n in range(3)}
    return {"utf-8": raw, "utf-16": secret.encode("utf-16-le"), "hex": raw.hex().encode(), **shifts}


def test_no_secret_is_in_any_file_answer_or_line_that_was_printed() -> None:
    planted, target, token = (
        "kV7pQz3nWm8rTs5yXb2dLc9gHf4jCANARY",
        "tQ9wCANARYeR4tYuI8oPaSdF",
        "zX3cCANARYvB6nMkLjHgFdSaP0",
    )
    with installation() as made:
        said = []
        plant(made.root / "tree", secret=planted)
        said.append(made.cli("discover", "files", made.root / "tree"))
        said.append(made.cli("target", "add", "postgres", "--name", "orders", "--url",
                             "postgres://admin@127.0.0.1:1/shop", "--role", "read=app_ro", "--password-stdin",
                             stdin=target + "\n", code=None))  # fmt: skip
        said.append(made.cli("target", "add", "postgres", "--name", "other", "--url",
                             f"postgres://admin:{token}@127.0.0.1:1/shop",
                             "--role", "read=app_ro", code=2))  # fmt: skip
        said.append(made.cli("discover", "postgres", "postgres://admin@127.0.0.1:1/shop", code=None, PGPASSWORD=token))
        said.append(made.cli("discover", "postgres", f"postgres://admin:{token}@127.0.0.1:1/shop", code=2))
        said.append(made.cli("policy", "apply", _policy(made)))
        for command in (
            ["ls"],
            ["findings"],
            ["sources"],
            ["ledger", "ls"],
            ["target", "ls"],
            ["doctor"],
            ["decisions"],
        ):
            said.append(made.cli(*command, "--format", "json", code=None))
        pages = []
        for identity in [each["id"] for each in made.json("ls") if each["record"] == "identity"]:
            pages += [made.admin.text(f"/api/v1/identities/{identity}{part}") for part in ("", "/blast", "/dependents")]
        said.append(made.cli("show", identity))
        seeds = [json.loads(path.read_bytes())["seed"] for path in (made.home / ".config" / "remit").glob("*.json")]
        kek = (made.data / "keys" / "kek").read_text().strip()
        answers = "".join(each.stdout + each.stderr for each in said) + "".join(pages)
        made.stop()
        assert len(seeds) == 1
        printed = made.printed()
        for what, secret in (
            ("planted", planted),
            ("target", target),
            ("token", token),
            ("person key", seeds[0]),
            ("kek", kek),
        ):
            assert secret not in answers, f"{what} in an answer"
            for form, raw in forms(secret).items():
                assert raw not in printed.encode(), f"{what} as {form} in the server's output"
                where = [path for path, content in _everything_under(made.data) if raw in content]
                assert [path.name for path in where] == (["kek"] if (what, form) == ("kek", "utf-8") else []), (
                    what,
                    form,
                )


def _policy(made: Installation) -> Path:
    path = made.root / "p.cedar"
    path.write_text("permit (principal, action, resource);\n")
    return path


def test_the_environment_of_the_server_is_no_place_for_a_misspelt_setting() -> None:
    with installation(start=False) as made:
        done = made.cli("up", "--listen", "127.0.0.1:0", code=4, REMIT_SERVER_LISSTEN="x")
        assert "did you mean `listen`" in done.stderr
        assert environment(made.home).get("REMIT_SERVER_LISSTEN") is None


def test_the_clients_own_errors_are_the_servers() -> None:
    with installation() as made:
        with pytest.raises(NotFound):
            made.admin.get("/api/v1/identities/none")
        with pytest.raises(Rejected):
            made.admin.get("/api/v1/identities", limit="x")
        with pytest.raises(Denied):
            made.admin.post("/api/v1/policies", {"text": ""})
