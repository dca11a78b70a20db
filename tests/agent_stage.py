"""Agents far from the control plane, each in a process of its own, beside an installation on loopback."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from installation import REMIT, ROOT, Installation, environment

CLIENT = ROOT / "tests" / "scenarios" / "spiffe_client.py"
ME = f"unix:uid:{os.getuid()}"
_SECONDS = 60.0


def server_of(made: Installation) -> str:
    """HOST:PORT of the listener for agents, as `/healthz` tells it."""
    with made.http("GET", "/healthz") as answer:
        return str(json.loads(answer.read())["agents"])


@dataclass(slots=True)
class Machine:
    """A machine with an agent: its directory, and the process while one runs."""

    made: Installation
    name: str
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    said: bytes = field(default=b"", repr=False)

    @property
    def data(self) -> Path:
        return self.made.root / f"a-{self.name}"

    @property
    def selector(self) -> str:
        """The selector of this node."""
        return f"node:agent:join_token/{self.name}"

    @property
    def log(self) -> Path:
        return self.made.root / f"a-{self.name}.log"

    def token(self) -> Path:
        """A fresh join token for it, and the bundle beside."""
        path = self.made.root / f"a-{self.name}.token"
        path.unlink(missing_ok=True)
        self.made.cli("agent", "token", "--name", self.name, "--out", path, "--bundle", self.bundle)
        return path

    @property
    def bundle(self) -> Path:
        return self.made.root / f"a-{self.name}.bundle"

    def start(self, *arguments: str | Path, server: str = "") -> None:
        """Start `remit agent`; does not wait."""
        assert self.process is None
        given = (*map(str, arguments), *self.arguments)
        command = [*REMIT, "agent", "--server", server or server_of(self.made), "--data", str(self.data), *given]
        self.said = b""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment(self.made.home), cwd=self.made.root, stdout=subprocess.PIPE, stderr=log,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def join(self, *, server: str = "") -> None:
        """Join by a fresh token; returns when the agent says `ready`."""
        token = self.token()
        self.start("--bundle", self.bundle, "--join-token-file", token, server=server)
        self.await_ready()

    def await_ready(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        deadline = time.monotonic() + _SECONDS
        while not self.said.endswith(b"\n"):
            waiting = max(0.0, deadline - time.monotonic())
            found = select.select([self.process.stdout], [], [], waiting)[0]
            chunk = os.read(self.process.stdout.fileno(), 4096) if found else b""
            assert chunk, f"the agent did not get ready\n{self.printed()}"
            self.said += chunk
        word, url = self.said.decode().split()
        assert word == "ready"
        return url

    def ended(self) -> int:
        """Wait for the process to end by itself; its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        code = process.wait(_SECONDS)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        return self.ended()

    def status(self) -> dict[str, Any]:
        """What `remit agent status` says."""
        done = self.made.cli("agent", "status", "--data", self.data, "--format", "json", code=None)
        return json.loads(done.stdout) if done.stdout else {"state": "none", "said": done.stderr}

    def until(self, state: str) -> dict[str, Any]:
        """Wait until its status is `state`."""
        path, deadline = self.data / "status.json", time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            found = json.loads(path.read_bytes()) if path.exists() else {}
            if found.get("state") == state:
                return dict(found)
            time.sleep(0.05)
        raise AssertionError(f"the agent is not `{state}`\n{self.printed()}")

    def fetch(self, verb: str = "x509", *arguments: str) -> dict[str, Any]:
        """What py-spiffe gets from its socket, in a process of its own."""
        done = subprocess.run(
            [sys.executable, str(CLIENT), verb, *arguments], capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.data}/agent.sock", "GRPC_VERBOSITY": "NONE"},
        )  # fmt: skip
        return dict(json.loads(done.stdout))

    def fetch_until(self, wanted: str) -> dict[str, Any]:
        """Fetch until this SPIFFE ID is among what comes."""
        deadline = time.monotonic() + _SECONDS
        while wanted not in (found := self.fetch()).get("ids", ()):
            assert time.monotonic() < deadline, f"{found}\n{self.printed()}"
        return found

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


@contextmanager
def machine(made: Installation, name: str) -> Iterator[Machine]:
    """A machine whose agent is ended after the block."""
    found = Machine(made, name)
    try:
        yield found
    finally:
        found.stop(signal.SIGKILL)
