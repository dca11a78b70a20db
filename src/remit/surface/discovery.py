"""Discovery, as the control plane runs it: a worker process reads, the registry reconciles, the ledger remembers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from remit.inventory import registry
from remit.inventory.model import Fact, Skipped
from remit.inventory.records import Counts
from remit.kernel.errors import Unavailable
from remit.surface.problem import from_problem
from remit.surface.worker import Job, decode_facts
from remit.wiring import ControlPlane

_LINE_LIMIT = 64 * 1024 * 1024
_MAX_SKIPPED = 5_000


@dataclass(slots=True)
class _Tally:
    facts: dict[str, int] = field(default_factory=dict)
    identities_new: int = 0
    identities_joined: int = 0
    credentials_new: int = 0
    findings_new: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    skipped_total: int = 0

    def add(self, counts: Counts) -> None:
        for kind, number in counts.facts.items():
            self.facts[kind] = self.facts.get(kind, 0) + number
        self.identities_new += counts.identities_new
        self.identities_joined += counts.identities_joined
        self.credentials_new += counts.credentials_new
        self.findings_new += counts.findings_new
        self.skip(counts.refused)

    def skip(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, Skipped):
                self.skipped_total += 1
                if len(self.skipped) < _MAX_SKIPPED:
                    self.skipped.append(fact)

    def as_json(self) -> dict[str, Any]:
        return {
            "facts": self.facts,
            "identities_new": self.identities_new,
            "identities_joined": self.identities_joined,
            "credentials_new": self.credentials_new,
            "findings_new": self.findings_new,
            "skipped": self.skipped_total,
        }


async def discover(
    control: ControlPlane, connector: str, source: str, *, options: dict[str, str], secret: str = ""
) -> AsyncIterator[dict[str, Any]]:
    """Scan one source; yields progress, and at last a summary. Raises the connector's own error.

    What was reconciled before a failure stays; nothing is retired unless the whole source was read.
    """
    job = Job(
        connector=connector,
        source=source,
        now=control.clock.now(),
        fingerprint_key=control.fingerprint_key.hex(),
        options=options,
        secret=secret,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remit.surface.worker",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_LIMIT,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job))
        process.stdin.close()
        async for line in _follow(control, process, connector):
            yield line
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _follow(
    control: ControlPlane, process: asyncio.subprocess.Process, connector: str
) -> AsyncIterator[dict[str, Any]]:
    run: registry.Run | None = None
    tally = _Tally()
    assert process.stdout is not None
    while raw := await process.stdout.readline():
        line = msgspec.json.decode(raw)
        match line["kind"]:
            case "source":
                instance, scope, record_of = line["instance"], line["scope"], line["record_of"]
                run = await control.store.write(
                    lambda unit: registry.begin_run(unit, connector, instance, scope, record_of=record_of)  # noqa: B023
                )
                yield {"kind": "source", "instance": instance, "scope": scope}
            case "facts":
                assert run is not None
                facts = decode_facts(line["facts"])
                tally.skip(facts)
                tally.add(await control.store.write(lambda unit: registry.reconcile(unit, run, facts)))  # noqa: B023
            case "progress":
                yield line
            case "error":
                raise from_problem(line["problem"])
            case "end":
                assert run is not None
                # A source may show one thing at many places: what a person reads counts things.
                tally.facts |= await control.store.read(lambda unit: unit.inventory.seen_in(run.source, run.run))  # noqa: B023
                summary = tally.as_json()
                retired = await control.store.write(
                    lambda unit: registry.finish_run(unit, run, _flat(summary), tally.skipped)  # noqa: B023
                )
                await control.synchronise()
                skipped = [{"what": s.what, "reason": s.reason, "detail": s.detail} for s in tally.skipped[:50]]
                yield {"kind": "done", "source": run.source, **summary, "retired": retired, "skipped_sample": skipped}
                return
    raise Unavailable(
        "inventory.worker.died",
        f"the worker that read the source ended early (status {await process.wait()})",
        next_step="what it had found is kept; look at the server's log, then run the command again",
    )


def _flat(summary: dict[str, Any]) -> dict[str, int]:
    counts = {key: value for key, value in summary.items() if isinstance(value, int)}
    return {**counts, **summary["facts"]}
