"""The heaviest of many in bounded memory.

Spec: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams" (2005).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MOST: Final = 32


def count(held: dict[str, int], key: str, times: int = 1, *, most: int = MOST) -> None:
    """Count `key` in place. Beyond `most` keys the lightest gives way, and its count is inherited: never too low."""
    if key in held or len(held) < most:
        held[key] = held.get(key, 0) + times
        return
    if not times:
        return
    lightest = min(held, key=lambda each: (held[each], each))
    held[key] = held.pop(lightest) + times


def united(one: Mapping[str, int], other: Mapping[str, int], *, most: int = MOST) -> dict[str, int]:
    """Two sketches as one. What a full one does not hold may have had its lightest count there: never too low."""
    least = {id(each): min(each.values()) if len(each) >= most else 0 for each in (one, other)}
    summed = {
        key: one.get(key, least[id(one)]) + other.get(key, least[id(other)]) for key in dict.fromkeys((*one, *other))
    }
    heaviest = sorted(summed, key=lambda each: (-summed[each], each))[:most]
    return {key: summed[key] for key in heaviest}
