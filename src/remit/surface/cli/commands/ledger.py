"""Commands on the ledger. `verify` works without a running server, from files and a public key alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing
from remit.surface.cli.output import clock, console, emit, say, show_table

_MAX_KEY = 4096


def verify(
    *,
    from_: Annotated[Path | None, Parameter(name="--from", help="Folder of the log; default DIR/ledger.")] = None,
    key: Annotated[
        Path | None, Parameter(help="File with the log's public key; default key.pub beside the log.")
    ] = None,
    earlier: Annotated[
        Path | None, Parameter(help="A checkpoint kept from before: proves that nothing was rolled back.")
    ] = None,
    where: Listing | None = None,
) -> None:
    """Verify every entry, tile, checkpoint and decision batch. Names the first leaf that does not hold, and exits 2."""
    from remit.ledger.note import parse_verifier_key
    from remit.ledger.verify import verify_directory

    where = where or Listing()
    folder = from_ or where.data / "ledger"
    if not folder.is_dir():
        raise Rejected("ledger.folder.missing", f"`{folder}` is no folder", next_step="give --from DIR or --data DIR")
    vkey = parse_verifier_key(_text(key or folder / "key.pub"))
    before = earlier.read_bytes() if earlier is not None else None
    with console(stderr=True).status("verifying") as status:
        found = verify_directory(
            folder, vkey, earlier=before, progress=lambda done, total: status.update(f"verified {done:,} of {total:,}")
        )
    if where.format != "table":
        emit({**msgspec.to_builtins(found), "root": found.root.hex(), "verified": True}, where.format)
        return
    say(f"[bold green]verified[/bold green] {found.size:,} entries, root {found.root.hex()[:16]}…")
    for warning in found.warnings:
        say(f"[yellow]note[/yellow] {warning}")
    if key is None:
        say(
            "[yellow]note[/yellow] the key came from the log's own folder: keep a copy elsewhere and give it with --key"
        )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected("ledger.key.unreadable", f"the key `{path}` cannot be read: {error}") from None


def ls(
    *,
    type: Annotated[str, Parameter(help="Beginning of the type, e.g. access.lease")] = "",
    subject: str = "",
    limit: int = 30,
    where: Listing | None = None,
) -> None:
    """The latest entries, newest first."""
    where = where or Listing()
    rows: list[dict[str, Any]] = where.admin.get("/api/v1/ledger/entries", type=type, subject=subject, limit=limit)
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(
            [{**row, "time": clock(row["time"])} for row in rows],
            [("leaf", "leaf"), ("time", "when (UTC)"), ("type", "what"), ("actor", "who"), ("subject", "about")],
            wrap=("type",),
        )


def prove(leaf: int, /, *, where: Listing | None = None) -> None:
    """Print a proof (c2sp.org/tlog-proof) that entry LEAF is in the ledger under its newest signed checkpoint."""
    where = where or Listing()
    sys.stdout.write(where.admin.get("/api/v1/ledger/proof", leaf=leaf)["proof"])
