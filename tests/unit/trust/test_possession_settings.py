"""What the attestors file says of keys, devices and clouds; and join tokens, which no database can revive."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import certificates as made
from possession_stage import REGION, Region, code_of, machine, ssh_key
from remit.kernel.clock import ManualClock
from remit.kernel.events import Event
from remit.storage.schema.trust_join import trust_join_token
from remit.trust.attestors.join_token import JoinTokenAttestor, JoinTokens
from remit.trust.ports import ProofAttestor
from remit.trust.testing import NOON, KeyedAttester
from remit.wiring.proofs import proof_attestors
from remit.wiring.settings import settings_from
from remit.wiring.standing import Standing, Witness
from stores import opened

FILE = f"""
[x509pop]
ca_file = "ca.pem"

[sshpop]
ca_file = "ssh-ca.pub"

[tpm]
ca_file = "ca.pem"
pcrs = "sha256:0,7"
allowed = ["7={"a" * 64}", "7={"b" * 64}"]

[aws_sts]
accounts = ["111122223333"]
regions = ["{REGION}", "global"]

[aws_iid]
accounts = ["111122223333"]
certificates = {{ {REGION} = "region.pem" }}
max_age = 3600
"""


def built(folder: Path, text: str | None) -> tuple[ProofAttestor, ...]:
    """The proof attestors of an installation with this file."""
    if text is not None:
        (folder / "attestors.toml").write_text(text)
    flags = {"attestors.file": str(folder / "attestors.toml") if text is not None else None}
    settings = settings_from(folder / "data", environ={}, flags=flags)
    return proof_attestors(settings, clock=ManualClock(NOON), store=object(), attester=KeyedAttester())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(made.root().pem)
    (tmp_path / "leaf.pem").write_bytes(machine(made.root()).pem)
    (tmp_path / "region.pem").write_bytes(Region.make().pem)
    (tmp_path / "empty").write_bytes(b"")
    ssh_key(tmp_path, "ssh-ca")
    return tmp_path


def test_each_table_makes_its_attestor(folder: Path) -> None:
    assert [one.id for one in built(folder, FILE)] == ["x509pop", "sshpop", "tpm", "aws_sts", "aws_iid", "join_token"]


def test_without_a_file_there_are_join_tokens_alone(folder: Path) -> None:
    assert [one.id for one in built(folder, None)] == ["join_token"]


@pytest.mark.parametrize(
    "text, code",
    [
        ('[x509pop]\nca_file = "missing.pem"', "trust.attestor.file"),
        ('[x509pop]\nca_file = "empty"', "trust.attestor.file"),
        ('[x509pop]\nca_file = "leaf.pem"', "trust.attestor.anchors"),
        ("[x509pop]", "trust.attestors.invalid"),
        ('[x509pop]\nca_file = "ca.pem"\nca_fle = "x"', "trust.attestors.invalid"),
        ('[sshpop]\nca_file = "ca.pem"', "trust.attestor.anchors"),
        ("[tpm]", "trust.attestor.anchors"),
        ('[tpm]\nek_sha256 = ["abc"]', "trust.attestor.anchors"),
        ('[tpm]\nca_file = "ca.pem"\npcrs = "sha1:0"', "trust.attestor.anchors"),
        ('[tpm]\nca_file = "ca.pem"\npcrs = "sha256:24"', "trust.attestor.anchors"),
        (f'[tpm]\nca_file = "ca.pem"\npcrs = "sha256:0"\nallowed = ["7={"a" * 64}"]', "trust.attestor.anchors"),
        ("[aws_sts]", "trust.attestors.invalid"),
        ("[aws_sts]\naccounts = []", "trust.attestor.anchors"),
        ('[aws_sts]\naccounts = ["111122223333"]\nendpoint = "http://sts.example"', "providers.document.address"),
        ('[aws_iid]\naccounts = ["111122223333"]\ncertificates = {}', "trust.attestor.anchors"),
        ('[aws_iid]\naccounts = ["111122223333"]\ncertificates = { moon = "region.pem" }', "trust.attestor.anchors"),
        ("[join_token]\nsecret = 'x'", "trust.attestors.invalid"),
    ],
)
def test_what_is_written_wrongly_stops_the_start(folder: Path, text: str, code: str) -> None:
    assert code_of(lambda: built(folder, text)) == code


def test_who_writes_to_the_database_revives_no_token(tmp_path: Path) -> None:
    """Its signature is valid still; the journal says that it was spent."""

    async def story(forget: bool) -> str:
        heard: list[Any] = []

        def published(events: list[Event]) -> None:
            for one in heard:
                one.on_events(events)

        url = f"sqlite:///{tmp_path / f'remit-{forget}.db'}"
        async with opened(url, clock=ManualClock(NOON), published=published) as store:
            standing = Standing(store, b"k" * 32, tmp_path / f"mark-{forget}")
            heard.append(standing)
            await standing.open()
            tokens = JoinTokens(Witness(KeyedAttester(), standing))
            attestor = JoinTokenAttestor(store, tokens)  # type: ignore[arg-type]
            _, secret = await store.write(lambda unit: tokens.create(unit, name="web-1", actor="person:ada"))
            await attestor.begin({"token": secret}, NOON)
            if forget:
                await store.write(lambda unit: unit.conn.execute(update(trust_join_token).values(spent=None)))
                await standing.close()
                # Also after a start: what is known then comes from the journal.
                standing = Standing(store, b"k" * 32, tmp_path / f"mark-{forget}")
                await standing.open()
                attestor = JoinTokenAttestor(store, JoinTokens(Witness(KeyedAttester(), standing)))  # type: ignore[arg-type]
            try:
                await attestor.begin({"token": secret}, NOON)
            finally:
                await standing.close()
        return "joined"

    assert code_of(lambda: asyncio.run(story(False))) == "trust.proof.replayed"
    assert code_of(lambda: asyncio.run(story(True))) == "trust.proof.untrusted"
