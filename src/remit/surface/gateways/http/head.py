"""The head of an HTTP/1.1 message, read strictly: what two programs could read differently is refused, not repaired.

Refused: bare line ends, folded lines, space before a colon, control characters, `Transfer-Encoding` together with
`Content-Length`, either twice, any coding but `chunked`, none or several `Host`, a `Host` that is not the target's.

Spec: RFC 9112 §2.2, §3.2, §5.1, §5.2, §6.1–6.3, §11.2; RFC 9110 §7.2, §7.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit.kernel.errors import Rejected

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 128
CHUNKED, UNTIL_CLOSE = -1, -2
"""Lengths of bodies that no number tells."""
Fields = Sequence[tuple[str, str]]

_REQUEST: Final = re.compile(r"([A-Z][A-Z-]{0,31}) ([\x21-\x7e]{1,8192}) HTTP/1\.([01])")
_STATUS: Final = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "http2-settings", "proxy-authentication-info",
    }
)  # fmt: skip
_NEVER_HOP: Final = frozenset(
    {"host", "content-length", "content-type", "authorization", "cookie", "date", "cache-control"}
)
"""Naming one of these in `Connection` is an attempt to take it from under the upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A request as it came; names of fields in lower case."""

    method: str
    target: str
    minor: int
    """Of HTTP/1.x."""
    fields: Fields = field(repr=False)
    host: str
    length: int
    """Bytes of the body, or `CHUNKED`."""

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a field."""
        return tuple(value for each, value in self.fields if each == name)

    @property
    def persistent(self) -> bool:
        """Whether the client would send another request on the connection."""
        options = listed(self.values("connection")) | listed(self.values("proxy-connection"))
        return self.minor == 1 and "close" not in options

    @property
    def upgrade(self) -> str:
        """What protocol it asks to change to, in lower case; empty for none."""
        if "upgrade" not in listed(self.values("connection")):
            return ""
        return ",".join(self.values("upgrade")).strip().lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """An answer as it came."""

    status: int
    minor: int
    fields: Fields = field(repr=False)

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a field."""
        return tuple(value for each, value in self.fields if each == name)

    def length(self, method: str) -> int:
        """Bytes of its body as the answer to `method`, or `CHUNKED`, or `UNTIL_CLOSE`. `Rejected`."""
        told = framing(self.fields, self.minor, request=False)
        return 0 if method == "HEAD" or self.status in (204, 304) or self.status < 200 else told


def parse_request(raw: bytes) -> RequestHead:
    """A request, of the bytes up to and with its empty line. `Rejected` (`surface.http.malformed`)."""
    first, fields = _lines(raw)
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise malformed("its first line is no method, target and HTTP/1.1")
    hosts = [value for name, value in fields if name == "host"]
    if not hosts and found[1] == "CONNECT":
        hosts = [found[2]]  # clients of HTTP/1.0 name it nowhere else
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise malformed("it has not one valid `Host`")
    minor = int(found[3])
    return RequestHead(
        method=found[1], target=found[2], minor=minor, fields=fields, host=hosts[0].lower(),
        length=framing(fields, minor, request=True),
    )  # fmt: skip


def parse_response(raw: bytes) -> ResponseHead:
    """An answer, of the bytes up to and with its empty line. `Rejected` (`surface.http.malformed`)."""
    first, fields = _lines(raw)
    found = _STATUS.fullmatch(first)
    if found is None:
        raise malformed("its first line is no status of HTTP/1.1")
    return ResponseHead(status=int(found[2]), minor=int(found[1]), fields=fields)


def framing(fields: Fields, minor: int, *, request: bool) -> int:
    """How long the body is. `Rejected` where that can be read in two ways."""
    lengths = [value for name, value in fields if name == "content-length"]
    codings = [value for name, value in fields if name == "transfer-encoding"]
    if codings:
        if lengths:
            raise malformed("it has both `Transfer-Encoding` and `Content-Length`")
        if len(codings) > 1 or codings[0].lower() != "chunked" or not minor:
            raise malformed("its `Transfer-Encoding` is not `chunked` alone")
        return CHUNKED
    if lengths:
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise malformed("its `Content-Length` is not one number")
        return int(lengths[0])
    return 0 if request else UNTIL_CLOSE


def end_to_end(fields: Fields, drop: Iterable[str] = ()) -> list[tuple[str, str]]:
    """What goes on to the other side: not what concerns one connection, nor `drop`.

    `Rejected` when `Connection` names a field that is not of one connection.
    """
    named = listed(value for name, value in fields if name in ("connection", "proxy-connection"))
    if named & _NEVER_HOP:
        raise malformed(f"its `Connection` names `{min(named & _NEVER_HOP)}`")
    gone = _HOP | named | set(drop)
    return [(name, value) for name, value in fields if name not in gone and name.replace("_", "-") not in gone]


def listed(values: Iterable[str]) -> frozenset[str]:
    """The members of a list in fields, in lower case."""
    return frozenset(part.strip().lower() for value in values for part in value.split(",") if part.strip())


def encode(first: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """A head in bytes."""
    lines = [first, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def malformed(why: str) -> Rejected:
    """A message that is not taken."""
    return Rejected("surface.http.malformed", f"the message is refused: {why}", next_step="send plain HTTP/1.1")


def _lines(raw: bytes) -> tuple[str, list[tuple[str, str]]]:
    if len(raw) > MAX_HEAD_BYTES or not raw.endswith(b"\r\n\r\n"):
        raise malformed("its head is cut off, or too long")
    lines = raw[:-4].decode("latin-1").split("\r\n")
    if any("\n" in line or "\r" in line or "\0" in line for line in lines):
        raise malformed("a line does not end with CR LF")
    if len(lines) > MAX_HEADERS + 1:
        raise malformed(f"it has more than {MAX_HEADERS} fields")
    fields = []
    for line in lines[1:]:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise malformed("a field is folded, has a space before its colon, or a character that it may not have")
        fields.append((found[1].lower(), found[2].rstrip(" \t")))
    return lines[0], fields
