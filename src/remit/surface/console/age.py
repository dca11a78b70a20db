"""The age of a lease as a bar, drawn on the server: created → now → native expiry → hard end.

Safe under a strict content security policy: no script, no `style` attribute; colours come from classes of the
console's style sheet. The words beside it say the same, so that nobody needs to see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 200, 12
_LEAST = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """The moments of one lease. `until` is the hard end of its grant, `ended` when it was revoked."""

    created: datetime
    now: datetime
    expires: datetime
    until: datetime | None
    ended: datetime | None
    keeps: bool = True
    """Whether the target refuses it after its native expiry by itself; else it works until it is revoked."""
    contained: bool
    """False while its revocation was asked for and is not carried out, or not proved."""

    @property
    def overdue(self) -> bool:
        """Past its native expiry, and nobody has renewed or ended it."""
        return self.ended is None and self.now > self.expires

    @property
    def end(self) -> datetime:
        """What the whole bar stands for."""
        return max(self.until or self.expires, self.ended or self.expires, self.created + _LEAST)

    def words(self) -> str:
        """The same in words."""
        if self.ended is not None:
            lived = self.ended - self.created
            return f"lived {_long(lived)}" if lived >= _LEAST else f"lived {lived / _MILLISECOND:.0f} ms"
        native = _long(abs(self.expires - self.now))
        said = [f"{_long(self.now - self.created)} old"]
        if not self.keeps:
            said.append(f"renewed for {native}; the target itself ends nothing" if not self.overdue else "not renewed")
        else:
            said.append(f"native expiry was {native} ago" if self.overdue else f"native expiry in {native}")
        if self.until is not None:
            left = self.until - self.now
            said.append(f"hard end in {_long(left)}" if left > timedelta(0) else f"hard end was {_long(-left)} ago")
        return " · ".join(said)

    def bar(self) -> Markup:
        """One `<svg>`; the part up to now is filled, the part up to the native expiry hatched."""
        used = self._at(self.ended or self.now)
        native = used if self.ended is not None else max(used, self._at(self.expires)) if self.keeps else _WIDTH
        tone = "is-open" if not self.contained else "is-ended" if self.ended else "is-over" if self.overdue else ""
        words = escape(self.words())
        parts = [
            f'<svg class="age {tone}" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
            f'aria-label="{words}"><title>{words}</title>',
            _rect("age-track", 0, _WIDTH),
            _rect("age-native", used, native) if native > used else "",
            _rect("age-used", 0, max(used, 2)),
            f'<line class="age-tick" x1="{native}" x2="{native}" y1="0" y2="{_HEIGHT}"/>'
            if self.ended is None and self.keeps
            else "",
            "</svg>",
        ]
        # Numbers, and words that were escaped above.
        return Markup("".join(parts))  # noqa: S704

    def _at(self, moment: datetime) -> float:
        share = (moment - self.created) / (self.end - self.created)
        return round(_WIDTH * min(1.0, max(0.0, share)), 1)


def _rect(name: str, start: float, end: float) -> str:
    return f'<rect class="{name}" x="{start}" y="2" width="{round(end - start, 1)}" height="{_HEIGHT - 4}"/>'


def _long(span: timedelta) -> str:
    """A span of time in its two largest units at most."""
    seconds = max(0, round(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min"
    if seconds < 86_400:
        hours, minutes = seconds // 3_600, seconds % 3_600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = seconds // 86_400, seconds % 86_400 // 3_600
    return f"{days} d {hours} h" if hours else f"{days} d"
