"""Distinguished names and filters as text: read strictly, compared as a directory compares them, never injected into.

Spec: RFC 4514 (names), RFC 4515 (filters).
"""

from __future__ import annotations

import re

from remit.kernel.errors import Rejected

Rdn = tuple[tuple[str, str], ...]
"""Attribute type in lower case, value unescaped; more than one pair in a multi-valued RDN, sorted."""

_MAX_CHARACTERS = 1000
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+")
_HEX = re.compile(r"[0-9A-Fa-f]{2}")
_ESCAPABLE = frozenset(' "#+,;<=>\\')


def parse_name(text: str) -> tuple[Rdn, ...]:
    """Take a distinguished name apart, the entry's own part first; at most 1000 characters, not empty.

    Raises `Rejected` (`access.ldap.name`), also for values written as `#HEX`.
    """
    if not text or len(text) > _MAX_CHARACTERS:
        raise _bad(text)
    return tuple(tuple(sorted(_pair(part, text) for part in _split(rdn, "+", text))) for rdn in _split(text, ",", text))


def split_names(text: str) -> tuple[str, ...]:
    """Names with `;` between them, each one read; `Rejected` as for `parse_name`."""
    names = tuple(part.strip() for part in _split(text, ";", text))
    for name in names:
        parse_name(name)
    return names


def same_name(text: str) -> tuple[Rdn, ...]:
    """What two spellings of one name have in common: case and runs of spaces do not count."""
    return tuple(tuple((kind, " ".join(value.split()).casefold()) for kind, value in rdn) for rdn in parse_name(text))


def is_below(text: str, base: str) -> bool:
    """Whether a name lies below another, or is it."""
    name, root = same_name(text), same_name(base)
    return name[len(name) - len(root) :] == root if len(name) >= len(root) else False


def child(kind: str, value: str, base: str) -> str:
    """The name of an entry directly below `base`."""
    return f"{kind}={escape_value(value)},{base}"


def escape_value(value: str) -> str:
    """A value as it stands in a name, whatever is in it."""
    escaped = "".join(f"\\{one}" if one in '"+,;<=>\\' else "\\00" if one == "\x00" else one for one in value)
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    if value.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped


def escape_filter(value: str) -> str:
    """A value as it stands in a filter, whatever is in it."""
    return "".join(
        f"\\{byte:02x}" if byte in b"*()\\\x00" or byte > 126 or byte < 32 else chr(byte) for byte in value.encode()
    )


def _split(text: str, at: str, whole: str) -> list[str]:
    """Split at a separator that is not escaped."""
    parts, start, here = [], 0, 0
    while here < len(text):
        if text[here] == "\\":
            here += 1
        elif text[here] == at:
            parts.append(text[start:here])
            start = here + 1
        here += 1
    if here > len(text):
        raise _bad(whole)
    return [*parts, text[start:]]


def _pair(part: str, whole: str) -> tuple[str, str]:
    kind, sign, value = part.partition("=")
    kind = kind.strip()
    if not sign or not _TYPE.fullmatch(kind):
        raise _bad(whole)
    return kind.lower(), _unescaped(value, whole)


def _unescaped(text: str, whole: str) -> str:
    text = text.lstrip(" ")
    if not text or text.startswith("#"):
        raise _bad(whole)
    read, here, kept = bytearray(), 0, 0
    while here < len(text):
        one = text[here]
        if one != "\\":
            if one in '"+,;<>':
                raise _bad(whole)
            read += one.encode()
            here += 1
            kept = len(read) if one != " " else kept
            continue
        following = text[here + 1 : here + 3]
        if _HEX.fullmatch(following):
            read.append(int(following, 16))
            here += 3
        elif following[:1] in _ESCAPABLE and following:
            read += following[:1].encode()
            here += 2
        else:
            raise _bad(whole)
        kept = len(read)
    try:
        return bytes(read[:kept]).decode()
    except UnicodeDecodeError:
        raise _bad(whole) from None


def _bad(text: str) -> Rejected:
    return Rejected(
        "access.ldap.name",
        f"`{text[:80]}` is no distinguished name",
        next_step="write it as cn=NAME,ou=UNIT,dc=example,dc=org",
    )
