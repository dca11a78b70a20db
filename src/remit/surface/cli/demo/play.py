"""Plays the steps in order, and tells what each has shown."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

from remit.kernel.errors import RemitError
from remit.surface.cli.demo import crash, leak, move, proof, rogue
from remit.surface.cli.demo.outcome import NotShown, Outcome, Step
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage, set_stage

STEPS: Sequence[Step] = (leak.STEP, move.STEP, rogue.STEP, crash.STEP, proof.STEP)


def play(narrator: Narrator, *, keep: bool) -> list[Outcome]:
    """Play every step; one that fails does not keep the others from being tried.

    Raises `Misconfigured` (`demo.postgres.missing`) where no PostgreSQL can be started. SIGTERM ends it as Ctrl-C does,
    and then nothing is left either.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        narrator.note("a PostgreSQL of its own, with SCRAM, and a control plane beside it")
        with set_stage(narrator, keep=keep) as stage:
            narrator.note(f"PostgreSQL {stage.server.major} on 127.0.0.1:{stage.server.port}, directory {stage.root}")
            narrator.note(f"ready in {stage.up():.1f} s")
            return [perform(stage, step) for step in STEPS]
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
