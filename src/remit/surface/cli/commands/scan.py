"""`remit scan`: look for secrets before others do; no server is needed, and nothing is sent anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from remit.surface.cli.options import Scanning


def scan(
    *paths: Path,
    staged: Annotated[
        bool, Parameter(help="Scan what is about to be committed, and only what it adds.", negative=())
    ] = False,
    history: Annotated[
        bool, Parameter(help="Scan the history of the repositories below the paths too.", negative=())
    ] = False,
    baseline: Annotated[
        Path | None, Parameter(help="Known secrets, by fingerprint (.remit-baseline, if there is one).")
    ] = None,
    write_baseline: Annotated[
        bool, Parameter(help="Write what is found as known to the baseline.", negative=())
    ] = False,
    min_confidence: Annotated[int, Parameter(help="How sure to be: 0 to 100.")] = 50,
    verify: Annotated[
        bool, Parameter(help="Try what is found at the endpoints that are declared, and nowhere else.", negative=())
    ] = False,
    verify_endpoint: Annotated[
        list[str] | None,
        Parameter(
            help="KIND=URL (github, gitlab, slack, bearer, aws, postgres, redis) that --verify may ask.", negative=()
        ),
    ] = None,
    install_hook: Annotated[
        bool, Parameter(help="Let git run `remit scan --staged` before each commit.", negative=())
    ] = False,
    workers: Annotated[int | None, Parameter(help="Processes (as many as there are cores).")] = None,
    where: Scanning | None = None,
) -> None:
    """Look for secrets in files (.), in what is staged, or in history. Exit code 1: something was found.

    Values are never shown. A line is passed over while it says `remit:ignore until=2026-12-31 reason=…`.
    """
    from remit.surface.cli import secret_scan

    where = where or Scanning()
    if install_hook:
        secret_scan.install_hook(Path.cwd())
        return
    asked = secret_scan.Asked(
        paths=paths or (Path(),),
        staged=staged,
        history=history,
        baseline=baseline,
        write_baseline=write_baseline,
        min_confidence=min_confidence,
        endpoints=tuple(verify_endpoint or ()) if verify else None,
        workers=workers,
        data=where.data,
    )
    raise SystemExit(secret_scan.run(asked, where.format))
