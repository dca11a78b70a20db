"""A forge's REST API for tests: recorded shapes, pages by `Link`, ETags, limits of rate, failures, permissions.

One class serves GitHub's and GitLab's form: what differs is the header of the token and where lists lie.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "github_pat_" + "A1b2C3d4" * 9


@dataclass
class Forge:
    """What the server says. `objects` and `lists` by path; a list inside an object is `(key, rows)`."""

    objects: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, tuple[str, list[dict[str, Any]]]] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)
    """Path → 403 or 404."""
    faults: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    """(path, status, headers), each answered once, before anything else of that path."""
    after: Callable[[str, int], None] = lambda path, page: None
    """Called after each page that was answered: rows may change here."""
    page_size: int = 100
    token: str = TOKEN
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def file(self, slug: str, path: str, text: str) -> None:
        data = text.encode()
        entry = {"type": "file", "name": path.rpartition("/")[2], "path": path, "size": len(data),
                 "sha": hashlib.sha1(data).hexdigest(), "encoding": "base64"}  # fmt: skip
        self.objects[f"/repos/{slug}/contents/{path}"] = entry | {"content": base64.encodebytes(data).decode()}
        parent = path.rpartition("/")[0]
        self.objects.setdefault(f"/repos/{slug}/contents/{parent}", []).append(entry)

    def repository(self, slug: str, number: int, **more: Any) -> dict[str, Any]:
        row = {"id": number, "name": slug.partition("/")[2], "full_name": slug, "private": True, "archived": False,
               "default_branch": "main", "owner": {"login": slug.partition("/")[0], "id": 1}, **more}  # fmt: skip
        self.objects[f"/repos/{slug}"] = row
        for path, inside in (("keys", ""), ("hooks", ""), ("actions/secrets", "secrets"), ("environments", "environments"),
                             ("actions/variables", "variables"), ("dependabot/secrets", "secrets"), ("actions/runners", "runners")):  # fmt: skip
            self.lists[f"/repos/{slug}/{path}"] = (inside, [])
        self.lists[f"/orgs/{slug.partition('/')[0]}/repos"][1].append(row)
        return row

    def organisation(self, org: str) -> None:
        self.objects[f"/orgs/{org}"] = {"login": org, "id": 1, "type": "Organization"}
        for path, inside in (("repos", ""), ("installations", "installations"), ("personal-access-tokens", ""), ("hooks", ""),
                             ("actions/secrets", "secrets"), ("actions/variables", "variables"), ("members", ""),
                             ("dependabot/secrets", "secrets"), ("actions/runners", "runners"), ("outside_collaborators", "")):  # fmt: skip
            self.lists[f"/orgs/{org}/{path}"] = (inside, [])


@contextmanager
def forge_server(forge: Forge, prefix: str = "") -> Iterator[Forge]:
    """Serve `forge` on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for an acknowledgement

        def log_message(self, *args: Any) -> None: ...

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix(prefix)
            forge.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            given = self.headers.get("PRIVATE-TOKEN") or self.headers.get("Authorization", "").partition(" ")[2]
            if given != forge.token:
                return self.say(401, {"message": "Bad credentials"})
            for fault in forge.faults:
                if fault[0] == path:
                    forge.faults.remove(fault)
                    return self.say(fault[1], {"message": "fault"}, fault[2])
            if path in forge.denied:
                return self.say(forge.denied[path], {"message": "Resource not accessible by personal access token"})
            if path in forge.lists:
                return self.page(path, parse_qs(parts.query))
            for each in (path, unquote(path)):
                if each in forge.objects:
                    return self.say(200, forge.objects[each])
            return self.say(404, {"message": "Not Found"})

        def page(self, path: str, query: dict[str, list[str]]) -> None:
            inside, rows = forge.lists[path]
            number = int(query.get("page", ["1"])[0])
            size = min(int(query.get("per_page", ["30"])[0]), forge.page_size)
            start = (number - 1) * size
            shown: Any = rows[start : start + size]
            headers = {}
            if start + size < len(rows):
                rest = "&".join(f"{k}={v[0]}" for k, v in query.items() if k != "page")
                headers["Link"] = (
                    f'<{forge.url}{path}?{rest}&page={number + 1}>; rel="next", <{forge.url}{path}?page=9>; rel="last"'
                )
            self.say(200, {"total_count": len(rows), inside: shown} if inside else shown, headers)
            forge.after(path, number)

        def say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            etag = 'W/"' + hashlib.sha256(data + str(sorted((headers or {}).items())).encode()).hexdigest()[:32] + '"'
            if status == 200 and self.headers.get("If-None-Match") == etag:
                status, data = 304, b""
            self.send_response(status)
            for key, value in {"ETag": etag, "Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    forge.url = f"http://127.0.0.1:{server.server_port}{prefix}"
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


WORKFLOW = """
name: release
on: push
permissions: {contents: read, id-token: write}
jobs:
  ship:
    runs-on: ubuntu-latest
    environment: production
    steps:
      - uses: aws-actions/configure-aws-credentials@v4
        with: {role-to-assume: "arn:aws:iam::111122223333:role/deploy", aws-region: eu-west-1}
      - run: ./ship.sh "${{ secrets.DEPLOY_TOKEN }}" "${{ secrets.ORG_TOKEN }}"
"""


def acme(key: str) -> Forge:
    """An organisation with one of everything; `key` is the public half of the deploy key."""
    forge = Forge()
    forge.organisation("acme")
    forge.repository("acme/shop", 11)
    forge.repository("acme/site", 12, private=False)
    repo, org = "/repos/acme/shop", "/orgs/acme"
    forge.lists[f"{repo}/keys"][1].append({
        "id": 7, "key": key, "title": "server", "verified": True, "created_at": "2024-01-01T00:00:00Z",
        "read_only": False, "added_by": "alice", "last_used": "2026-11-20T10:00:00Z", "enabled": True,
    })  # fmt: skip
    forge.lists[f"{repo}/hooks"][1].append({
        "id": 5, "type": "Repository", "name": "web", "active": True, "events": ["push"], "created_at": "2025-01-01T00:00:00Z",
        "config": {"url": "http://ci.example/hook/Abc123Secret99", "content_type": "json", "insecure_ssl": "0"},
    })  # fmt: skip
    forge.lists[f"{repo}/actions/secrets"][1].append(
        {"name": "DEPLOY_TOKEN", "created_at": "2026-10-01T00:00:00Z", "updated_at": "2026-10-01T00:00:00Z"}
    )
    forge.lists[f"{repo}/environments"][1].append(
        {"id": 3, "name": "production", "protection_rules": [], "deployment_branch_policy": None}
    )
    forge.lists[f"{repo}/environments/production/secrets"] = (
        "secrets",
        [{"name": "DB_PASSWORD", "updated_at": "2026-10-01T00:00:00Z"}],
    )
    forge.lists[f"{repo}/environments/production/variables"] = ("variables", [])
    forge.lists["/repos/acme/site/actions/runners"][1].append(
        {
            "id": 2,
            "name": "big-1",
            "os": "linux",
            "status": "online",
            "busy": False,
            "labels": [{"id": 1, "name": "gpu", "type": "custom"}],
        }
    )
    forge.lists[f"{org}/installations"][1].append({
        "id": 99, "app_id": 4, "app_slug": "deploybot", "repository_selection": "all", "target_type": "Organization",
        "permissions": {"contents": "write", "metadata": "read"}, "events": ["push"], "suspended_at": None,
        "created_at": "2025-05-05T00:00:00Z", "account": {"login": "acme"},
    })  # fmt: skip
    forge.lists[f"{org}/personal-access-tokens"][1].append({
        "id": 25, "owner": {"login": "ci-bot", "id": 9, "type": "User"}, "repository_selection": "subset",
        "permissions": {"organization": {"members": "read"}, "repository": {"contents": "write"}},
        "access_granted_at": "2025-01-01T00:00:00Z", "token_id": 98716, "token_name": "nightly", "token_expired": False,
        "token_expires_at": None, "token_last_used_at": "2026-11-21T00:00:00Z",
    })  # fmt: skip
    forge.lists[f"{org}/actions/secrets"][1].append(
        {"name": "ORG_TOKEN", "visibility": "all", "updated_at": "2020-01-01T00:00:00Z"}
    )
    forge.lists[f"{org}/outside_collaborators"][1].append({"login": "contractor", "id": 77, "type": "User"})
    forge.lists[f"{org}/members"][1].extend(
        [{"login": "alice", "type": "User"}, {"login": "release-bot", "type": "User"}]
    )
    forge.file("acme/shop", ".github/workflows/release.yml", WORKFLOW)
    forge.file("acme/shop", ".github/CODEOWNERS", "/.github/ @acme/platform\n")
    return forge
