"""Where a target is and as whom we come: what `remit target add --url` says, without a password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from remit.kernel.errors import Rejected

_MAX_URL_CHARACTERS = 2048
_SECRETS = frozenset({"password", "passfile", "passwd", "secret", "token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """The parts of a target that its URL says."""

    host: str
    """A host name, an address, or the absolute path of a Unix socket or its directory."""
    port: int
    user: str
    database: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the URL's parameters say; `--option` wins over them."""


def read_location(
    url: str,
    *,
    schemes: Mapping[str, int],
    database: str = "",
    parameters: frozenset[str] = frozenset(),
    user: str | None = None,
    write_as: str,
) -> Location:
    """Read `SCHEME://USER@HOST[:PORT][/DATABASE][?PARAMETERS]` of a target.

    `schemes` are those understood, with the port of each. `user` stands in where the URL may go without one.
    Raises `Rejected`: `access.target.password_in_url` for a password, which would rest in shell histories and process
    lists; `access.target.url` for anything that is not understood, and tells to write it as `write_as`.
    """
    parts, query = _taken_apart(url, write_as)
    if parts.password is not None or any(key.lower() in _SECRETS for key, _ in query):
        raise Rejected(
            "access.target.password_in_url",
            "a password in a URL rests in shell histories and process lists",
            next_step="leave it out and give it by --password-stdin; change the one you typed",
        )
    if parts.scheme not in schemes:
        raise _bad("it does not begin with `" + "://` or `".join(schemes) + "://`", write_as)
    if unknown := sorted({key for key, _ in query} - parameters):
        raise _bad(f"it has the unknown parameter `{unknown[0][:64]}`", write_as)
    if len(dict(query)) != len(query) or parts.fragment:
        raise _bad("a parameter comes twice, or it has a fragment", write_as)
    name = unquote(parts.username or "") or (user or "")
    host = unquote(parts.hostname or "")
    if not host or (not name and user is None):
        raise _bad("it names no host or no user", write_as)
    return Location(
        host=host,
        port=parts.port or schemes[parts.scheme],
        user=name,
        database=unquote(parts.path.removeprefix("/")) or database,
        options=dict(query),
    )


def _taken_apart(url: str, write_as: str) -> tuple[SplitResult, list[tuple[str, str]]]:
    if len(url) > _MAX_URL_CHARACTERS or not url.isprintable():
        raise _bad("it is longer than 2048 characters, or not printable", write_as)
    try:
        parts = urlsplit(url)
        _ = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise _bad("it cannot be taken apart", write_as) from None
    return parts, query


def _bad(why: str, write_as: str) -> Rejected:
    return Rejected(
        "access.target.url",
        f"the URL of the target is not understood: {why}",
        next_step=f"write it as {write_as}",
    )
