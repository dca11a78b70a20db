"""Checks of the tree as a whole, which no linter makes: locks, migrations, paths of machines, links.

    python tools/check_tree.py        prints what is wrong, and exits 1

1. Each lock names every dependency that it is made from, each with hashes, and no index, URL or host.
2. The migrations are one line with one head, and the program knows it.
3. No tracked file holds a path of somebody's machine, or the host of a package registry.
4. Links of the documents lead to files and headings that are there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PLACES = ("work", "root", r"home/[a-z][\w-]*", r"Users/[A-Za-z][\w-]*")
_MACHINE = re.compile(rf"(?<![\w.$~/-])/(?:{'|'.join(_PLACES)})/[\w.]")
_BUILD = re.compile(rf"(?<![\w.$~/-])/{_PLACES[0]}/[\w.]")
_HOSTS = re.compile(r"\b(?:pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org|proxy\.golang\.org|crates\.io)\b")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://|--(?:extra-)?index-url|--find-links|--trusted-host")
_ALLOWED = ("example", "test", "invalid", "local")
"""Users' homes in examples are of nobody: `/home/example/…`."""
_OWN = ("tools/check_tree.py", "tests/architecture/test_check_tree.py")
"""They speak of what they look for."""


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(requirement: str) -> str:
    """The distribution that a requirement line names; empty for a comment."""
    match = re.match(r"\s*([A-Za-z0-9][\w.-]*)", requirement)
    return normal(match[1]) if match else ""


def locked(text: str) -> dict[str, str]:
    """Distributions of a lock, each with the text that belongs to it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9][\w.-]*)==\S+", line):
            name = normal(match[1])
        if name:
            found[name] = found.get(name, "") + line + "\n"
    return found


def locks(root: Path) -> Iterator[str]:
    """What is wrong with the locks."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {wanted(each) for each in project["dependencies"]}
    extras = {wanted(each) for group in project.get("optional-dependencies", {}).values() for each in group}
    extras -= {normal(project["name"])}
    folder = root / "requirements"

    def named(file: str) -> set[str]:
        return {wanted(line) for line in (folder / file).read_text(encoding="utf-8").splitlines()} - {""}

    made_from = {"core.lock": core, "dev.lock": core | extras | named("dev.in"), "tools.lock": named("tools.in")}
    for name, needs in made_from.items():
        text = (folder / name).read_text(encoding="utf-8")
        there = locked(text)
        yield from (
            f"requirements/{name}: `{each}` is not locked; run `make lock`" for each in sorted(needs - set(there))
        )
        for each, entry in there.items():
            if "--hash=sha256:" not in entry:
                yield f"requirements/{name}: `{each}` has no hash"
        for number, line in enumerate(text.splitlines(), 1):
            if _URL.search(line) or _HOSTS.search(line):
                yield f"requirements/{name}:{number}: names a place to download from"


def migrations(root: Path) -> Iterator[str]:
    """What is wrong with the line of migrations, read without running them."""
    folder = root / "src/remit/storage/migrations/versions"
    before: dict[str, str | None] = {}
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        revision = re.search(r'^revision(?:: str)? = "([^"]+)"', text, re.MULTILINE)
        down = re.search(r'^down_revision(?:: [^=]+)? = (?:"([^"]+)"|None)', text, re.MULTILINE)
        if revision is None or down is None:
            yield f"{path.relative_to(root)}: has no `revision` and `down_revision`"
            continue
        if revision[1] in before:
            yield f"{path.relative_to(root)}: a second revision {revision[1]}"
        if not path.name.startswith(f"{revision[1]}_"):
            yield f"{path.relative_to(root)}: its name does not begin with its revision {revision[1]}"
        before[revision[1]] = down[1]
    heads = set(before) - set(before.values())
    if len(heads) != 1:
        yield f"migrations: {len(heads)} heads ({', '.join(sorted(heads))}), there must be one"
    known = re.search(
        r'^HEAD = "([^"]+)"', (root / "src/remit/storage/migrate.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    if known is None or heads != {known[1]}:
        yield f"migrate.py: HEAD is not the head of the migrations ({', '.join(sorted(heads))})"


def tracked(root: Path) -> list[Path]:
    """Files that belong to the repository, or would at the next commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    return [root / name for name in done.stdout.decode().split("\0") if name]


def machine_paths(root: Path) -> Iterator[str]:
    """Paths of one machine, and hosts of registries, in what others will read."""
    for path in tracked(root):
        place = path.relative_to(root).as_posix()
        if place in _OWN or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = (_BUILD if _is_data(place) else _MACHINE).search(line)
            if match and not any(f"/{name}" in match[0] for name in _ALLOWED):
                yield f"{place}:{number}: a path of one machine: `{match[0]}…`"
            if _HOSTS.search(line) and not place.endswith((".md", ".lock")) and not _is_data(place):
                yield f"{place}:{number}: names the host of a registry"


def _is_data(place: str) -> bool:
    """Whether a file is about paths: scanned trees, and the readers of them."""
    return place.startswith(("tests/", "src/remit/inventory/connectors/", "src/remit/inventory/secrets/", "bench/"))


def links(root: Path) -> Iterator[str]:
    """Links of documents that lead nowhere."""
    for path in tracked(root):
        if path.suffix != ".md" or not path.is_file():
            continue
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            if not there.exists():
                yield f"{path.relative_to(root)}: `{target}` leads nowhere"
            elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
                yield f"{path.relative_to(root)}: `{target}` names no heading of its page"


def anchors(text: str) -> set[str]:
    """The anchors that a reader makes of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        anchor, number = words.replace(" ", "-"), 1
        while anchor in found:
            anchor, number = f"{words.replace(' ', '-')}-{number}", number + 1
        found.add(anchor)
    return found


CHECKS: tuple[Callable[[Path], Iterator[str]], ...] = (locks, migrations, machine_paths, links)


def main() -> int:
    """Run every check on this tree."""
    wrong = [problem for check in CHECKS for problem in check(ROOT)]
    print("\n".join(wrong) or "the tree is in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
