"""Commands on sources: when each is read, what its last run changed, reading it again."""

from __future__ import annotations

import re
from typing import Annotated

from cyclopts import Parameter

from remit.inventory.readings import UNITS, span
from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Reading
from remit.surface.cli.output import ago, emit, plain, say, show_table


def sources(where: Listing | None = None) -> None:
    """The sources that were read: when, when again, what is wrong, and how much of each could not be seen."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/sources")
    if where.format != "table":
        emit(rows, where.format)
        return
    for row in rows:
        row["identities"] = row["counts"].get("identity", 0)
        row["unseen"] = len(row["skipped"])
        row["again"] = _again(row)
    columns = [
        ("id", "id"), ("connector", "connector"), ("scope", "scope"), ("whole", "read"), ("again", "next"),
        ("identities", "identities"), ("unseen", "not seen"), ("trouble", "trouble"),
    ]  # fmt: skip
    show_table(rows, columns, wrap=("connector", "scope"), empty="nothing was read yet: `remit discover files .`")


def _again(row: dict[str, object]) -> str:
    if row["reading"]:
        return "now"
    if row["every"] is None:
        return ""
    due = ago(str(row["next"])) if row["next"] else "stopped"
    return f"{'due' if due.endswith('ago') else due}, every {span(int(str(row['every'])))}"


def schedule(
    source: str,
    /,
    *,
    every: Annotated[str, Parameter(help="How often: `30m`, `6h`, `1d`.")] = "",
    off: Annotated[bool, Parameter(help="Read it no more by itself.", negative=())] = False,
    where: Listing | None = None,
) -> None:
    """Let a source be read by itself. Only where nobody has to give a secret: targets, files, this host."""
    where = where or Listing()
    if bool(every) == off:
        raise Rejected(
            "surface.schedule.unsaid", "neither or both of `--every` and `--off` are given",
            next_step="give one of them: `--every 6h`, or `--off`",
        )  # fmt: skip
    body = {"every": 0 if off else seconds(every)}
    done = where.admin.post(f"/api/v1/sources/{source}/schedule", body)
    if where.format != "table":
        emit(done, where.format)
    elif off:
        say(f"`{plain(source)}` is read by command alone")
    else:
        say(f"`{plain(source)}` is read every {span(done['every'])}, next {ago(done['next'])}")


def diff(source: str, /, *, where: Listing | None = None) -> None:
    """What the last whole run of a source changed."""
    from remit.surface.cli.reading import say_diff

    where = where or Listing()
    found = where.admin.get(f"/api/v1/sources/{source}/diff")
    if where.format != "table":
        emit(found, where.format)
        return
    say_diff(found, listed=True)


def read(source: str, /, *, where: Reading | None = None) -> None:
    """Read a source again, as it was read last."""
    from remit.surface.cli.reading import read_source, say_sarif, watched

    where = where or Reading()

    def once() -> None:
        done = read_source(where, f"/api/v1/sources/{source}/discover", {"dry_run": where.dry_run}, source)
        if where.format == "sarif" and not where.dry_run and not where.watch:
            say_sarif(where, done, None)

    watched(where, once)


def seconds(text: str) -> int:
    """`90s`, `30m`, `6h` or `1d` in seconds. `Rejected` (`surface.span.invalid`)."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text.strip())
    if found is None:
        raise Rejected(
            "surface.span.invalid", f"`{text[:40]}` is no span of time", next_step="write `30m`, `6h` or `1d`"
        )
    return int(found[1]) * UNITS[found[2]]
