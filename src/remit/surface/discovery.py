"""Discovery, as the control plane runs it: a worker process reads, the registry reconciles, the ledger remembers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec

from remit.inventory import registry
from remit.inventory.connectors.catalog import from_target, of_target
from remit.inventory.marks import asked, remembered
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, ResourceFact, Skipped
from remit.inventory.readings import Asked, Reading, SecretOf, asked_of
from remit.inventory.records import Counts
from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected, Unavailable
from remit.kernel.unit import Attester
from remit.surface.problem import from_problem
from remit.surface.worker import Job, Recall, decode_facts
from remit.wiring import ControlPlane, use
from remit.wiring.settings import UseSettings

_LINE_LIMIT = 64 * 1024 * 1024
_MAX_SKIPPED = 5_000
_SAMPLE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to read, with everything that is needed for it. The secret stays in memory."""

    connector: str
    source: str
    options: dict[str, str]
    asked: Asked
    secret: str = field(default="", repr=False)


async def question_of(
    control: ControlPlane, connector: str, source: str, options: dict[str, str], secret: str = ""
) -> Question:
    """Complete what was asked: a source that is a registered target is read with the target's own credential.

    Raises what `Targets.credential` does, and `Rejected` (`inventory.source.other-system`).
    """
    by_name = "://" not in source and not source.startswith("/") and source != "api"
    system = of_target(connector)
    if not (by_name and system):
        of = SecretOf.PERSON if secret else SecretOf.NOBODY
        known = asked_of(connector, source, options, of)
        return Question(connector=connector, source=source, options=options, secret=secret, asked=known)
    target, held = await control.targets.credential(source)
    if target.system != system:
        raise Rejected(
            "inventory.source.other-system",
            f"the target `{target.name}` is of the system `{target.system}`, not `{system}`",
            next_step=f"use `remit discover {target.system} {target.name}`",
        )
    address = {"host": target.host, "port": str(target.port), "user": target.user, "database": target.database}
    whole = from_target(connector, address, {**target.options, **options})
    known = asked_of(connector, source, options, SecretOf.TARGET)
    return Question(connector=connector, source=source, options=whole, secret=held, asked=known)


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

    def sample(self) -> list[dict[str, str]]:
        """What could not be seen, the first of it."""
        return [{"what": each.what, "reason": each.reason, "detail": each.detail} for each in self.skipped[:50]]


async def discover(
    control: ControlPlane, question: Question, *, dry_run: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """Scan one source; yields progress, and at last a summary. Raises the connector's own error.

    What was reconciled before a failure stays; nothing is retired unless the whole source was read. A `dry_run` reads
    the same, and writes nothing.
    """
    job = Job(
        connector=question.connector,
        source=question.source,
        now=control.clock.now(),
        fingerprint_key=control.fingerprint_key.hex(),
        options=question.options,
        secret=question.secret,
        cache_dir="" if dry_run else str(control.settings.data.root / "cache"),
    )
    async with _worker(job) as process:
        async for line in _look(process) if dry_run else _follow(control, process, question):
            yield line


@asynccontextmanager
async def _worker(job: Job) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "remit.surface.worker",  # -P: no module comes from where we were started
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_LIMIT,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _follow(
    control: ControlPlane, process: asyncio.subprocess.Process, question: Question
) -> AsyncIterator[dict[str, Any]]:
    run: registry.Run | None = None
    marks: dict[str, str] = {}
    tally = _Tally()
    assert process.stdout is not None
    try:
        while raw := await process.stdout.readline():
            line = msgspec.json.decode(raw)
            match line["kind"]:
                case "source":
                    run = await control.store.write(partial(_begin, control.keys, question, line))
                    control.being_read.add(run.source)
                    marks = dict(run.recalled) if run.resumed else {}
                    await _tell(process, Recall(recalled=dict(run.recalled), resumed=run.resumed))
                    yield {"kind": "source", "source": run.source, "instance": run.instance, "scope": run.scope,
                           "resumed": run.resumed}  # fmt: skip
                case "mark":
                    marks = remembered(marks, line["key"], line["value"])
                case "facts":
                    assert run is not None
                    facts = decode_facts(line["facts"])
                    tally.skip(facts)
                    tally.add(await control.store.write(partial(_keep, run, facts, marks, tuple(tally.skipped))))
                    yield {"kind": "kept", "facts": dict(tally.facts)}
                case "progress" | "waiting":
                    yield line
                case "error":
                    raise from_problem(line["problem"])
                case "end":
                    assert run is not None
                    done = await control.store.write(
                        partial(_finish, control.keys, question, run, tally, control.settings.use)
                    )
                    await control.synchronise()
                    control.blast_watch.discovered()
                    yield {"kind": "done", "source": run.source, **done, "skipped_sample": tally.sample()}
                    return
    finally:
        if run is not None:
            control.being_read.discard(run.source)
    raise await _died(process)


async def _look(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """Read as `_follow` does, and keep nothing but counts and a sample."""
    seen: dict[str, set[int]] = {kind: set() for kind in _COUNTED.values()}
    tally, sample = _Tally(), list[dict[str, str]]()
    assert process.stdout is not None
    while raw := await process.stdout.readline():
        line = msgspec.json.decode(raw)
        match line["kind"]:
            case "source":
                await _tell(process, Recall())
                yield {"kind": "source", "source": "", "instance": line["instance"], "scope": line["scope"],
                       "resumed": False}  # fmt: skip
            case "facts":
                facts = decode_facts(line["facts"])
                tally.skip(facts)
                for kind, key, title in filter(None, map(_thing, facts)):
                    number = hash(key)
                    if number not in seen[kind] and len(sample) < _SAMPLE and kind in ("identity", "finding"):
                        sample.append({"kind": kind, "title": title, "name": key})
                    seen[kind].add(number)
            case "progress" | "waiting":
                yield line
            case "error":
                raise from_problem(line["problem"])
            case "end":
                tally.facts = {kind: len(keys) for kind, keys in seen.items() if keys}
                yield {"kind": "done", "source": "", "dry_run": True, **tally.as_json(), "sample": sample,
                       "skipped_sample": tally.sample()}  # fmt: skip
                return
    raise await _died(process)


_COUNTED: Final = {
    IdentityFact: "identity", CredentialFact: "credential", ResourceFact: "resource", EdgeFact: "edge",
    FindingFact: "finding",
}  # fmt: skip


def _thing(fact: Fact) -> tuple[str, str, str] | None:
    """Kind, key and title of what is counted."""
    match fact:
        case IdentityFact():
            return "identity", fact.name, fact.title
        case CredentialFact():
            return "credential", fact.fingerprint, fact.title
        case ResourceFact():
            return "resource", fact.name, fact.title
        case EdgeFact():
            return "edge", f"{fact.source}\n{fact.relation.value}\n{fact.target}", ""
        case FindingFact():
            return "finding", f"{fact.rule} {fact.place.path or ''} {fact.subject or ''}", fact.title
        case _:
            return None


async def _died(process: asyncio.subprocess.Process) -> Unavailable:
    return Unavailable(
        "inventory.worker.died",
        f"the worker that read the source ended early (status {await process.wait()})",
        next_step="what it had found is kept; look at the server's log, then run the command again",
    )


async def _tell(process: asyncio.subprocess.Process, recall: Recall) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError):  # a worker that died says so by its end
        process.stdin.write(msgspec.json.encode(recall) + b"\n")
        await process.stdin.drain()
        process.stdin.close()


ASKED: Final = "inventory.asked"
"""The kind of signature under which is kept how a source was read."""


def _begin(keys: Attester, question: Question, line: dict[str, Any], unit: Any) -> registry.Run:
    """Begin the run, and remember how it was asked: never with the secret."""
    run = registry.begin_run(
        unit, question.connector, line["instance"], line["scope"], record_of=line["record_of"],
        resumable=bool(line.get("resumable")), asked=asked(question.source, question.options),
    )  # fmt: skip
    if question.connector == use.CONNECTOR:
        run = replace(run, recalled=use.counted_until(unit, run.instance))
    known: Reading | None = unit.discovery.reading(run.source)
    reading = known or Reading(source=run.source, asked=question.asked)
    elsewhere = known.asked.source if known is not None and _address(known.asked) != _address(question.asked) else ""
    # Where it was read counts as its place until a whole run showed it at another.
    now_asked = known.asked if known is not None and elsewhere else _signed(keys, run.source, question.asked)
    unit.discovery.put(replace(reading, asked=now_asked, begun=reading.begun or unit.now, tried=unit.now))
    return replace(run, elsewhere=elsewhere)


def _signed(keys: Attester, source: str, one: Asked) -> Asked:
    return replace(one, signature=keys.sign(ASKED, one.terms(source)))


def _address(one: Asked) -> tuple[str, ...]:
    """What says where a source is; a server itself says only who it is."""
    return (one.source, *(one.options.get(each, "") for each in ("context", "host", "port", "database")))


def _keep(
    run: registry.Run, facts: Sequence[Fact], marks: dict[str, str], skipped: Sequence[Skipped], unit: Any
) -> Counts:
    """One batch, with the marks that stand for it, in one unit of work."""
    counts = registry.reconcile(unit, run, facts)
    registry.keep_marks(unit, run, marks, skipped)
    return counts


def _finish(
    keys: Attester, question: Question, run: registry.Run, tally: _Tally, terms: UseSettings, unit: Any
) -> dict[str, Any]:
    """Finish the run, and keep what it changed, in one unit of work."""
    if wrong := use.judge_run(unit, run, terms):
        tally.facts["finding"] = tally.facts.get("finding", 0) + wrong
    # A source may show one thing at many places: what a person reads counts things.
    tally.facts |= unit.inventory.seen_in(run.source, run.run)
    rows, reading = unit.discovery, unit.discovery.reading(run.source)
    moved = rows.moved(reading, run.run, unit.now)
    # What a later batch joined was counted as new by an earlier one: the registry knows at the end.
    total, new = rows.shown(run.source, run.run, reading.begun or unit.now)
    summary = {**tally.as_json(), "identities": total, "identities_new": new}
    retired = registry.finish_run(unit, run, _flat(summary), tally.skipped)
    diff: dict[str, Json] = rows.changes(reading, run.run, unit.now, moved)
    asked_now = _signed(keys, run.source, question.asked)
    rows.put(replace(reading, asked=asked_now, begun=None, finished=unit.now, diff=diff, failures=0, trouble=""))
    return {**summary, "retired": retired, "diff": diff}


def _flat(summary: dict[str, Any]) -> dict[str, int]:
    counts = {key: value for key, value in summary.items() if isinstance(value, int)}
    return {**counts, **summary["facts"]}
