"""A sheet for what is no plain file of this host: its findings carry the connector's name, its places the system's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from remit.inventory.connectors.files.record import FileRead
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.port import Scan
from remit.inventory.model import CredentialFact, Fact, FindingFact, OwnerFact, Place, Skipped
from remit.kernel.ids import Name


class SystemSheet(Sheet):
    """Collects facts as `Sheet` does, secrets kept out, in the name of the connector `rules`.

    `system` and `path` replace the host and the file in places; `keeper` replaces the Unix account as the holder of
    what lies in clear.
    """

    def __init__(
        self, file: FileRead, scan: Scan, *, rules: str, system: str = "", path: str = "", keeper: Name | None = None
    ) -> None:
        super().__init__(file, scan)
        self._rules = rules
        self._at = (system, path or file.path) if system else None
        self._keeper = keeper
        self._used: dict[str, datetime] = {}
        self._owners: list[OwnerFact] = []

    def place(self, line: int | None = None) -> Place:
        return Place(system=self._at[0], path=self._at[1], line=line) if self._at else super().place(line)

    def account(self, account: str = "") -> Name:
        """Who reads the document: the keeper, unless an account of the host is named."""
        return self._keeper if self._keeper is not None and not account else super().account(account)

    def used(self, fingerprint: str, moment: datetime | None) -> None:
        """Say when a credential of this sheet was last used."""
        if moment is not None:
            self._used[fingerprint] = moment

    def skip(self, reason: str, detail: str = "") -> None:
        """Record that the document, or a part of it, could not be seen."""
        what = self._at[1] if self._at else self.file.path
        self._add(("skipped", reason, detail), Skipped(what=what, reason=reason, detail=clean(detail)))

    def owner(self, fact: OwnerFact) -> None:
        """Add evidence of who answers for an identity."""
        self._owners.append(fact)

    def facts(self) -> tuple[Fact, ...]:
        return (*(self._finished(fact) for fact in super().facts()), *self._owners)

    def _finished(self, fact: Fact) -> Fact:
        if isinstance(fact, FindingFact) and fact.rule.startswith("files."):
            return replace(fact, rule=f"{self._rules}.{fact.rule.partition('.')[2]}")
        if isinstance(fact, CredentialFact) and fact.fingerprint in self._used:
            return replace(fact, last_used=self._used[fact.fingerprint])
        return fact
