"""What do people's own passwords look like? Marks that chosen passwords have and texts about passwords have not."""

from __future__ import annotations

import re

from remit.inventory.secrets.engine.assignment import Candidate
from remit.inventory.secrets.engine.language import likeness

_DIGEST = re.compile(rb"(?:sha(?:1|224|256|384|512)|md5|h1)[-:=]")
_OPEN_NAME = re.compile(
    rb"(?:^|[\W_])(?:sha(?:1|224|256|384|512)?(?:sum)?|md5(?:sum)?|h1|rev|git_?head|public[-_ ]?key|pub[-_]?key|"
    rb"verif(?:y|ying|ication)[-_]?key|fingerprint|thumbprint|publickeytoken|cursor|"
    rb"(?:next|prev|page|continuation|resume|skip|sync|change)[-_]?(?:page)?[-_]?token)$"
    rb"|(?:PublicKey|PageToken|ContinuationToken|Cursor)$|gitHead$",
    re.IGNORECASE,
)
"""Names of what everybody may read: digests, the public half of a key, the place where the next page begins."""
_VERIFIES = re.compile(rb"verif(?:y|ication)|nonce=", re.IGNORECASE)
"""What a page says of itself to a search engine or a browser."""
_SIGNED = re.compile(rb"(?:^|[\W_])(?:signature|ciphertext|protected|ap[uv])$", re.IGNORECASE)
"""What is made with a key, and shown to whoever has the other one."""
_AUTHOR = re.compile(rb"author(?!i[sz])", re.IGNORECASE)
_ASKS = re.compile(rb"pass|pwd|secret|token|key", re.IGNORECASE)
_SPEAKS = re.compile(
    rb"(?:required|nullable|sometimes|present|confirmed)(?:\|[\w:,.]+)+"
    rb"|[.#][a-z][a-z0-9]*(?:[-_]{1,2}[a-z0-9]+)+"
    rb"|(?=[a-z_.\-]*(?:pass|pwd|token|secret|key|cred))[a-z]+(?:[-_.][a-z]+)+[-_.]v?\d{1,2}"
    rb"|[A-Z0-9]{8,}EXAMPLE(?:KEY)?|[\w/+]{20,}EXAMPLE(?:KEY)?"
)
"""Rules that a form is checked by, selectors of a page, names with a version, keys of documentation."""
_WORD_AND_MARK = re.compile(rb"(?:[a-z]{5,20}|(?:[A-Z][a-z]{2,12}){2,4})[!@#$%^&*]{1,2}")
_OF_PEOPLE = re.compile(rb"pass|pwd")
_SALTED = 10
_HAND = frozenset(b"!@#$%^&*")
_BY_HAND = 4
_ERRATIC = re.compile(rb"[A-Z]{2}[a-z]{1,2}[A-Z]|[a-z][A-Z][a-z]?[A-Z][a-z]?[A-Z]|[a-z][A-Z]{2,}[a-z][A-Z]?")
_NUMBER = re.compile(rb"\d{15,24}")
_MIXED = re.compile(rb"(?=[^0-9]*[0-9][^0-9]*[0-9])(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/_=~-]{16,}")
_UNLIKE_WORDS = 5.2
_NEVER = -30.0
_TRANSLATED = -6.0
"""A word of another language under such a name is the name itself, for a reader."""
_DENSE = 6
"""So many different marks in a row of characters without a space are typed by hand, or made at random."""
_NOT_A_MARK = re.compile(rb"[\w\s./,\x80-\xff]")


def lift(candidate: Candidate) -> float:
    """Log-odds that the habits seen in the value add: 0 for most values, much less for what is no secret by its name."""
    value = candidate.value
    if _DIGEST.match(value) or _OPEN_NAME.search(candidate.name):
        return _NEVER
    if not candidate.strong:
        return _of_no_name(candidate)
    if _SPEAKS.fullmatch(value):
        return _NEVER
    if candidate.before.endswith(b"badge.svg?") or (
        _AUTHOR.search(candidate.name) and not _ASKS.search(candidate.name)
    ):
        return _NEVER
    if b" " in value:
        return 8.0 if len(value) >= 48 and len(set(_NOT_A_MARK.sub(b"", value))) >= _SALTED else 0.0
    if not value.isascii() and value.decode("utf-8", "replace").isalpha():
        return _TRANSLATED
    if _MIXED.fullmatch(value):
        return 1.2 if likeness(value) > _UNLIKE_WORDS else 0.0
    if len(value) > 64:
        return 0.0
    if len(value) >= 12 and len(set(_NOT_A_MARK.sub(b"", value))) >= _DENSE:
        return 6.0
    if len(value) >= 8 and len(_HAND.intersection(value)) >= _BY_HAND:
        return 3.0
    if candidate.quote and _WORD_AND_MARK.fullmatch(value) and _OF_PEOPLE.search(candidate.name.lower()):
        return 4.6 if value.islower() else 6.5
    return _of_letters_or_digits(candidate)


def _of_letters_or_digits(candidate: Candidate) -> float:
    """Of letters whose case changes as it never does in words, and of long numbers that are called a secret."""
    value = candidate.value
    if not candidate.quote:
        return 0.0
    if value.isalpha() and len(value) >= 8 and _ERRATIC.search(value) and likeness(value) > _UNLIKE_WORDS:
        return 4.2
    return 3.0 if _NUMBER.fullmatch(value) and candidate.name.lower().endswith(b"secret") else 0.0


def _of_no_name(candidate: Candidate) -> float:
    """Of a value whose name says nothing: less where there is no name at all, or a page shows who owns it."""
    if not candidate.name and candidate.operator.strip() in (b"=", b":"):
        return -7.0
    if _VERIFIES.search(candidate.before) or _SIGNED.search(candidate.name):
        return _NEVER
    return -6.0 if candidate.before.endswith(b"/") else 0.0
