"""A hit without its value: what may leave the memory of the process that scanned.

INVARIANT: no text of a `Found` holds the secret, or eight bytes or more of it that are not lower-case words; parts
that a format publishes (a key id, a team: `Binding.clear`) are no secret. `facts` and every listing are made of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

from remit.inventory.model import Attribute, CredentialKind
from remit.inventory.secrets.binding import Binding, bind
from remit.inventory.secrets.binding.model import known, printable
from remit.inventory.secrets.ignores import Ignore, ignore_at
from remit.inventory.secrets.model import Blob, Hit
from remit.kernel.unit import Fingerprinter

GRAM = 8
"""Bytes of a secret that no text may hold in a row."""
_WORDS = re.compile(r"[a-z/._ -]*")
_MAX_GUARDED = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an endpoint said of a secret."""

    state: str
    """`live`, `refused`, or `unknown` where nobody answered."""
    detail: str = ""


class Attempt(Protocol):
    """Tries a secret at an endpoint that was declared for it; `None` where none was."""

    def __call__(self, hit: Hit, binding: Binding) -> Verdict | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One secret at one place."""

    rule: str
    what: str
    kind: CredentialKind
    fingerprint: str
    keyed: str
    """`hmac:…` of the secret itself, also where `fingerprint` is public: joins with managers that hold the value."""
    path: str
    line: int
    column: int
    end_column: int
    """From 1, of the form in which it lies there; `end_column` is after the last; both 0 where it spans lines."""
    object_id: str
    confidence: int
    variable: str
    checksum: str
    decoded: tuple[str, ...]
    binding: Binding
    """Whose it is; without any secret."""
    live: str = ""
    """`live`, `refused` or `unknown`, where it was tried (only when that was asked for)."""
    live_detail: str = ""
    ignore: Ignore | None = None
    """What a comment beside it asks for."""
    prefix: str = ""
    """Up to four characters that the format itself publishes: `ghp_`."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def expires(self) -> datetime | None:
        """When the secret ends by its own word."""
        return self.binding.expires


def find(hit: Hit, blob: Blob, fingerprint: Fingerprinter, attempt: Attempt | None = None) -> Found:
    """Bind `hit` and forget its value."""
    binding = bind(hit, blob)
    secret = binding.secret or hit.value
    guarded = [secret] if secret in hit.value else [secret, hit.value]
    guard = Guard([*guarded, *([binding.companion] if binding.companion else [])], binding.clear)
    kept = binding.companion or secret
    verdict = attempt(hit, binding) if attempt else None
    keyed = fingerprint(kept)
    start, end = _columns(hit, blob)
    return Found(
        rule=hit.rule,
        what=guard.clean(binding.what or hit.title, 160),
        kind=binding.kind or hit.kind,
        fingerprint=binding.public or keyed,
        # An id that is public in whole has no secret of its own.
        keyed=binding.public if hit.value.decode("latin-1") in binding.clear else keyed,
        path=guard.clean(blob.path, 4096),
        line=hit.line + blob.first_line - 1,
        column=start,
        end_column=end,
        object_id=blob.object_id,
        confidence=_confidence(hit, binding),
        variable=guard.clean(hit.variable, 80),
        checksum=hit.checksum or str(binding.attributes.get("checksum", "")),
        decoded=hit.decoded,
        binding=guard.bound(binding),
        live=verdict.state if verdict else "",
        live_detail=guard.clean(verdict.detail, 200) if verdict else "",
        ignore=_ignore(hit, blob, guard),
        prefix=_prefix(hit.value),
        attributes=known(
            {key: guard.clean(item, 200) if isinstance(item, str) else item for key, item in hit.attributes.items()}
        ),
    )


def _ignore(hit: Hit, blob: Blob, guard: Guard) -> Ignore | None:
    wish = ignore_at(blob.data, hit.start, hit.end)
    return replace(wish, reason=guard.clean(wish.reason, 200)) if wish else None


def _confidence(hit: Hit, binding: Binding) -> int:
    """A key that parses is a key; a checksum that fails is a value that was invented or cut."""
    if binding.public and binding.kind in (CredentialKind.PRIVATE_KEY, CredentialKind.SSH_KEY):
        return max(hit.confidence, 90)
    if not hit.checksum and binding.attributes.get("checksum") == "fail":
        return min(hit.confidence, 40)
    return hit.confidence


def _columns(hit: Hit, blob: Blob) -> tuple[int, int]:
    """Columns of the value in its line, in characters of the text; zeros where it spans lines or is too far in."""
    begin = blob.data.rfind(b"\n", max(0, hit.start - 20_000), hit.start) + 1
    if hit.start - begin > 19_999 or b"\n" in blob.data[hit.start : min(hit.end, hit.start + 100_000)]:
        return 0, 0
    column = len(blob.data[begin : hit.start].decode("utf-8", "replace")) + 1
    return column, column + len(blob.data[hit.start : hit.end].decode("utf-8", "replace"))


_PUBLIC_PREFIX = re.compile(
    rb"gh[pousr]_|github_pat_|gl[a-z]{2,8}-|xox[abeoprs]-|xapp-|sk-ant-|sk-proj-|[sr]k_(?:live|test)_|npm_|pypi-|SG\.|hv[sbr]\.|"
    rb"do[opr]_v1_|AIza|GOCSPX-|hf_|gl[cs]_|glsa_|dckr_|tskey-|dp\.|ops_|sntr|ATATT|ATBB|pul-|shp|A[KS]IA|ABSK|eyJ|-----BEGIN"
)


def _prefix(value: bytes) -> str:
    found = _PUBLIC_PREFIX.match(value)
    return found.group().decode()[:4] if found else ""


class Guard:
    """Keeps secrets out of texts."""

    def __init__(self, secrets: Iterable[bytes], clear: Iterable[str] = ()) -> None:
        self._whole: set[str] = set()
        self._grams: set[str] = set()
        clear = [part for part in clear if part]
        for secret in secrets:
            text = secret[:_MAX_GUARDED].decode("utf-8", "replace")
            self._learn(text, clear)
            # A name is percent-encoded: so would be the secret in it.
            self._learn(quote(text, safe="@/._-+=,"), [quote(part, safe="@/._-+=,") for part in clear])

    def _learn(self, text: str, clear: list[str]) -> None:
        pieces = re.split("|".join(re.escape(part) for part in clear), text) if clear else [text]
        for piece in pieces:
            if len(piece) >= 4 and (len(pieces) == 1 or len(piece) >= GRAM):
                self._whole.add(piece)
            self._grams.update(piece[at : at + GRAM] for at in range(len(piece) - GRAM + 1))

    def holds(self, text: str) -> bool:
        """Whether `text` shows a part of a secret."""
        if any(whole in text for whole in self._whole if len(whole) >= GRAM):
            return True
        return any(self._telling(text[at : at + GRAM]) for at in range(len(text) - GRAM + 1))

    def _telling(self, gram: str) -> bool:
        return gram in self._grams and not _WORDS.fullmatch(gram)

    def clean(self, text: str, limit: int) -> str:
        """`text`, printable, with each part of a secret replaced by `…`."""
        text = printable(text, limit)
        if text in self._whole:
            return "…"
        if not self.holds(text):
            return text
        hidden = [False] * len(text)
        for at in range(len(text) - GRAM + 1):
            if self._telling(text[at : at + GRAM]):
                hidden[at : at + GRAM] = [True] * GRAM
        for whole in self._whole:
            at = text.find(whole) if len(whole) >= GRAM else -1
            while at >= 0:
                hidden[at : at + len(whole)] = [True] * len(whole)
                at = text.find(whole, at + 1)
        shown = "".join("\0" if hide else mark for mark, hide in zip(text, hidden, strict=True))
        return re.sub("\0+", "…", shown)

    def bound(self, binding: Binding) -> Binding:
        """`binding` without its secrets; an identity whose very name tells the secret is nobody."""
        who = binding.subject
        if who is not None:
            who = None if self.holds(who.name) else replace(
                who,
                title=self.clean(who.title, 200),
                aliases=tuple(alias for alias in who.aliases if not self.holds(alias)),
                attributes=self._attributes(who.attributes),
            )  # fmt: skip
        return replace(
            binding,
            secret=None,
            companion=None,
            clear=(),
            what=self.clean(binding.what, 160),
            subject=who,
            reached=tuple(
                replace(each, title=self.clean(each.title, 200))
                for each in binding.reached
                if not self.holds(each.name)
            ),
            attributes=self._attributes(binding.attributes),
        )

    def _attributes(self, given: Mapping[str, Attribute]) -> dict[str, Attribute]:
        return known(
            {
                self.clean(key, 80): self.clean(item, 200) if isinstance(item, str) else item
                for key, item in given.items()
            }
        )
