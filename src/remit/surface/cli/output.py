"""What the CLI prints: tables for people, JSON or YAML for programs. Results to stdout, everything else to stderr."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from remit.kernel.errors import RemitError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NARROWEST = 8
_READABLE = 16
"""A wrapped column that is narrower than this is read by nobody."""
_ID = re.compile(r"[a-z]{1,4}_[0-9A-Z]{26}")
_PIPED = 200
"""Columns where no terminal says how wide it is."""
Format: TypeAlias = Literal["table", "json", "yaml"]
ScanFormat: TypeAlias = Literal["table", "json", "yaml", "sarif"]
_STYLES = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "info": "dim",
    "quarantined": "bold red",
    "suspended": "yellow",
    "active": "green",
    "revoked": "green",
    "unproved": "bold yellow",
    "revoking": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """A rich console that honours NO_COLOR and pipes."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, soft_wrap=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPED
    return made


def emit(value: Any, format: ScanFormat) -> None:
    """Print `value` as JSON (SARIF is JSON) or YAML."""
    if format in ("json", "sarif"):
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    else:
        import yaml

        yaml.safe_dump(msgspec.to_builtins(value), sys.stdout, sort_keys=False, allow_unicode=True)
    sys.stdout.flush()


def show_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str]],
    *,
    title: str = "",
    empty: str = "nothing",
    wrap: Collection[str] = (),
) -> None:
    """Print rows as a table; `columns` are (key, heading). What does not fit is cut, in columns of `wrap` wrapped.

    Where it is too narrow, columns in which nothing stands go first. An id is never cut: where there is no room for it,
    nor for what is wrapped, each row is told in lines of its own.
    """
    out = console()
    if not rows:
        out.print(f"[dim]{empty}[/dim]")
        return
    room = out.width + 2  # rich leaves two between columns
    cells = [[_cell(row.get(key)) for key, _ in columns] for row in rows]
    if sum(_natural(columns, cells)) + 2 * len(columns) > room:
        telling = [at for at in range(len(columns)) if at == 0 or any(row[at].plain != "–" for row in cells)]
        columns, cells = [columns[at] for at in telling], [[row[at] for at in telling] for row in cells]
    natural = _natural(columns, cells)
    wrapped = [at for at, (key, _) in enumerate(columns) if key in wrap]
    ids = [at for at in range(len(columns)) if all(_ID.fullmatch(row[at].plain) for row in cells)]
    widths = _fit(natural, room - len(columns), wrapped, ids)
    if any(widths[at] < natural[at] for at in ids) or any(widths[at] < min(_READABLE, natural[at]) for at in wrapped):
        _show_lines(out, [heading for _, heading in columns], cells)
        return
    _show_columns(out, columns, cells, widths, wrap=wrap, title=title)


def _natural(columns: Sequence[tuple[str, str]], cells: Sequence[Sequence[Text]]) -> list[int]:
    """How wide each column would be with room enough."""
    return [max(len(heading), *(row[at].cell_len for row in cells)) for at, (_, heading) in enumerate(columns)]


def _show_columns(
    out: Console,
    columns: Sequence[tuple[str, str]],
    cells: Sequence[Sequence[Text]],
    widths: Sequence[int],
    *,
    wrap: Collection[str],
    title: str,
) -> None:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for width, (key, heading) in zip(widths, columns, strict=True):
        wrapped = key in wrap
        table.add_column(heading, overflow="fold" if wrapped else "ellipsis", no_wrap=not wrapped, width=width)
    for row in cells:
        table.add_row(*row)
    out.print(table)


def _show_lines(out: Console, headings: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """Each row whole, in as many lines as it takes: its first cell, then what stands under each further heading."""
    from rich.text import Text

    for first, *rest in cells:
        told = [
            Text.assemble((f"{heading} ", "dim"), cell)
            for heading, cell in zip(headings[1:], rest, strict=True)
            if cell.plain != "–"
        ]
        whole = Text.assemble(first, "  ", Text(" · ", style="dim").join(told))
        for number, line in enumerate(whole.wrap(out, max(out.width - 2, _NARROWEST), overflow="fold")):
            line.rstrip()
            out.print(Text.assemble("  " if number else "", line), no_wrap=True, overflow="ignore", crop=False)


def _fit(widths: list[int], room: int, wrapped: Sequence[int] = (), whole: Collection[int] = ()) -> list[int]:
    """Shrink the widest columns until the table fits; short words stay whole for as long as possible.

    Those that are `wrapped` give way first: they lose nothing by it. Those that are `whole` give way last.
    """
    widths = [min(width, 90) for width in widths]
    others = [at for at in range(len(widths)) if at not in whole]
    for given in (wrapped, others, range(len(widths))):
        while sum(widths) + len(widths) > room and max((widths[at] for at in given), default=0) > _NARROWEST:
            widths[max(given, key=lambda at: widths[at])] -= 1
    return widths


_UNSEEN = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)
"""Control characters, and those that turn the direction of text: a terminal would obey them."""


def visible(text: str) -> str:
    """What a source said, as a terminal may show it."""
    return text.translate(_UNSEEN)


def plain(value: object) -> str:
    """`value` within our own markup: its brackets are brackets."""
    from rich.markup import RE_TAGS, escape

    text, parts, end = visible(str(value)), [], 0
    for tag in RE_TAGS.finditer(text):
        parts += [_untagged(text[end : tag.start()]), tag.group()]
        end = tag.end()
    return escape("".join((*parts, _untagged(text[end:]))))


def _untagged(text: str) -> str:
    """Text in which nothing looks like a tag: rich takes a backslash before a bracket away all the same."""
    return text.replace("\\[", "\\\\[")


def _cell(value: Any) -> Text:
    from rich.text import Text

    if value is None or value == "":
        return Text("–", style="dim")
    if value is True:
        return Text("yes")
    if value is False:
        return Text("no", style="dim")
    text = ago(value) if isinstance(value, str) and _is_time(value) else str(value)
    return Text(visible(text).replace("\n", " "), style=_STYLES.get(text, ""))


def _is_time(text: str) -> bool:
    return len(text) >= 20 and text[4:5] == "-" and text[10:11] == "T"


def ago(text: str | None, now: datetime | None = None) -> str:
    """`3 min ago`, `in 2 days` from an RFC 3339 time."""
    if not text:
        return ""
    moment = datetime.fromisoformat(text)
    seconds = ((now or datetime.now(moment.tzinfo)) - moment).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= size:
            number = f"{abs(seconds) / size:.0f} {unit}"
            break
    else:
        number = f"{abs(seconds):.0f} s"
    return f"{number} ago" if seconds >= 0 else f"in {number}"


def clock(text: str) -> str:
    """`2026-03-03 12:00:00` in UTC from an RFC 3339 time: for what is evidence, and is read again later."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def say(text: str) -> None:
    """Tell the person something, on stderr."""
    console(stderr=True).print(text)


def say_error(error: RemitError) -> None:
    """Print an error and what to do next, on stderr."""
    from rich.text import Text

    from remit.surface.problem import next_step_of

    err = console(stderr=True)
    err.print(Text.assemble(("error ", "bold red"), visible(error.message), (f"  [{error.code}]", "dim")))
    err.print(Text.assemble(("next  ", "bold"), visible(next_step_of(error))))
