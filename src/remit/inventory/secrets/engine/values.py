"""What shape has a value? Entropy, mix of characters, likeness to words: numbers, no judgement."""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from dataclasses import dataclass

from remit.inventory.secrets.engine.language import likeness

_RUN = re.compile(rb"(.)\1{4,}", re.DOTALL)
_HEX = re.compile(rb"[0-9a-fA-F]+")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_NUMBER = re.compile(rb"[+-]?\d[\d_,.]*[a-zA-Z%]{0,3}")
_IDENTIFIER = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$]*(?:(?:\.|::|->|\?\.)[A-Za-z_$][A-Za-z0-9_$]*)*")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")
_KIND = bytes(
    0 if 97 <= byte <= 122 else 1 if 65 <= byte <= 90 else 2 if 48 <= byte <= 57 else 3 for byte in range(256)
)
_N_LOG_N = (0.0, *(n * math.log2(n) for n in range(1, 257)))
_SEQUENCES = (
    b"0123456789abcdefghijklmnopqrstuvwxyz",
    b"9876543210",
    b"qwertyuiopasdfghjklzxcvbnm",
    b"zyxwvutsrqponmlkjihgfedcba",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Counts and likenesses of one value; lengths in bytes, `entropy` in bits a character."""

    length: int
    entropy: float
    lower: int
    upper: int
    digits: int
    others: int
    switches: int
    """How often the class of character changes from one to the next."""
    words: float
    """Mean log-likelihood of its letter pairs under English and code; about -2 for words, below -3.4 for noise."""
    sequence: int
    """Bytes in runs of one character or along a keyboard or the alphabet."""
    is_hex: bool
    is_uuid: bool
    is_number: bool
    is_identifier: bool
    is_base64: bool
    distinct: int


def shape(value: bytes) -> Shape:
    """Measure `value`; only its first 256 bytes."""
    value = value[:256]
    counts = Counter(value)
    length = len(value) or 1
    entropy = math.log2(length) - sum([_N_LOG_N[n] for n in counts.values()]) / length
    kinds = value.translate(_KIND)
    lower, upper, digits = kinds.count(0), kinds.count(1), kinds.count(2)
    switches = sum(map(operator.ne, kinds, kinds[1:]))
    return Shape(
        length=len(value),
        entropy=entropy,
        lower=lower,
        upper=upper,
        digits=digits,
        others=len(value) - lower - upper - digits,
        switches=switches,
        words=likeness(value),
        sequence=_sequence(value),
        is_hex=_HEX.fullmatch(value) is not None,
        is_uuid=_UUID.fullmatch(value) is not None,
        is_number=_NUMBER.fullmatch(value) is not None,
        is_identifier=_IDENTIFIER.fullmatch(value) is not None,
        is_base64=_BASE64.fullmatch(value) is not None,
        distinct=len(counts),
    )


_STEPS = frozenset(row[place : place + 4] for row in _SEQUENCES for place in range(len(row) - 3))
"""Four neighbours of a row: where none is, no row is."""


def _sequence(value: bytes) -> int:
    """Bytes of `value` that lie in runs of five or more equal, or in steps of a well-known row."""
    covered = sum(len(match.group()) for match in _RUN.finditer(value))
    text = value.lower()
    if not _STEPS.isdisjoint([text[place : place + 4] for place in range(len(text) - 3)]):
        covered += _along_rows(text)
    return min(covered, len(value))


def _along_rows(text: bytes) -> int:
    covered = place = 0
    while place + 4 <= len(text):
        step = 0
        for row in _SEQUENCES:
            if text[place : place + 4] in row:
                step = 4
                while place + step < len(text) and text[place : place + step + 1] in row:
                    step += 1
                break
        covered += step
        place += step or 1
    return covered
