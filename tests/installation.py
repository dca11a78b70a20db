"""An installation as a user has one: `remit up` in a process of its own, and the command line beside it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ports import ended
from remit.surface.cli.client import Admin

ROOT = Path(__file__).parents[1]
REMIT = (sys.executable, "-c", "import sys; from remit.surface.cli.entry import main; sys.argv[0] = 'remit'; main()")
_START_SECONDS = 120.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user whose home is `home`: nothing of the machine's own settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("REMIT_", "PG", "XDG_", "COLUMNS"))}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "PYTHONPATH": str(ROOT / "src"),
        "NO_COLOR": "1",
        "REMIT_TRUST_LISTEN": "127.0.0.1:0",
        **more,
    }


def run_remit(
    *args: str | Path, env: Mapping[str, str], cwd: Path | None = None, stdin: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Type `remit ARGS`."""
    return subprocess.run(
        [*REMIT, *map(str, args)], env=dict(env), cwd=cwd, input=stdin, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


@dataclass(slots=True)
class Installation:
    """A private directory, the server on it while one runs, and its user."""

    root: Path
    """Everything of this installation lies below it; short, for sockets live here."""
    arguments: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def data(self) -> Path:
        return self.root / "d"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def log(self) -> Path:
        """What the server printed, of all its runs."""
        return self.root / "server.log"

    @property
    def env(self) -> dict[str, str]:
        return environment(self.home, REMIT_DATA=str(self.data), **self.extra)

    @property
    def admin(self) -> Admin:
        """The CLI's own client of `admin.sock`."""
        return Admin(self.data / "admin.sock", self.data)

    def start(self) -> None:
        """Start `remit up`; returns when it says `ready`."""
        assert self.process is None
        command = [*REMIT, "up", "--data", str(self.data), "--listen", "127.0.0.1:0", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.root, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
            )
        self.url = self._await_ready(self.process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        said, deadline = b"", time.monotonic() + _START_SECONDS
        while not said.endswith(b"\n"):
            waiting = max(0.0, deadline - time.monotonic())
            if not select.select([process.stdout], [], [], waiting)[0]:
                self.stop(signal.SIGKILL)
                raise AssertionError(f"the server did not get ready: {said!r}\n{self.printed()}")
            if not (chunk := os.read(process.stdout.fileno(), 4096)):
                self.stop(signal.SIGKILL)
                raise ended(self.printed())
            said += chunk
        word, url = said.decode().split()
        assert word == "ready"
        return url

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the server by its pid; returns its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            rest = process.stdout.read()
            with self.log.open("ab") as log:
                log.write(rest)
            process.stdout.close()
        return code

    def printed(self) -> str:
        """Everything that the server has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def cli(
        self, *args: str | Path, code: int | None = 0, stdin: str = "", cwd: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Type a command as this installation's user; `code` is the exit code that must come (`None`: any)."""
        done = run_remit(*args, env={**self.env, **more}, stdin=stdin, cwd=cwd or self.root)
        assert code is None or done.returncode == code, f"remit {args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args: str | Path, code: int | None = 0, stdin: str = "") -> Any:
        """What a command prints with `--format json`."""
        return json.loads(self.cli(*args, "--format", "json", code=code, stdin=stdin).stdout)

    @contextmanager
    def http(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """One request to the TCP listener, with the headers as they stand."""
        place = urlsplit(self.url)
        connection = HTTPConnection(str(place.hostname), place.port, timeout=60)
        try:
            connection.request(method, path, body=body or None, headers=dict(headers or {}))
            yield connection.getresponse()
        finally:
            connection.close()

    def sign_in(self) -> str:
        """Sign in as a browser would; returns the value of its Cookie header."""
        link = self.cli("console").stdout.strip()
        place = urlsplit(link)
        with self.http("GET", f"{place.path}?{place.query}") as answer:
            assert answer.status == 303
            return str(answer.headers["set-cookie"]).partition(";")[0]


@contextmanager
def installation(*arguments: str, start: bool = True, **extra: str) -> Iterator[Installation]:
    """A running installation of its own; `arguments` go to `remit up`, `extra` into every environment."""
    root = Path(tempfile.mkdtemp(prefix="remit-t-", dir="/tmp"))
    made = Installation(root, arguments, extra)
    made.home.mkdir(mode=0o700)
    try:
        if start:
            made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root, ignore_errors=True)


ESTATE: Mapping[str, str] = {
    "shop/.env": "DATABASE_URL=postgres://shop_app:{secret}@db.example.test:5432/shop\n",
    "shop/.github/workflows/deploy.yml": (
        "name: deploy\non: push\njobs:\n  ship:\n    runs-on: ubuntu-latest\n    permissions:\n      id-token: write\n"
        "    steps:\n      - uses: aws-actions/configure-aws-credentials@v4\n        with:\n"
        "          role-to-assume: arn:aws:iam::111122223333:role/deployer\n          aws-region: eu-west-1\n"
    ),
    "shop/CODEOWNERS": "* @shop/payments\n",
    "home/.aws/credentials": "[default]\naws_access_key_id = AKIAQ3EGRVTY7EXKZ2PL\naws_secret_access_key = {secret}\n",
    "home/.pgpass": "db.example.test:5432:shop:reporting:{secret}\n",
}
"""A small estate: an application with a database credential, a pipeline, a home with a cloud key."""


def plant(tree: Path, *, secret: str = "kV7pQz3nWm8rTs5yXb2dLc9gHf4j", files: Mapping[str, str] = ESTATE) -> Path:
    """Write the estate below `tree`; each file's secret begins with `secret` and is its own."""
    for number, (name, text) in enumerate(files.items()):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{secret}", f"{secret}{number}"))
    return tree


def titles(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Titles of identities."""
    return [str(row["title"]) for row in rows]
