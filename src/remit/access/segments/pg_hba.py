"""pg_hba.conf: a region of lines that stands first in the file, and whose last line turns everybody else away.

Names are quoted. A database or role that no quoting makes safe for every version gets no line: a name that begins with
`/` would be a regular expression even in quotes, and a longer one than PostgreSQL's is cut by some versions.

From Remit's own address every credential of Remit may be tried, or a revocation could not be proved: its name is gone
by then, and is a member of nothing. Before PostgreSQL 16 no pattern of names can be written, and every name may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from remit.access.segments.model import Opening, Segment
from remit.access.segments.notes import left_out, title, who
from remit.kernel.errors import Rejected

_METHOD = "scram-sha-256"
_MARK = re.compile(r"remit_[0-9a-z]{8}_[0-9a-f]{8}")


def render(segment: Segment) -> str:
    """The region, from its first line to its last."""
    lacking = {each.task: why for each in segment.openings if (why := _lacks(segment, each))}
    kind = "hostssl" if segment.tls else "host"
    lines = [
        f"# {segment.mark} begin: written by Remit, edits are drift",
        f"# {title(segment)}",
        *(f"# {each}" for each in left_out(segment, lacking)),
    ]
    if segment.address:
        lines += [
            "# Remit itself, and its trial of each credential, those that are gone included",
            *_own(segment, kind),
        ]
    for each in segment.openings:
        if each.task not in lacking:
            lines += [f"# {who(each)}", *_lines(segment, each, kind)]
    lines += ["host all all all reject", f"# {segment.mark} end", ""]
    return "\n".join(lines)


def _own(segment: Segment, kind: str) -> Iterator[str]:
    if not is_writable(segment.admin):
        raise Rejected("access.segment.form", "the login of the target cannot be written into pg_hba.conf")
    own = _host(segment.address)
    yield f"{kind} all {quoted(segment.admin)} {own} {_METHOD}"
    names = quoted(f"/^remit_{segment.instance}_[0-9a-hjkmnp-tv-z]{{26}}$") if segment.patterns else "all"
    yield f"{kind} all {names} {own} {_METHOD}"


def _lines(segment: Segment, opening: Opening, kind: str) -> Iterator[str]:
    for database, role in opening.roles:
        named = f"{quoted(database)} +{quoted(role)}"
        if opening.source.uid is not None:
            over = f"{kind} {named} {_host(segment.address)}" if segment.address else f"local {named}"
            yield f"{over} {_METHOD}"
        for each in opening.source.networks:
            yield f"{kind} {named} {each} {_METHOD}"


def _lacks(segment: Segment, opening: Opening) -> str:
    if opening.source.uid is None and not opening.source.networks:
        return "the network that its pods come from is not registered"
    if not all(is_writable(database) and is_writable(role) for database, role in opening.roles):
        return "the name of its role or database cannot be written into pg_hba.conf"
    return ""


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def is_writable(name: str) -> bool:
    """Whether a quoted name means itself in every version."""
    return bool(name) and name.isprintable() and len(name.encode()) < 64 and not name.startswith("/")


def quoted(name: str) -> str:
    """The name without any special meaning."""
    return '"' + name.replace('"', '""') + '"'


def region_of(content: str, mark: str) -> str:
    """Our region in a file's content; empty where there is none."""
    found = _region(mark).search(content)
    return found[0] if found else ""


def replaced(content: str, mark: str, region: str) -> str:
    """The file's content with our region first, or without it where `region` is empty."""
    return region + _region(mark).sub("", content)


def _region(mark: str) -> re.Pattern[str]:
    assert _MARK.fullmatch(mark), "a mark is of letters and digits"
    return re.compile(rf"^# {mark} begin:.*?^# {mark} end\n", re.MULTILINE | re.DOTALL)
