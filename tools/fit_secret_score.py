"""Fit the weights of `remit.inventory.secrets.engine.score` anew: `python tools/fit_secret_score.py [--write]`.

Learnt from: the half `Part.FIT` of `bench.labelled` (generated; a value that was given counts as a secret, everything
else that the grammar sees in the file does not), and, as lines that hold no secret, what the grammar sees in the sources
of this Python's library and of the packages beside it: real code, with half the weight since a few of them are wrong.

Told: recall and false rate at 50 on that half, on `Part.JUDGE` (nothing of it is learnt), and on files of the library
that were left out. The same seed gives the same weights on the same packages. Without `--write` nothing is written.
"""

from __future__ import annotations

import argparse
import math
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.labelled import Part, Sample, samples

from remit.inventory.secrets.engine import coefficients, make_engine
from remit.inventory.secrets.engine.assignment import Candidate
from remit.inventory.secrets.engine.places import Role
from remit.inventory.secrets.engine.score import features, is_hopeless
from remit.inventory.secrets.model import Blob

GENERATED, LIBRARY_FILES, OF_ONE_FILE = 40_000, 12_000, 30
ROUNDS, RATE, DECAY = 8, 0.3, 1e-5
_TARGET = Path(coefficients.__file__)


@dataclass(frozen=True, slots=True)
class Case:
    """What holds for one candidate, and whether it is a secret."""

    held: tuple[str, ...]
    secret: bool
    weight: float = 1.0


class Reader:
    """The engine, asked for what it would judge instead of for what it found."""

    def __init__(self) -> None:
        self._seen: list[tuple[Candidate, Role]] = []
        self._engine = make_engine(judge=self._note)

    def _note(self, candidate: Candidate, role: Role) -> int:
        if not is_hopeless(candidate):
            self._seen.append((candidate, role))
        return 0

    def candidates(self, path: str, data: bytes) -> list[tuple[Candidate, Role]]:
        self._seen.clear()
        self._engine.scan(Blob(path=path, data=data))
        return list(self._seen)


def generated(reader: Reader, part: Part, count: int) -> Iterator[Case]:
    """The cases of `bench.labelled`; tokens of providers have rules of their own, and are no matter of the score."""
    for sample in samples(part, count, seed=2):
        if not sample.kind.startswith("provider"):
            yield from _cases(reader, sample)


def _cases(reader: Reader, sample: Sample) -> Iterator[Case]:
    for candidate, role in reader.candidates(sample.path, sample.text.encode()):
        given = bool(sample.secret) and candidate.value.decode("utf-8", "replace").strip() == sample.secret
        if given or not sample.secret:
            yield Case(tuple(features(candidate, role)), given)


def library(reader: Reader, *, left_out: bool) -> Iterator[Case]:
    """What is seen in sources of others; each tenth file is left out of what is learnt."""
    roots = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib")}
    files = sorted(file for root in roots for file in Path(root).rglob("*") if file.suffix in _TEXTS)
    Random(1).shuffle(files)  # noqa: S311  (an order, no secret)
    for number, file in enumerate(files[:LIBRARY_FILES]):
        if (number % 10 == 0) != left_out:
            continue
        try:
            data = file.read_bytes()[:300_000]
        except OSError:
            continue
        for candidate, role in reader.candidates("/".join(file.parts[-3:]), data)[:OF_ONE_FILE]:
            yield Case(tuple(features(candidate, role)), False, 0.5)


_TEXTS = frozenset(
    {".py", ".pyi", ".js", ".json", ".yaml", ".yml", ".toml", ".txt", ".md", ".html", ".cfg", ".h", ".c", ".xml"}
)


def fit(cases: Sequence[Case]) -> tuple[float, dict[str, float]]:
    """A logistic regression by stochastic descent, steps shrinking per weight: the bias, and the weights."""
    names = sorted({name for case in cases for name in case.held})
    places = {name: place + 1 for place, name in enumerate(names)}
    rows = [((0, *(places[name] for name in case.held)), float(case.secret), case.weight) for case in cases]
    weights, squares = [0.0] * (len(names) + 1), [1e-8] * (len(names) + 1)
    for number in range(ROUNDS):
        Random(number).shuffle(rows)  # noqa: S311  (an order, no secret)
        for held, secret, weight in rows:
            total = sum([weights[place] for place in held])
            error = (1 / (1 + math.exp(-max(-30.0, min(30.0, total)))) - secret) * weight
            for place in held:
                step = error + DECAY * weights[place]
                squares[place] += step * step
                weights[place] -= RATE * step / math.sqrt(squares[place])
    return weights[0], {name: weights[place] for name, place in places.items()}


def told(name: str, cases: Sequence[Case], bias: float, weights: dict[str, float]) -> str:
    """Recall and false rate at even odds."""
    found = [bias + sum(weights.get(each, 0.0) for each in case.held) >= 0 for case in cases]
    secret = sum(case.secret for case in cases)
    hit = sum(1 for case, said in zip(cases, found, strict=True) if said and case.secret)
    false = sum(found) - hit
    recall = f"recall {hit / secret:.4f}, " if secret else ""
    return f"{name}: {recall}false {false / max(1, len(cases) - secret):.4f} of {len(cases) - secret:,}"


def written(bias: float, weights: dict[str, float]) -> str:
    """The module that holds them."""
    lines = "\n".join(
        f'    "{name}": {round(weight, 2)},' for name, weight in sorted(weights.items()) if abs(weight) >= 0.02
    )
    return (
        '"""The fitted weights of `score`, as data; made by `tools/fit_secret_score.py`, never by hand."""\n\n'
        f"from __future__ import annotations\n\nBIAS = {bias:.2f}\nWEIGHTS: dict[str, float] = {{\n{lines}\n}}\n"
        '"""What each feature that holds adds to the log-odds."""\n'
    )


def main() -> int:
    """Learn, tell, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the weights into the engine")
    wanted = parser.parse_args()
    reader = Reader()
    learnt = [*generated(reader, Part.FIT, GENERATED), *library(reader, left_out=False)]
    judged = list(generated(reader, Part.JUDGE, 10_000))
    others = list(library(reader, left_out=True))
    for title, (bias, weights) in {
        "as it is": (coefficients.BIAS, coefficients.WEIGHTS),
        "fitted": fit(learnt),
    }.items():
        print(title)
        for name, cases in (("learnt from", learnt), ("judged by", judged), ("library, left out", others)):
            print("  " + told(name, cases, bias, weights))
    if wanted.write:
        _TARGET.write_text(written(bias, weights), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
