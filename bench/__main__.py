"""`python -m bench [AREA …]`: measures, prints a table, writes `.bench/AREA.json`. Exits 1 when a bar does not hold.

With REMIT_BENCH_QUICK=1 the counts are tiny, the figures say nothing, and it exits 0 when all could be measured.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.race import QUICK, Row

AREAS = ("product", "ledger", "trust", "access", "jit", "inventory", "graph")
_FOLDER = Path(".bench")


def main(arguments: Sequence[str]) -> int:
    """Measure the areas that are named, or all."""
    unknown = [each for each in arguments if each not in AREAS]
    if unknown:
        print(f"no area is called `{unknown[0]}`; there are: {', '.join(AREAS)}", file=sys.stderr)
        return 2
    out = Console()
    held = [report(out, area) for area in arguments or AREAS]
    return 0 if QUICK or all(held) else 1


def report(out: Console, area: str) -> bool:
    """Measure one area; whether every bar holds."""
    rows: list[Row] = []
    with out.status(f"measuring {area}") as status:
        measured: Iterator[Row] = importlib.import_module(f"bench.{area}").measure(status.update)
        for row in measured:
            rows.append(row)
    _FOLDER.mkdir(exist_ok=True)
    text = json.dumps([row.as_json() for row in rows], indent=2, ensure_ascii=False)
    (_FOLDER / f"{area}.json").write_text(f"{text}\n", encoding="utf-8")
    _print(out, area, rows)
    return all(row.holds for row in rows)


def _print(out: Console, area: str, rows: Sequence[Row]) -> None:
    quick = " (quick: these figures say nothing)" if QUICK else ""
    table = Table(title=f"{area}{quick}", title_justify="left", header_style="bold")
    for heading in ("what", "ours", "against", "theirs", "ratio", "bar", ""):
        table.add_column(heading, justify="right" if heading in ("ours", "theirs", "ratio", "bar") else "left")
    for row in rows:
        told = row.as_json()
        mark = Text("holds", style="green") if row.holds else Text("DOES NOT HOLD", style="bold red")
        ratio = "–" if row.ratio is None else f"{row.ratio:,.2f}"
        theirs = "missing" if row.theirs is None else f"{told['theirs']:,}"
        against = f"{row.against}: {row.missing}" if row.missing else row.against
        table.add_row(row.name, f"{told['ours']:,} {row.unit}", against, theirs, ratio, f"{row.bar:g}", mark)
    out.print(table)
    out.print(f"[dim]{_FOLDER / area}.json[/dim]")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
