"""What the journal of authority says of revocations: the truth that a writer in the database cannot take away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from remit.kernel.clock import parse_rfc3339
from remit.kernel.unit import Attester
from remit.trust.revocation.cascade import SIGNED_AS
from remit.trust.revocation.model import Fallen, Revocation, SubjectKind

_IDENTITY = f"{SubjectKind.IDENTITY.value}:"


class RevocationJournal:
    """Told of each event `trust.revocation.…`, in order. Belongs to the event loop."""

    def __init__(self) -> None:
        self._made: dict[str, Mapping[str, Any]] = {}
        self._members: dict[str, list[str]] = {}
        self._restored: dict[str, Mapping[str, Any]] = {}
        self._fallen: dict[str, list[Fallen]] | None = {}
        """Of each revocation; `None` once they were taken: from then on the service holds them."""
        self._blocked: Counter[str] = Counter()

    def note(self, what: str, data: Mapping[str, Any]) -> None:
        """Follow one event: `made`, `spread`, `restored` or `ended`."""
        revocation = data["id"]
        match what:
            case "made":
                self._made[revocation] = data
                self._members[revocation] = []
            case "spread":
                self._spread(revocation, data)
            case "restored":
                if revocation not in self._restored:
                    self._block(revocation, self._members.get(revocation, ()), -1)
                self._restored[revocation] = data
            case _:
                self._end(revocation)

    def blocks(self, identity: str) -> bool:
        """Whether an identity is revoked and was not restored."""
        return self._blocked[identity] > 0

    def allows(self, restoration: Mapping[str, Any]) -> bool:
        """Whether this restoration is one that we made."""
        known = self._restored.get(str(restoration["id"]))
        return known is not None and known["at"] == restoration["restored_at"]

    def take(self, attester: Attester) -> list[tuple[Revocation, Sequence[Fallen]]]:
        """Every revocation that did not end, with what fell under it; asked once, at the start."""
        assert self._fallen is not None
        found = [(self._rebuilt(one, attester), self._fallen.get(one, [])) for one in self._made]
        self._fallen = None
        return list(found)

    def _rebuilt(self, revocation: str, attester: Attester) -> Revocation:
        made = Revocation.parse(self._made[revocation], self._members[revocation])
        restored = self._restored.get(revocation)
        if restored is None:
            return made
        made = replace(
            made,
            restored_at=parse_rfc3339(restored["at"]),
            restored_by=restored["by"],
            until=parse_rfc3339(restored["until"]),
        )
        return replace(made, signature=attester.sign(SIGNED_AS, made.restoration()))

    def _spread(self, revocation: str, data: Mapping[str, Any]) -> None:
        members = data["members"]
        self._members.setdefault(revocation, []).extend(members)
        if revocation not in self._restored:
            self._block(revocation, members, 1)
        if self._fallen is not None:
            at = parse_rfc3339(data["at"])
            fallen = self._fallen.setdefault(revocation, [])
            fallen += [Fallen.parse(row, revocation, at) for row in data["fallen"]]

    def _block(self, revocation: str, members: Sequence[str], by: int) -> None:
        if self._made.get(revocation, {}).get("blocks"):
            self._blocked.update({one.removeprefix(_IDENTITY): by for one in members if one.startswith(_IDENTITY)})

    def _end(self, revocation: str) -> None:
        if revocation not in self._restored:
            self._block(revocation, self._members.get(revocation, ()), -1)
        for held in (self._made, self._members, self._restored, self._fallen or {}):
            held.pop(revocation, None)
