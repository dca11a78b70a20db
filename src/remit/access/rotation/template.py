"""Texts with places for a credential, `{secret}` and the like: written and read back, never evaluated."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, unquote

from remit.access.rotation.model import Login
from remit.kernel.errors import Rejected

_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
_WORDS: Final[Mapping[str, Callable[[Login], str]]] = {
    "user": lambda login: login.user,
    "secret": lambda login: login.secret,
    "user_url": lambda login: quote(login.user, safe=""),
    "secret_url": lambda login: quote(login.secret, safe=""),
    "host": lambda login: login.host,
    "port": lambda login: str(login.port),
    "database": lambda login: login.database,
}


def require_template(text: object) -> str:
    """Accept a text of at most 4,096 characters whose places are known; `Rejected` (`access.rotation.template`)."""
    if not isinstance(text, str) or not text or len(text) > 4096:
        raise _bad("it is a text of 1 to 4096 characters")
    for word in _PLACE.findall(text):
        if word not in _WORDS:
            raise _bad(f"`{{{word[:40]}}}` is none of: " + ", ".join(_WORDS))
    return text


def fill(text: str, login: Login) -> str:
    """The text with everything in its place."""
    return _PLACE.sub(lambda match: _WORDS[match[1]](login), text)


def read_back(text: str, filled: str) -> Mapping[str, str]:
    """`user` and `secret` out of a filled text; empty where it has another form."""
    pattern, at, names = "", 0, []
    for match in _PLACE.finditer(text):
        pattern += re.escape(text[at : match.start()])
        pattern += f"(?P<{match[1]}>[^\\s]*?)" if match[1] not in names else f"(?P={match[1]})"
        names.append(match[1])
        at = match.end()
    found = re.fullmatch(pattern + re.escape(text[at:]), filled)
    if found is None:
        return {}
    words = found.groupdict()
    read: dict[str, str] = {name: words[name] for name in ("user", "secret") if name in words}
    for name in ("user", "secret"):
        if f"{name}_url" in words:
            read[name] = unquote(words[f"{name}_url"])
    return read


def _bad(why: str) -> Rejected:
    return Rejected(
        "access.rotation.template",
        f"a text for a credential is not understood: {why}",
        next_step="see docs/rotation.md",
    )
