"""The console's pages of right-sizing: candidates with bars, and one proposal side by side with its replay."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup
from starlette.responses import Response

from remit.governance.rightsizing.model import Confidence, Text
from remit.surface.api.route import Call
from remit.surface.console.render import page

if TYPE_CHECKING:
    from remit.surface.context import Surface

TONES = {Confidence.HIGH: "good", Confidence.MEDIUM: "", Confidence.LOW: "warn", Confidence.NONE: "bad"}
_SHOWN = 50
_MOST_LINES = 2_000
_WIDTH, _TALL = 120, 10


async def overview(surface: Surface, call: Call) -> Response:
    found, untold = await surface.control.rightsizing.top(_SHOWN)
    changes = await surface.control.rightsizing.changes()
    return page(
        "rightsizing.html", here="/rightsizing", rows=[(each, bar(each.draft.ratio)) for each in found],
        untold=untold, changes=changes, tones=TONES,
    )  # fmt: skip


async def one(surface: Surface, call: Call) -> Response:
    house = surface.control.rightsizing
    sized = await house.size(call.path["identity"])
    changes = await house.changes(sized.record.id)
    return page(
        "rightsizing_one.html", here="/rightsizing", one=sized, changes=changes, tones=TONES,
        bar=bar(sized.draft.ratio), sides=[(text.name, list(side_by_side(text))) for text in sized.draft.texts],
    )  # fmt: skip


def bar(ratio: float) -> Markup:
    """The share that is unused, as SVG. Classes, not styles: the page forbids styles in place."""
    unused = max(0.0, min(1.0, ratio)) * _WIDTH
    return Markup(
        '<svg class="hours" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{3:.0%} unused">'
        '<rect class="granted" x="0" y="0" width="{0}" height="{1}"/>'
        '<rect class="stood" x="0" y="0" width="{2:.1f}" height="{1}"><title>{3:.0%} unused</title></rect></svg>'
    ).format(_WIDTH, _TALL, unused, ratio)


def side_by_side(text: Text) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the difference: (tone, before, tone, after); bounded, and said where it ends early."""
    before, after = text.before.splitlines(), text.after.splitlines()
    count = 0
    for what, start, end, at, to in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        old, new = before[start:end], after[at:to]
        for number in range(max(len(old), len(new))):
            count += 1
            if count > _MOST_LINES:
                yield "", f"more than {_MOST_LINES} lines: `remit rightsize` shows the rest", "", ""
                return
            left = old[number] if number < len(old) else ""
            right = new[number] if number < len(new) else ""
            yield ("bad" if what != "equal" and left else "", left, "good" if what != "equal" and right else "", right)
