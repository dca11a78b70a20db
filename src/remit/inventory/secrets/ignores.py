"""`remit:ignore until=2026-12-31 reason=…` beside a secret: a wish with an end, never for ever and never without why.

In a scan on a developer's machine a wish that holds is granted. Inside the control plane nobody may excuse himself:
there it is shown with the finding, as a proposal for an exception that somebody else approves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

LONGEST = timedelta(days=366)
_LINE = 2_000
_WISH = re.compile(r"\bremit:ignore\b([^\r\n]{0,400})")
_UNTIL = re.compile(r"\buntil=(\S{1,30})")
_REASON = re.compile(r"\breason=(?:\"([^\"]*)\"|'([^']*)'|(.*))")
_ENDING = re.compile(r"\s*(?:\*/|-->|#}|%>|\*\))\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """What a comment asks for."""

    until: date | None
    reason: str

    def problem(self, today: date) -> str:
        """Why it is not granted; empty when it is."""
        if not self.reason:
            return "it gives no reason"
        if self.until is None:
            return "it has no end"
        if self.until < today:
            return f"it ended {self.until}"
        return f"it asks for more than {LONGEST.days} days" if self.until - today > LONGEST else ""


def ignore_at(data: bytes, start: int, end: int) -> Ignore | None:
    """The wish on the lines of a value, or on the line above them; `None` without one."""
    first = data.rfind(b"\n", max(0, start - _LINE), start)
    above = data.rfind(b"\n", max(0, first - _LINE), first) if first > 0 else -1
    last = data.find(b"\n", end, end + _LINE)
    text = data[max(0, above) : last if last >= 0 else end + _LINE]
    if b"remit:ignore" not in text:
        return None
    found = _WISH.search(text.decode("utf-8", "replace"))
    return parse_ignore(found.group(1)) if found else None


def parse_ignore(text: str) -> Ignore:
    """Read what stands behind `remit:ignore`."""
    text = _ENDING.sub("", text)
    until, reason = _UNTIL.search(text), _REASON.search(text)
    try:
        day = date.fromisoformat(until.group(1)) if until else None
    except ValueError:
        day = None
    why = next((part for part in reason.groups() if part), "") if reason else ""
    return Ignore(until=day, reason=_UNTIL.sub("", why).strip()[:200])
