"""Commands on the installation's own keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Unavailable
from remit.surface.cli.options import Listing
from remit.surface.cli.output import emit, plain, say


def rotate(
    *,
    to: Annotated[str, Parameter(help="Another key-encryption key: file:/PATH or a pkcs11: URI.")] = "",
    database: Annotated[
        str | None, Parameter(env_var="REMIT_DATABASE", help="sqlite:///PATH or postgresql://…, where no server runs.")
    ] = None,
    config: Annotated[
        Path | None, Parameter(env_var="REMIT_CONFIG", help="Settings file, where no server runs.")
    ] = None,
    where: Listing | None = None,
) -> None:
    """Make new keys and seal everything with them. Signed by you; without a server it is done here, on the files."""
    where = where or Listing()
    try:
        found = where.admin.post("/api/v1/keys/rotate", {"to": to}, signed=True)
    except Unavailable as error:
        if error.code != "surface.server.absent":
            raise
        found = _offline(where, to, database, config)
    if where.format != "table":
        emit(found, where.format)
        return
    say(f"sealed {found['resealed']} values with {plain(found['data_key'])}, wrapped by {plain(found['kek'])}")
    if found["unreadable"]:
        say(f"[yellow]note[/yellow] {found['unreadable']} could not be opened, and were left as they are")
    if found["set"]:
        say(f"now set in the settings: {plain(found['set'])}")


def _offline(where: Listing, to: str, database: str | None, config: Path | None) -> dict[str, Any]:
    import asyncio

    from remit.kernel.clock import SystemClock
    from remit.wiring.keys import rotate_offline
    from remit.wiring.settings import settings_from

    settings = settings_from(
        where.data, config=config, database=database, socket_dir=where.socket_dir, environ=os.environ, flags={}
    )
    actor = f"local:uid:{os.geteuid()}"
    return dict(asyncio.run(rotate_offline(settings, clock=SystemClock(), to=to, actor=actor)))
