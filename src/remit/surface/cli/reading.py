"""How the command line reads a source: progress while it goes on, what was found, and what that changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remit.kernel.errors import RemitError
from remit.surface.cli.client import lost
from remit.surface.cli.options import Reading
from remit.surface.cli.output import console, emit, plain, say, say_error, visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_MARKS: Final = {"new": ("+", "green"), "gone": ("-", "red"), "changed": ("~", "yellow")}
_PLURALS: Final = {"identity": "identities", "credential": "credentials", "finding": "findings"}
_SILENT: Final = 5.0
"""Seconds without a word after which it is said that there is none."""


def read_source(where: Reading, path: str, body: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read one source and say what came of it; returns what the control plane said at the end."""
    done = _followed(where.admin.stream(path, dict(body)), source)
    if where.watch:
        _say_watched(where, done, source)
    elif where.format not in ("table", "sarif"):
        emit({key: value for key, value in done.items() if key != "kind"}, where.format)
    elif where.format == "table":
        say_summary(done)
        if "diff" in done:
            say_diff(done["diff"], listed=where.diff)
    elif where.dry_run:
        emit({key: value for key, value in done.items() if key != "kind"}, "json")
    return done


def say_sarif(where: Reading, done: Mapping[str, Any], root: Path | None) -> None:
    """The findings of a source as SARIF."""
    from remit.surface.cli.sarif import sarif

    found = where.admin.get("/api/v1/findings", source=done["source"], limit=10_000)
    emit(sarif(found["rows"], root), "sarif")


def watched(where: Reading, once: Callable[[], None]) -> None:
    """Do it once; or, where it is watched, again and again until Ctrl-C. A run that fails is told, and tried again."""
    if not where.watch:
        once()
        return
    try:
        while True:
            begun = time.monotonic()
            try:
                once()
            except RemitError as error:
                say_error(error)
            time.sleep(max(0.0, where.watch - (time.monotonic() - begun)))
    except KeyboardInterrupt:
        return


def read_all(where: Reading) -> None:
    """Every source that can be read without a person, one after the other; exits 1 when one failed."""
    failed = 0
    known = where.admin.get("/api/v1/sources")
    if not known:
        say("nothing was read yet: `remit discover files .`")
    for row in known:
        name = f"{row['connector']} {row['scope']}"
        if row["secret"] in (None, "person"):
            say(f"[yellow]left out[/yellow] {plain(name)}: its secret was given with the command; give it again")
            continue
        if where.format == "table" and not where.watch:
            say(f"[bold]{plain(name)}[/bold]")
        try:
            read_source(where, f"/api/v1/sources/{row['id']}/discover", {"dry_run": where.dry_run}, name)
        except RemitError as error:
            failed += 1
            say_error(error)
    if failed and not where.watch:
        sys.exit(1)


# -- progress


def _followed(lines: Iterator[dict[str, Any]], source: str) -> dict[str, Any]:
    """The last line, after all others were shown as they came: on standard error, and only to a terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    progress = Progress(
        SpinnerColumn(), TextColumn("{task.fields[read]}"), BarColumn(bar_width=12, pulse_style="dim"),
        TimeElapsedColumn(), TextColumn("{task.fields[state]}"),
        console=(err := console(stderr=True)), transient=True, disable=not err.is_terminal, get_time=time.monotonic,
    )  # fmt: skip
    with progress:
        shown = _Shown(progress, source)
        for line in lines:
            shown.take(line)
            if line["kind"] == "done":
                return line
    raise lost()


class _Shown:
    """One bar: what was read and kept so far, how fast, and what is waited for."""

    def __init__(self, progress: Progress, source: str) -> None:
        self._progress = progress
        self._begun = time.monotonic()
        self._task: TaskID = progress.add_task("", total=None, read=f"reading {plain(source[-60:])}", state="")
        self._read = 0
        self._kept = ""

    def take(self, line: Mapping[str, Any]) -> None:
        """One line of the control plane."""
        match line["kind"]:
            case "source":
                self._say("resuming where it was interrupted" if line["resumed"] else "")
            case "progress":
                self._read = max(self._read, int(line["done"]))
                self._say(str(line["where"])[-60:])
            case "kept":
                facts = line["facts"]
                parts = [f"{facts[kind]:,} {_PLURALS[kind]}" for kind in _PLURALS if facts.get(kind)]
                self._kept = ", ".join(parts)
                self._say(None)
            case "waiting":
                self._say(f"[yellow]throttled: waiting {line['seconds']:g} s[/yellow]", markup=True)
            case _:
                pass

    def _say(self, state: str | None, *, markup: bool = False) -> None:
        spent = max(time.monotonic() - self._begun, 0.001)
        rate = f" ({self._read / spent:,.0f}/s)" if self._read else ""
        read = f"read {self._read:,}{rate}" + (f", kept {self._kept}" if self._kept else "")
        fields = {"read": read} | ({} if state is None else {"state": state if markup else plain(state)})
        self._progress.update(self._task, **fields)  # type: ignore[arg-type]


# -- what came of it


def say_summary(done: Mapping[str, Any]) -> None:
    """Counts; of a dry run a sample; and what could not be seen."""
    facts = done.get("facts", {})
    out = console()
    if done.get("dry_run"):
        counted = [f"[bold]{facts.get(kind, 0):,}[/bold] {plural}" for kind, plural in _PLURALS.items()]
        counted += [f"{facts.get('resource', 0):,} resources", f"{facts.get('edge', 0):,} edges"]
        out.print("would show " + ", ".join(counted) + "; nothing was written")
        for each in done["sample"]:
            out.print(f"  {each['kind']:<10} {visible(each['title'])}", markup=False)
    else:
        out.print(
            f"[bold]{done['identities']:,}[/bold] identities ({done['identities_new']:,} new, "
            f"{done['identities_joined']:,} joined), [bold]{facts.get('credential', 0):,}[/bold] credentials "
            f"({done['credentials_new']:,} new), {facts.get('resource', 0):,} resources, "
            f"{facts.get('edge', 0):,} edges, [bold]{facts.get('finding', 0):,}[/bold] findings "
            f"({done['findings_new']:,} new)"
        )
    if done["skipped"]:
        out.print(f"[yellow]{done['skipped']:,} could not be seen[/yellow]; the first:")
        for item in done["skipped_sample"][:5]:
            what = f"of {item['what']}: {item.get('detail', '')[:120]}" if item["reason"] == "pruned" else item["what"]
            out.print(visible(f"  {item['reason']}: {what}"), style="dim", markup=False)
        say("all of them: `remit sources --format json`")


def diff_counts(diff: Mapping[str, Any]) -> str:
    """`2 identities new, 1 credential gone`; empty where nothing changed."""
    parts = []
    for change in _MARKS:
        for kind, plural in _PLURALS.items():
            if number := diff[change][kind]:
                parts.append(f"{number:,} {kind if number == 1 else plural} {change}")
    return ", ".join(parts)


def say_diff(diff: Mapping[str, Any], *, listed: bool) -> None:
    """What changed since the last whole run; each thing where it is `listed`."""
    out = console()
    if diff["first"]:
        out.print("the first whole run of this source: everything is new")
        return
    counts = diff_counts(diff)
    out.print(f"since {_moment(diff['since'])}: " + (counts or "nothing changed"))
    if listed:
        for each in diff["entries"]:
            mark, style = _MARKS[each["change"]]
            out.print(f"[{style}]{mark}[/{style}] {each['kind']:<10} {plain(_told(each))}")
        if diff["unlisted"]:
            say(f"[dim]{diff['unlisted']:,} more are counted, and not listed[/dim]")
    elif counts:
        say("[dim]`--diff` lists them[/dim]")


def _told(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "finding":
        return f"{entry['severity']}: {entry['title']} ({entry['place']})"
    fields = "; ".join(
        f"{each['field']}: {each['before'] or '–'} → {each['after'] or '–'}" for each in entry.get("fields", ())
    )
    return f"{entry['title']}  {entry['name']}" + (f"  {fields}" if fields else "")


def _say_watched(where: Reading, done: Mapping[str, Any], source: str) -> None:
    """Nothing where nothing changed."""
    if where.format != "table":
        diff = done.get("diff", {})
        if diff and (diff["first"] or diff["entries"]):
            sys.stdout.buffer.write(_line({"source": done["source"], **diff}))
            sys.stdout.flush()
        return
    if "diff" not in done:
        say_summary(done)
        return
    if done["diff"]["first"] or diff_counts(done["diff"]):
        console().print(f"[bold]{datetime.now(UTC):%H:%M:%S}[/bold] {plain(source)}", highlight=False)
        say_diff(done["diff"], listed=True)
        sys.stdout.flush()


def _line(document: Mapping[str, Any]) -> bytes:
    import msgspec

    return msgspec.json.encode(document) + b"\n"


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"
