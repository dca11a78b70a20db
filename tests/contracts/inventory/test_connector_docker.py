"""Docker: definitions, an archive, and an engine of tests behind a real Unix socket."""

from __future__ import annotations

import io
import json
import shutil
import socketserver
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from remit.inventory.connectors.docker import DockerConnector
from remit.inventory.connectors.files.testing import HOST, credentials, edges, identities, rules
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of, fingerprint
from remit.inventory.model import Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import credential_name, name

PASSWORD = "Cont41ner-Secret-9x"
CONTAINERS = {
    "a" * 64: {
        "Id": "a" * 64, "Name": "/shop", "Created": "2026-01-01T00:00:00Z", "State": {"Running": True},
        "Config": {"User": "app", "Image": "acme/shop:1", "Env": [f"DATABASE_URL=postgres://app:{PASSWORD}@db.internal/shop", "PATH=/bin"],
                   "Labels": {"com.docker.compose.service": "shop"}},
        "HostConfig": {"Privileged": False, "CapAdd": None, "PidMode": ""}, "Mounts": [],
        "NetworkSettings": {"Networks": {"backend": {}}},
    },
    "b" * 64: {
        "Id": "b" * 64, "Name": "/agent", "Config": {"User": "", "Image": "ci/agent", "Env": None, "Labels": None},
        "HostConfig": {"Privileged": False, "CapAdd": ["CAP_SYS_ADMIN"]}, "NetworkSettings": {},
        "Mounts": [{"Type": "bind", "Source": "/var/run/docker.sock", "Destination": "/var/run/docker.sock", "RW": True}],
    },
}  # fmt: skip


@contextmanager
def engine(containers: dict[str, Any], gone: frozenset[str] = frozenset()) -> Iterator[str]:
    """An engine's socket that answers as Docker 20.10 does; anything but GET is refused."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

        def address_string(self) -> str:
            return "unix"

        def do_GET(self) -> None:
            asked.append(self.path)
            container = self.path.split("/")[2] if self.path.startswith("/containers/") else ""
            if self.path == "/version":
                return self.say(200, {"ApiVersion": "1.41"})
            if self.path == "/containers/json?all=1":
                return self.say(200, [{"Id": each} for each in containers])
            if container in containers and container not in gone:
                return self.say(200, containers[container])
            return self.say(404, {"message": "No such container"})

        def say(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    root = Path(tempfile.mkdtemp(dir="/tmp"))
    server = Server(str(root / "d.sock"), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"unix://{root / 'd.sock'}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def stage() -> Iterator[ConnectorStage]:
    with engine(CONTAINERS) as source:
        yield ConnectorStage(
            connector=lambda: DockerConnector(source, instance=HOST),
            expected=(name("docker", HOST, "container", "shop"), name("postgres", "db.internal:5432", "role", "app")),
            secrets=(PASSWORD,),
            refused=lambda: DockerConnector("unix:///nonexistent/docker.sock"),
        )


class TestDocker(ConnectorContract):
    pass


def test_who_holds_the_engine_is_root_of_the_host() -> None:
    with engine(CONTAINERS) as source:
        facts = facts_of(DockerConnector(source, instance=HOST))
    agent, root = name("docker", HOST, "container", "agent"), name("host", HOST, "unix-account", "root")
    assert (agent, root) in {(edge.source, edge.target) for edge in edges(facts, "assume")}
    assert "docker.container-is-root" in rules(facts)
    held = credential_name(fingerprint(PASSWORD.encode()))
    assert (name("docker", HOST, "container", "shop"), held) in {(e.source, e.target) for e in edges(facts, "holds")}


def test_a_container_that_ends_meanwhile_is_reported_and_hides_no_other() -> None:
    with engine(CONTAINERS, gone=frozenset(["a" * 64])) as source:
        facts = facts_of(DockerConnector(source, instance=HOST))
    assert [fact.reason for fact in facts if isinstance(fact, Skipped)] == ["changed-while-read"]
    assert name("docker", HOST, "container", "agent") in {fact.name for fact in identities(facts)}


def archive(path: Path, members: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for called, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(called)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_an_archive_shows_environment_labels_and_build_arguments(tmp_path: Path) -> None:
    config = {
        "config": {"Env": [f"API_TOKEN={PASSWORD}"], "User": "app", "Labels": {"db_password": "Lab3l-" + PASSWORD}},
        "history": [{"created_by": f"RUN |1 NPM_TOKEN=Bu1ld-{PASSWORD} /bin/sh -c npm ci"}], "rootfs": {},
    }  # fmt: skip
    digest = "c" * 64
    saved = archive(tmp_path / "shop.tar", {
        f"{digest}.json": config, "manifest.json": [{"Config": f"{digest}.json", "RepoTags": ["acme/shop:1"], "Layers": []}],
    })  # fmt: skip
    facts = facts_of(DockerConnector(str(saved), instance=HOST))
    wanted = {fingerprint((prefix + PASSWORD).encode()) for prefix in ("", "Lab3l-", "Bu1ld-")}
    assert wanted <= {fact.fingerprint for fact in credentials(facts)}
    assert name("oci", "docker.io", "image", "acme/shop:1") in {fact.name for fact in identities(facts)}


def test_a_dockerfile_shows_its_secrets_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM debian\n# ENV NO_TOKEN={PASSWORD}x\nENV A=1 \\\n    API_TOKEN={PASSWORD}\nARG OLD_PASSWORD Form-{PASSWORD}\n"
        f"ENV OTHER_PASSWORD Form-{PASSWORD}\n"
    )
    facts = facts_of(DockerConnector(str(tmp_path), instance=HOST))
    assert {fact.fingerprint: fact.place.line for fact in credentials(facts)} == {
        fingerprint(PASSWORD.encode()): 3,
        fingerprint(f"Form-{PASSWORD}".encode()): 5,
    }
    assert "docker.runs-as-root" in rules(facts)


def test_a_compose_file_is_read_as_the_files_connector_reads_it(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  web:\n    image: x\n    environment:\n      API_TOKEN: {PASSWORD}\n"
    )
    facts = facts_of(DockerConnector(str(tmp_path), instance=HOST))
    assert [fact.title for fact in identities(facts) if "web" in fact.title]
    assert credentials(facts)


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b" + b"\0" * 50, b""])
def test_a_file_that_is_no_archive_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    (skipped,) = facts_of(DockerConnector(str(tmp_path / "x.tar"), instance=HOST))
    assert isinstance(skipped, Skipped) and skipped.reason == "malformed"


def test_a_source_that_is_none_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        DockerConnector(str(tmp_path / "none")).open()
