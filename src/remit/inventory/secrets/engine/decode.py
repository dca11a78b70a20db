"""What else do these bytes say? Encodings undone, with every place mapped back to the original bytes."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from remit.inventory.secrets.engine.checksums import unpad
from remit.inventory.secrets.engine.finder import Signal
from remit.inventory.secrets.model import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class WideText:
    """A blob of UTF-16 as UTF-8, and the way back."""

    data: bytes = field(repr=False)
    order: str
    skipped: int

    def back(self, hit: Hit, original: bytes) -> Hit:
        """`hit` in the bytes of the original."""
        start, end = (self._offset(at) for at in (hit.start, hit.end))
        return replace(
            hit, start=min(start, len(original)), end=min(end, len(original)), decoded=("utf-16", *hit.decoded)
        )

    def _offset(self, at: int) -> int:
        return self.skipped + len(self.data[:at].decode("utf-8", "surrogatepass").encode(self.order, "surrogatepass"))


def text_of(data: bytes) -> WideText | None:
    """The text of `data` where it is UTF-16, by its mark or by the zeros of its first kilobyte; else `None`."""
    order, skipped = "", 2
    if data.startswith(codecs.BOM_UTF16_LE):
        order = "utf-16-le"
    elif data.startswith(codecs.BOM_UTF16_BE):
        order = "utf-16-be"
    elif len(data) >= 16 and data[:1024].count(0) * 3 > len(data[:1024]):
        head, skipped = data[:1024], 0
        odd, even = head[1::2].count(0), head[::2].count(0)
        if odd * 10 > len(head) // 2 * 8 and even * 20 < len(head):
            order = "utf-16-le"
        elif even * 10 > len(head) // 2 * 8 and odd * 20 < len(head):
            order = "utf-16-be"
    if not order:
        return None
    even_length = data[skipped:] if (len(data) - skipped) % 2 == 0 else data[skipped:-1]
    try:
        text = even_length.decode(order, "surrogatepass")
    except UnicodeDecodeError:
        return None
    return WideText(data=text.encode("utf-8", "surrogatepass"), order=order, skipped=skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A stretch of a blob with one encoding undone; `places[i]` is where byte i began, `places[-1]` the end of it all."""

    data: bytes = field(repr=False)
    places: Sequence[int] = field(repr=False)
    encoding: str

    def back(self, hit: Hit) -> Hit:
        """`hit` of this view, in the bytes from which the view was made."""
        start, end = self.places[min(hit.start, len(self.data))], self.places[min(hit.end, len(self.data))]
        return replace(hit, start=start, end=max(end, start), decoded=(self.encoding, *hit.decoded))


ESCAPED = Signal(
    pattern=r"%(?:3[ADad]|2[BFbf]|40|20)|\\u00[2-7][0-9a-fA-F]|\\x[2-7][0-9a-fA-F]|&(?:quot|apos|amp|#[0-9]{2,3}|#x[0-9a-fA-F]{2});",
    keywords=("%", "\\u00", "\\x", "&"),
    line=True,
)
JOINED = Signal(
    pattern=r"[A-Za-z0-9_/+=\-:@!#$%.][\"'][ \t]{0,8}(?:[+.&\\]|\.\.|<<)[ \t]{0,8}(?:\r?\n|[\"'])",
    keywords=('"', "'"),
    line=True,
)
SIGNALS = (ESCAPED, JOINED)
VIEW_LIMIT = 64 * 1024
"""Bytes of one view; longer encoded values are looked at no further."""

_ESCAPE = re.compile(
    rb"%[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|&(?:quot|apos|amp|lt|gt|#[0-9]{2,3}|#x[0-9a-fA-F]{2});|\\[\"'/\\]"
)
_JOIN = re.compile(rb"(?P<quote>[\"'])[ \t]{0,8}(?:\+|\.{1,2}|&|\\|<<)[ \t]{0,8}\r?\n?[ \t]{0,40}[\"']")
_ENTITIES = {b"&quot;": b'"', b"&apos;": b"'", b"&amp;": b"&", b"&lt;": b"<", b"&gt;": b">"}


def unescape(data: bytes, start: int, end: int) -> View | None:
    """data[start:end] without the escapes of URLs, JSON, C and XML; `None` where there are none."""
    encoding = (
        "url"
        if _ESCAPE.search(data, start, end) and b"%" in data[start:end] and b"\\" not in data[start:end]
        else "escape"
    )
    return _replaced(data, start, min(end, start + VIEW_LIMIT), _ESCAPE, _plain, encoding)


def join(data: bytes, start: int, end: int) -> View | None:
    """The line data[start:end], and lines after that go on with it, with concatenated strings made one."""
    end = min(len(data), start + VIEW_LIMIT, end)
    for _ in range(32):
        tail = _JOIN.search(data, max(start, end - 80), min(len(data), end + 200))
        if tail is None or tail.end() <= end:
            break
        following = data.find(b"\n", tail.end())
        end = min(len(data), start + VIEW_LIMIT) if following < 0 else min(following, start + VIEW_LIMIT)
    return _replaced(data, start, end, _JOIN, lambda _escape: b"", "joined")


def _replaced(
    data: bytes, start: int, end: int, pattern: re.Pattern[bytes], plain: Callable[[bytes], bytes], encoding: str
) -> View | None:
    out = bytearray()
    places: list[int] = []
    at = start
    for match in pattern.finditer(data, start, end):
        out += data[at : match.start()]
        places.extend(range(at, match.start()))
        new = plain(match.group())
        out += new
        places.extend([match.start()] * len(new))
        at = match.end()
    if at == start:
        return None
    out += data[at:end]
    places.extend(range(at, end + 1))
    return View(data=bytes(out), places=places, encoding=encoding)


def _plain(escape: bytes) -> bytes:
    if escape in _ENTITIES:
        return _ENTITIES[escape]
    if escape.startswith(b"&#x"):
        return bytes((int(escape[3:-1], 16),))
    if escape.startswith(b"&#"):
        return chr(int(escape[2:-1])).encode("utf-8")
    if escape.startswith(b"\\u"):
        return chr(int(escape[2:], 16)).encode("utf-8", "replace")
    if escape.startswith(b"\\x"):
        return bytes((int(escape[2:], 16),))
    return escape[1:] if escape.startswith(b"\\") else bytes((int(escape[1:], 16),))


def inner_text(value: bytes) -> tuple[bytes, str] | None:
    """The text that `value` is in hexadecimal or base 64, and which; `None` where it is no text."""
    if len(value) > VIEW_LIMIT or len(value) < 8:
        return None
    if len(value) % 2 == 0 and _HEX.fullmatch(value):
        plain: bytes | None = bytes.fromhex(value.decode("ascii"))
        if plain is not None and _is_text(plain):
            return plain, "hex"
    plain = unpad(value)
    return (plain, "base64") if plain is not None and _is_text(plain) else None


_HEX = re.compile(rb"[0-9a-fA-F]+")
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"


def _is_text(plain: bytes) -> bool:
    return len(plain) >= 4 and not plain.translate(None, _PRINTABLE)


def whole(start: int, end: int, plain: bytes, encoding: str) -> View:
    """A view of the one value between `start` and `end`, whose bytes cannot be told apart from outside."""
    return View(data=plain, places=[start] * len(plain) + [end], encoding=encoding)
