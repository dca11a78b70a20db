"""AWS principals over HTTP: botocore signs, a stand-in for STS verifies for real, and the desk believes it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from possession_stage import DOMAIN, REGION, QuietHandler, StsHandler, aws_credentials, code_of, served
from remit.kernel.canonical import Json
from remit.kernel.clock import SystemClock
from remit.providers.aws.sts import StsClient
from remit.trust.attestors.aws_sts import AwsStsAttestor
from remit.trust.attestors.provers import prover
from remit.trust.model import Evidence
from remit.trust.proofs import Proof, ProofDesk, Question
from stores import opened

__all__ = ["aws_credentials"]
pytestmark = pytest.mark.usefixtures("aws_credentials")


async def prove(url: str, folder: Path, *, change: Mapping[str, Json] | None = None, twice: bool = False) -> Evidence:
    """One presentation at the desk of an installation."""
    clock, numbers = SystemClock(), itertools.count()
    sts = StsClient(endpoint=url)
    attestor = AwsStsAttestor(sts, trust_domain=DOMAIN, accounts=["111122223333"], regions=[REGION])
    caller = prover("aws_sts", {"region": REGION, "trust_domain": DOMAIN.name})
    async with opened(f"sqlite:///{folder / 'remit.db'}", clock=clock) as store:
        desk = ProofDesk(store, [attestor], clock=clock, new_session=lambda: f"session-{next(numbers)}")
        asked = await desk.present([Proof(attestor="aws_sts", payload=await caller.payload(""))], source="test")
        assert isinstance(asked, Question)
        answer = {**await caller.answer(asked.questions["aws_sts"]), **(change or {})}
        found = await desk.answer(asked.session, {"aws_sts": answer}, source="test")
        if twice:
            await desk.answer(asked.session, {"aws_sts": answer}, source="test")
        return found


def test_a_role_is_believed(tmp_path: Path) -> None:
    with served(StsHandler) as url:
        evidence = asyncio.run(prove(url, tmp_path))
    assert evidence.value("role", attestor="aws_sts") == "billing-nightly"


def test_an_answer_counts_once(tmp_path: Path) -> None:
    with served(StsHandler) as url:
        assert code_of(lambda: asyncio.run(prove(url, tmp_path, twice=True))) == "trust.proof.session"


def test_another_secret_key_is_refused_by_sts_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with served(StsHandler) as url:
        assert code_of(lambda: asyncio.run(prove(url, tmp_path))) == "trust.proof.mismatch"


def test_a_server_that_redirects_is_not_followed(tmp_path: Path) -> None:
    class Elsewhere(QuietHandler):
        def do_POST(self) -> None:
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with served(Elsewhere) as url:
        assert code_of(lambda: asyncio.run(prove(url, tmp_path))) == "trust.proof.unanswered"


def test_an_endless_answer_is_not_read(tmp_path: Path) -> None:
    class Endless(QuietHandler):
        def do_POST(self) -> None:
            self.reply(200, b"x" * 100_000)

    with served(Endless) as url:
        assert code_of(lambda: asyncio.run(prove(url, tmp_path))) == "trust.proof.unanswered"


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert code_of(lambda: asyncio.run(prove("http://127.0.0.1:1", tmp_path))) == "providers.aws.unreachable"


@pytest.mark.parametrize("endpoint", ["http://sts.example", "ftp://127.0.0.1", "https://user:pass@sts.example"])
def test_a_stand_in_is_reached_by_https_or_on_this_machine(endpoint: str) -> None:
    assert code_of(lambda: StsClient(endpoint=endpoint)) == "providers.document.address"
