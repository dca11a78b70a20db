"""The wildcards of IAM: `*` any text, `?` any one character. When does one pattern cover, or meet, another?

Spec: IAM User Guide, "IAM JSON policy elements: Resource", "Action".
"""

from __future__ import annotations

from functools import lru_cache

MAX_PATTERN = 2048
_MEETING_CELLS = 200_000


def covers(pattern: str, other: str) -> bool:
    """Tell whether everything that `other` (text or pattern) matches, `pattern` matches too."""
    if pattern in ("*", other):
        return True
    if "*" not in pattern and "?" not in pattern:
        return False
    return _glob(pattern, other)


def _glob(pattern: str, text: str) -> bool:
    """Match in linear time per star: on a mismatch only the last `*` needs to give way."""
    at = star = mark = position = 0
    have_star = False
    while position < len(text):
        char = text[position]
        if at < len(pattern) and pattern[at] == "*":
            have_star, star, mark = True, at, position
            at += 1
        elif at < len(pattern) and (pattern[at] == char or (pattern[at] == "?" and char != "*")):
            at += 1
            position += 1
        elif have_star:
            at, mark = star + 1, mark + 1
            position = mark
        else:
            return False
    return not pattern[at:].strip("*")


@lru_cache(maxsize=65_536)
def meets(first: str, second: str) -> bool:
    """Tell whether some text matches both patterns; where that costs too much, the cautious answer is yes."""
    wild_first, wild_second = "*" in first or "?" in first, "*" in second or "?" in second
    if not wild_first or not wild_second:
        return covers(first, second) if wild_first else covers(second, first)
    head = min(_plain(first), _plain(second))
    if first[:head] != second[:head]:
        return False
    if len(first) * len(second) > _MEETING_CELLS:
        return True
    return _intersect(first, second)


def _plain(pattern: str) -> int:
    """How many characters stand before the first wildcard."""
    return min((at for at in (pattern.find("*"), pattern.find("?")) if at >= 0), default=len(pattern))


def _intersect(first: str, second: str) -> bool:
    """Walk both patterns at once: row by row, which ends of `second` an end of `first` can be at."""
    width = len(second)
    row = [True] + [False] * width
    for at in range(width):
        row[at + 1] = row[at] and second[at] == "*"
    for char in first:
        below = [row[0] and char == "*"] + [False] * width
        for at in range(width):
            other = second[at]
            if "*" in (char, other):
                # A star is empty, or takes one more character of the other pattern.
                below[at + 1] = row[at + 1] or below[at]
            else:
                below[at + 1] = row[at] and (char == other or "?" in (char, other))
        row = below
    return row[width]
