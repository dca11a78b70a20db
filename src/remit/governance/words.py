"""What a person says of an identity: its tier, and what it is for where no source tells.

Whoever says it signs it. A tier that protects less than the one that counts lets policies allow more: it takes a
reason, and a second person where there is one, who repeats the very command within a day. What is said is kept by the
journal of authority; a row of the database alone loosens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from remit.governance.lifecycle import require_reason
from remit.governance.signatures import Approver
from remit.inventory.model import Autonomy, State
from remit.inventory.records import IdentityRecord
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected
from remit.kernel.unit import Attester, Unit

TIER_SET: Final = "governance.tier.set"
TIER_UNSET: Final = "governance.tier.unset"
TIER_PROPOSED: Final = "governance.tier.proposed"
DESCRIBED: Final = "governance.description.set"
UNDESCRIBED: Final = "governance.description.unset"
SIGNED_AS: Final = "governance.tier.proposal"
WAITS: Final = timedelta(days=1)
"""How long a lower protection waits for the second person."""
LENGTHS: Final[Mapping[str, int]] = {"purpose": 400, "service": 200, "environment": 80, "autonomy": 20}
"""What a person can say of an identity, and how many characters it has at most."""
_DECIDED_BY: Final = frozenset({"environment", "autonomy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a person said, and when."""

    value: str
    by: str
    """`person:NAME`."""
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A lower protection that waits for a second person. Signed by this installation."""

    id: str
    identity: str
    tier: int | None
    """`None` takes back what was said."""
    reason: str
    by: str
    at: datetime
    approval: Mapping[str, Json] = field(default_factory=dict)
    signature: str = ""

    def content(self) -> dict[str, Json]:
        """What is signed."""
        return {
            "id": self.id, "identity": self.identity, "tier": self.tier, "reason": self.reason, "by": self.by,
            "at": rfc3339(self.at), "approval": dict(self.approval),
        }  # fmt: skip


class WordRows(Protocol):
    """What people said, by identity."""

    def of(self, identity: str) -> Mapping[str, Word]: ...
    def say(self, identity: str, field: str, word: Word) -> None:
        """Keep it, and show it in the inventory whatever sources say."""
        ...

    def take_back(self, identity: str, field: str) -> None:
        """Leave it to the sources again."""
        ...

    def proposal(self, identity: str) -> Proposal | None:
        """What a row says that waits, as it stands there; none where it does not read as one."""
        ...

    def propose(self, proposal: Proposal) -> None:
        """Keep it instead of another of the same identity."""
        ...

    def drop_proposal(self, identity: str) -> None: ...


class TieredRows(Protocol):
    """Identities by id."""

    def identities(self, ids: list[str]) -> dict[str, IdentityRecord]: ...
    def set_tier(self, identity: str, tier: int | None) -> None: ...


class WordUnit(Unit, Protocol):
    """A unit of work over identities and what people say of them."""

    @property
    def inventory(self) -> TieredRows: ...
    @property
    def words(self) -> WordRows: ...


class Judgement(Protocol):
    """What counts, by the journal of authority."""

    def counted(self, record: IdentityRecord) -> int:
        """The tier by which decisions go."""
        ...

    def counted_without(self, record: IdentityRecord) -> int:
        """The tier by which they would go if no person had said one."""
        ...

    def is_spent_proposal(self, proposal: Proposal) -> bool:
        """Whether it was put in force, or another tier was said since."""
        ...

    def is_person(self, actor: str) -> bool:
        """Whether `person:NAME` is enrolled and active."""
        ...

    @property
    def person_count(self) -> int:
        """How many persons are enrolled and active."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What became of a tier that was said."""

    was: int
    now: int
    """The tier that counts."""
    lowers: bool
    waits: Proposal | None = None
    """What waits for a second person; nothing has changed then."""


def look(
    unit: WordUnit, identity: str, tier: int | None, judgement: Judgement, *, ended: bool = False
) -> tuple[IdentityRecord, Move]:
    """What saying `tier` of an identity would do; nothing is changed. `ended` asks of a retired one too.

    Raises `Rejected` (`governance.tier.number`), `NotFound` (`inventory.identity.unknown`), `Conflict`
    (`governance.tier.retired`).
    """
    if tier is not None and not 0 <= tier <= 3:
        raise Rejected("governance.tier.number", "a tier is 0, 1, 2 or 3", next_step="0 is the most dangerous")
    record = _require(unit, identity, ended=ended)
    was = judgement.counted(record)
    becomes = judgement.counted_without(record) if tier is None else tier
    return record, Move(was=was, now=becomes, lowers=becomes > was)


def set_tier(
    unit: WordUnit, identity: str, tier: int | None, *, by: Approver, reason: str, judgement: Judgement,
    attester: Attester,
) -> Move:  # fmt: skip
    """Say the tier of an identity; `None` takes the word back.

    A lower protection waits for a second person where two are enrolled: the first one's call proposes it, the other's
    with the same tier puts it in force. Raises as `look`, and `Rejected` (`governance.reason.missing`), `Denied`
    (`governance.tier.own`), `Misconfigured` (`governance.tier.forged`).
    """
    record, move = look(unit, identity, tier, judgement)
    text = require_reason(reason) if reason.strip() or move.lowers else ""
    first: Proposal | None = None
    if move.lowers and judgement.person_count > 1:
        first = _waiting(unit, identity, tier, judgement, attester)
        if first is None:
            return Move(
                was=move.was, now=move.was, lowers=True, waits=_propose(unit, identity, tier, by, text, attester)
            )
        if first.by == f"person:{by.name}":
            raise Denied(
                "governance.tier.own", "whoever asks for a lower protection does not give it alone",
                next_step=f"another person repeats the command for {identity}, with the same tier",
            )  # fmt: skip
    unit.inventory.set_tier(identity, tier)
    unit.words.drop_proposal(identity)
    if tier is None:
        unit.words.take_back(identity, "tier")
    else:
        unit.words.say(identity, "tier", Word(value=str(tier), by=f"person:{by.name}", at=unit.now, reason=text))
    unit.record(
        TIER_UNSET if tier is None else TIER_SET, actor=f"person:{by.name}", subject=record.id,
        data={
            "tier": tier, "counted": move.was, "reason": text, "at": rfc3339(unit.now), "by": f"person:{by.name}",
            "approval": by.evidence(), "proposal": first.id if first else None,
            "proposed_by": first.by if first else None, "proposed_with": dict(first.approval) if first else None,
        },
    )  # fmt: skip
    return move


def describe(
    unit: WordUnit, identity: str, said: Mapping[str, str], *, by: Approver, reason: str = ""
) -> dict[str, str | None]:
    """Say what an identity is for; an empty text takes a word back. Returns what was said, by field.

    Raises `Rejected` (`governance.description.nothing`, `.value`; `governance.reason.missing` where policies go by the
    word) and as `look`.
    """
    words = {name: _checked(name, text) for name, text in said.items()}
    if not words:
        raise Rejected(
            "governance.description.nothing", "nothing is said of the identity",
            next_step="say one of: " + ", ".join(LENGTHS),
        )  # fmt: skip
    # Policies compare environments and ask for autonomy: why such a word is said is asked for, as with a class.
    record, text, actor = _require(unit, identity), reason.strip()[:1000], f"person:{by.name}"
    if not text and not _DECIDED_BY.isdisjoint(words):
        text = require_reason(reason)
    for name, value in words.items():
        if value:
            unit.words.say(identity, name, Word(value=value, by=actor, at=unit.now, reason=text))
        else:
            unit.words.take_back(identity, name)
    spoken = {name: value for name, value in words.items() if value}
    silent = [name for name, value in words.items() if not value]
    common: dict[str, Json] = {"reason": text, "by": actor, "at": rfc3339(unit.now), "approval": by.evidence()}
    if spoken:
        unit.record(DESCRIBED, actor=actor, subject=record.id, data={"words": dict(spoken), **common})
    if silent:
        unit.record(UNDESCRIBED, actor=actor, subject=record.id, data={"words": list(silent), **common})
    return {name: value or None for name, value in words.items()}


def _require(unit: WordUnit, identity: str, *, ended: bool = False) -> IdentityRecord:
    record = unit.inventory.identities([identity]).get(identity)
    if record is None:
        raise NotFound(
            "inventory.identity.unknown", f"no identity is called `{identity[:200]}`", next_step="try `remit ls`"
        )
    if not ended and (record.state is State.RETIRED or record.merged_into is not None):
        raise Conflict(
            "governance.tier.retired", f"`{record.title[:200]}` is retired, or another's name by now",
            next_step="`remit show` says what became of it",
        )  # fmt: skip
    return record


def _checked(name: str, text: str) -> str:
    value = text.strip()
    most = LENGTHS.get(name)
    if most is None or len(value) > most or not value.isprintable():
        raise Rejected(
            "governance.description.value",
            f"`{name[:40]}` is nothing that is said so" if most is None
            else f"`{name}` has at most {most} characters, and none that do not print",
            next_step="say one of: " + ", ".join(LENGTHS),
        )  # fmt: skip
    if name == "autonomy" and value and value not in set(Autonomy):
        raise Rejected(
            "governance.description.value", f"`{value}` is no autonomy", next_step="use " + ", ".join(Autonomy)
        )
    return value


def waiting(unit: WordUnit, identity: str, judgement: Judgement, attester: Attester) -> Proposal | None:
    """What waits for a second person. One that gives nothing, or was changed outside Remit, is not shown to anybody."""
    found = unit.words.proposal(identity)
    if found is None or not _is_open(unit, found, judgement) or not _is_genuine(found, identity, attester):
        return None
    return found


def _is_open(unit: WordUnit, found: Proposal, judgement: Judgement) -> bool:
    in_time = unit.now - found.at <= WAITS
    return in_time and judgement.is_person(found.by) and not judgement.is_spent_proposal(found)


def _is_genuine(found: Proposal, identity: str, attester: Attester) -> bool:
    return found.identity == identity and attester.verify(SIGNED_AS, found.content(), found.signature)


def _waiting(
    unit: WordUnit, identity: str, tier: int | None, judgement: Judgement, attester: Attester
) -> Proposal | None:
    """The proposal of the very same tier that another can put in force."""
    found = unit.words.proposal(identity)
    if found is None or found.tier != tier or not _is_open(unit, found, judgement):
        return None
    if not _is_genuine(found, identity, attester):
        raise Misconfigured(
            "governance.tier.forged", f"the proposal for `{identity}` was changed outside Remit",
            next_step="look who writes into the database; say another tier to replace it",
        )  # fmt: skip
    return found


def _propose(
    unit: WordUnit, identity: str, tier: int | None, by: Approver, reason: str, attester: Attester
) -> Proposal:
    made = Proposal(
        id=unit.new_id("tp"), identity=identity, tier=tier, reason=reason, by=f"person:{by.name}", at=unit.now,
        approval=by.evidence(),
    )  # fmt: skip
    signed = replace(made, signature=attester.sign(SIGNED_AS, made.content()))
    unit.words.propose(signed)
    unit.record(TIER_PROPOSED, actor=made.by, subject=identity, data=made.content())
    return signed
