"""Who would notice, shown the same way by `remit deps` and by every dry run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remit.surface.cli.output import ago, plain, say, show_table

_COLUMNS: Final = [
    ("breaks", "breaks"), ("title", "who"), ("relation", "how"), ("seen", "last seen"), ("sure", "sure"),
    ("environment", "environment"), ("ask", "ask"), ("evidence", "evidence"), ("place", "where"),
]  # fmt: skip
_LONG: Final = ("title", "environment", "ask", "evidence", "place")
_ALL: Final = 200
_FEW: Final = 20


def show_dependents(found: Mapping[str, Any], *, dry_run: bool = True) -> None:
    """The block: consumers, what breaks first; what is not measured; what makes it incomplete.

    `dry_run` shows the first of them, under a heading.
    """
    most = _FEW if dry_run else _ALL
    if dry_run:
        say("[bold]depends on it[/bold] (dry run: nothing was changed):")
    rows = found["dependents"]
    shown = [
        {**each, "seen": ago(each["last_seen"]), "sure": f"{each['confidence']} %"} if "breaks" in each else each
        for each in rows[:most]
    ]
    show_table(shown, _COLUMNS, wrap=_LONG, empty="nothing is known to depend on it")
    total = max(found.get("total", 0), len(rows))
    if total > most:
        say(f"… and {total - most} more")
    if found.get("said"):
        say(plain(found["said"]))
    for text in found.get("unmeasured", ()):
        say(f"[yellow]not measured:[/yellow] {plain(text)}")
    for text in found.get("blind_spots", ()):
        say(f"[yellow]blind spot:[/yellow] {plain(text)}")
