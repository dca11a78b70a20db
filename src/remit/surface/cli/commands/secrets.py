"""Commands on static secrets: values come from a file or standard input, and are never shown again."""

from __future__ import annotations

import secrets as randomness
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_PATH = "/api/v1/secrets"
_MOST = 64 * 1024
File = Annotated[
    Path | None, Parameter(help="The file that holds the value, `-` or nothing for standard input.")
]  # fmt: skip


def add(
    name: str,
    /,
    *,
    resources: Annotated[
        list[str],
        Parameter(name="--for", help="KIND/NAME, or a prefix that ends in `*`: whose requests use it.", negative=()),
    ],
    from_file: File = None,
    where: Listing | None = None,
) -> None:
    """Keep a secret that gateways inject into permitted requests. Sealed, signed by you, never shown again."""
    where = where or Listing()
    body = {"name": name, "resources": _parts(resources), **_value(from_file)}
    _print(where.admin.post(_PATH, body, signed=True), where, "added")


def rotate(name: str, /, *, from_file: File = None, where: Listing | None = None) -> None:
    """Give a secret another value: the next request uses it."""
    where = where or Listing()
    _print(where.admin.post(f"{_PATH}/{quote(name, safe='')}/rotate", _value(from_file), signed=True), where, "rotated")


def ls(*, where: Listing | None = None) -> None:
    """List secrets: what they are for, and since when; never their values."""
    where = where or Listing()
    rows = where.admin.get(_PATH)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("name", "secret"), ("for", "for"), ("version", "version"), ("changed", "since"), ("changed_by", "by")]
    shown = [{**row, "for": ", ".join(row["resources"])} for row in rows]
    show_table(shown, columns, empty="no secrets: `remit secret add NAME --for KIND/NAME`")


def rm(name: str, /, *, where: Where | None = None) -> None:
    """Forget a secret and its value: no request uses it any more."""
    (where or Where()).admin.delete(f"{_PATH}/{quote(name, safe='')}")
    say(f"removed {plain(name)}")


def _value(file: Path | None) -> dict[str, str]:
    """The value with one line end taken off, and salt."""
    from remit.kernel.errors import Rejected

    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            import getpass

            raw = getpass.getpass("value: ").encode()
        else:
            raw = sys.stdin.buffer.read(_MOST + 1)
    else:
        with file.open("rb") as opened:
            raw = opened.read(_MOST + 1)
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not raw or len(raw) > _MOST or not raw.isascii():
        raise Rejected("surface.secret.value", "the value is empty, too long, or no ASCII")
    return {"value": raw.decode("ascii"), "salt": randomness.token_urlsafe(24)}


def _print(found: dict[str, Any], where: Listing, what: str) -> None:
    if where.format != "table":
        emit(found, where.format)
        return
    say(f"{what} {plain(found['name'])}, version {found['version']}, for {plain(', '.join(found['resources']))}")


def _parts(texts: list[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]
