"""One spelling of each path: what two programs could read differently is refused, never repaired.

A proxy, a framework and an upstream each have their own idea of `//`, `..`, `%2f` or `;`. Whoever decides by path must
see what is served; a path with one spelling only is the same for all of them.

Spec: RFC 3986 §2.1, §2.3, §3.3, §6.2.2; RFC 9110 §4.2.3; RFC 9112 §3.2; Unicode UAX #15.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

from remit.kernel.errors import Rejected

MAX_TARGET: Final = 8192
"""Characters of a request target, query included."""
_ORIGIN: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,=:@%/]*")
"""Characters of a path (RFC 3986 §3.3), without `;`: some servers cut a segment there."""
_ESCAPES: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f/\\%.;?#]")
"""What an escape may not stand for: separators, dots, controls, and another escape."""


_MARKS: Final = "/\\.%;?#"


def canonical_path(target: str) -> str:
    """The decoded path of a request target as it came (origin-form), without its query.

    A trailing slash and the case of letters are part of it. Raises `Rejected` (`client.path.refused`) for an absolute
    URI, an empty, `.` or `..` segment, a parameter, an encoded separator, dot, control or per cent sign, and for what
    is not UTF-8.
    """
    if len(target) > MAX_TARGET:
        raise refused(f"it is longer than {MAX_TARGET} characters")
    path = target.partition("?")[0]
    if not _ORIGIN.fullmatch(path):
        raise refused("it does not begin with `/`, or has a character that a path has not")
    if len(_ESCAPES.findall(path)) != path.count("%"):
        raise refused("an escape in it is malformed")
    for escape in _ESCAPES.findall(path):
        if _FORBIDDEN.match(chr(int(escape[1:], 16))):
            raise refused(f"it hides a character as `{escape}`")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise refused("it is not UTF-8") from None
    return plain_path(decoded)


def plain_path(decoded: str) -> str:
    """A path that a server has decoded already, held to the same rules. `Rejected` (`client.path.refused`)."""
    if not decoded.startswith("/") or len(decoded) > MAX_TARGET:
        raise refused("it does not begin with `/`, or is too long")
    if not decoded.isprintable() or any(mark in decoded for mark in "\\;%"):
        raise refused("it has a character that servers read differently")
    if not decoded.isascii():
        _require_one_form(decoded)
    segments = decoded.split("/")[1:]
    if "" in segments[:-1]:
        raise refused("it has an empty segment")
    if "." in segments or ".." in segments:
        raise refused("it has a segment `.` or `..`")
    return decoded


def _require_one_form(decoded: str) -> None:
    """Refuse what some programs compose otherwise, or take for another character: `．．` for `..` (UAX #15)."""
    folded = unicodedata.normalize("NFKC", decoded)
    if unicodedata.normalize("NFC", decoded) != decoded or any(
        folded.count(mark) != decoded.count(mark) for mark in _MARKS
    ):
        raise refused("it has a character that some programs take for another")


def refused(why: str) -> Rejected:
    """The refusal of a path."""
    return Rejected("client.path.refused", f"the path is refused: {why}", next_step="ask for the path in plain form")
