"""The file that continues a run: its key is a secret, whoever made the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from remit.client.runs import Handle
from remit.kernel.errors import Conflict


def test_a_file_that_others_could_read_is_closed_before_the_key_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("{}")
    file.chmod(0o644)
    Handle.new("https://x").write(file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    (tmp_path / "run.json").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"run\.json"):
        Handle.new("https://x").write(tmp_path / "run.json")
    assert (tmp_path / "victim").read_text() == "keep"


def test_a_new_one_takes_no_place_of_another_and_shows_no_key(tmp_path: Path) -> None:
    handle = Handle.new("https://x")
    handle.write(tmp_path / "run.json", new=True)
    with pytest.raises(Conflict):
        replace(handle, run="rn_1").write(tmp_path / "run.json", new=True)
    assert handle.key not in repr(handle)
