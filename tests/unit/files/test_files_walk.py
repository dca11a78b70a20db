"""The walk: what it opens, what it leaves, and that it reports the difference."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.inventory.connectors.files import FilesConnector
from remit.inventory.connectors.files.testing import HOST, SCAN, credentials, discover, rules, secret, write
from remit.inventory.connectors.files.walk import MAX_DEPTH, MAX_FILE_BYTES, Tally, read_file
from remit.inventory.connectors.port import Scan
from remit.inventory.model import Skipped
from remit.kernel.errors import Rejected

ENV = f"API_TOKEN={secret()}\n"


def reasons(facts: list[object]) -> dict[str, str]:
    return {fact.what.rpartition("/")[2]: fact.reason for fact in facts if isinstance(fact, Skipped)}


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {".env": ENV})
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / ".env").symlink_to(outside / ".env")
    (inside / "directory").symlink_to(outside)
    facts = discover(inside)
    assert credentials(facts) == []
    assert "not-supported" in reasons(facts).values()


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".env")
    assert reasons(discover(tmp_path)) == {".env": "not-supported"}


def test_a_file_beyond_the_bound_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, {".env": ENV + "#" * MAX_FILE_BYTES})
    assert reasons(discover(tmp_path)) == {".env": "too-large"}


def test_a_file_that_changes_while_it_is_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {".env": ENV})
    real = os.read

    def grow(descriptor: int, count: int) -> bytes:
        found = real(descriptor, count)
        if found:
            with (tmp_path / ".env").open("a") as file:
                file.write("\n" * 200_000)
        return found

    directory = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "read", grow)
    outcome = read_file(directory, ".env")
    monkeypatch.undo()
    os.close(directory)
    assert outcome in ("changed-while-read", "too-large")


def test_what_cannot_be_read_is_reported() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        root = write(Path(made), {"closed/.env": ENV, "open/.env": ENV, "mine/x": ""}, mode=0o644)
        (root / "open/.env").chmod(0)
        (root / "closed").chmod(0)
        root.chmod(0o755)
        assert as_nobody(lambda: reasons(discover(root))) == {"closed": "unreadable", ".env": "unreadable"}
        (root / "closed").chmod(0o700)


def as_nobody(work: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Run `work` in a child that is not root."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    result: dict[str, str] = json.loads(said)
    return result


def test_a_million_refusals_are_few_rows() -> None:
    tally = Tally(each=3)
    named = [row for number in range(1_000_000) if (row := tally.skip(f"/x/{number}", "unreadable"))]
    rest = list(tally.rest("/x"))
    assert (len(named), [row.what for row in rest]) == (3, ["999997 more under /x"])


def test_libraries_are_passed_over_and_counted(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"node_modules/a/.env": ENV, "env/pyvenv.cfg": "", "env/lib/x/.env": ENV, "a/lib/site-packages/b/.env": ENV, "vendor/.env": ENV},
    )  # fmt: skip
    facts = discover(tmp_path)
    assert credentials(facts) == []
    assert [fact.what.split()[0] for fact in facts if isinstance(fact, Skipped)] == ["4"]


def test_library_code_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path / "site-packages", {"x/.env": ENV})
    assert rules(discover(root)) == {"files.secret-in-config"}


def test_a_tree_deeper_than_the_bound_ends(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 20):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    assert reasons(discover(tmp_path)) == {"d": "too-large"}


def test_names_that_are_no_text_are_shown_as_escapes(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path) + b"/\xff\xfe\n"
    os.mkdir(directory)
    descriptor = os.open(directory + b"/.env", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, ENV.encode())
    os.close(descriptor)
    (found,) = credentials(discover(tmp_path))
    assert found.place.path.endswith("/\\xff\\xfe\\n/.env")


def test_descriptors_are_given_back_when_a_scan_is_abandoned(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c/.env": ENV, "d/.env": ENV})
    before = len(list(Path("/proc/self/fd").iterdir()))
    connector = FilesConnector(tmp_path, instance=HOST)
    connector.open()
    found = connector.fetch(SCAN)
    next(iter(found))
    found.close()  # type: ignore[attr-defined]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_stopped_scan_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"a/.env": ENV})
    connector = FilesConnector(tmp_path, instance=HOST)
    connector.open()
    stopped: Callable[[], bool] = lambda: True  # noqa: E731
    found = list(connector.fetch(Scan(now=SCAN.now, fingerprint=SCAN.fingerprint, stopped=stopped)))
    assert [row.detail for row in found if isinstance(row, Skipped)] == ["stopped before the end"]


@pytest.mark.parametrize("make", [lambda path: path / "missing", lambda path: write(path, {"f": ""}) / "f"])
def test_a_root_that_is_no_directory_is_rejected(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(Rejected) as caught:
        FilesConnector(make(tmp_path)).open()
    assert caught.value.code == "inventory.files.no_directory"


def test_only_what_others_can_reach_is_open_to_all(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(0o755)
    write(tmp_path, {"open/.env": ENV}, mode=0o644)
    (tmp_path / "open").chmod(0o755)
    assert "files.world-readable-secret" in rules(discover(tmp_path))
    (tmp_path / "open").chmod(0o750)
    assert "files.world-readable-secret" not in rules(discover(tmp_path))
