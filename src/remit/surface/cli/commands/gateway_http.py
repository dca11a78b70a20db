"""`remit gateway http`: a forward and reverse proxy for programs that cannot be changed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from remit.surface.cli.options import Where
from remit.surface.cli.output import plain, say, show_table

_PLACES = "HOST:PORT (loopback), unix:PATH, or mtls:HOST:PORT with our own SVID. May be given more than once."
Places = Annotated[list[str] | None, Parameter(help=_PLACES, negative=())]


def http(
    *,
    routes: Annotated[Path, Parameter(help="The file that says what requests are, and where they go.")],
    reverse: Places = None,
    forward: Places = None,
    server: Annotated[
        str, Parameter(help="A control plane elsewhere: https://HOST:PORT, asked by the SVID of this process.")
    ] = "",
    dry_run: Annotated[bool, Parameter(help="Print the routes as they are understood, and end.", negative=())] = False,
    where: Where | None = None,
) -> None:
    """Stand before an upstream, or behind HTTP_PROXY: each request decided, credentials injected."""
    from remit.kernel.errors import Rejected
    from remit.surface.gateways.http.table import load

    where = where or Where()
    table = load(routes)
    for warning in table.warnings():
        say(f"[yellow]look[/yellow] {plain(warning)}")
    if dry_run:
        columns = [("method", "method"), ("match", "path or host"), ("action", "action"), ("resource", "resource"),
                   ("upstream", "upstream"), ("injects", "injects")]  # fmt: skip
        show_table(
            table.describe(), columns, empty="no routes: every request is refused, but tunnels that policy permits"
        )
        say(f"who asks is proved by: {', '.join(sorted(table.subjects))}")
        return
    if not reverse and not forward:
        raise Rejected(
            "surface.gateway.usage", "give at least one of --reverse and --forward",
            next_step="e.g. `remit gateway http --routes gateway.toml --forward 127.0.0.1:3128`",
        )  # fmt: skip
    from remit.surface.gateways.http.run import Options, run

    folder = (where.socket_dir or where.data).absolute()
    options = Options(
        table=table, reverse=tuple(reverse or ()), forward=tuple(forward or ()), socket=folder / "enforce.sock",
        server=server,
    )  # fmt: skip
    os.umask(0o077)
    asyncio.run(run(options, lambda line: print(line, flush=True)))
