"""AREA=product: decisions, `remit run`, the start, `--help`, the files connector."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.race import Row, microseconds_each, race, scaled, seconds_of

_HELP_SECONDS = 0.2
_READY_SECONDS = 2.0


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area, one by one."""
    for policies, bar in ((20, 10.0), (1000, 100.0)):
        tell(f"decisions over {policies} policies")
        yield decision(policies, bar)
    tell("--help")
    yield command_line_help()
    tell("files connector")
    yield files_connector()
    tell("start to ready")
    yield start()
    tell("remit run against psql alone")
    yield run_overhead()


# -- decisions


def decision(policies: int, bar: float) -> Row:
    """One decision in process: the whole decision point against bare cedarpy with parsed handles."""
    from bench.decisions import Contest

    contest = Contest.of(policies)
    contest.check()
    ours_count, theirs_count = scaled(20_000, 200), scaled(max(100, 40_000 // policies), 10)

    def ours() -> float:
        contest.beat()
        return microseconds_each(contest.ours, ours_count)

    mine, theirs = race(ours, lambda: microseconds_each(contest.theirs, theirs_count))
    contest.check()
    return Row(
        name=f"decision in process, {policies} policies", ours=mine, unit="µs", against="cedarpy with handles",
        theirs=theirs, better="lower", bar=bar,
    )  # fmt: skip


# -- the command line


def command_line_help() -> Row:
    """`remit --help`, from the start of the process to its end."""
    command = [sys.executable, "-c", "from remit.surface.cli.entry import main; main()", "--help"]

    def once() -> float:
        return seconds_of(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))

    once()
    ours, _ = race(once, None)
    return Row(name="CLI --help", ours=ours, unit="s", against="floor", theirs=_HELP_SECONDS, better="lower", bar=1.0)


# -- the files connector


def files_connector() -> Row:
    """Files a second: the connector's facts of a tree, against `find` that hands every file to `cat`."""
    from remit.inventory.connectors.files import FilesConnector
    from remit.inventory.connectors.port import Scan
    from remit.inventory.model import Skipped

    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        tree = Path(folder) / "tree"
        count = _write_tree(tree, scaled(400, 4))
        scan = Scan(now=datetime.now(UTC), fingerprint=lambda secret: f"hmac:{hash(secret):x}")

        def ours() -> float:
            begun = time.perf_counter()
            connector = FilesConnector(tree, instance="bench")
            connector.open()
            facts = 0
            for raw in connector.fetch(scan):
                facts += 1 if isinstance(raw, Skipped) else sum(1 for _ in connector.translate(raw, scan))
            connector.close()
            assert facts > count // 10, "the tree is full of facts"
            return count / (time.perf_counter() - begun)

        def theirs() -> float:
            command = ["find", str(tree), "-type", "f", "-exec", "cat", "{}", "+"]
            return count / seconds_of(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))

        theirs()
        mine, peer = race(ours, theirs if shutil.which("find") else None)
    return Row(
        name="files connector", ours=mine, unit="files/s", against="find + cat", theirs=peer, better="higher", bar=0.5
    )


def _write_tree(tree: Path, services: int) -> int:
    """`services` small repositories: mostly code, some of it with credentials; the number of files."""
    written = 0
    for number in range(services):
        folder = tree / f"team-{number % 20}" / f"service-{number}"
        (folder / "src").mkdir(parents=True)
        (folder / ".github/workflows").mkdir(parents=True)
        plain = {f"src/module_{n}.py": f"def work_{n}():\n    return {n}\n" * 40 for n in range(40)}
        plain |= {f"docs_{n}.md": f"# page {n}\n\ntext\n" * 60 for n in range(5)}
        telling = {
            ".env": f"DATABASE_URL=postgres://svc{number}:p4ss-{number}-w0rd@db{number % 7}.internal/app\nDEBUG=0\n",
            "docker-compose.yml": f"services:\n  api:\n    environment:\n      API_TOKEN: t0ken-{number * 7919}\n",
            ".github/workflows/ci.yml": "on: push\njobs:\n  test:\n    runs-on: ubuntu\n    steps: [{run: make}]\n",
            "CODEOWNERS": f"* @acme/team-{number % 20}\n",
        }
        for name, text in (plain | telling).items():
            (folder / name).write_text(text)
            written += 1
    return written


# -- the whole product


def start() -> Row:
    """`remit up` on an installation that exists, from the start of the process to `ready`."""
    from bench.installation import installation

    with installation("true") as stage:

        def once() -> float:
            stage.stop_remit()
            return stage.up()

        ours, _ = race(once, None)
    return Row(
        name="start of `remit up` to `ready`", ours=ours, unit="s", against="floor", theirs=_READY_SECONDS,
        better="lower", bar=1.0,
    )  # fmt: skip


def run_overhead() -> Row:
    """A query by psql under `remit run`, its lease minted and revoked, against the same psql by a static password."""
    from bench.installation import NEED, TASK, installation
    from remit.surface.cli.demo import shop

    psql = shutil.which("psql")
    if psql is None:
        return Row(
            name="`remit run -- psql`", ours=0, unit="s", against="psql alone", theirs=None, better="lower", bar=0.05
        )
    arguments = ["--no-psqlrc", "--no-align", "--tuples-only", "--command", "SELECT count(*) FROM app.orders"]
    with installation("psql", *arguments) as stage:
        server = stage.server
        alone = {
            **os.environ, "PGHOST": server.host, "PGPORT": str(server.port), "PGDATABASE": shop.DATABASE,
            "PGUSER": server.user, "PGPASSWORD": server.password,
        }  # fmt: skip

        def ours() -> float:
            return seconds_of(lambda: stage.cli("run", "--task", TASK, "--need", NEED, "--", psql, *arguments))

        def theirs() -> float:
            command = [psql, *arguments]
            return seconds_of(lambda: subprocess.run(command, env=alone, stdout=subprocess.DEVNULL, check=True))

        mine, peer = race(ours, theirs)
    return Row(
        name="`remit run -- psql`, lease minted and revoked", ours=mine, unit="s", against="psql alone", theirs=peer,
        better="lower", bar=0.05,
    )  # fmt: skip
