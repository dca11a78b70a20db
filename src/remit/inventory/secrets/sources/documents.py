"""Documents as the text that a person sees in them: office files, notebooks, mail, HAR, images' configurations, PDF.

XML is read by a tokenizer of our own: no entities but the five, no document types, nothing fetched.

Spec: ECMA-376; ODF 1.3; nbformat 4; RFC 5322, RFC 2045, RFC 4155; HAR 1.2; OCI image-spec; ISO 32000-1 §7.3.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from remit.inventory.secrets.sources.budget import Budget, Held, Malformed, Part, TooLarge, read_whole, zlib_stream

if TYPE_CHECKING:
    from email.message import Message

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_MAIL_BYTES = 16 * 1024 * 1024
MAX_MESSAGES = 10_000
MAX_BOUNDARIES = 100
# Every repetition excludes what may begin it anew: no text costs more than its length times a constant.
_TAG = re.compile(rb"<(/?)([A-Za-z][\w.:-]{0,100})[^<>]{0,8192}>|<!\[CDATA\[|\]\]>|<[!?][^<>]{0,8192}>")
_ENTITY = re.compile(rb"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_BREAKS = frozenset({b"p", b"h", b"row", b"tr", b"br", b"si", b"line-break", b"table-row", b"list-item", b"comment"})
_CELLS = frozenset({b"tab", b"tc", b"c", b"table-cell", b"v"})
_OOXML = re.compile(
    r"(?:word|ppt/(?:slides|notesSlides|comments)|xl/(?:worksheets|comments\w*|sharedStrings))[/.].*xml", re.I
)
_CELL_VALUE = re.compile(rb"<v>([^<]{0,32768})</v>")


def is_office_member(name: str, *, is_odf: bool) -> bool:
    """True of a part of an office document whose text is for people; its other parts are read as they are."""
    return (
        name in ("content.xml", "meta.xml") if is_odf else _OOXML.fullmatch(name) is not None and "/_rels/" not in name
    )


def xml_text(data: bytes) -> bytes:
    """The text between the tags: paragraphs and rows on lines of their own, runs of one word joined."""
    parts: list[bytes] = []
    at = 0
    for found in _TAG.finditer(data):
        if found.start() > at:
            parts.append(_unescape(data[at : found.start()]))
        at = found.end()
        name = (found.group(2) or b"").rpartition(b":")[2]
        if name in _BREAKS and (found.group(1) or found.group().endswith(b"/>")):
            parts.append(b"\n")
        elif name in _CELLS and (found.group(1) or found.group().endswith(b"/>")):
            parts.append(b"\t")
    parts.append(_unescape(data[at:]))
    return b"".join(parts)


def shared_strings(data: bytes) -> list[bytes]:
    """The strings to which the cells of a workbook refer by number."""
    return [xml_text(part.partition(b"</si>")[0]).strip() for part in re.split(rb"<si>|<si\s[^<>]{0,200}>", data)[1:]]


def sheet_text(data: bytes, shared: list[bytes]) -> bytes:
    """The rows of a sheet, cells side by side."""
    rows: list[bytes] = []
    for line in data.split(b"</row>"):
        row: list[bytes] = []
        for cell in line.split(b"</c>"):
            at = max(cell.rfind(b"<c "), cell.rfind(b"<c>"))
            if at < 0:
                continue
            attributes, _, content = cell[at:].partition(b">")
            value = _CELL_VALUE.search(content)
            text = _unescape(value.group(1)) if value else xml_text(content).strip()
            if value and b't="s"' in attributes and text.isdigit() and len(text) < 9:
                text = shared[int(text)] if int(text) < len(shared) else text
            row.append(text)
        rows.append(b"\t".join(row))
    return b"\n".join(rows)


def _unescape(text: bytes) -> bytes:
    if b"&" not in text:
        return text

    def plain(found: re.Match[bytes]) -> bytes:
        if found.group(3):
            return _NAMED[found.group(3)]
        code = int(found.group(1)) if found.group(1) else int(found.group(2), 16)
        return chr(code).encode("utf-8", "replace") if code < 0x110000 else found.group()

    return _ENTITY.sub(plain, text)


def _json(data: bytes) -> object:
    if len(data) > MAX_JSON_BYTES:
        raise TooLarge(f"a document larger than {MAX_JSON_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("no JSON") from None


def notebook_text(data: bytes) -> bytes:
    """The cells of a notebook, their outputs and its metadata. Raises `Malformed`, `TooLarge`."""
    book = _json(data)
    sheets = book.get("worksheets") if isinstance(book, dict) else None
    cells = book.get("cells") if isinstance(book, dict) else None
    for sheet in sheets if isinstance(sheets, list) else ():
        cells = sheet.get("cells") if isinstance(sheet, dict) else cells
    if not isinstance(book, dict) or not isinstance(cells, list):
        raise Malformed("no notebook")
    lines: list[str] = []
    for cell in cells:
        if isinstance(cell, dict):
            lines += _texts(cell.get("source", cell.get("input")), 0)
            lines += _texts(cell.get("outputs"), 0)
            lines += _texts(cell.get("attachments"), 0)
    lines.append(json.dumps(book.get("metadata", {}), ensure_ascii=False))
    return "\n".join(lines).encode("utf-8", "replace")


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < 20:
        if value and all(isinstance(each, str) for each in value):
            yield "".join(value)
        else:
            for each in value:
                yield from _texts(each, depth + 1)
    elif isinstance(value, dict) and depth < 20:
        for key, each in value.items():
            if not str(key).startswith(("image/", "video/", "audio/")):
                yield from _texts(each, depth + 1)


def image_config_text(data: bytes) -> bytes:
    """Environment, labels, command and history of a container image, a line each. Raises `Malformed`, `TooLarge`."""
    image = _json(data)
    if not isinstance(image, dict):
        raise Malformed("no image configuration")
    lines: list[str] = []
    for key in ("config", "container_config"):
        config = image.get(key)
        if isinstance(config, dict):
            lines += [each for each in config.get("Env") or () if isinstance(each, str)]
            labels = config.get("Labels")
            lines += [f"{name}={value}" for name, value in labels.items()] if isinstance(labels, dict) else []
            for command in ("Cmd", "Entrypoint", "OnBuild"):
                told = config.get(command)
                lines.append(" ".join(str(each) for each in told) if isinstance(told, list) else str(told or ""))
    history = image.get("history")
    for step in history if isinstance(history, list) else ():
        if isinstance(step, dict):
            lines += [str(step.get(key) or "") for key in ("created_by", "comment")]
    return "\n".join(dict.fromkeys(line for line in lines if line)).encode("utf-8", "replace")


def har_bodies(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The bodies that a HAR file keeps in base64. Raises `Malformed`, `TooLarge`."""
    log = _json(data)
    log = log.get("log") if isinstance(log, dict) else None
    entries = log.get("entries") if isinstance(log, dict) else None
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        response = entry.get("response") if isinstance(entry, dict) else None
        content = response.get("content") if isinstance(response, dict) else None
        if isinstance(content, dict) and content.get("encoding") == "base64" and isinstance(content.get("text"), str):
            try:
                yield f"entry-{number}", base64.b64decode(content["text"])
            except (ValueError, binascii.Error):
                continue


def mail_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of the parts of a message, or of a mailbox of them, that are encoded or attached."""
    messages = [data]
    if data.startswith(b"From "):
        messages = re.split(rb"(?:\A|\n)From [^\n]{1,500}\n", data, maxsplit=MAX_MESSAGES)
    for number, raw in enumerate(messages):
        if not raw.strip():
            continue
        if len(raw) > MAX_MAIL_BYTES:
            raise TooLarge(f"a message larger than {MAX_MAIL_BYTES} bytes")
        if raw.lower().count(b"boundary=") > MAX_BOUNDARIES:
            raise TooLarge(f"a message of more than {MAX_BOUNDARIES} nested parts")
        import email.policy  # most trees hold no mail

        try:
            message = email.message_from_bytes(raw, policy=email.policy.compat32)
            parts = list(_parts(message))
        except (RecursionError, LookupError, ValueError, TypeError, AttributeError):
            raise Malformed("no message") from None
        for place, (name, content) in enumerate(parts):
            yield (f"message-{number}/" if len(messages) > 1 else "") + (name or f"part-{place}"), content


def _parts(message: Message) -> Iterator[tuple[str, bytes]]:
    for part in message.walk():
        coded = str(part.get("Content-Transfer-Encoding", "")).strip().lower() in ("base64", "quoted-printable")
        if part.is_multipart() or not (coded or part.get_filename()):
            continue
        content = part.get_payload(decode=True)
        if isinstance(content, bytes) and content:
            yield str(part.get_filename() or "")[:200], content


# -- PDF

_STREAM = re.compile(rb"(?<!end)stream\r?\n")
_SHOWN = re.compile(rb"\((?:[^()\\]|\\.){0,32768}\)|<([0-9A-Fa-f\s]{2,8192})>|T[dDm*]|\bET\b|TJ|Tj|'", re.S)
_ESCAPE = re.compile(rb"\\([nrtbf()\\]|[0-7]{1,3}|\r?\n)")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def pdf_texts(data: bytes, budget: Budget) -> Iterator[tuple[str, bytes]]:
    """The text that the pages of a PDF show, where its fonts keep letters as letters, and its other plain streams."""
    shown: list[bytes] = []
    for number, found in enumerate(_STREAM.finditer(data)):
        budget.member()
        header = data[max(0, found.start() - 1024) : found.start()]
        header = header[header.rfind(b" obj") + 1 :]
        end = data.find(b"endstream", found.end())
        last = end < 0
        end = len(data) if last else end
        budget.spend(end - found.end())
        content = data[found.end() : end]
        if b"FlateDecode" in header:
            try:
                content = read_whole(zlib_stream(Part(Held(content), 0, len(content)), budget))
            except Malformed:
                continue
        elif b"/Filter" in header:
            continue
        if b"/Image" in header or b"/FontFile" in header or b"/Length1" in header:
            continue
        if b"BT" in content and (b"Tj" in content or b"TJ" in content):
            shown.append(_shown(content))
        elif b"FlateDecode" in header and content.isascii():
            yield f"stream-{number}", content
        if last:
            break
    if shown:
        yield "text", b"\n".join(shown)


def _shown(content: bytes) -> bytes:
    parts: list[bytes] = []
    for found in _SHOWN.finditer(content):
        token = found.group()
        if token[:1] == b"(":
            parts.append(_ESCAPE.sub(_escaped, token[1:-1]))
        elif found.group(1):
            parts.append(_hexadecimal(found.group(1)))
        elif token not in (b"TJ", b"Tj"):
            parts.append(b"\n")
    return re.sub(rb"\n{2,}", b"\n", b"".join(parts))


def _hexadecimal(text: bytes) -> bytes:
    digits = b"".join(text.split())
    raw = bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode())
    return raw[1::2] if len(raw) > 1 and not any(raw[::2]) else raw


def _escaped(found: re.Match[bytes]) -> bytes:
    mark = found.group(1)
    if mark[:1].isdigit():
        return bytes([int(mark, 8) & 0xFF])
    return _ESCAPED.get(mark, b"" if mark.endswith(b"\n") else mark)
