"""Git's deltas: rebuild an object from its base, and say which parts of it are new.

A delta copies ranges of its base and inserts bytes of its own. What was copied has been scanned as part of the base;
a secret can only be new where bytes were inserted, or where two ranges meet that did not lie beside each other.

Spec: git, gitformat-pack, "Deltified representation".
"""

from __future__ import annotations

MARGIN = 512
"""Bytes on either side of what is new: longer than the context of any rule but the armoured keys', which see below."""
LINE_REACH = 2048
KEY_REACH = 16 * 1024
_BEGIN = b"-----BEGIN "
_END = b"-----END "

Span = tuple[int, int]


class BadDelta(ValueError):
    """The delta contradicts itself, its base, or the bounds."""


def target_size(delta: bytes) -> int:
    """How long the delta says that its result is. Raises `BadDelta`."""
    _, at = _size(delta, 0)
    return _size(delta, at)[0]


def apply_delta(base: bytes, delta: bytes) -> tuple[bytes, list[Span]]:
    """Answer the object, and its new parts in order: inserted bytes, and empty spans where copied ranges meet.

    Memory is bounded by the size that the delta announces: the caller checks `target_size` first. Raises `BadDelta`.
    """
    expected_base, at = _size(delta, 0)
    expected, at = _size(delta, at)
    if expected_base != len(base):
        raise BadDelta("made for another base")
    parts: list[bytes | memoryview] = []
    fresh: list[Span] = []
    end, length, written, follows = len(delta), len(base), 0, 0
    view = memoryview(base)
    try:
        while at < end:
            code = delta[at]
            at += 1
            if code & 0x80:
                offset = size = 0
                if code & 0x01:
                    offset = delta[at]
                    at += 1
                if code & 0x02:
                    offset |= delta[at] << 8
                    at += 1
                if code & 0x04:
                    offset |= delta[at] << 16
                    at += 1
                if code & 0x08:
                    offset |= delta[at] << 24
                    at += 1
                if code & 0x10:
                    size = delta[at]
                    at += 1
                if code & 0x20:
                    size |= delta[at] << 8
                    at += 1
                if code & 0x40:
                    size |= delta[at] << 16
                    at += 1
                size = size or 0x10000
                if offset + size > length:
                    raise BadDelta("copies from beyond its base")
                if offset != follows:
                    fresh.append((written, written))
                parts.append(view[offset : offset + size])
                written += size
                follows = offset + size
            elif code:
                if at + code > end:
                    raise BadDelta("ends within an insertion")
                parts.append(delta[at : at + code])
                fresh.append((written, written + code))
                at += code
                written += code
            else:
                raise BadDelta("has a reserved instruction")
            if written > expected:
                raise BadDelta("makes more than it announced")
    except IndexError:
        raise BadDelta("ends within a copy") from None
    if written != expected:
        raise BadDelta("makes less than it announced")
    if follows != length:
        fresh.append((written, written))
    return b"".join(parts), fresh


def _size(delta: bytes, at: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        if at >= len(delta) or shift > 56:
            raise BadDelta("has no size")
        byte = delta[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, at


def windows_of(data: bytes, fresh: list[Span]) -> tuple[Span, ...]:
    """Widen the new parts by `MARGIN`, to whole lines where these are short, and to whole armoured keys; merged."""
    merged: list[Span] = []
    total = len(data)
    for start, end in fresh:
        start, end = max(0, start - MARGIN), min(total, end + MARGIN)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    armoured = _BEGIN.rstrip() in data  # a rare last letter: found, or not, several times faster than a blank
    aligned: list[Span] = []
    for start, end in merged:
        start, end = _whole_lines(data, start, end)
        if armoured:
            start, end = _whole_keys(data, start, end)
        if aligned and start <= aligned[-1][1]:
            aligned[-1] = (aligned[-1][0], max(end, aligned[-1][1]))
        else:
            aligned.append((start, end))
    return tuple(aligned)


def _whole_lines(data: bytes, start: int, end: int) -> Span:
    if start > 0:
        found = data.rfind(b"\n", max(0, start - LINE_REACH), start)
        start = found + 1 if found >= 0 else max(0, start - LINE_REACH)
    if end < len(data):
        found = data.find(b"\n", end, end + LINE_REACH)
        end = found + 1 if found >= 0 else min(len(data), end + LINE_REACH)
    return start, end


def _whole_keys(data: bytes, start: int, end: int) -> Span:
    """Where the span begins or ends inside of an armoured block, take the block whole (up to `KEY_REACH`)."""
    begin = data.rfind(_BEGIN, max(0, start - KEY_REACH), start)
    if begin >= 0 and data.find(_END, begin, start) < 0:
        start = begin
    begin = data.rfind(_BEGIN, start, end)
    if begin >= 0 and data.find(_END, begin, end) < 0:
        closing = data.find(_END, end, end + KEY_REACH)
        if closing >= 0:
            line = data.find(b"\n", closing, closing + 128)
            end = line + 1 if line >= 0 else min(len(data), closing + 128)
    return start, end
