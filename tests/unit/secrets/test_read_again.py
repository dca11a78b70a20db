"""A secret is read again wherever a scan can find it; what is not the one that was leaked is never taken."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from remit.inventory.connectors.files.testing import fingerprint
from remit.inventory.secrets.again import Lying, Reader, lying
from remit.inventory.secrets.binding import Binding
from remit.inventory.secrets.engine import make_engine
from remit.inventory.secrets.found import Verdict
from remit.inventory.secrets.model import Hit
from remit.inventory.secrets.pool import Engine
from remit.kernel.unit import Fingerprinter


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_engine(pure=True)


def nothing(file: Path, fingerprint: Fingerprinter) -> Iterable[object]:
    return ()


class Desk:
    """A password that leaked, and a reader that wants it."""

    def __init__(self, engine: Engine) -> None:
        self.password = secrets.token_urlsafe(24)
        self.line = f"DATABASE_URL=postgres://shop:{self.password}@db.acme:5432/shop\n"
        self.tried: list[bytes] = []
        self.reader = Reader(
            frozenset({fingerprint(self.password.encode())}), engine=lambda: engine, fingerprint=fingerprint,
            structured=nothing, attempt=self.attempt,
        )  # fmt: skip

    def attempt(self, hit: Hit, binding: Binding) -> Verdict:
        self.tried.append(binding.secret or hit.value)
        return Verdict(state="live")

    def reads(self, place: Lying) -> bool:
        found = self.reader.read([place])
        return found is not None and found.secret == self.password.encode()


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk(engine)


def git(folder: Path, *words: str) -> str:
    me = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *me, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def past(tmp_path: Path, desk: Desk) -> Iterator[tuple[Path, str, str]]:
    """A repository whose history has the password: its root, the commit, the object."""
    root = tmp_path / "repo"
    (root / "conf").mkdir(parents=True)
    git(root, "init", "-q")
    (root / "conf/app.env").write_text(desk.line)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    commit, blob = git(root, "rev-parse", "HEAD"), git(root, "rev-parse", "HEAD:conf/app.env")
    git(root, "rm", "-q", "-r", "conf")
    git(root, "commit", "-q", "-m", "two")
    yield root, commit, blob


def test_from_a_file(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "app.env").write_text(desk.line)
    assert desk.reads(Lying(path=str(tmp_path / "app.env")))


def test_from_a_member_of_an_archive(tmp_path: Path, desk: Desk) -> None:
    with tarfile.open(tmp_path / "dump.tar.gz", "w:gz") as made:
        member = tarfile.TarInfo("etc/app.env")
        member.size = len(desk.line)
        made.addfile(member, io.BytesIO(desk.line.encode()))
    assert desk.reads(Lying(path=str(tmp_path / "dump.tar.gz!etc/app.env")))


def test_from_an_object_of_history_whose_folder_is_gone(desk: Desk, past: tuple[Path, str, str]) -> None:
    root, commit, blob = past
    assert not (root / "conf").exists()
    assert desk.reads(Lying(path=f"{root}/conf/app.env@{commit[:12]}", in_history=True, object_id=blob))


def test_from_a_packed_history_where_the_scan_told_no_object(desk: Desk, past: tuple[Path, str, str]) -> None:
    root, commit, _ = past
    git(root, "gc", "-q")
    assert desk.reads(Lying(path=f"{root}/conf/app.env@{commit[:12]}", in_history=True))


def test_only_the_leaked_one_is_taken_and_tried(tmp_path: Path, desk: Desk) -> None:
    other = desk.line.replace(desk.password, secrets.token_urlsafe(24))
    (tmp_path / "app.env").write_text(other + desk.line + other.replace("shop", "crm"))
    assert desk.reads(Lying(path=str(tmp_path / "app.env"))) and desk.tried == [desk.password.encode()]


def test_a_place_that_has_changed_gives_nothing(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "app.env").write_text(desk.line.replace(desk.password, secrets.token_urlsafe(24)))
    assert not desk.reads(Lying(path=str(tmp_path / "app.env")))
    assert not desk.reads(Lying(path=str(tmp_path / "gone.env"))) and desk.tried == []
    assert not desk.reads(Lying(path=f"{tmp_path}/no/repository@{'a' * 12}", in_history=True, object_id="b" * 40))


def test_it_is_not_shown_by_what_holds_it(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "app.env").write_text(desk.line)
    assert desk.password not in repr(desk.reader.read([Lying(path=str(tmp_path / "app.env"))]))


@pytest.mark.parametrize(
    ("place", "attributes", "expected"),
    [
        ("host:ab12:/etc/app.env:3", {}, Lying(path="/etc/app.env")),
        ("host:ab12:/a/x.tar!b:c.env:9", {}, Lying(path="/a/x.tar!b:c.env")),
        (
            "host:ab12:/r/a.env@0123456789ab:1",
            {"reach": "only in history", "object_id": "a" * 40},
            Lying(path="/r/a.env@0123456789ab", in_history=True, object_id="a" * 40),
        ),
        ("host:ab12:/r/a.env@0123456789ab", {"reach": "unreachable", "object_id": "x"},
         Lying(path="/r/a.env@0123456789ab", in_history=True)),
        ("nowhere", {}, None),
    ],
)  # fmt: skip
def test_a_place_is_read_as_it_is_written(place: str, attributes: dict[str, str], expected: Lying | None) -> None:
    assert lying(place, {"attributes": attributes}) == expected
