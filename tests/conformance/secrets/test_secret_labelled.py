"""The engine on the generated, labelled files of the benchmark: the half that its score has not learnt from."""

from __future__ import annotations

from bench.labelled import Part, samples

from remit.inventory.secrets.engine import make_engine
from remit.inventory.secrets.model import Blob


def test_of_labelled_files_nearly_all_secrets_are_found_and_next_to_nothing_else() -> None:
    engine, found, secret = make_engine(), {True: 0, False: 0}, {True: 0, False: 0}
    for sample in samples(Part.JUDGE, 1_500, seed=9):
        hits = engine.scan(Blob(path=sample.path, data=sample.text.encode()))
        secret[bool(sample.secret)] += 1
        found[bool(sample.secret)] += any(hit.confidence >= 50 for hit in hits)
    assert found[True] >= 0.97 * secret[True]
    assert found[False] <= 0.02 * secret[False]


def test_the_same_seed_makes_the_same_files_and_the_halves_share_no_name() -> None:
    assert list(samples(Part.FIT, 50)) == list(samples(Part.FIT, 50))
    judged = {sample.text for sample in samples(Part.JUDGE, 500)}
    assert judged.isdisjoint(sample.text for sample in samples(Part.FIT, 500))
