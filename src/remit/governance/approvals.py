"""Approvals of grants: whose word counts, whether it is really theirs, and whether it still fits what is there.

An approval is a command that the person signed with a key of their own (`governance.signatures`): `POST
/api/v1/grants/{id}/approve` with the digest of the grant in its body. The whole of it is kept beside the grant, and
checked again whenever the grant is looked at: with the key as it is enrolled today, for exactly this digest.

INVARIANT: whoever asked never counts, machines never count, and for tier 0 the subject's owner alone is not enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from remit.access.grants import Outlook
from remit.access.model import Approval, Grant, GrantKind, Need
from remit.access.policy.approvals import Requirement, parse_requirement
from remit.access.tasks.model import TaskDefinition
from remit.governance.model import Person, Team
from remit.governance.owners import find_owner
from remit.governance.signatures import SignedCommand, signed_by
from remit.kernel.canonical import Json, digest
from remit.kernel.errors import Denied, Rejected

ANYONE: Final = ("",)
_KEYS: Final = frozenset({"ssh-key", "private-key", "access-key", "api-key", "certificate"})


class Judged(Protocol):
    """The subject of a grant as far as the journal of authority has it."""

    @property
    def owner(self) -> str | None: ...
    @property
    def tier(self) -> int | None: ...
    @property
    def name(self) -> str: ...
    @property
    def privileged(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What approvals are judged by, of this installation."""

    audience: str
    """Its name, which signed commands carry."""
    policies: Callable[[], str]
    """Digest of the policies in force."""
    identity: Callable[[Any, str], Judged | None]
    trusts: Callable[[Person | None], bool]
    """Whether a row of a person is of one whom we enrolled."""
    team: Callable[[str], tuple[str, ...] | None]
    """Names of who belongs to a team that we registered, its lead first."""
    spent: Callable[[str], bool]
    """Whether our journal says that a run used the grant of this id."""
    ask: Callable[[Grant, TaskDefinition, Sequence[Need]], Outlook]
    """What policies say of a grant as if it were approved."""


class Approvals:
    """Implements `access.grants.GrantJudge`."""

    def __init__(self, house: House) -> None:
        self._house = house

    def policies(self) -> str:
        return self._house.policies()

    def subject(self, unit: Any, identity: str) -> str:
        """Digest of its id, its name, and the fingerprints of the keys that are its own."""
        record = self._house.identity(unit, identity)
        keys = sorted({each.fingerprint for each in unit.inventory.credentials_of([identity]) if _is_key(each)})
        return digest({"id": identity, "name": record.name if record is not None else "", "keys": list(keys)})

    def outlook(self, unit: Any, grant: Grant, definition: TaskDefinition, needs: Sequence[Need]) -> Outlook:
        """Who must approve, and whether policy does so itself."""
        found = self._house.ask(grant, definition, needs)
        rules = [parse_requirement(text) for text in found.requires]
        automatic = bool(rules) and all(each.automatic and _open(each, grant.created) for each in rules)
        return Outlook(requires=found.requires, automatic=automatic, allowed=found.allowed, why=found.why)

    def admit(self, unit: Any, grant: Grant, approval: Approval) -> None:
        """Raises `Denied`: `access.approval.void`, `.window`, `.nobody` (no permit asks for this person's word)."""
        if not self._genuine(unit, grant, approval):
            raise Denied(
                "access.approval.void",
                "the approval does not carry the person's own signature over this grant",
                next_step=f"`remit approve {grant.id}` signs it with your key",
            )
        if _emergency(grant):
            return
        rules = _rules(grant)
        if any(not _open(each, approval.time) for each in rules):
            texts = "; ".join(each.text for each in rules if each.window is not None)
            raise Denied(
                "access.approval.window",
                f"policy lets nobody approve this now: `{texts[:200]}`",
                next_step="approve it within those hours, or break the glass: `remit break-glass`",
            )
        known = self._known(unit, grant)
        if self._strictest(unit, grant) and approval.approver.removeprefix("person:") not in known["owner"]:
            return  # besides the owner, somebody else is needed: anybody
        if all(not self._serves(each, approval, known) for each in rules):
            raise Denied(
                "access.approval.nobody",
                f"`{approval.approver}` is none of those whom policy lets approve this",
                next_step=f"who may: {'; '.join(str(each) for each in rules)}"[:500],
            )

    def complete(self, unit: Any, grant: Grant) -> bool:
        """Whether those who approved, each genuinely and in time, fill what every permit asks for."""
        return not self.missing(unit, grant)

    def missing(self, unit: Any, grant: Grant) -> tuple[str, ...]:
        """What is still asked for, in words."""
        terms = grant.terms
        asker = terms.asker.removeprefix("person:") if terms is not None else ""
        genuine = [each for each in grant.approvals if self._genuine(unit, grant, each)]
        if _emergency(grant):
            return () if genuine else ("the signature of who asked",)
        known = self._known(unit, grant)
        found = []
        for rule in _rules(grant):
            people = [each.approver.removeprefix("person:") for each in genuine if _open(rule, each.time)]
            if not rule.filled(people, known, asker=asker):
                found.append(str(rule))
        answered = {each.approver.removeprefix("person:") for each in genuine} - {asker}
        if not found and self._strictest(unit, grant) and not answered - known["owner"] and not _automatic(grant):
            found.append("somebody besides the owner (tier 0)")
        return tuple(found)

    def spent(self, grant_id: str) -> bool:
        return self._house.spent(grant_id)

    def changed(self, unit: Any, grant: Grant) -> str:
        """What is not as it was; of one with approvals, whether they still fill what is asked for."""
        terms = grant.terms
        if terms is None:
            return ""
        definition = unit.access.task(grant.task)
        if definition is None or definition.digest != grant.task_digest:
            return "the task's definition is another"
        if terms.subject != self.subject(unit, grant.identity):
            return "the identity, its name or its keys are others"
        if grant.approvals and (left := self.missing(unit, grant)):
            return f"those who approved it are not enough any more: {'; '.join(left)}"
        return ""

    def may_withdraw(self, unit: Any, grant: Grant, actor: str) -> bool:
        """Whether `actor` asked for it, answers for its subject, approved it, or is the subject itself."""
        if grant.terms is not None and actor == grant.terms.asker:
            return True
        if actor == grant.identity or any(each.approver == actor for each in grant.approvals):
            return True
        return actor.removeprefix("person:") in self._known(unit, grant)["owner"]

    # Parts.

    def _known(self, unit: Any, grant: Grant) -> Mapping[str, frozenset[str]]:
        """Who `owner` and the teams that its requirements name are, today."""
        record = self._house.identity(unit, grant.identity)
        known = {"owner": self._people(unit, record.owner or "") if record is not None else frozenset[str]()}
        for rule in _rules(grant):
            for alternative in rule.alternatives:
                for whom in (one for place in alternative for one in place.whom):
                    if whom.startswith(("team/", "members/")):
                        known[whom] = self._team(unit, whom)
        return known

    def _team(self, unit: Any, whom: str) -> frozenset[str]:
        """Who leads `team/NAME`, or all of `members/NAME`, of those who are enrolled and active today."""
        kind, _, name = whom.partition("/")
        people = self._house.team(name) or ()
        wanted = people[:1] if kind == "team" else people
        return frozenset(each for each in wanted if self._house.trusts(unit.governance.person(each)))

    def _people(self, unit: Any, owner: str) -> frozenset[str]:
        found = find_owner(unit, owner) if owner else None
        # Whom only a directory knows has no key to sign with: they approve nothing until they are registered.
        if not isinstance(found, Person | Team) or not found.active:
            return frozenset()
        return frozenset((found.name,)) if isinstance(found, Person) else self._team(unit, f"team/{found.name}")

    def _strictest(self, unit: Any, grant: Grant) -> bool:
        """Whether the subject is of tier 0, as policies see it: what nobody classified is, when it is privileged."""
        record = self._house.identity(unit, grant.identity)
        if record is None or record.tier is None:
            return record is None or record.privileged
        return record.tier == 0

    def _serves(self, rule: Requirement, approval: Approval, known: Mapping[str, frozenset[str]]) -> bool:
        name = approval.approver.removeprefix("person:")
        return any(
            whom in ("anyone", f"person/{name}") or name in known.get(whom, frozenset())
            for alternative in rule.alternatives
            for place in alternative
            for whom in place.whom
        )

    def _genuine(self, unit: Any, grant: Grant, approval: Approval) -> bool:
        """Whether this active person's own key signed an approval of this very digest."""
        name = approval.approver.removeprefix("person:")
        person = unit.governance.person(name) if len(name) <= 64 else None
        if person is None or not person.active or not self._house.trusts(person):
            return False
        command = parse_evidence(approval.evidence)
        if command is None or approval.digest != grant.digest:
            return False
        signed, body = command
        return (
            signed.person == name
            and signed.method == "POST"
            and signed.path == f"/api/v1/grants/{grant.id}/approve"
            and signed.audience == self._house.audience
            and signed.body_sha256 == hashlib.sha256(body).hexdigest()
            and _digest_in(body) == grant.digest
            and signed_by(bytes.fromhex(person.public_key), signed)
        )


def evidence_of(approver_evidence: Mapping[str, Json], body: bytes) -> dict[str, Json]:
    """What is kept of an approval: the command, its signature, and the body whose hash was signed."""
    return {**approver_evidence, "body": body.decode("utf-8", "strict")}


def parse_evidence(evidence: Mapping[str, Json]) -> tuple[SignedCommand, bytes] | None:
    """The signed command and its body, unverified; `None` where there is none."""
    command, signature, body = evidence.get("command"), evidence.get("signature"), evidence.get("body")
    if not isinstance(command, dict) or not isinstance(signature, str) or not isinstance(body, str):
        return None
    try:
        return SignedCommand(**{key: str(value) for key, value in command.items()}, signature=signature), body.encode()
    except (TypeError, ValueError):
        return None


def _digest_in(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    return str(said.get("digest", "")) if isinstance(said, dict) else ""


def _rules(grant: Grant) -> tuple[Requirement, ...]:
    """What its permits ask for; one that cannot be read is filled by nobody."""
    texts = grant.terms.requires if grant.terms is not None and grant.terms.requires else ANYONE
    try:
        return tuple(parse_requirement(text) for text in texts)
    except Rejected:
        return (Requirement(text="unreadable", automatic=False, alternatives=()),)


def _open(rule: Requirement, at: datetime) -> bool:
    return rule.window is None or rule.window.holds(at)


def _automatic(grant: Grant) -> bool:
    return all(each.automatic for each in _rules(grant))


def _emergency(grant: Grant) -> bool:
    return grant.terms is not None and grant.terms.kind is GrantKind.BREAK_GLASS


def _is_key(credential: Any) -> bool:
    return credential.present and str(credential.kind) in _KEYS
