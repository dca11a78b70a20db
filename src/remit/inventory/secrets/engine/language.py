"""Does it read like words? Letter pairs of English and source code, as data."""

from __future__ import annotations

_SCALE = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CLASSES = 28
"""a–z, a digit, anything else."""
_COST = (
    "dKGIcUKeKhTCFEeIjDFALSUSRZSM"
    "BWQTCZcUFHbAWTFWdJISDdfrIiUG"
    "EdOaCZkDKnGFYf9VfJRCKejoOjaI"
    "DQYL7YWaCVfMSUIRlMJTLbdbQhY9"
    "KWGHSMQcUibDKDWNQBDGZOTJPfbB"
    "FbXXHJag9pYKbSDepIQMJjiUOsW6"
    "JaWb7bLLEojMRIKXvEGPIefoSgYA"
    "9cZZ8dgdFlXQNPBXeLPGNgejQkUC"
    "KOFHIMJnffUHI9CNaLFEfMqSqNiQ"
    "CjaV7gghMrQaUTAUhi9XJeJfghZK"
    "HVUQ5VSaFnbNTOLWeQIOJdLfWZUA"
    "ETWKABWcBjbGaZERybJIHTeqNkfF"
    "AMYU7adfFtePKQEEibJUMXifQebF"
    "EZHEEKEaJdTTXLHTfZEBPPflTdaC"
    "PNJGaROfOaNGH8MInBKJGNMWddiK"
    "BdSPAaYNHuVFabCHnCNGLageKyaG"
    "YmdcoZyqcqmBcbXWbXNa1ajvlndL"
    "DWLO8XLeDoQQMNDUoKGIMOboLefE"
    "MfJZ8VYMFmRPXXHITYGAJbVpOiYB"
    "DcPY9XfIBrjUVaGRqFKKMdWbHcYA"
    "MINNEQPjJocEGCSFqBECZfhalefZ"
    "8dVi6dfkBpibTaIUyaWXfbiVfpBM"
    "AeUUDZaJBsQPdGDVxEHRelOhbmZB"
    "NcCWETgXGqsXQZYBpXW8fRgVMnLA"
    "RUOPQXShQcgLMHU7yXGGhZPneTY6"
    "CWYU4ZfWFhXSSSDXgTSRNZUmMLLK"
    "FFIIKNUVQVZPPMTJdKIQVPTJlgD6"
    "GLEHHIMNHVOKIJKGXGEGNKPdhbUH"
)
"""Quarters of a bit that the second class of a pair costs after the first: counted over the words of Python packages."""


def _classes() -> bytes:
    table = bytearray([27]) * 256
    for number in range(26):
        table[97 + number] = table[65 + number] = number
    for digit in range(48, 58):
        table[digit] = 26
    return bytes(table)


_CLASS_OF = _classes()
_BITS = tuple(
    tuple(_SCALE.index(c) / 4 for c in _COST[row * _CLASSES : (row + 1) * _CLASSES]) for row in range(_CLASSES)
)


RANDOM_FROM = 5.2
"""Of random characters one in 200 has less (at sixteen characters; fewer the longer it is), of identifiers nearly all."""


def likeness(value: bytes) -> float:
    """Mean bits that a pair of neighbours costs: about 4 for words and identifiers, above 5.5 for random characters.

    A capital after a small letter begins a new word. Shorter than two bytes: 4.0.
    """
    classes = value.translate(_CLASS_OF)
    if len(classes) < 2:
        return 4.0
    total = 0.0
    before = classes[0]
    for place in range(1, len(classes)):
        here = classes[place]
        if here < 26 and before < 26 and value[place] < 97 <= value[place - 1]:
            total += _BITS[before][27] + _BITS[27][here]
        else:
            total += _BITS[before][here]
        before = here
    return total / (len(classes) - 1)
