"""`python -m bench.scan_secrets tree|history TARGET REPORT`: our secret scan as a process of its own, for the race."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

_CONFIDENCE = 50


def main(arguments: Sequence[str]) -> int:
    """`tree|history TARGET REPORT`: scan with all cores, and write the paths."""
    from remit.inventory.model import Skipped
    from remit.inventory.secrets.engine import make_engine
    from remit.inventory.secrets.survey import Repository, Survey

    what, target, report = arguments
    cache = Path.home() / ".cache" / "remit"
    survey = Survey(engine=make_engine(cache=cache), fingerprint=_keyed, min_confidence=_CONFIDENCE)
    if what == "tree":
        found = survey.files([target])
    else:
        found = survey.history(Repository(root=target, git_dir=f"{target}/.git", allowed=target))
    paths = sorted({each.path for each in found if not isinstance(each, Skipped)})
    Path(report).write_text(json.dumps(paths))
    return 0


def _keyed(secret: bytes) -> str:
    import hashlib
    import hmac

    return "hmac:" + hmac.new(b"a key of this run", secret, hashlib.sha256).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
