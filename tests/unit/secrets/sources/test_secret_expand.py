"""What is packed within a file is found, whatever packs it; what is hostile ends within its budget."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import py_compile
import shutil
import sqlite3
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path

import pytest

from remit.inventory.model import Skipped
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.sources.budget import Budget
from remit.inventory.secrets.sources.database import sample_blobs
from remit.inventory.secrets.sources.expand import expand, expand_file

VALUE = "hunter2-Zq8vK3mX"
LINE = f'password = "{VALUE}"\n'.encode()


def blobs(data: bytes, path: str = "a", budget: Budget | None = None) -> list[Blob]:
    return [each for each in expand(Blob(path=path, data=data), budget) if isinstance(each, Blob)]


def skipped(data: bytes, path: str = "a", budget: Budget | None = None) -> list[Skipped]:
    return [each for each in expand(Blob(path=path, data=data), budget) if isinstance(each, Skipped)]


def text(data: bytes, path: str = "a") -> bytes:
    return b"\n".join(blob.data for blob in blobs(data, path))


def a_zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def a_tar(members: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def a_cpio(name: str, content: bytes) -> bytes:
    def entry(name: str, content: bytes, mode: int) -> bytes:
        raw = name.encode() + b"\0"
        numbers = [1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0]
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
        return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)

    return entry(name, content, 0o100644) + entry("TRAILER!!!", b"", 0)


def an_rpm(payload: bytes) -> bytes:
    header = b"\x8e\xad\xe8\1\0\0\0\0" + struct.pack(">II", 1, 5) + b"\0" * 16 + b"abcde"
    return b"\xed\xab\xee\xdb" + b"\0" * 92 + header + b"\0" * 3 + header + payload


def a_deb() -> bytes:
    data = a_tar({"etc/app.env": LINE}, "w:xz")
    head = b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (b"data.tar.xz/", 0, 0, 0, 0o644, len(data))
    return b"!<arch>\n" + head + data + b"\n" * (len(data) % 2)


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


def a_database(encoding: str = "UTF-8") -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    connection.execute("CREATE TABLE logins (id INTEGER PRIMARY KEY, user TEXT, password TEXT, note TEXT)")
    connection.executemany(
        "INSERT INTO logins (user, password, note) VALUES (?, ?, ?)", [(f"u{n}", f"p{n}", "x" * n) for n in range(900)]
    )
    connection.execute("INSERT INTO logins (user, password, note) VALUES ('svc', ?, ?)", (VALUE, "long " * 3000))
    connection.commit()
    data: bytes = connection.serialize()
    connection.close()
    return data


def an_office_file() -> bytes:
    run = "<w:r><w:t>{}</w:t></w:r>"
    body = f"<w:document><w:body><w:p>{run.format('password = &quot;' + VALUE[:7])}{run.format(VALUE[7:] + '&quot;')}</w:p></w:body></w:document>"
    return a_zip({"[Content_Types].xml": b"<Types/>", "word/document.xml": body.encode()})


def a_workbook() -> bytes:
    strings = f"<sst><si><t>password</t></si><si><r><t>{VALUE[:4]}</t></r><r><t>{VALUE[4:]}</t></r></si></sst>"
    sheet = (
        '<sheetData><row r="1"><c r="A1"/><c r="B1" t="s"><v>0</v></c><c r="C1" t="s"><v>1</v></c></row></sheetData>'
    )
    return a_zip(
        {
            "[Content_Types].xml": b"<Types/>",
            "xl/sharedStrings.xml": strings.encode(),
            "xl/worksheets/sheet1.xml": sheet.encode(),
        }
    )


def a_notebook() -> bytes:
    cells = [{"cell_type": "code", "source": ["import os\n", LINE.decode()], "outputs": []}]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode()


def a_mail() -> bytes:
    message = EmailMessage()
    message["From"], message["Message-ID"] = "a@b.c", "<1@b.c>"
    message.set_content("see the file")
    message.add_attachment(gzip.compress(LINE), maintype="application", subtype="gzip", filename="env.gz")
    return message.as_bytes()


def a_pdf() -> bytes:
    page = zlib.compress(f"BT /F1 12 Tf (password = ) Tj [({VALUE[:5]}) -20 ({VALUE[5:]})] TJ ET".encode())
    return b"%PDF-1.4\n1 0 obj <</Length 9 /Filter /FlateDecode>>\nstream\n" + page + b"\nendstream endobj"


def an_image() -> bytes:
    config = {"config": {"Env": [f"DB_PASSWORD={VALUE}"]}, "rootfs": {}, "history": [{"created_by": "RUN x"}]}
    layer = a_tar({"app/.env": b"OTHER=1\n", "app/gone.env": LINE})
    later = a_tar({"app/.wh.gone.env": b""})
    return a_tar(
        {
            "manifest.json": b"[]",
            "blobs/sha256/aa": json.dumps(config).encode(),
            "blobs/sha256/bb": gzip.compress(layer),
            "c/layer.tar": later,
        }
    )


KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zip": ("a.zip", lambda: a_zip({"b/.env": LINE})),
    "zip, stored": ("a.jar", lambda: a_zip({"b/.env": LINE}, zipfile.ZIP_STORED)),
    "zip, bzip2": ("a.zip", lambda: a_zip({"b/.env": LINE}, zipfile.ZIP_BZIP2)),
    "zip behind a program": ("a.pyz", lambda: b"#!/usr/bin/python3\n" * 20 + a_zip({"b/.env": LINE})),
    "tar": ("a.tar", lambda: a_tar({"b/.env": LINE})),
    "tar, gnu, long name": ("a.tar", lambda: a_tar({"d/" * 90 + ".env": LINE}, form=tarfile.GNU_FORMAT)),
    "tar.gz": ("a.tgz", lambda: a_tar({"b/.env": LINE}, "w:gz")),
    "tar.bz2": ("a.tar.bz2", lambda: a_tar({"b/.env": LINE}, "w:bz2")),
    "tar.xz": ("a.tar.xz", lambda: a_tar({"b/.env": LINE}, "w:xz")),
    "tar.zst": ("a.tar.zst", lambda: zstd(a_tar({"b/.env": LINE}))),
    "gz": ("a.gz", lambda: gzip.compress(LINE)),
    "gz of two members": ("a.gz", lambda: gzip.compress(b"x\n") + gzip.compress(LINE)),
    "bz2": ("a.bz2", lambda: bz2.compress(LINE)),
    "xz": ("a.xz", lambda: lzma.compress(LINE)),
    "cpio": ("a.cpio", lambda: a_cpio("etc/app.env", LINE)),
    "rpm": ("a.rpm", lambda: an_rpm(lzma.compress(a_cpio("etc/app.env", LINE)))),
    "deb": ("a.deb", a_deb),
    "container image": ("image.tar", an_image),
    "sqlite": ("a.db", a_database),
    "sqlite, utf-16": ("a.db", lambda: a_database("UTF-16le")),
    "docx": ("a.docx", an_office_file),
    "notebook": ("a.ipynb", a_notebook),
    "mail": ("a.eml", a_mail),
    "mailbox": ("a.mbox", lambda: b"From a@b.c Mon\n" + a_mail() + b"\nFrom d@e.f Tue\n" + a_mail()),
    "pdf": ("a.pdf", a_pdf),
    "utf-16 with a mark": ("a.ini", lambda: LINE.decode().encode("utf-16")),
    "utf-16 without": ("a.ini", lambda: LINE.decode().encode("utf-16-be")),
    "utf-32": ("a.ini", lambda: LINE.decode().encode("utf-32")),
    "zsh history": ("history", lambda: b": 1700000000:0;export " + LINE),
    "zip in tar.gz in zip": ("a.zip", lambda: a_zip({"x.tgz": a_tar({"y.zip": a_zip({".env": LINE})}, "w:gz")})),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", [True, False])
def test_what_is_within_is_found(kind: str, named: bool) -> None:
    path, make = KINDS[kind]
    data = make()
    where = path if named else "object"
    assert VALUE.encode() in text(data, where)
    assert not skipped(data, where)


def test_a_value_in_a_sheet_stands_beside_its_name() -> None:
    assert f"password\t{VALUE}".encode() in text(a_workbook(), "a.xlsx")


def test_a_database_shows_a_column_beside_its_name() -> None:
    assert f'password = "{VALUE}"'.encode() in text(a_database(), "a.db")


def test_a_file_deleted_in_a_later_layer_is_found_and_so_is_the_environment() -> None:
    found = {blob.path: blob.data for blob in blobs(an_image(), "image.tar")}
    assert LINE in found.values()
    assert f"DB_PASSWORD={VALUE}".encode() in found["image.tar!blobs/sha256/aa!image-configuration"]


def test_bytecode_shows_constants_beside_their_names(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text(
        f"{LINE.decode()}\ndef f():\n    return connect(host='db', secret='{VALUE}2')\nD = {{'api_key': '{VALUE}3', 'b': 'c'}}\n"
    )
    found = text(
        Path(py_compile.compile(str(source), cfile=str(tmp_path / "m.pyc"), doraise=True)).read_bytes(), "m.pyc"
    )
    for name, value in (("password", VALUE), ("secret", f"{VALUE}2"), ("api_key", f"{VALUE}3")):
        assert f'{name} = "{value}"'.encode() in found


def test_har_bodies_in_base64_are_opened() -> None:
    entry = {"response": {"content": {"encoding": "base64", "text": base64.b64encode(LINE).decode()}}}
    assert LINE in text(json.dumps({"log": {"entries": [entry]}}).encode(), "a.har")


def openssl(*arguments: str, directory: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keys")
    openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
        "-subj",
        "/CN=x",
        directory=place,
    )
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", "k.pem", "-outform", "DER", "-out", "k.der", directory=place)
    openssl("x509", "-in", "c.pem", "-outform", "DER", "-out", "c.der", directory=place)
    for name, word in (("open", "changeit"), ("none", ""), ("shut", "Xk3!vQ9z")):
        openssl(
            "pkcs12",
            "-export",
            "-in",
            "c.pem",
            "-inkey",
            "k.pem",
            "-out",
            f"{name}.p12",
            "-passout",
            f"pass:{word}",
            directory=place,
        )
    return place


@pytest.mark.parametrize("name", ["k.der", "open.p12", "none.p12"])
def test_a_binary_key_becomes_the_pem_of_the_same_key(keys: Path, name: str) -> None:
    (found,) = blobs((keys / name).read_bytes(), name)
    assert found.data == (keys / "k.pem").read_bytes()


def test_a_store_with_a_password_is_reported(keys: Path) -> None:
    (told,) = skipped((keys / "shut.p12").read_bytes(), "shut.p12")
    assert told.reason == "encrypted"


def test_a_certificate_in_der_is_no_key(keys: Path) -> None:
    assert b"PRIVATE" not in text((keys / "c.der").read_bytes(), "c.der")


@pytest.mark.parametrize(("word", "opens"), [("changeit", True), ("Xk3!vQ9z", False)])
def test_a_java_keystore(keys: Path, tmp_path: Path, word: str, opens: bool) -> None:
    if shutil.which("keytool") is None:
        pytest.skip("keytool: not installed")
    store = tmp_path / "s.jks"
    subprocess.run(
        ["keytool", "-genkeypair", "-alias", "svc", "-keyalg", "EC", "-dname", "CN=x", "-storetype", "JKS", "-keystore", str(store), "-storepass", word, "-keypass", word],
        check=True, capture_output=True,
    )  # fmt: skip
    found = list(expand(Blob(path="s.jks", data=store.read_bytes())))
    assert any(isinstance(each, Blob) and b"BEGIN PRIVATE KEY" in each.data for each in found) is opens
    assert any(isinstance(each, Skipped) and each.reason == "encrypted" for each in found) is not opens


def test_plain_text_is_the_same_blob_with_its_windows() -> None:
    blob = Blob(path="a.py", data=LINE, windows=((0, 5),), object_id="ab")
    assert list(expand(blob)) == [blob]


def test_blanks_in_place_of_times_keep_every_offset() -> None:
    data = b": 1700000000:0;ls\n: 1700000001:12;export " + LINE
    (found,) = blobs(data, ".zsh_history")
    assert len(found.data) == len(data)
    assert found.data.find(VALUE.encode()) == data.find(VALUE.encode())


def test_members_carry_the_object_of_history() -> None:
    (found,) = expand(Blob(path="r@1", data=a_zip({"b": LINE}), object_id="ab"))
    assert isinstance(found, Blob)
    assert (found.path, found.object_id, found.windows) == ("r@1!b", "ab", None)


# -- hostile


@pytest.mark.parametrize("make", [gzip.compress, bz2.compress, lzma.compress, zstd, lambda data: a_zip({"x": data})])
def test_a_bomb_ends_as_skipped(make: Callable[[bytes], bytes]) -> None:
    bomb = make(b"\0" * (40 * 1024 * 1024))
    assert [each.reason for each in skipped(bomb, "x.zip")] == ["too-large"]


def test_bombs_within_a_zip_stop_at_the_bytes_allowed() -> None:
    budget = Budget(bytes=4 * 1024 * 1024)
    found = list(expand(Blob(path="a.zip", data=a_zip({f"m{n}": bytes(1024 * 1024) for n in range(50)})), budget))
    assert sum(len(each.data) for each in found if isinstance(each, Blob)) <= 4 * 1024 * 1024
    assert any(isinstance(each, Skipped) and each.reason == "too-large" for each in found)


def test_members_and_depth_are_bounded() -> None:
    assert [each.reason for each in skipped(a_zip({f"m{n}": b"x" for n in range(30)}), budget=Budget(members=9))] == [
        "too-large"
    ]
    nest = LINE
    for _ in range(9):
        nest = gzip.compress(nest)
    assert [each.reason for each in skipped(nest)] == ["too-large"]


def test_a_broken_member_hides_none_beside_it() -> None:
    data = bytearray(a_zip({"bad": os.urandom(400), "good": LINE}))
    data[60:80] = b"\xff" * 20
    found = list(expand(Blob(path="a.zip", data=bytes(data))))
    assert any(isinstance(each, Blob) and each.data == LINE for each in found)


def test_an_encrypted_member_is_told_by_name() -> None:
    data = bytearray(a_zip({"x": LINE}))
    at = data.find(b"PK\1\2")
    data[at + 8] |= 1
    assert [(each.what, each.reason) for each in skipped(bytes(data))] == [("a!x", "encrypted")]


def test_a_truncated_stream_gives_what_came_before() -> None:
    lines = b"".join(b"line %d %s\n" % (number, os.urandom(16).hex().encode()) for number in range(5000))
    assert LINE in text(gzip.compress(LINE + lines)[:-5000])


def test_a_document_type_with_entities_expands_nothing() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><w:p>&b;&x; <w:t>ok</w:t></w:p>'
    found = text(a_zip({"[Content_Types].xml": b"", "word/document.xml": bomb}), "a.docx")
    assert b"&b;" in found


def test_a_store_that_asks_for_a_billion_iterations_is_not_tried(keys: Path) -> None:
    data = (keys / "shut.p12").read_bytes()
    at = data.rfind(b"\x02\x02\x08\x00")
    assert at > 0
    of_mac = next(n for n in range(at, 0, -1) if data[n] == 0x30 and data[n + 1] == len(data) - n - 2)
    costly = bytearray(data[:at] + b"\x02\x04\x3f\xff\xff\xff" + data[at + 4 :])
    costly[of_mac + 1] += 2
    costly[2:4] = (int.from_bytes(costly[2:4], "big") + 2).to_bytes(2, "big")
    assert [each.reason for each in skipped(bytes(costly), "x.p12")] == ["not-supported"]


def test_a_large_text_comes_in_pieces_that_overlap(tmp_path: Path) -> None:
    place = tmp_path / "big.log"
    with place.open("wb") as file:
        for number in range(900_000):
            file.write(b"line %d is here and says nothing\n" % number)
        file.write(LINE)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        pieces = [each for each in expand_file("big.log", descriptor) if isinstance(each, Blob)]
    finally:
        os.close(descriptor)
    whole = place.read_bytes()
    assert len(pieces) > 2
    for piece in pieces:
        assert whole[piece.offset : piece.offset + len(piece.data)] == piece.data
        assert whole.count(b"\n", 0, piece.offset) + 1 == piece.first_line
    assert all(before.offset + len(before.data) - after.offset >= 32 * 1024 for before, after in pairwise(pieces))
    assert pieces[-1].data.endswith(LINE)


def test_sampled_values_stand_beside_the_name_of_their_column() -> None:
    (found,) = sample_blobs([("a",), (None,), (VALUE,), ("two\nlines",)], "users", "password", place="pg://db/orders")
    assert found.path == "pg://db/orders!users.password"
    assert f'password = "{VALUE}"\n'.encode() in found.data
    assert b"password:\ntwo\nlines\n" in found.data


@pytest.mark.parametrize("mark", [b"<![CDATA[", b"<!", b"<w:a", b"<c a>", b"&#1"])
def test_openings_without_an_end_cost_no_more_than_their_length(mark: bytes) -> None:
    members = {"[Content_Types].xml": b"", "word/document.xml": mark * 200_000, "xl/worksheets/s.xml": mark * 200_000}
    assert not skipped(a_zip(members), "a.docx")


def test_streams_without_an_end_cost_no_more_than_their_length() -> None:
    assert not skipped(b"%PDF-1.4\n" + b"stream\n" * 500_000, "a.pdf")
