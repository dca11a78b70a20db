"""The worker that weighs candidates: what it says, and what becomes of it when it says nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from installation import environment
from remit.kernel.errors import Rejected, Unavailable
from remit.surface import prover
from remit.surface.prover import Prover

pytest.importorskip("z3")

PERMIT = "permit(principal, action, resource) when { context has grant };"


def test_a_candidate_is_weighed_in_a_process_of_its_own() -> None:
    weighed = asyncio.run(Prover().weigh(PERMIT, invariants='@id("g") anything requires granted;'))
    assert "g" in weighed.proved and weighed.solver.startswith("z3 ")


def test_what_it_refuses_comes_back_as_its_own_error() -> None:
    with pytest.raises(Rejected) as refused:
        asyncio.run(Prover().weigh(PERMIT, invariants="anything needs owned;"))
    assert refused.value.code == "access.policy.invariant"


def test_a_worker_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prover, "SECONDS", 0.01)
    with pytest.raises(Unavailable) as refused:
        asyncio.run(Prover().weigh(PERMIT))
    assert refused.value.code == "access.policy.prover"


@pytest.mark.parametrize("said", [b"", b"{", b'{"text": 3}', b"[" * 100_000])
def test_a_job_that_is_none_ends_the_worker_and_nothing_else(said: bytes, tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    done = subprocess.run(
        [sys.executable, "-m", "remit.surface.prover"], input=said, capture_output=True, env=environment(tmp_path),
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and done.stdout == b""
    with pytest.raises(Unavailable):
        prover._read(done.stdout, done.returncode)
