"""Places in folders that belong to somebody else: nobody leads a rotation, which may be root, to another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.places import read_place, read_private, remove_place, replace_place

STRANGER = 54_321


def of_a_stranger(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is another user's: it is given away, or, where that is not ours to do, we are somebody else."""
    if os.geteuid() == 0:
        os.lchown(link, STRANGER, STRANGER)
    else:
        monkeypatch.setattr("remit.providers.places.os.geteuid", lambda: STRANGER)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that the owner of the link could not write."""
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "app.env"
    file.write_text("KEEP=1\n")
    return file


def test_a_folder_that_its_owner_made_a_link_leads_nowhere(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "app"
    link.symlink_to(victim.parent)
    of_a_stranger(link, monkeypatch)
    place = str(link / victim.name)
    for act in (lambda: read_place(place), lambda: replace_place(place, "X"), lambda: remove_place(place)):
        with pytest.raises(Rejected, match="link of another user"):
            act()
    assert victim.read_text() == "KEEP=1\n"


def test_a_link_that_we_made_ourselves_is_a_way(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "relative").symlink_to("../etc")
    (tmp_path / "absolute").symlink_to(tmp_path / "a" / "relative")
    place = str(tmp_path / "absolute" / victim.name)
    replace_place(place, "NEW=1\n")
    assert victim.read_text() == read_place(place) == "NEW=1\n"
    assert [each.name for each in victim.parent.iterdir()] == [victim.name]


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Rejected, match="too many links"):
        read_place(str(tmp_path / "a" / "file"))


def test_the_place_itself_is_no_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "place").symlink_to(victim)
    for act in (lambda: read_place(str(tmp_path / "place")), lambda: replace_place(str(tmp_path / "place"), "X")):
        with pytest.raises(Rejected):
            act()


def test_a_folder_that_is_missing_has_no_file_and_takes_none(tmp_path: Path) -> None:
    place = str(tmp_path / "none" / "file")
    assert read_place(place) is None
    remove_place(place)
    with pytest.raises(Rejected):
        replace_place(place, "X")


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("abc\n")
    file.chmod(0o644)
    with pytest.raises(Misconfigured):
        read_private(str(file))
    file.chmod(0o600)
    assert read_private(str(file)) == "abc"
