"""The demo."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Literal

from cyclopts import Parameter

from remit.surface.cli.output import Format, console, emit


def demo(
    which: Annotated[Literal["leases", "agent", "graph"], Parameter(help="What to show.")] = "leases",
    /,
    *,
    keep: Annotated[bool, Parameter(negative=(), help="Leave its directory: repository, data, ledger, logs.")] = False,
    stay: Annotated[bool, Parameter(negative=(), help="`graph`: serve its console at the end, until Ctrl-C.")] = False,
    format: Annotated[Format, Parameter(name=["--format", "-o"], help="How to print the table at the end.")] = "table",
) -> None:
    """Five steps in two minutes on a PostgreSQL that it starts itself: a leak, leases, a rogue agent, a crash, a proof.

    `remit demo agent`: an AI agent behind the MCP gateway, clean, with an injected instruction, with a changed tool.
    `remit demo graph`: a leaked key, what it reaches, the cheapest cut, less right, and a proof that no path is open.
    Nothing of yours is read or changed: everything lies in a directory of its own below /tmp and is removed at the end.
    Exits 1 when a step did not show what it promises.
    """
    from remit.surface.cli.demo.play import play, play_agent, play_graph
    from remit.surface.cli.demo.show import Narrator

    narrator = Narrator(console(stderr=format != "table"))
    begun = time.monotonic()
    try:
        if which == "graph":
            outcomes = play_graph(narrator, keep=keep, stay=stay)
        else:
            outcomes = (play_agent if which == "agent" else play)(narrator, keep=keep)
    except KeyboardInterrupt:
        narrator.note("stopped; nothing is left running")
        raise SystemExit(130) from None
    narrator.table(outcomes, time.monotonic() - begun)
    if format != "table":
        emit([each.as_json() for each in outcomes], format)
    if not all(each.passed for each in outcomes):
        sys.exit(1)
