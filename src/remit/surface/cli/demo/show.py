"""The demo on a terminal: what is being done, what was seen, and the table at the end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from remit.surface.cli.demo.outcome import Outcome


class Narrator:
    """Tells the demo as it goes. Everything goes to `out`; nothing else prints."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._status = out.status("")

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Head a step, and show that it works while it does."""
        self._out.print(f"\n[bold]({escape(name)}) {escape(title)}[/bold]")
        self._status.update("…")
        self._status.start()
        try:
            yield
        finally:
            self._status.stop()

    def doing(self, text: str) -> None:
        """What is being waited for."""
        self._status.update(escape(text))

    def command(self, argv: Sequence[str]) -> None:
        """A command that is run, as a person would type it."""
        line = shlex.join(argv)
        self._out.print(Text(f"    $ {line}", style="cyan"), overflow="ellipsis", no_wrap=True)
        self._status.update(escape(argv[0] + " " + argv[1] if len(argv) > 1 else line))

    def saw(self, text: str) -> None:
        """A piece of evidence."""
        self._out.print(Text.assemble(("    ✓ ", "green"), text))

    def failed(self, text: str) -> None:
        """Why a step fails."""
        self._out.print(Text.assemble(("    ✗ ", "bold red"), text))

    def note(self, text: str) -> None:
        """Something that is no evidence."""
        self._out.print(Text(f"    {text}", style="dim"))

    def compare(self, heading: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """Two ways side by side; `rows` are (what, the plain way, ours)."""
        table = Table(box=None, pad_edge=True, header_style="bold", title=heading, title_justify="left")
        table.add_column("")
        table.add_column("a plain DROP ROLE", style="red")
        table.add_column("Remit", style="green")
        for row in rows:
            table.add_row(*map(Text, row))
        self._out.print(table)

    def table(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """The whole demo at a glance."""
        table = Table(header_style="bold", title="the demo, in evidence", title_justify="left", expand=False)
        for heading in ("step", "what was shown", "evidence", "seconds", ""):
            table.add_column(heading, overflow="fold", justify="right" if heading == "seconds" else "left")
        for each in outcomes:
            mark = Text("PASS", style="bold green") if each.passed else Text("FAIL", style="bold red")
            evidence = Text("\n".join(f"• {line}" for line in each.evidence))
            table.add_row(Text(each.step), Text(each.shown), evidence, f"{each.seconds:.1f}", mark)
        self._out.print()
        self._out.print(table)
        self._out.print(f"[dim]{seconds:.0f} seconds in all[/dim]")
