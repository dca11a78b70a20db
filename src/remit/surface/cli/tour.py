"""The first five minutes: start, discover the machine and the tree at hand, say what was found and what comes next."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from remit.kernel.errors import RemitError
from remit.surface.cli.output import plain
from remit.surface.context import Surface
from remit.surface.discovery import discover, question_of
from remit.surface.places import short_place
from remit.surface.server import Options, run

_ON_GRAPH = (
    ("remit paths acme/shop 'account 111122223333'", "how a push to any branch becomes the administrator"),
    ("remit rightsize exporter --replay", "the least that serves, and every observed call through it"),
    ("remit prove --resource-class restricted", "which paths escape policy, and what closes them"),
)
"""What the graph of the sample shows."""
_STYLE = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "dim"}


def run_tour(data: Path, *, tree: Path | None, listen: str | None, sample: bool = False) -> None:
    """Serve, and beside it discover and report; returns when the server is stopped.

    With `sample` the sample company of `remit demo graph` is written into `data` and read in the machine's stead.
    """
    out = Console(stderr=True, highlight=False, emoji=False)
    trees = [tree] if tree is not None else [Path.cwd(), Path.home(), Path("/etc")]
    trees = [each for number, each in enumerate(trees) if not any(each.is_relative_to(t) for t in trees[:number])]

    async def beside(surface: Surface) -> None:
        if sample:
            await _read_sample(surface, data, out)
        else:
            for each in trees:
                await _scan(surface, "files", each, out)
        await _report(surface, data, out, sample=sample)

    run(
        Options(data=data, flags={"server.listen": listen}),
        announce=lambda url: print(f"ready {url}", flush=True),
        beside=beside,
    )


async def _read_sample(surface: Surface, data: Path, out: Console) -> None:
    from remit.surface.cli.demo.graph.estate import Estate, utc_now

    estate = Estate((data / "sample").absolute())
    estate.plant(utc_now())
    out.print(f"[yellow]made up[/yellow]: a sample company, written to {plain(estate.root)}; nothing of it is yours")
    for connector, source, options in estate.sources():
        await _scan(surface, connector, source, out, options)


async def _scan(
    surface: Surface, connector: str, tree: Path, out: Console, options: dict[str, str] | None = None
) -> None:
    with out.status(f"reading {plain(tree)}") as status:
        try:
            question = await question_of(surface.control, connector, str(tree), options or {})
            async for line in discover(surface.control, question):
                if line["kind"] == "progress":
                    status.update(f"{plain(tree)}: {line['done']:,} files — {plain(line['where'][-60:])}")
                elif line["kind"] == "done":
                    _say_done(out, tree, line, connector)
        except RemitError as error:
            out.print(f"[red]{plain(tree)} could not be read:[/red] {plain(error)} {plain(error.next_step)}")


def _say_done(out: Console, tree: Path, done: dict[str, Any], connector: str) -> None:
    facts = done["facts"]
    if connector == "use":
        out.print(f"[green]read[/green] {plain(tree)}: who used what, and what was done with it")
        return
    out.print(
        f"[green]read[/green] {plain(tree)}: {done['identities']:,} identities, {facts.get('credential', 0):,} "
        f"credentials, {facts.get('finding', 0):,} findings; {done['skipped']:,} "
        f"thing{'s' * (done['skipped'] != 1)} could not be seen",
        soft_wrap=True,
    )


async def _report(surface: Surface, data: Path, out: Console, *, sample: bool) -> None:
    control = surface.control
    summary = await control.summary()
    found = await control.store.read(lambda unit: unit.inventory.findings(limit=6))
    first = await _worst(surface, [each.subject for each in found if each.subject])
    out.print(
        f"\n[bold]{summary['identities']:,}[/bold] machine identities, [bold]{summary['credentials']:,}[/bold] "
        f"credential{'s' * (summary['credentials'] != 1)}; nobody answers for "
        f"[bold yellow]{summary['unowned']:,}[/bold yellow], [bold red]{summary['exposed']:,}[/bold red] "
        f"{'secrets lie' if summary['exposed'] != 1 else 'secret lies'} outside a manager.\n"
    )
    if found:
        out.print("[bold]what is wrong, worst first[/bold]")
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(3):
            table.add_column(overflow="fold")
        for each in found:
            style = _STYLE.get(each.severity, "")
            table.add_row(
                Text(each.severity, style=style), Text(each.title), Text(short_place(each.place), style="dim")
            )
        out.print(table)
    where = "" if data == Path(".remit") else f" --data {data}"
    out.print("\n[bold]next[/bold]")
    for command, why in (
        (f"remit findings{where}", "all that is wrong, each with what to do"),
        (f"remit blast {first or 'ID'}{where}", "what it gives to whoever gets hold of it"),
        (f"remit deps {first or 'ID'}{where}", "who would notice if it were gone"),
        *(
            ((f"{line}{where}", why) for line, why in _ON_GRAPH)
            if sample
            else (("remit demo graph", "the same of a made-up cloud: paths, cut, less right, proof"),)
        ),
        (f"remit claim {first or 'ID'}{where}", "answer for it"),
    ):
        out.print(f"  [cyan].venv/bin/{command}[/cyan]  [dim]{why}[/dim]", soft_wrap=True)
    code = surface.sessions.mint_code(os.geteuid())
    out.print("\nconsole [dim](good once, for 60 seconds; `remit console` makes another link)[/dim]")
    out.print(f"  {surface.url}/sign-in?code={code}", soft_wrap=True)


async def _worst(surface: Surface, subjects: list[str]) -> str:
    """The id of an identity that the worst findings are about: of several the one that reaches most."""
    known = []
    for subject in subjects:
        with contextlib.suppress(RemitError):
            known.append(await surface.control.resolve(subject))
    if known:
        await surface.control.graphs.settle()
        return max(known, key=lambda each: getattr(surface.control.graphs.radius(each), "score", 0))
    first = await surface.control.store.read(lambda unit: next(iter(unit.inventory.all_identities()), None))
    return first.id if first is not None else ""
