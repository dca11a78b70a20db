"""The discovery worker: a process of its own for each scan, so that a hostile file can harm nothing else.

Reads one job from standard input (secrets included: they never stand on a command line), runs the connector's
`fetch` and `translate`, and writes one JSON document a line: `source`, `facts`, `mark`, `progress`, `error`, `end`.
After `source` it reads one line more: what the last run remembered. A mark belongs to the `facts` that follow it.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from remit.inventory import model
from remit.inventory.connectors.port import AnyConnector, Scan
from remit.inventory.marks import remembered
from remit.inventory.model import Fact, Skipped
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Misconfigured, RemitError, Unavailable
from remit.providers.pausing import tell_waits
from remit.surface.memory import keep_memory_private
from remit.surface.problem import problem

BATCH = 400
MANY_ROWS = 100
"""Of use in one fact: it is handed over at once."""
EXTRAS: Final[Mapping[str, str]] = MappingProxyType({
    "asyncpg": "postgres", "boto3": "aws", "botocore": "aws", "pymysql": "mariadb", "ldap3": "ldap", "redis": "redis",
    "asyncssh": "ssh", "nats": "nats", "tfparse": "terraform", "hyperscan": "secrets", "zstandard": "secrets",
})  # fmt: skip
"""Which extra of Remit brings a library."""
_LONGEST_LINE = 1 << 20
_LONGEST_RECALL = 1 << 23
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        model.IdentityFact,
        model.CredentialFact,
        model.ResourceFact,
        model.EdgeFact,
        model.OwnerFact,
        model.FindingFact,
        UseFact,
        model.Skipped,
    )
}
Line: TypeAlias = dict[str, Any]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to scan."""

    connector: str
    source: str
    now: datetime
    fingerprint_key: str
    options: dict[str, str] = {}
    secret: str = ""
    cache_dir: str = ""

    def __repr__(self) -> str:
        return f"Job({self.connector!r}, {self.source!r})"


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """What the last run of the source remembered."""

    recalled: dict[str, str] = {}
    resumed: bool = False


def encode_facts(facts: list[Fact]) -> list[list[Any]]:
    """Facts as `[kind, fields]`."""
    return [[type(fact).__name__, msgspec.to_builtins(fact)] for fact in facts]


def decode_facts(rows: list[list[Any]]) -> list[Fact]:
    """What `encode_facts` wrote; `msgspec.ValidationError` when it is something else."""
    return [msgspec.convert(fields, _KINDS[kind]) for kind, fields in rows]


def scan(
    connector: AnyConnector, job: Job, write: Callable[[Line], None], recall: Callable[[], Recall] = Recall
) -> None:
    """Run the first two beats of a connector; the registry does the other two.

    `recall` is asked once, after the line `source` was written.
    """
    key = bytes.fromhex(job.fingerprint_key)
    last = 0.0
    marks: dict[str, str] = {}
    moved: set[str] = set()

    def progress(done: int, where: str) -> None:
        nonlocal last
        if time.monotonic() - last > 0.2:
            last = time.monotonic()
            write({"kind": "progress", "done": done, "where": where})

    def remember(mark: str, value: str) -> None:
        nonlocal marks
        marks = remembered(marks, mark, value)
        moved.add(mark)

    def flush(batch: list[Fact]) -> None:
        for mark in sorted(moved):
            write({"kind": "mark", "key": mark, "value": marks.get(mark, "")})
        moved.clear()
        write({"kind": "facts", "facts": encode_facts(batch)})

    try:
        connector.open()
        said = connector.manifest
        write({
            "kind": "source", "instance": connector.instance, "scope": connector.scope,
            "record_of": list(said.record_of), "resumable": said.resumable,
        })  # fmt: skip
        known = recall()
        marks = dict(known.recalled) if known.resumed else {}
        run = Scan(
            now=job.now,
            fingerprint=lambda secret: "hmac:" + hmac.new(key, secret, hashlib.sha256).hexdigest(),
            progress=progress,
            recalled=known.recalled,
            remember=remember,
            cache_dir=job.cache_dir,
            resumed=known.resumed,
        )
        batch: list[Fact] = []
        for raw in connector.fetch(run):
            for fact in (raw,) if isinstance(raw, Skipped) else connector.translate(raw, run):
                batch.append(fact)
                if len(batch) >= BATCH or (
                    isinstance(fact, UseFact) and len(fact.rows) + len(fact.sessions) > MANY_ROWS
                ):
                    flush(batch)
                    batch = []
        flush(batch)
        write({"kind": "end"})
    finally:
        connector.close()


def main() -> None:
    """Run the job on standard input."""
    from remit.inventory.connectors.catalog import make_connector

    keep_memory_private()
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the protocol

    def write(line: Line) -> None:
        out.write(msgspec.json.encode(line) + b"\n")
        out.flush()

    def recall() -> Recall:
        line = sys.stdin.buffer.readline(_LONGEST_RECALL)
        return msgspec.json.decode(line, type=Recall) if line.strip() else Recall()

    job = msgspec.json.decode(sys.stdin.buffer.readline(_LONGEST_LINE), type=Job)
    tell_waits(lambda seconds: write({"kind": "waiting", "seconds": round(seconds, 1)}))
    try:
        scan(make_connector(job.connector, job.source, job.options, job.secret), job, write, recall)
    except RemitError as error:
        write({"kind": "error", "problem": problem(error)})
    except ModuleNotFoundError as error:
        write({"kind": "error", "problem": problem(_lacking(job.connector, error.name or ""))})
    except Exception as error:  # a supervisor: what a library says of a hostile source may quote its secrets
        write({"kind": "error", "problem": problem(_broken(job.connector, error))})


def _broken(connector: str, error: Exception) -> Unavailable:
    """A defect of a connector, by its kind and place alone."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" at {Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at is not None else ""
    return Unavailable(
        "inventory.worker.broke",
        f"the connector `{connector[:40]}` broke: {type(error).__name__}{where}",
        next_step="what it had found is kept and nothing is retired; this is a defect: report it with this line",
    )


def _lacking(connector: str, module: str) -> Misconfigured:
    """What a driver that is not installed means to whoever reads."""
    extra = EXTRAS.get(module.partition(".")[0])
    return Misconfigured(
        "inventory.connector.driver",
        f"the connector `{connector}` needs the library `{module[:60]}`, which is not installed",
        next_step=f"pip install 'remit[{extra}]'" if extra else f"pip install '{module.partition('.')[0][:60]}'",
    )


if __name__ == "__main__":
    main()
