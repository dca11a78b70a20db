"""`remit run --matrix`: one command for every combination of values, each a run of its own.

Each cell is a supervisor process: its own grant and leases, its own end. Its output has the cell's name before every
line, and a table at the end says how each went. Every word may hold `{KEY}`: of the command, needs, task and reason.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit.kernel.errors import Rejected, RemitError
from remit.surface.cli.run_nested import REMIT_RUN, dies_with
from remit.surface.cli.run_options import REFUSED, Options
from remit.surface.cli.run_report import say, say_error

MAX_CELLS = 1024
_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})=(.+)", re.DOTALL)
_LINE_BYTES = 1 << 20
_FILE_BYTES = 1 << 20
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_OURS = {"--matrix", "--jobs", "--fail-fast"}

Cell = Mapping[str, str]


@dataclass(slots=True)
class Outcome:
    """How a cell went. `code` is `None` where it never began."""

    cell: Cell
    code: int | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return ",".join(self.cell.values())

    @property
    def word(self) -> str:
        match self.code:
            case None:
                return "not run"
            case 0:
                return "ok"
            case 125:
                return "refused"
            case code if code > 128:
                return f"signal {code - 128}"
            case _:
                return "failed"


def run_matrix(options: Options, argv: Sequence[str]) -> int:
    """Run every cell; 0 where all ended with 0, 125 where Remit refused one, 128 + N after signal N, else 1."""
    try:
        cells = read_matrix(options.matrix)
    except RemitError as error:
        say_error(error)
        return REFUSED
    matrix = _Matrix(options, argv, cells)
    return asyncio.run(matrix.run())


def read_matrix(said: Sequence[str]) -> list[Cell]:
    """The combinations of `KEY=A,B,C`, in order; a file holds a mapping of lists, or a list of mappings.

    Raises `Rejected` (`surface.matrix.malformed`).
    """
    groups: list[list[Cell]] = []
    for each in said:
        match = _PAIR.fullmatch(each)
        if match is not None:
            groups.append([{match[1]: value} for value in match[2].split(",")])
        else:
            groups += _read_file(Path(each))
    cells: list[Cell] = []
    for combination in itertools.product(*groups):
        merged: dict[str, str] = {}
        for part in combination:
            if merged.keys() & part.keys():
                raise _malformed(f"`{min(merged.keys() & part.keys())}` is given twice")
            merged |= part
        cells.append(merged)
        if len(cells) > MAX_CELLS:
            raise _malformed(f"it has more than {MAX_CELLS} cells")
    return cells


def _read_file(path: Path) -> list[list[Cell]]:
    import yaml

    try:
        with path.open("rb") as file:
            said = yaml.safe_load(file.read(_FILE_BYTES))
    except (OSError, yaml.YAMLError) as error:
        trouble = error.strerror if isinstance(error, OSError) else "it is neither YAML nor JSON"
        raise _malformed(f"`{path}` cannot be read: {trouble}") from None
    if isinstance(said, dict) and said and all(isinstance(values, list) and values for values in said.values()):
        return [[_cell({key: value}) for value in values] for key, values in said.items()]
    if isinstance(said, list) and said and all(isinstance(each, dict) and each for each in said):
        return [[_cell(each) for each in said]]
    raise _malformed(f"`{path}` holds neither a mapping of lists nor a list of mappings")


def _cell(said: Mapping[Any, Any]) -> Cell:
    for key, value in said.items():
        if not isinstance(key, str) or not _PAIR.fullmatch(f"{key}=x") or not isinstance(value, str | int | float):
            raise _malformed(f"`{str(key)[:64]}` is no key with a plain value")
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in said.items()}


def filled(words: Sequence[str], cell: Cell) -> list[str]:
    """Words with `{KEY}` replaced, for the keys of this cell alone: other braces are the command's."""
    if not cell:
        return list(words)
    pattern = re.compile(r"\{(" + "|".join(map(re.escape, cell)) + r")\}")
    return [pattern.sub(lambda found: cell[found[1]], word) for word in words]


class _Matrix:
    def __init__(self, options: Options, argv: Sequence[str], cells: Sequence[Cell]) -> None:
        self._options = options
        self._words = _without_ours(argv)
        self._outcomes = [Outcome(cell) for cell in cells]
        self._width = max(len(one.name) for one in self._outcomes)
        self._running: set[asyncio.subprocess.Process] = set()
        self._signal = 0
        self._stopped = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in _PASSED_ON:
            loop.add_signal_handler(number, self._on_signal, number)
        gate = asyncio.Semaphore(self._options.jobs or os.cpu_count() or 1)
        await asyncio.gather(*(self._cell(one, gate) for one in self._outcomes))
        self._summary()
        codes = {one.code for one in self._outcomes}
        if self._signal:
            return 128 + self._signal
        return 0 if codes == {0} else REFUSED if REFUSED in codes else 1

    async def _cell(self, one: Outcome, gate: asyncio.Semaphore) -> None:
        async with gate:
            if self._stopped:
                return
            began = time.monotonic()
            variables = {f"MATRIX_{key.upper()}": value for key, value in one.cell.items()}
            process = await asyncio.create_subprocess_exec(
                *REMIT_RUN,
                *filled(self._words, one.cell),
                env={**os.environ, **variables},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                preexec_fn=dies_with(os.getpid()),
            )
            self._running.add(process)
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                prefix = f"{one.name:<{self._width}} | ".encode()
                copies = (
                    _copy(process.stdout, sys.stdout.buffer, prefix),
                    _copy(process.stderr, sys.stderr.buffer, prefix),
                )
                await asyncio.gather(*copies)
                code = await process.wait()
            finally:
                self._running.discard(process)
            one.code, one.seconds = code if code >= 0 else 128 - code, time.monotonic() - began
            if one.code != 0 and self._options.fail_fast and not self._stopped:
                self._stop(signal.SIGTERM)

    def _stop(self, number: int) -> None:
        """Begin no more cells, and end those that run as a person would: their leases are revoked and proved."""
        self._stopped = True
        for process in self._running:
            if process.returncode is None:
                process.send_signal(number)

    def _on_signal(self, number: int) -> None:
        self._signal = self._signal or number
        self._stop(number)

    def _summary(self) -> None:
        if self._options.json:
            cells = [{"cell": dict(one.cell), "exit_code": one.code, "outcome": one.word} for one in self._outcomes]
            say(json.dumps({"task": self._options.task, "cells": cells}))
            return
        if self._options.quiet:
            return
        for one in self._outcomes:
            code = "" if one.code is None else str(one.code)
            say(f"remit: {one.name:<{self._width}}  {one.word:<10} {code:>3}  {one.seconds:6.1f} s")


async def _copy(source: asyncio.StreamReader, sink: Any, prefix: bytes) -> None:
    """Line by line, each with the cell's name; a line without end is cut at a megabyte."""
    while True:
        try:
            line = await source.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            line = error.partial
        except asyncio.LimitOverrunError as error:
            line = await source.readexactly(error.consumed)
        if not line:
            return
        sink.write(prefix + line.removesuffix(b"\n") + b"\n")
        sink.flush()


def _without_ours(argv: Sequence[str]) -> list[str]:
    """The command line of a cell: without what belongs to the matrix."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*kept, "--", *words]
        name, given, _ = word.partition("=")
        if name not in _OURS:
            kept.append(word)
        elif not given and name != "--fail-fast":
            next(words, None)
    return kept


def _malformed(why: str) -> Rejected:
    return Rejected(
        "surface.matrix.malformed",
        f"the matrix cannot be read: {why}",
        next_step="write `--matrix KEY=A,B,C`, or name a file of YAML or JSON",
    )
