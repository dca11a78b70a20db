"""Commands that run the product and look after an installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import console as rich_console
from remit.surface.cli.output import emit, plain, say


def up(
    *,
    listen: Annotated[str | None, Parameter(help="HOST:PORT of the console and API; default 127.0.0.1:8420.")] = None,
    agents_listen: Annotated[
        str | None, Parameter(help="HOST:PORT for agents and workloads by mutual TLS; default 127.0.0.1:8421.")
    ] = None,
    database: Annotated[
        str | None, Parameter(env_var="REMIT_DATABASE", help="sqlite:///PATH or postgresql://…")
    ] = None,
    trust_domain: Annotated[str | None, Parameter(help="SPIFFE trust domain; default remit.local.")] = None,
    decide_workers: Annotated[
        int | None, Parameter(help="Processes that serve the decision listener, 0 to 16; default 0: the server itself.")
    ] = None,
    config: Annotated[
        Path | None, Parameter(env_var="REMIT_CONFIG", help="Settings file; default DIR/remit.toml.")
    ] = None,
    where: Where | None = None,
) -> None:
    """Run the control plane, the agent and the console in one process, until SIGTERM or Ctrl-C.

    Prints `ready <url>` when it serves. State is kept under --data; a second instance on it is refused.
    """
    _serve(where or Where(), listen, agents_listen, database, trust_domain, config, decide_workers, agent=True)


def serve(
    *,
    listen: Annotated[str | None, Parameter(help="HOST:PORT of the console and API; default 127.0.0.1:8420.")] = None,
    agents_listen: Annotated[
        str | None, Parameter(help="HOST:PORT for agents and workloads by mutual TLS; default 127.0.0.1:8421.")
    ] = None,
    database: Annotated[
        str | None, Parameter(env_var="REMIT_DATABASE", help="sqlite:///PATH or postgresql://…")
    ] = None,
    trust_domain: Annotated[str | None, Parameter(help="SPIFFE trust domain; default remit.local.")] = None,
    decide_workers: Annotated[
        int | None, Parameter(help="Processes that serve the decision listener, 0 to 16; default 0: the server itself.")
    ] = None,
    config: Annotated[
        Path | None, Parameter(env_var="REMIT_CONFIG", help="Settings file; default DIR/remit.toml.")
    ] = None,
    where: Where | None = None,
) -> None:
    """Run the control plane and the console, without an agent on this machine."""
    _serve(where or Where(), listen, agents_listen, database, trust_domain, config, decide_workers, agent=False)


def _serve(
    where: Where,
    listen: str | None,
    agents_listen: str | None,
    database: str | None,
    domain: str | None,
    config: Path | None,
    workers: int | None,
    *,
    agent: bool,
) -> None:
    from remit.surface.server import Options, run

    run(
        Options(
            data=where.data,
            socket_dir=where.socket_dir,
            config=config,
            database=database,
            agent=agent,
            flags={
                "server.listen": listen,
                "trust.listen": agents_listen,
                "trust.domain": domain,
                "access.workers": workers,
            },
        ),
        announce=lambda url: print(f"ready {url}", flush=True),
    )
    if sys.stderr.isatty():
        say(f"[dim]stopped; what it knows is kept in {plain(where.data)}[/dim]")


def console(where: Where | None = None) -> None:
    """Print a link that signs a browser in to the console: good once, and for 60 seconds."""
    answer = (where or Where()).admin.post("/api/v1/sign-in")
    say("[dim]good once, for 60 seconds[/dim]")
    print(answer["url"])


def doctor(where: Listing | None = None) -> None:
    """Check this installation:
    files, keys, clock, database, ledger, targets, and the boundary between people and machines.
    """
    from remit.surface.doctor import examine

    where = where or Listing()
    lines = examine(where.data, where.admin)
    if where.format != "table":
        emit(lines, where.format)
    else:
        out = rich_console()
        for line in lines:
            mark = {"pass": "[green]ok  [/green]", "fail": "[bold red]fail[/bold red]"}.get(
                line["outcome"], "[yellow]?   [/yellow]"
            )
            out.print(f"{mark} {plain(line['title'])}" + (f" — {plain(line['detail'])}" if line["detail"] else ""))
            if line["outcome"] != "pass" and line["next_step"]:
                out.print(f"     [bold]next[/bold] {plain(line['next_step'])}")
    if any(line["outcome"] == "fail" for line in lines):
        sys.exit(1)


def tour(
    *,
    tree: Annotated[
        Path | None, Parameter(help="What to discover; default: this directory, your home and /etc.")
    ] = None,
    listen: Annotated[str | None, Parameter(help="HOST:PORT; default 127.0.0.1:8420.")] = None,
    sample: Annotated[
        bool, Parameter(help="Read a made-up company instead: four systems and a log.", negative=())
    ] = False,
    where: Where | None = None,
) -> None:
    """Start the control plane, discover this machine, say what is wrong and what to do next, and go on serving."""
    from remit.surface.cli.tour import run_tour

    where = where or Where()
    run_tour(where.data, tree=tree, listen=listen, sample=sample)
