"""What `remit scan` does: scan, leave out what is known or excused, say the rest."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from remit.inventory.model import Skipped
from remit.inventory.secrets.baseline import MAX_BYTES, Baseline, parse_baseline
from remit.inventory.secrets.found import Attempt, Found
from remit.inventory.secrets.model import Blob
from remit.inventory.secrets.survey import Repository, Sighting, Survey
from remit.kernel.errors import Conflict, Rejected
from remit.surface.cli.output import ScanFormat, console, emit, plain, say, show_table

BASELINE = ".remit-baseline"
_HOOK = """#!/bin/sh
# remit: look for secrets in what is about to be committed. Remove this file to stop.
exec remit scan --staged
"""
_MARK = "# remit: look for secrets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command line."""

    paths: tuple[Path, ...]
    staged: bool
    history: bool
    baseline: Path | None
    write_baseline: bool
    min_confidence: int
    endpoints: tuple[str, ...] | None
    workers: int | None
    data: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One finding, as it is shown."""

    sighting: Sighting
    path: str
    problem: str = ""
    """Why the wish to ignore it was not granted."""

    @property
    def found(self) -> Found:
        return self.sighting.found


def run(asked: Asked, format: ScanFormat) -> int:
    """Scan, print, and answer the exit code: 1 when something is to be done."""
    if not 0 <= asked.min_confidence <= 100:
        raise Rejected(
            "surface.scan.confidence", "the confidence is no number from 0 to 100", next_step="give 0 to 100"
        )
    baseline, file = _baseline(asked)
    listed: list[Listed] = []
    skipped: list[Skipped] = []
    today = datetime.now(UTC).date()
    keep: set[str] = set()
    excused = 0
    with console(stderr=True).status("looking for secrets") as status:
        survey = _survey(asked, baseline, lambda done, where: status.update(f"{done:,} read — {plain(where[-70:])}"))
        for item in _sightings(asked, survey):
            if isinstance(item, Skipped):
                skipped.append(item)
                continue
            keep.add(item.found.keyed)
            wish = item.found.ignore
            problem = wish.problem(today) if wish else ""
            if wish and not problem:
                excused += 1
            elif item.found.keyed not in baseline.known:
                listed.append(Listed(sighting=item, path=_shown(item), problem=problem))
    if asked.write_baseline:
        _write_baseline(file, baseline, keep)
        say(f"{len(keep)} known secrets in {plain(file)}; replace them, the file does not make them harmless")
        return 0
    listed.sort(key=lambda each: (each.path, each.found.line, each.found.column))
    _print(listed, skipped, excused, format, today)
    return 1 if listed else 0


def _survey(asked: Asked, baseline: Baseline, progress: Any) -> Survey:
    from remit.inventory.secrets.engine import make_engine

    kept = asked.data / "cache" if asked.data.is_dir() else _cache_home() / "remit"
    return Survey(
        engine=make_engine(cache=kept),
        fingerprint=baseline.fingerprint,
        min_confidence=asked.min_confidence,
        workers=asked.workers,
        progress=progress,
        attempt=_attempt(asked),
    )


def _attempt(asked: Asked) -> Attempt | None:
    if asked.endpoints is None:
        return None
    from remit.inventory.secrets.live import Checks, parse_endpoints

    if not asked.endpoints:
        raise Rejected(
            "surface.scan.no-endpoint",
            "no endpoint is declared at which a secret may be tried",
            next_step="say where: `--verify --verify-endpoint github=https://api.github.com`",
        )
    return Checks(parse_endpoints(asked.endpoints), clock=lambda: datetime.now(UTC))


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _sightings(asked: Asked, survey: Survey) -> Iterator[Sighting | Skipped]:
    if asked.staged:
        yield from _staged(survey)
        return
    for path in asked.paths:
        if not path.exists():
            raise Rejected(
                "surface.scan.no-path", f"there is no `{str(path)[:200]}`", next_step="name a file or a directory"
            )
    git_dirs: list[str] = []
    shown: set[tuple[str, str]] = set()
    for item in survey.files([str(path.resolve()) for path in asked.paths], git_dirs):
        if isinstance(item, Sighting):
            shown.add((item.found.keyed, item.found.path))
        yield item
    if asked.history:
        for git_dir in git_dirs:
            root = git_dir.removesuffix("/.git")
            for item in survey.history(Repository(root=root, git_dir=git_dir, allowed=root)):
                if isinstance(item, Skipped) or (item.found.keyed, f"{root}/{item.path}") not in shown:
                    yield item


def _staged(survey: Survey) -> Iterator[Sighting | Skipped]:
    """What the index adds: a secret that `HEAD` has at the same path is not new."""
    from remit.inventory.secrets.sources.expand import expand
    from remit.providers.git_index import staged, top_level

    root = top_level(Path.cwd())
    for file in staged(root):
        path = str(root / file.path)
        before = {
            each.keyed
            for each in survey.blobs(expand(Blob(path=path, data=file.before)))
            if file.before and isinstance(each, Found)
        }
        for each in survey.blobs(expand(Blob(path=path, data=file.data))):
            if isinstance(each, Skipped) or (isinstance(each, Found) and each.keyed not in before):
                yield each if isinstance(each, Skipped) else Sighting(found=each)


def _shown(sighting: Sighting) -> str:
    """The path from where the command runs, where it lies below."""
    path = f"{sighting.root}/{sighting.path}" if sighting.root and not sighting.path.startswith("/") else sighting.path
    here = str(Path.cwd())
    shown = path.removeprefix(here.rstrip("/") + "/")
    commit = sighting.first.commit[:12] if sighting.first else ""
    return f"{shown}@{commit}" if commit else shown


# --- the baseline


def _baseline(asked: Asked) -> tuple[Baseline, Path]:
    """The known secrets; without a file a salt of this run alone."""
    file = asked.baseline or Path(BASELINE)
    try:
        data = _read(file)
    except FileNotFoundError:
        if asked.baseline is not None and not asked.write_baseline:
            raise Rejected(
                "surface.scan.no-baseline", f"there is no baseline `{str(file)[:200]}`",
                next_step="write one: `remit scan --write-baseline`",
            ) from None  # fmt: skip
        return Baseline(salt=secrets.token_bytes(16), kept=asked.write_baseline), file
    return parse_baseline(data), file


def _read(file: Path) -> bytes:
    """At most one byte more than a baseline may have; a pipe is not waited for, a device not read."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        return opened.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def _write_baseline(file: Path, baseline: Baseline, known: set[str]) -> None:
    _put(file, baseline.text(known), 0o644)


def _put(file: Path, text: str, mode: int) -> None:
    """Write a file anew, beside it first: no link that lies in a repository leads us elsewhere."""
    beside = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as opened:
            opened.write(text)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


# --- the hook


def install_hook(start: Path) -> None:
    """Write git's pre-commit hook. Raises `Conflict` (`surface.hook.exists`) rather than replace somebody's own."""
    from remit.providers.git_index import hooks_directory, top_level

    directory = hooks_directory(top_level(start))
    directory.mkdir(parents=True, exist_ok=True)
    hook = directory / "pre-commit"
    if os.path.lexists(hook) and (hook.is_symlink() or _MARK.encode() not in _read(hook)):
        raise Conflict(
            "surface.hook.exists",
            f"`{str(hook)[:200]}` exists and is not ours",
            next_step="add the line `remit scan --staged || exit 1` to it, or use `.pre-commit-config.yaml`",
        )
    _put(hook, _HOOK, 0o755)
    say(f"{plain(hook)} runs `remit scan --staged` before each commit")


# --- printing


def _print(listed: list[Listed], skipped: list[Skipped], excused: int, format: ScanFormat, today: date) -> None:
    if format == "sarif":
        from remit.surface.cli.secret_sarif import sarif

        emit(sarif([_row(each) for each in listed]), "sarif")
        return
    rows = [_row(each) for each in listed]
    if format != "table":
        unread = [{"what": each.what, "reason": each.reason, "detail": each.detail} for each in skipped]
        emit({"findings": rows, "excused": excused, "skipped": unread}, format)
        return
    if rows:
        for row in rows:
            row["where"] = f"{row['path']}:{row['line']}" if row["line"] else row["path"]
            row["sure"] = f"{row['confidence']} %"
        columns = [
            ("where", "where"),
            ("what", "what"),
            ("shown", "begins"),
            ("variable", "name"),
            ("who", "of"),
            ("sure", "sure"),
        ]
        if any(row["live"] for row in rows):
            columns.append(("live", "tried"))
        show_table(rows, columns)
        for row in rows:
            if row["problem"]:
                say(f"{plain(row['where'])}: asks to be ignored, but {plain(row['problem'])}")
    count = len({each.found.keyed for each in listed})
    unseen = sum(each.reason not in ("pruned", "not-supported") for each in skipped)
    secrets, places = "secret" if count == 1 else "secrets", "place" if len(listed) == 1 else "places"
    text = f"[bold]{count}[/bold] {secrets} in {len(listed)} {places}" if listed else "no secrets found"
    text += f", {excused} excused for now" if excused else ""
    say(text + (f"; {unseen} things could not be read (--format json names them)" if unseen else ""))
    if listed:
        say("replace each at its issuer first: whoever read it keeps it; `remit discover files .` says what it opens")


def _row(each: Listed) -> dict[str, Any]:
    found, first = each.found, each.sighting.first
    who = found.binding.subject
    return {
        "rule": f"secrets.{found.rule}",
        "what": found.what,
        "path": each.path,
        "line": found.line,
        "column": found.column,
        "end_column": found.end_column,
        "confidence": found.confidence,
        "shown": f"{found.prefix}…" if found.prefix else "",
        "variable": found.variable,
        "who": who.title if who else "",
        "identity": who.name if who else "",
        "account": str(found.binding.attributes.get("account", "")),
        "checksum": found.checksum,
        "expires": found.expires,
        "harmless": found.binding.harmless,
        "fingerprint": found.keyed,
        "commit": first.commit if first else "",
        "author": first.author if first else "",
        "reachable": first.reachable if first else True,
        "problem": each.problem,
        "live": found.live,
        "live_detail": found.live_detail,
    }
