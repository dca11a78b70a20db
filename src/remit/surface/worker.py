"""The discovery worker: a process of its own for each scan, so that a hostile file can harm nothing else.

Reads one job from standard input (secrets included: they never stand on a command line), runs the connector's
`fetch` and `translate`, and writes one JSON document a line: `source`, `facts`, `progress`, `error`, `end`.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from remit.inventory import model
from remit.inventory.connectors.port import AnyConnector, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import RemitError
from remit.surface.problem import problem

BATCH = 400
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        model.IdentityFact,
        model.CredentialFact,
        model.ResourceFact,
        model.EdgeFact,
        model.OwnerFact,
        model.FindingFact,
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

    def __repr__(self) -> str:
        return f"Job({self.connector!r}, {self.source!r})"


def encode_facts(facts: list[Fact]) -> list[list[Any]]:
    """Facts as `[kind, fields]`."""
    return [[type(fact).__name__, msgspec.to_builtins(fact)] for fact in facts]


def decode_facts(rows: list[list[Any]]) -> list[Fact]:
    """What `encode_facts` wrote; `msgspec.ValidationError` when it is something else."""
    return [msgspec.convert(fields, _KINDS[kind]) for kind, fields in rows]


def scan(connector: AnyConnector, job: Job, write: Callable[[Line], None]) -> None:
    """Run the first two beats of a connector; the registry does the other two."""
    key = bytes.fromhex(job.fingerprint_key)
    last = 0.0

    def progress(done: int, where: str) -> None:
        nonlocal last
        if time.monotonic() - last > 0.2:
            last = time.monotonic()
            write({"kind": "progress", "done": done, "where": where})

    run = Scan(
        now=job.now,
        fingerprint=lambda secret: "hmac:" + hmac.new(key, secret, hashlib.sha256).hexdigest(),
        progress=progress,
    )
    try:
        connector.open()
        record_of = list(connector.manifest.record_of)
        write({"kind": "source", "instance": connector.instance, "scope": connector.scope, "record_of": record_of})
        batch: list[Fact] = []
        for raw in connector.fetch(run):
            batch.extend((raw,) if isinstance(raw, Skipped) else connector.translate(raw, run))
            if len(batch) >= BATCH:
                write({"kind": "facts", "facts": encode_facts(batch)})
                batch = []
        write({"kind": "facts", "facts": encode_facts(batch)})
        write({"kind": "end"})
    finally:
        connector.close()


def main() -> None:
    """Run the job on standard input."""
    from remit.wiring import make_connector

    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the protocol

    def write(line: Line) -> None:
        out.write(msgspec.json.encode(line) + b"\n")
        out.flush()

    job = msgspec.json.decode(sys.stdin.buffer.read(1 << 20), type=Job)
    try:
        scan(make_connector(job.connector, job.source, job.options, job.secret), job, write)
    except RemitError as error:
        write({"kind": "error", "problem": problem(error)})


if __name__ == "__main__":
    main()
