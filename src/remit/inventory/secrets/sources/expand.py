"""What is packed within a blob, as blobs of its own: archives, streams, documents, databases, keystores, encodings.

`expand` answers what to scan instead of a blob: the blob itself where it is text, its members where it is a container.
Formats are told by their first bytes, rarely by the name. Depth, members, bytes and growth are bounded together for
everything within one file (`Budget`); what ends beyond, or is broken, is `Skipped` and hides nothing beside it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources import archives, bytecode, conversations, documents, keystores
from remit.inventory.secrets.sources.budget import (
    MEMORY_BYTES,
    Budget,
    Held,
    Inflated,
    Malformed,
    Opened,
    Part,
    Peeked,
    Random,
    Readable,
    TooLarge,
    Unsupported,
    bzip2_stream,
    gzip_stream,
    read_whole,
    xz_stream,
    zstandard_stream,
)
from remit.inventory.secrets.sources.database import row_blobs
from remit.inventory.secrets.sources.git import PIECE_BYTES, in_pieces
from remit.inventory.secrets.sources.sqlite import Database

HEAD_BYTES = 1024
_BROKEN = (Malformed, ValueError, OSError, EOFError, struct.error, IndexError, KeyError, OverflowError, RecursionError)
_MEDIA = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|BM....\x00\x00\x00\x00|RIFF....(?:WEBP|AVI |WAVE)|"
    rb"\x00\x00\x01\x00.\x00|ID3|OggS|fLaC|wOF[2F]|OTTO|\x00\x01\x00\x00\x00|....ftyp|\x1aE\xdf\xa3|II\*\x00|MM\x00\*|8BPS|FLV\x01|\xff\xfb",
    re.S,
)
_MAIL = re.compile(
    rb"(?:From [^\n]{1,300}\n)?(?:[A-Za-z][\w-]{1,60}: [^\n]{0,2000}\r?\n(?:[ \t][^\n]{0,2000}\r?\n){0,20}){2}"
)
_MAIL_MARK = re.compile(rb"^(?:Message-ID|Received|MIME-Version|Return-Path|Delivered-To|X-Mailer):", re.I | re.M)
_ZSH = re.compile(rb"^: \d{9,11}:\d{1,8};", re.M)
_WIDE = {b"\xff\xfe\0\0": "utf-32-le", b"\0\0\xfe\xff": "utf-32-be"}


def is_media(head: bytes) -> bool:
    """True of pictures, sound, film and fonts: nothing is looked for in them."""
    return _MEDIA.match(head) is not None


def expand(blob: Blob, budget: Budget | None = None) -> Iterator[Blob | Skipped]:
    """Yield what to scan instead of `blob`: itself, or what is within it. Never raises; bounded by `budget`."""
    head = blob.data[:HEAD_BYTES]
    if _is_plain(head, blob.path) and not _is_program_with_zip(head, Held(blob.data)):
        yield blob
        return
    yield from _Expansion(budget or Budget(), blob).of(blob.path, Held(blob.data), None, 0)


def expand_file(path: str, descriptor: int, budget: Budget | None = None) -> Iterator[Blob | Skipped]:
    """As `expand`, of an open file of any size: text comes in pieces that overlap, containers are read in place."""
    yield from _Expansion(budget or Budget(), Blob(path=path, data=b"")).of(path, Opened(descriptor), None, 0)


def _is_plain(head: bytes, path: str) -> bool:
    """Whether the first bytes exclude every format: the answer for nearly all blobs, and cheap."""
    if b"\0" in head or head[:1] in b"%\x1f\x28\x30\xfd\xfe\xff\xce\xef!0PB" or not head:
        return False
    if head[:1] in b"{:RMDFXr" or path.endswith((".json", ".ipynb", ".eml", ".mbox", ".har", "history")):
        return False
    return not is_media(head)


class _Expansion:
    """One file and all that is within it."""

    def __init__(self, budget: Budget, root: Blob) -> None:
        self._budget = budget
        self._root = root
        self._spent = False

    def of(self, path: str, place: Random | None, stream: Readable | None, depth: int) -> Iterator[Blob | Skipped]:
        """Expand a place in memory or a file, or a stream."""
        source = stream if place is None else Part(place, 0, place.size)
        assert source is not None
        try:
            head = _read(source, HEAD_BYTES)
            yield from self._by_head(path, head, place, Peeked(head, source), depth)
        except TooLarge as error:
            self._spent = self._budget.bytes < 0 or self._budget.members < 0
            yield Skipped(what=path[:2000], reason="too-large", detail=str(error))
        except Unsupported as error:
            yield Skipped(what=path[:2000], reason="not-supported", detail=str(error)[:200])
        except keystores.Sealed as error:
            yield Skipped(what=path[:2000], reason="encrypted", detail=str(error)[:200])
        except _BROKEN as error:
            detail = str(error) if isinstance(error, Malformed) else type(error).__name__
            yield Skipped(what=path[:2000], reason="malformed", detail=detail[:200])

    def _by_head(
        self, path: str, head: bytes, place: Random | None, source: Readable, depth: int
    ) -> Iterator[Blob | Skipped]:
        unfold = _stream_format(head, path)
        members = _member_format(head)
        is_zip = head[:4] in (b"PK\3\4", b"PK\5\6") or (place is not None and _is_program_with_zip(head, place))
        if unfold is None and members is None and not is_zip:
            yield from self._leaf(path, head, place, source, depth)
        elif depth >= self._budget.depth:
            yield Skipped(what=path[:2000], reason="too-large", detail=f"packed more than {self._budget.depth} times")
        elif unfold is not None:
            yield from self.of(_unpacked(path), None, unfold(source, self._budget), depth + 1)
        elif members is not None:
            yield from self._members(path, members(source, self._budget), depth)
        else:
            yield from self._zip(path, place or Held(read_whole(source)), depth)

    def _members(self, path: str, members: Iterator[archives.Member], depth: int) -> Iterator[Blob | Skipped]:
        for member in members:
            name = f"{path}!{member.name}"
            if member.problem:
                yield Skipped(what=name[:2000], reason=member.problem)
                continue
            yield from self.of(name, None, member.source, depth + 1)
            if self._spent:
                return

    def _zip(self, path: str, file: Random, depth: int) -> Iterator[Blob | Skipped]:
        is_odf = file.at(30, 50).startswith(b"mimetypeapplication/vnd.oasis.")
        shared: list[bytes] = []
        for member in archives.zip_members(file, self._budget):
            name = f"{path}!{member.name}"
            if member.problem:
                yield Skipped(what=name[:2000], reason=member.problem)
                continue
            source = _Spending(member.source, self._budget)
            if documents.is_office_member(member.name, is_odf=is_odf):
                try:
                    data = read_whole(source)
                except (TooLarge, *_BROKEN) as error:
                    reason = "too-large" if isinstance(error, TooLarge) else "malformed"
                    yield Skipped(what=name[:2000], reason=reason, detail=str(error)[:200])
                else:
                    if member.name.endswith("sharedStrings.xml"):
                        shared = documents.shared_strings(data)
                    yield from self._give(name, _office_text(member.name, data, shared))
            else:
                yield from self.of(name, None, source, depth + 1)
            if self._spent or self._budget.bytes < 0:
                return

    def _give(self, path: str, data: bytes, note: str = "") -> Iterator[Blob]:
        if data.strip():
            yield Blob(path=path, data=data, object_id=self._root.object_id, note=note)

    # -- leaves

    def _leaf(
        self, path: str, head: bytes, place: Random | None, source: Readable, depth: int
    ) -> Iterator[Blob | Skipped]:
        if is_media(head):
            return
        if head.startswith(b"SQLite format 3\0"):
            yield from self._sqlite(path, place or Held(read_whole(source)))
            return
        if place is not None and place.size > MEMORY_BYTES:
            yield from self._pieces(path, source, head)
            return
        if isinstance(place, Held):
            data, rest = place.data, None
        else:
            data, rest = _up_to(source, PIECE_BYTES if not _is_structured(head, path) else MEMORY_BYTES)
        if rest is not None:
            yield from self._pieces(path, Peeked(data, rest), head)
            return
        wide = _wide(head)
        if wide:
            text = data.decode(wide, "replace").encode("utf-8", "replace")
            yield from self._give(path, text.removeprefix(b"\xef\xbb\xbf"), wide.rpartition("-")[0] or wide)
            return
        yield from self._document(path, head, data, depth)

    def _pieces(self, path: str, source: Readable, head: bytes) -> Iterator[Blob | Skipped]:
        if _wide(head):
            yield Skipped(what=path[:2000], reason="too-large", detail="a large file in a wide encoding")
            return

        def parts() -> Iterator[bytes]:
            while part := source.read(1 << 20):
                yield part

        yield from in_pieces(parts(), path=path, object_id=self._root.object_id)

    def _document(self, path: str, head: bytes, data: bytes, depth: int) -> Iterator[Blob | Skipped]:
        """A file in memory that is no archive: as it is, or as the text within it, or both."""
        lower = path.lower()
        whole = self._root if data is self._root.data else Blob(path=path, data=data, object_id=self._root.object_id)
        if head[:4] in (keystores.JKS, keystores.JCEKS):
            yield from self._keys(path, keystores.jks_keys(data))
        elif keystores.is_der(head, len(data)):
            try:
                yield from self._keys(path, keystores.der_keys(data))
            except Malformed:
                yield whole  # a certificate, or anything else in DER
        elif head.startswith(b"%PDF-"):
            if b"/Encrypt" in data:
                yield Skipped(what=path[:2000], reason="encrypted")
                return
            for name, text in documents.pdf_texts(data, self._budget):
                yield from self._give(f"{path}!{name}", text)
        elif bytecode.is_bytecode(head) and (lower.endswith(".pyc") or b"\xe3" in head[12:20] or b"c" in head[8:17]):
            yield from self._give(path, bytecode.text_of(data), "bytecode")
        elif lower.endswith(".ipynb") or (head[:1] == b"{" and b'"cell_type"' in data[:4096]):
            yield from self._or_whole(whole, lambda: documents.notebook_text(data), "notebook", instead=True)
        elif head[:1] == b"{" and b'"rootfs"' in data and b'"history"' in data and len(data) < 4 << 20:
            yield from self._or_whole(whole, lambda: documents.image_config_text(data), "image-configuration")
        elif lower.endswith(".har") or (head[:1] == b"{" and re.match(rb'\{\s*"log"\s*:', head)):
            yield whole
            yield from self._within(path, documents.har_bodies(data), depth)
        elif lower.endswith(".json") and conversations.is_conversation(head, data):
            yield from self._conversation(whole)
        elif lower.endswith((".eml", ".mbox")) or (_MAIL.match(head) and _MAIL_MARK.search(head)):
            yield whole
            yield from self._within(path, documents.mail_parts(data), depth)
        elif head[:1] == b":" and _ZSH.match(head):
            # Blanks in place of the time stamps: every offset and line stays what it was.
            yield replace(whole, data=_ZSH.sub(lambda found: b" " * len(found.group()), data))
        elif data:
            yield whole

    def _conversation(self, whole: Blob) -> Iterator[Blob]:
        """What each author wrote, in place of the file; the file itself where it is another document."""
        try:
            written = list(conversations.conversation(whole.data))
        except (Malformed, TooLarge):
            yield whole
            return
        for who, text in written:
            self._budget.member()
            self._budget.spend(len(text))
            yield from self._give(f"{whole.path}!{who}" if who else whole.path, text, "conversation")

    def _keys(self, path: str, keys: Iterator[tuple[str, bytes]]) -> Iterator[Blob]:
        for name, pem in keys:
            yield Blob(path=f"{path}!{name}", data=pem, object_id=self._root.object_id, note="key-store")

    def _or_whole(
        self, whole: Blob, text: Callable[[], bytes], note: str, *, instead: bool = False
    ) -> Iterator[Blob | Skipped]:
        """The text within, beside or instead of the file; the file alone where it is not what it seems."""
        try:
            inside = text()
        except (Malformed, TooLarge):
            yield whole
            return
        if not instead:
            yield whole
        yield from self._give(whole.path if instead else f"{whole.path}!{note}", inside, note)

    def _within(self, path: str, parts: Iterator[tuple[str, bytes]], depth: int) -> Iterator[Blob | Skipped]:
        for name, content in parts:
            self._budget.member()
            self._budget.spend(len(content))
            if depth < self._budget.depth:
                yield from self.of(f"{path}!{name}", Held(content), None, depth + 1)

    def _sqlite(self, path: str, file: Random) -> Iterator[Blob | Skipped]:
        for table in Database(file, self._budget).tables():
            try:
                yield from (
                    replace(blob, object_id=self._root.object_id)
                    for blob in row_blobs(table.rows, table.name, table.columns, place=path)
                )
            except _BROKEN as error:
                yield Skipped(what=f"{path}!{table.name}"[:2000], reason="malformed", detail=type(error).__name__)


class _Spending:
    """A stream whose bytes are taken from the budget; what was unfolded took them already."""

    def __init__(self, of: Readable, budget: Budget) -> None:
        self._of, self._budget = of, budget
        self._free = isinstance(of, Inflated) or type(of).__name__ == "_Zstandard"

    def read(self, count: int, /) -> bytes:
        data = self._of.read(count)
        if not self._free:
            self._budget.spend(len(data))
        return data


def _read(source: Readable, count: int) -> bytes:
    parts, left = [], count
    while left > 0 and (part := source.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _up_to(source: Readable, limit: int) -> tuple[bytes, Readable | None]:
    """The first `limit` bytes and, where there are more, the stream of the rest."""
    data = _read(source, limit)
    more = source.read(65536) if len(data) == limit else b""
    return data, Peeked(more, source) if more else None


def _is_program_with_zip(head: bytes, place: Random) -> bool:
    """Whether a program carries an archive behind it (`.pyz`, executable jars)."""
    return head[:2] in (b"#!", b"MZ") and place.at(place.size - 22, 4) == b"PK\5\6"


def _stream_format(head: bytes, path: str) -> Callable[[Readable, Budget], Readable] | None:
    if head[:2] == b"\x1f\x8b":
        return gzip_stream
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return bzip2_stream
    if head[:6] == b"\xfd7zXZ\0" or (head[:3] == b"]\0\0" and path.endswith(".lzma")):
        return xz_stream
    if head[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard_stream
    return None


def _member_format(head: bytes) -> Callable[[Readable, Budget], Iterator[archives.Member]] | None:
    if archives.is_tar(head):
        return archives.tar_members
    if head[:8] == b"!<arch>\n":
        return archives.ar_members
    if head[:6] in (b"070701", b"070702"):
        return archives.cpio_members
    if head[:4] == b"\xed\xab\xee\xdb":
        return _rpm_members
    return None


def _rpm_members(source: Readable, budget: Budget) -> Iterator[archives.Member]:
    payload = archives.rpm_payload(source)
    head = _read(payload, 16)
    unfold = _stream_format(head, ".lzma")
    stream = Peeked(head, payload)
    yield from archives.cpio_members(unfold(stream, budget) if unfold else stream, budget)


def _unpacked(path: str) -> str:
    """The name of what a compressed file holds."""
    for suffix, plain in ((".tgz", ".tar"), (".tbz2", ".tar"), (".txz", ".tar"), (".tzst", ".tar")):
        if path.lower().endswith(suffix):
            return path + "!" + path.rpartition("/")[2].rpartition("!")[2][: -len(suffix)] + plain
    stem, dot, suffix = path.rpartition("/")[2].rpartition("!")[2].rpartition(".")
    return f"{path}!{stem if dot and suffix.lower() in ('gz', 'bz2', 'xz', 'zst', 'lzma') else 'content'}"


def _is_structured(head: bytes, path: str) -> bool:
    """Whether a stream must be held whole to be understood."""
    return head[:5] == b"%PDF-" or head[:4] in (keystores.JKS, keystores.JCEKS) or path.endswith((".ipynb", ".pyc"))


def _office_text(name: str, data: bytes, shared: list[bytes]) -> bytes:
    if name.startswith("xl/worksheets/"):
        return documents.sheet_text(data, shared)
    return documents.xml_text(data)


def _wide(head: bytes) -> str:
    """The encoding of text in units of 2 or 4 bytes: by its mark, or by where its zeros are; empty for other bytes."""
    if head[:4] in _WIDE:
        return _WIDE[head[:4]]
    if head[:2] == b"\xff\xfe":
        return "utf-16-le"
    if head[:2] == b"\xfe\xff":
        return "utf-16-be"
    sample = head[: len(head) // 4 * 4]
    if len(sample) < 16 or b"\0" not in sample:
        return ""
    zeros = [sample[n::4].count(0) * 10 for n in range(4)]
    most = len(sample) // 4 * 9
    if zeros[1] >= most and zeros[3] >= most and zeros[2] < most // 9 and zeros[0] < most // 9:
        return "utf-16-le"
    if zeros[0] >= most and zeros[2] >= most and zeros[1] < most // 9 and zeros[3] < most // 9:
        return "utf-16-be"
    if zeros[1] >= most and zeros[2] >= most and zeros[3] >= most and zeros[0] < most // 9:
        return "utf-32-le"
    if zeros[0] >= most and zeros[1] >= most and zeros[2] >= most and zeros[3] < most // 9:
        return "utf-32-be"
    return ""
