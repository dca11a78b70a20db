"""(e) The ledger verifies from its files and a public key alone; one changed byte is found, and its leaf named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from remit.surface.cli.demo.outcome import Step, expect
from remit.surface.cli.demo.stage import Stage

_TILE = 256


def act(stage: Stage) -> Iterator[str]:
    """1. verify  2. a copy, one byte of one entry changed  3. the verifier names it."""
    # 1. The key is kept apart, as an auditor would.
    key = stage.root / "ledger-key.pub"
    shutil.copy(stage.data / "ledger/key.pub", key)
    whole = stage.ask("ledger", "verify", "--key", str(key))
    expect(whole["verified"], "the ledger verifies")
    yield f"{whole['size']} entries and {whole['batches']} decision batches verify under root {whole['root'][:12]}…"

    # 2. In a copy, so that the real one stays whole.
    copy = stage.root / "ledger-copy"
    shutil.copytree(stage.data / "ledger", copy)
    untouched = stage.ask("ledger", "verify", "--from", str(copy), "--key", str(key))
    leaf = untouched["size"] // 2
    path, before, after = flip(copy, leaf)
    yield f"in a copy, one byte of leaf {leaf} is flipped ({path.relative_to(copy)}: {before:#04x} → {after:#04x})"

    # 3.
    said = stage.cli("ledger", "verify", "--from", str(copy), "--key", str(key), allowed=(1, 2, 4))
    named = re.search(rf"\b{leaf}\b", said)
    expect(named, f"the verifier names leaf {leaf} (it said: {' '.join(said.split())[:200]})")
    yield f"the verifier: {' '.join(said.split())[:160]}"


def flip(ledger: Path, leaf: int) -> tuple[Path, int, int]:
    """Flip one bit in the middle of an entry; returns the file, and the byte before and after.

    Spec: C2SP tlog-tiles, "Log Entries": each entry is preceded by its length, two bytes, big-endian.
    """
    path = _bundle(ledger, leaf // _TILE)
    data = bytearray(path.read_bytes())
    at = 0
    for _ in range(leaf % _TILE):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
    at += 2 + int.from_bytes(data[at : at + 2], "big") // 2
    before = data[at]
    data[at] ^= 0x01
    path.write_bytes(data)
    return path, before, data[at]


def _bundle(ledger: Path, number: int) -> Path:
    """The file of one bundle: full, or the widest partial one. A tour's ledger has less than 256,000 entries."""
    assert number < 1000, "one path component"
    full = ledger / f"tile/entries/{number:03d}"
    if full.is_file():
        return full
    return max(full.with_name(f"{full.name}.p").iterdir(), key=lambda path: int(path.name))


STEP = Step(
    name="e",
    title="The ledger is verified, and tampered with",
    shown="`remit ledger verify` passes; one flipped byte in a copy is found and its leaf named",
    act=act,
)
