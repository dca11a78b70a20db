"""What people said of identities, by this installation's own journal: tiers, and what identities are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from remit.governance.tiers import tier_of_source, unsaid
from remit.governance.words import LENGTHS, Word
from remit.inventory.records import IdentityRecord
from remit.kernel.clock import parse_rfc3339

_JOINED: Final = 1
"""The laxest tier of an identity that was found to be two: neither word was about both."""


class WordJournal:
    """Belongs to `Standing`. A row of the database can make a tier stricter, and nothing else."""

    def __init__(self) -> None:
        self._tiers: dict[str, Word] = {}
        self._words: dict[str, dict[str, Word]] = {}
        self._partly: set[str] = set()
        """Identities whose tier was said of one of two that they are."""
        self._spent: set[str] = set()
        self._moved: dict[str, datetime] = {}
        """When a tier was last said of an identity, or taken back."""
        self.revision = 0
        """Moves with each word."""

    # What is asked.

    def tier(self, identity: str) -> Word | None:
        """The tier that a person said."""
        return self._tiers.get(identity)

    def number(self, identity: str) -> int | None:
        """The same as a number."""
        word = self._tiers.get(identity)
        return None if word is None else int(word.value)

    def words(self, identity: str) -> Mapping[str, Word]:
        """What a person said of it besides, by field."""
        return self._words.get(identity, {})

    def lay(self, record: IdentityRecord) -> IdentityRecord:
        """The record as people said it; its tier is what a person or a source said, or `None`."""
        tier = self.known(record.id, record.tier, privileged=record.privileged, source=source_tier(record))
        said = self._words.get(record.id)
        if not said:
            return record if tier == record.tier else replace(record, tier=tier)
        spoken: dict[str, Any] = {field: word.value for field, word in said.items()}
        return replace(record, tier=tier, **spoken)

    def alone(self, record: IdentityRecord) -> IdentityRecord:
        """The record with the tier that a person said, else none: a stricter one lets it reach more, as budgets go."""
        return replace(record, tier=self.number(record.id))

    def known(
        self, identity: str, row: int | None, *, privileged: bool = False, source: int | None = None
    ) -> int | None:
        """The tier that a person said, or what a row or a source makes stricter; `None` where none says one."""
        word = self._tiers.get(identity)
        if word is not None:
            said = int(word.value)
            if identity in self._partly:  # of the other nobody said one: it loses nothing by being joined
                said = min(said, unsaid(privileged=privileged, source=source))
            return said if row is None else min(said, row)
        told = [each for each in (row, source) if each is not None]
        return unsaid(privileged=privileged, source=min(told)) if told else None

    def loosened(self, record: IdentityRecord) -> bool:
        """Whether the row says a laxer tier, or another word, than people did."""
        said = self._tiers.get(record.id)
        if record.tier is not None and (said is None or record.tier > int(said.value)):
            return True
        words = self._words.get(record.id, {})
        return any(getattr(record, field) != word.value for field, word in words.items())

    def is_spent(self, proposal: str) -> bool:
        """Whether a second person put it in force: it gives nothing again."""
        return proposal in self._spent

    def is_past(self, identity: str, at: datetime) -> bool:
        """Whether a tier was said after this moment: what was asked for until then is answered."""
        moved = self._moved.get(identity)
        return moved is not None and at < moved

    # What happened.

    def note_tier(self, identity: str, data: Mapping[str, Any]) -> None:
        self.revision += 1
        self._partly.discard(identity)
        self._moved[identity] = parse_rfc3339(data["at"])
        if data["proposal"]:
            self._spent.add(str(data["proposal"]))
        if data["tier"] is None:
            self._tiers.pop(identity, None)
        else:
            self._tiers[identity] = _word(str(data["tier"]), data)

    def note_words(self, identity: str, data: Mapping[str, Any]) -> None:
        self.revision += 1
        said = data["words"]
        known = dict(self._words.get(identity, {}))  # threads that read go on with the words of before
        if isinstance(said, Mapping):
            known.update({field: _word(str(value), data) for field, value in said.items() if field in LENGTHS})
        else:
            for field in said:
                known.pop(field, None)
        if known:
            self._words[identity] = known
        else:
            self._words.pop(identity, None)

    def merge(self, younger: str, older: str) -> None:
        """No word was about both: a tier that protects less than tier 1 has to be said again."""
        self.revision += 1
        words = [word for each in (older, younger) if (word := self._tiers.pop(each, None)) is not None]
        if words:
            strictest = min(words, key=lambda word: int(word.value))
            if len(words) == 1:
                self._partly.add(older)
            both = len(words) > 1 or int(strictest.value) <= _JOINED
            self._tiers[older] = strictest if both else replace(strictest, value=str(_JOINED))
        theirs = self._words.pop(younger, None)
        if theirs:
            self._words[older] = {**theirs, **self._words.get(older, {})}

    def split(self, part: str, whole: str) -> None:
        """A strict tier is not shed by being found to be two; a lax one was not said of the part."""
        self.revision += 1
        word = self._tiers.get(whole)
        if word is not None and int(word.value) <= _JOINED:
            self._tiers[part] = word
            if whole in self._partly:
                self._partly.add(part)
        else:
            self._tiers.pop(part, None)


def source_tier(record: IdentityRecord) -> int | None:
    """The tier that a source says."""
    return tier_of_source(record.attributes.get("tier"))


def _word(value: str, data: Mapping[str, Any]) -> Word:
    return Word(value=value, by=data["by"], at=parse_rfc3339(data["at"]), reason=data["reason"])
