"""Plays the steps in order, and tells what each has shown."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from remit.kernel.errors import RemitError
from remit.surface.cli.demo import crash, leak, move, proof, rogue
from remit.surface.cli.demo.outcome import NotShown, Outcome, Step
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage, set_stage

STEPS: Sequence[Step] = (leak.STEP, move.STEP, rogue.STEP, crash.STEP, proof.STEP)


def play(narrator: Narrator, *, keep: bool) -> list[Outcome]:
    """Play every step on a PostgreSQL of its own; one that fails does not keep the others from being tried.

    Raises `Misconfigured` (`demo.postgres.missing`) where no PostgreSQL can be started. SIGTERM ends it as Ctrl-C does,
    and then nothing is left either.
    """
    narrator.note("a PostgreSQL of its own, with SCRAM, and a control plane beside it")
    return _play(narrator, STEPS, keep=keep, postgres=True)


def play_agent(narrator: Narrator, *, keep: bool) -> list[Outcome]:
    """Play the runs of an agent behind the MCP gateway; each builds on those before it."""
    from remit.surface.cli.demo.agent.show import STEPS as runs
    from remit.surface.cli.demo.agent.wire import sdk_version

    sdk = sdk_version()
    narrator.note(f"the agent's client of MCP: {f'the official SDK {sdk}' if sdk else 'our own'}")
    return _play(narrator, runs, keep=keep, postgres=False)


def play_graph(narrator: Narrator, *, keep: bool, stay: bool) -> list[Outcome]:
    """Walk the access graph of a sample company; with `stay` go on serving at the end, until Ctrl-C."""
    from remit.surface.cli.demo.graph.show import STEPS as walk

    narrator.note("a made-up company: files of four systems, and a control plane beside them")
    return _play(narrator, walk, keep=keep, postgres=False, end=_serve if stay else None)


def _serve(stage: Stage, outcomes: Sequence[Outcome]) -> None:
    """Let the pages of the console be looked at."""
    stage.narrator.table(outcomes, sum(each.seconds for each in outcomes))
    stage.narrator.note(
        f"`remit console --data {stage.data}` makes another link; Ctrl-C ends it and removes everything"
    )
    stage.narrator.note(stage.cli("console").strip().splitlines()[-1])
    with suppress(KeyboardInterrupt):
        signal.pause()


def _play(
    narrator: Narrator,
    steps: Sequence[Step],
    *,
    keep: bool,
    postgres: bool,
    end: Callable[[Stage, Sequence[Outcome]], None] | None = None,
) -> list[Outcome]:
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with set_stage(narrator, keep=keep, postgres=postgres) as stage:
            where = f"PostgreSQL {stage.server.major} on 127.0.0.1:{stage.server.port}, " if postgres else ""
            narrator.note(f"{where}directory {stage.root}")
            narrator.note(f"ready in {stage.up():.1f} s")
            stage.stays = end is not None
            outcomes = [perform(stage, step) for step in steps]
            if end is not None:
                end(stage, outcomes)
            return outcomes
    except NotShown as failed:
        narrator.failed(str(failed))
        return [
            Outcome(step="start", shown="the control plane starts", evidence=(str(failed),), seconds=0, passed=False)
        ]
    finally:
        signal.signal(signal.SIGTERM, before)


def perform(stage: Stage, step: Step) -> Outcome:
    """Play one step."""
    evidence: list[str] = []
    begun = time.monotonic()
    passed = False
    with stage.narrator.step(step.name, step.title):
        try:
            for line in step.act(stage):
                evidence.append(line)
                stage.narrator.saw(line)
            passed = True
        except (NotShown, RemitError, OSError, subprocess.SubprocessError, LookupError) as failed:
            why = f"{failed}" if isinstance(failed, NotShown) else f"{type(failed).__name__}: {failed}"
            evidence.append(f"not shown: {why}")
            stage.narrator.failed(why)
    return Outcome(
        step=step.name, shown=step.shown, evidence=tuple(evidence), seconds=time.monotonic() - begun, passed=passed
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
