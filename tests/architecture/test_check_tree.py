"""`tools/check_tree.py` finds what it is there for, and this tree is in order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = spec_from_file_location("check_tree", ROOT / "tools" / "check_tree.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_tree = _load()
LOCK = "al-pha==1.0 \\\n    --hash=sha256:00\n    # via x\n"


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree in order."""
    put(tmp_path, "pyproject.toml", '[project]\nname = "x"\ndependencies = ["Al_pha>=1; python_version > \'3\'"]\n')
    for name in ("core.lock", "dev.lock", "tools.lock"):
        put(tmp_path, f"requirements/{name}", LOCK)
    put(tmp_path, "requirements/dev.in", "# a comment\nal.pha[extra]\n")
    put(tmp_path, "requirements/tools.in", "al-pha\n")
    put(tmp_path, "src/remit/storage/migrate.py", 'HEAD = "0001"\n')
    put(tmp_path, "src/remit/storage/migrations/versions/0001_a.py", 'revision = "0001"\ndown_revision = None\n')
    put(tmp_path, "docs/a.md", "# One thing\n[b](b.md#two-things) [self](#one-thing) [web](https://x.example)\n")
    put(tmp_path, "docs/b.md", "## Two `things`\n[a](a.md)\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def wrong(tree: Path) -> list[str]:
    return [problem for check in check_tree.CHECKS for problem in check(tree)]


def test_a_tree_in_order_has_nothing_to_say(tree: Path) -> None:
    assert wrong(tree) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("requirements/dev.in", "al-pha\nbeta\n", "`beta` is not locked"),
        ("requirements/core.lock", "al-pha==1.0\n", "`al-pha` has no hash"),
        ("requirements/dev.lock", LOCK + "--index-url https://mirror.example/simple\n", "names a place to download"),
        ("requirements/tools.lock", LOCK + "beta @ https://x.example/b.whl --hash=sha256:0\n", "names a place"),
        ("src/remit/storage/migrate.py", 'HEAD = "0002"\n', "HEAD is not the head"),
        ("src/remit/storage/migrations/versions/0002_b.py", 'revision = "0002"\ndown_revision = None\n', "2 heads"),
        (
            "src/remit/storage/migrations/versions/0003_b.py",
            'revision = "0001"\ndown_revision = None\n',
            "a second revision",
        ),
        ("src/remit/storage/migrations/versions/0002_b.py", "pass\n", "has no `revision`"),
        ("README.md", "see /home/somebody/notes.txt\n", "a path of one machine"),
        ("src/b.py", "open('/home/somebody/x')\n", "a path of one machine"),
        ("src/a.py", "INDEX = 'pypi.org'\n", "the host of a registry"),
        ("docs/a.md", "[gone](gone.md)\n", "`gone.md` leads nowhere"),
        ("docs/a.md", "[b](b.md#three)\n", "names no heading"),
        ("docs/a.md", "![picture](images/x.png)\n", "leads nowhere"),
    ],
)
def test_each_fault_is_found_and_named(tree: Path, name: str, text: str, said: str) -> None:
    put(tree, name, text)
    found = wrong(tree)
    assert any(said in each for each in found), found
    stem = name.partition("/")[0]
    assert all(stem in each or "migrat" in each for each in found), found


@pytest.mark.parametrize("check", check_tree.CHECKS, ids=lambda check: check.__name__)
def test_this_tree_is_in_order(check: Callable[[Path], list[str]]) -> None:
    assert list(check(ROOT)) == []


def test_it_ends_with_1_when_something_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_tree.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "the tree is in order")
