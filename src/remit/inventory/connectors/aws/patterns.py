"""The wildcards of IAM: `*` any text, `?` any one character. When does one pattern cover, or meet, another?

Spec: IAM User Guide, "IAM JSON policy elements: Resource", "Action".
"""

from __future__ import annotations

from functools import lru_cache

MAX_PATTERN = 2048
_MEETING_CELLS = 200_000
_LITERAL = str.maketrans({"*": "\ue02a", "?": "\ue03f"})
_PLAIN = str.maketrans({"\ue02a": "*", "\ue03f": "?"})


def literal(text: str) -> str:
    """A pattern that matches `text` alone, whatever wildcards it has."""
    return text.translate(_LITERAL) if "*" in text or "?" in text else text


def plain(text: str) -> str:
    """The text that a pattern without wildcards stands for."""
    return text.translate(_PLAIN)


def covers(pattern: str, other: str) -> bool:
    """Tell whether everything that `other` (text or pattern) matches, `pattern` matches too."""
    if pattern in ("*", other):
        return True
    head = plain_head(pattern)
    if len(head) == len(pattern):
        return False
    if not other.startswith(head):
        return False
    return (len(head) == len(pattern) - 1 and pattern[-1] == "*") or _glob(pattern, other)


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
    head = min(len(plain_head(first)), len(plain_head(second)))
    if first[:head] != second[:head]:
        return False
    if len(first) * len(second) > _MEETING_CELLS:
        return True
    return _intersect(first, second)


def plain_head(pattern: str) -> str:
    """What stands before the first wildcard."""
    return pattern.partition("*")[0].partition("?")[0]


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


@lru_cache(maxsize=65_536)
def shared(first: str, second: str) -> tuple[str, bool] | None:
    """A pattern for what both match, and whether it is all of that; `None` where they share nothing.

    Two patterns that only overlap may share more than one pattern can say: then it is a part, without end in itself.
    """
    if covers(first, second):
        return second, True
    if covers(second, first):
        return first, True
    if not meets(first, second):
        return None
    if len(first) * len(second) > _MEETING_CELLS:
        return None
    found = _common(first, second)
    return (found, False) if found is not None else None


def _common(first: str, second: str) -> str | None:
    """Walk both to their ends, keeping a star where both have one."""
    ways = _ends(first, second)
    at, on, found = 0, 0, []
    while at < len(first) or on < len(second):
        one, other = first[at : at + 1], second[on : on + 1]
        if not ways[at][on]:
            return None
        if one == "*" and other == "*":
            found.append("*")
            at, on = (at + 1, on) if ways[at + 1][on] else (at, on + 1)
        elif one == "*":
            at, on, kept = (at, on + 1, other) if other and ways[at][on + 1] else (at + 1, on, "")
            found.append(kept)
        elif other == "*":
            at, on, kept = (at + 1, on, one) if one and ways[at + 1][on] else (at, on + 1, "")
            found.append(kept)
        else:
            found.append(one if other == "?" else other)
            at, on = at + 1, on + 1
    text = "".join(found)
    while "**" in text:
        text = text.replace("**", "*")
    return text


def _ends(first: str, second: str) -> list[list[bool]]:
    """From which pairs of places both patterns can be walked to their ends together."""
    height, width = len(first), len(second)
    table = [[False] * (width + 1) for _ in range(height + 1)]
    table[height][width] = True
    for at in range(height, -1, -1):
        one, row = first[at : at + 1], table[at]
        for on in range(width, -1, -1):
            other = second[on : on + 1]
            if one == "*":
                row[on] = table[at + 1][on] or (on < width and row[on + 1])
            elif other == "*":
                row[on] = row[on + 1] or (at < height and table[at + 1][on])
            elif one and other:
                row[on] = table[at + 1][on + 1] and (one == other or "?" in (one, other))
    return table
