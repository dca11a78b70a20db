"""Hold our Cedar to cedarpy on random worlds in the form of Cedar's corpus, for as long as one likes.

    PYTHONPATH=src:tests/properties/policy python tools/cedar_differential.py FIRST_SEED SECONDS

Prints each seed on which the two differ, and what was compared. Exit code 1 where they differ.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from cedar_corpus import world
from corpus_judge import answered, differences, read_alike


def main(first: int, seconds: float) -> int:
    """Compare worlds from `first` on until the time is over."""
    counts: Counter[str] = Counter()
    ends, seed = time.monotonic() + seconds, first
    while time.monotonic() < ends:
        made = world(seed)
        try:
            requests = answered(made)
        except ValueError as refused:
            counts[f"refused by Cedar: {str(refused)[:60]}"] += 1
            requests = []
        counts["worlds"] += 1
        counts["requests"] += len(requests)
        counts["errors"] += sum(bool(request["errors"]) for request in requests)
        counts["allowed"] += sum(request["decision"] == "allow" for request in requests)
        found = differences(made, requests) if requests else []
        if not read_alike(made.policies):
            found.append("the policies are read otherwise")
        if found:
            counts["DIFFERENT"] += 1
            print(f"seed {seed}: {found[0][:300]}", flush=True)
        seed += 1
    print(f"seeds {first} to {seed - 1}: {dict(counts)}")
    return 1 if counts["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
