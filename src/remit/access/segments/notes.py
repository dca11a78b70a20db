"""Comments in rules: who and why, in letters that end no comment and begin nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remit.access.segments.model import Opening, Segment

_OTHER = re.compile(r"[^A-Za-z0-9 .,:;=?&/@+()-]")
_MOST = 160


def note(text: str) -> str:
    """`text` for a comment line: one line of plain ASCII, at most 160 characters."""
    return _OTHER.sub("_", text)[:_MOST].rstrip()


def title(segment: Segment) -> str:
    return note(f"Remit: who may reach {segment.target} ({segment.system}); everybody else may not")


def who(opening: Opening) -> str:
    """Who may, and why."""
    return note(f"task {opening.task} of {opening.identity}: {opening.why}")


def left_out(segment: Segment, more: dict[str, str]) -> Iterator[str]:
    """Sentences on tasks that get no opening; `more` are those that this form leaves out."""
    told = {each.task: each.why for each in segment.left_out} | more
    for task, why in sorted(told.items()):
        yield note(f"left out: task {task}: {why}")
