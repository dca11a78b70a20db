"""What a blast radius is asked of, and its answer in words: for the API and the console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from remit.inventory.graph.render import printable
from remit.kernel.errors import Rejected
from remit.wiring.blast import Asked

_LONGEST: Final = 2000
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_STEPS: Final = 12
KINDS: Final = ("of", "owner", "vendor", "host", "repository")


def asked_of(query: Mapping[str, str], at: datetime | None, *, of: str = "") -> Asked:
    """What a query asks for; `Rejected` (`inventory.blast.start`)."""
    given = {kind: query.get(kind, "")[:_LONGEST] for kind in KINDS}
    return Asked(**{**given, "of": of[:_LONGEST] or given["of"]}, at=at)


def seconds_of(text: str) -> int | None:
    """The seconds of `90`, `90s`, `5m`, `2h` or `1d`; `None` for nothing. `Rejected` (`inventory.blast.within`)."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,7})([smhd]?)", text.strip())
    if found is None:
        raise Rejected("inventory.blast.within", f"`{text[:40]}` is no span", next_step="write 90s, 5m, 2h or 1d")
    return int(found.group(1)) * _UNITS[found.group(2)]


def span(seconds: int) -> str:
    """So many seconds for a person."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            whole = seconds / size
            return f"{whole:.0f} {unit}" if whole == round(whole) else f"{whole:.1f} {unit}"
    return f"{seconds} s"


def render_details(details: Mapping[str, Any]) -> str:
    """What follows the tree: the ways, the time, the cut, and what a stop would stop."""
    lines = [*_starts(details), *_soon(details["containment"])]
    for each in details["most_sensitive"]:
        lines += ["", f"to {each['title']} [{each['sensitivity'] or 'unknown'}] in about {span(each['seconds'] or 0)}"]
        shortest, likeliest = each["shortest"], each["likeliest"]
        same = shortest and likeliest and shortest["edges"] == likeliest["edges"]
        names = (("shortest and likeliest", shortest),) if same else (("shortest", shortest), ("likeliest", likeliest))
        lines += [f"  {name}: {_path(way)}" for name, way in names if way]
    lines += _cut(details["cut"])
    lines += _stops(details["stops"])
    if details["cut_short"]:
        lines += ["", f"cut short: {details['cut_short']}"]
    return "\n".join(printable(line) for line in lines) + "\n"


def _starts(details: Mapping[str, Any]) -> list[str]:
    count = details["start_count"]
    if count == 1:
        return []
    named = ", ".join(each["title"] for each in details["starts"][:10])
    return [f"{count} starts: {named}{' …' if count > 10 else ''}", ""]


def _soon(timing: Mapping[str, Any]) -> list[str]:
    before = timing["before"]
    how = f"measured by {timing['incidents']} incidents" if timing["measured"] else "assumed: no incident yet"
    lines = [
        f"contained after {span(timing['contained_after'])} ({how}): {before['reached']} of {before['of']} reached, "
        f"score {before['score']}"
    ]
    if (within := timing["within"]) is not None:
        lines.append(
            f"within {span(within['seconds'])}: {within['reached']} of {within['of']} reached, score {within['score']}"
        )
    return lines


def _path(way: Mapping[str, Any]) -> str:
    edges = way["edges"]
    said = [f"{edge['relation']} → {node['title']}" for edge, node in zip(edges, way["nodes"][1:], strict=True)]
    if len(said) > _STEPS:
        said = [*said[: _STEPS - 1], f"… {len(said) - _STEPS} more", said[-1]]
    return f"{', '.join(said)} ({way['likelihood']:.0%}{', conditional' if way['conditional'] else ''})"


def _cut(cut: Mapping[str, Any] | None) -> list[str]:
    if cut is None:
        return []
    if not cut["possible"]:
        return ["", f"no cut towards what is {cut['towards']}: {cut['note']}"]
    best = "cheapest cut" if cut["cheapest"] else "a cut"
    lines = ["", f"{best} towards what is {cut['towards']} (cost {cut['cost']}):"]
    for each in cut["edges"][:20]:
        lines.append(f"  {each['source_title']} → {each['target_title']}: {each['cut'] or each['why']}")
    return lines + ([f"  and {len(cut['edges']) - 20} more"] if len(cut["edges"]) > 20 else [])


def _stops(stops: Mapping[str, Any] | None) -> list[str]:
    if stops is None or not stops["identities"]:
        return []
    named = ", ".join(each["title"] for each in stops["dependents"][:8])
    named = f" ({named}{' …' if stops['dependent_count'] > 8 else ''})" if named else ""
    tasks = f", tasks: {', '.join(stops['tasks'][:8])}" if stops["tasks"] else ""
    return [
        "", f"quarantine would stop {stops['dependent_count']} dependents{named}, {stops['leases']} live leases{tasks}",
        *(f"  not measured: {each}" for each in stops["unmeasured"][:5]),
    ]  # fmt: skip
