"""What is revoked, in memory: one look-up for each question, whatever the number of revocations.

Two kinds of knowledge: the ids of what fell, until they expire by themselves; and for each subject a rule, "what was
issued up to this moment", or "everything" while it is blocked. Memory is bounded by what is unexpired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from remit.trust.revocation.model import FIELD, SINGLE, Fallen, Revocation, Subject, SubjectKind

_ASKED = tuple((kind, FIELD[kind]) for kind in FIELD if kind not in SINGLE)


@dataclass(slots=True)
class _Rule:
    """What all revocations of one subject come to."""

    by: dict[str, Revocation] = field(default_factory=dict)
    cutoff: datetime | None = None
    blocked: bool = False

    def settle(self) -> None:
        self.cutoff = max((one.cutoff for one in self.by.values()), default=None)
        self.blocked = any(one.holds for one in self.by.values())


class RevocationIndex:
    """Belongs to the event loop. Revocations come in by `add`, change by `add` again, and go by `forget`."""

    def __init__(self) -> None:
        self.version = 0
        self.certificates = 0
        """Rises whenever a revoked certificate came or went: what the lists must say anew."""
        self._revocations: dict[str, Revocation] = {}
        self._fallen: dict[str, Fallen] = {}
        self._of: dict[str, set[str]] = {}
        self._rules: dict[Subject, _Rule] = {}

    def __len__(self) -> int:
        return len(self._fallen)

    def add(self, revocation: Revocation, fallen: Iterable[Fallen] = ()) -> None:
        """Let a revocation count as it is now, and what fell under it."""
        self._unrule(revocation.id)
        self._revocations[revocation.id] = revocation
        self.version = max(self.version, revocation.version)
        for member in revocation.members:
            if member.kind not in SINGLE:
                rule = self._rules.setdefault(member, _Rule())
                rule.by[revocation.id] = revocation
                rule.settle()
        for one in fallen:
            self.add_fallen(one)

    def add_fallen(self, fallen: Fallen) -> None:
        """Let one thing count no more, by its id."""
        if fallen.id not in self._fallen:
            self._fallen[fallen.id] = fallen
            self._of.setdefault(fallen.revocation, set()).add(fallen.id)
            self.certificates += fallen.kind == "x509-svid"

    def forget(self, revocation_id: str) -> None:
        """Let it count no more: everything that it covered has expired."""
        self._unrule(revocation_id)
        self._revocations.pop(revocation_id, None)
        for one in self._of.pop(revocation_id, ()):
            self.certificates += self._fallen.pop(one).kind == "x509-svid"

    def raise_version(self, version: int) -> None:
        """Note a change that is no revocation."""
        self.version = max(self.version, version)

    def get(self, revocation_id: str) -> Revocation | None:
        return self._revocations.get(revocation_id)

    def all(self) -> tuple[Revocation, ...]:
        """Every revocation that is kept, newest first."""
        return tuple(sorted(self._revocations.values(), key=lambda one: -one.version))

    def holding(self, subject: Subject) -> tuple[Revocation, ...]:
        """Those that name exactly this subject and block it."""
        return tuple(one for one in self._revocations.values() if one.subject == subject and one.holds)

    def fallen(self) -> Mapping[str, Fallen]:
        """What fell, by id; not to be changed."""
        return self._fallen

    def is_revoked(
        self,
        *,
        id: str = "",
        spiffe_id: str = "",
        entry: str = "",
        identity: str = "",
        agent: str = "",
        authority: str = "",
        grant: str = "",
        issued_at: datetime | None = None,
    ) -> bool:
        """Whether something that was issued counts no more. Give what is known: the more, the surer the answer.

        Without `issued_at`, anything of a subject that was ever revoked is: say when it was issued.
        """
        if id and id in self._fallen:
            return True
        if not self._rules:
            return False
        asked = (spiffe_id, entry, identity, agent, authority, grant)
        return any(
            value and self._falls(Subject(kind, value), issued_at)
            for (kind, _), value in zip(_ASKED, asked, strict=True)
        )

    def is_blocked(
        self, *, spiffe_id: str = "", entry: str = "", identity: str = "", agent: str = "", grant: str = ""
    ) -> bool:
        """Whether nothing may be issued to any of these now."""
        if not self._rules:
            return False
        return any(
            value and (rule := self._rules.get(Subject(kind, value))) is not None and rule.blocked
            for kind, value in (
                (SubjectKind.SPIFFE, spiffe_id),
                (SubjectKind.ENTRY, entry),
                (SubjectKind.IDENTITY, identity),
                (SubjectKind.AGENT, agent),
                (SubjectKind.GRANT, grant),
            )
        )

    def _falls(self, subject: Subject, issued_at: datetime | None) -> bool:
        rule = self._rules.get(subject)
        if rule is None:
            return False
        return rule.blocked or issued_at is None or (rule.cutoff is not None and issued_at <= rule.cutoff)

    def _unrule(self, revocation_id: str) -> None:
        known = self._revocations.get(revocation_id)
        for member in known.members if known is not None else ():
            rule = self._rules.get(member)
            if rule is None or rule.by.pop(revocation_id, None) is None:
                continue
            rule.settle()
            if not rule.by:
                del self._rules[member]
