"""The life of a policy text: staged → active → superseded, and back again by a new activation.

Activation is what carries authority: it signs the version with a serial that only grows. A version is loaded only if
its signature and digest verify, and if no version of a higher serial is known: writing into the database activates
nothing, and cannot quietly roll back.

A version may come with promises: test cases and invariants. Before it is activated it is weighed (`promises`), and the
activation takes the result: a candidate whose cases fail is refused, and so is one that breaks what was proved, unless
a person accepts that by the invariant's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from remit.access.policy.check import check, errors_of
from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.schema import STANDARD, Vocabulary
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected
from remit.kernel.unit import Attester

if TYPE_CHECKING:
    from remit.access.policy.ports import PolicyRows, PolicyUnit

KIND = "policy"
"""What the attester is told that it signs."""
_MANY = 1000


class VersionState(StrEnum):
    STAGED = "staged"
    ACTIVE = "active"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One policy text. Signature, serial and activation are empty until it is activated."""

    id: str
    """`pv_<ULID>`."""
    text: str
    digest: str
    """`sha256:<hex>` of the text's UTF-8 bytes."""
    created: datetime
    by: str
    state: VersionState
    signature: str = ""
    serial: int = 0
    activated: datetime | None = None
    activated_by: str = ""
    cases: str = ""
    """YAML, as `cases` reads it."""
    invariants: str = ""
    """As `invariants` reads them."""

    @property
    def promises(self) -> str:
        """The digest of cases and invariants; empty where it came without."""
        return promises_digest(self.cases, self.invariants)

    def content(self) -> dict[str, Json]:
        """What activation signs."""
        assert self.activated is not None
        promises: dict[str, Json] = {"promises": self.promises} if self.promises else {}
        return {
            **promises,
            "id": self.id,
            "digest": self.digest,
            "by": self.by,
            "serial": self.serial,
            "activated": rfc3339(self.activated),
            "activated_by": self.activated_by,
        }


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """An invariant that a candidate states or inherits, and that is not proved of it."""

    invariant: str
    text: str
    outcome: str
    """`hole` or `undecided`."""
    kept_before: bool = False
    """The version in force has it."""
    witness: dict[str, Any] = {}
    """A request that the candidate allows against it."""
    why: tuple[str, ...] = ()


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of weighing a candidate against its promises, and against the version in force."""

    digest: str
    before: str
    """Digest of the text in force when it was weighed; empty for none."""
    promises: str = ""
    """Digest of its cases and invariants."""
    cases: int = 0
    failed: tuple[str, ...] = ()
    """Cases that fail, and why."""
    proved: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()
    solver: str = ""
    unmeasured: str = ""
    """Why nothing was proved; that is no pass."""


def promises_digest(cases: str, invariants: str) -> str:
    """The digest of cases and invariants; empty where there are none."""
    return text_digest(f"{len(cases)}:{cases}{invariants}") if cases or invariants else ""


def text_digest(text: str) -> str:
    """`sha256:<hex>` of a policy text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def stage(
    unit: PolicyUnit,
    text: str,
    *,
    by: str,
    cases: str = "",
    invariants: str = "",
    vocabulary: Vocabulary = STANDARD,
) -> PolicyVersion:
    """Keep a checked text, with its promises, as a version that is not active yet.

    Raises `Rejected` with the first problem (`access.policy.…`) when `check` finds an error.
    """
    require_sound(text, vocabulary)
    version = PolicyVersion(
        id=unit.new_id("pv"),
        text=text,
        digest=text_digest(text),
        created=unit.now,
        by=by,
        state=VersionState.STAGED,
        cases=cases,
        invariants=invariants,
    )
    unit.access.insert_policy_version(version)
    data: Mapping[str, Json] = {"digest": version.digest, "promises": version.promises}
    unit.record("access.policy.staged", actor=by, subject=version.id, data=data)
    return version


def activate(
    unit: PolicyUnit,
    version_id: str,
    *,
    by: str,
    attester: Attester,
    four_eyes: bool = False,
    weighed: Weighed | None = None,
    accept: Collection[str] = (),
    vocabulary: Vocabulary = STANDARD,
) -> PolicyVersion:
    """Make a version the active one.

    `four_eyes` refuses whoever staged it. `weighed` is what came of weighing this very version against the one in
    force; `accept` names invariants that `by` accepts as broken. Raises `NotFound`, `Conflict` (`access.policy.active`:
    it is already; `access.policy.same-person`; `access.policy.moved`: it was weighed against another one), and
    `Rejected` when the text fails a check that it passed when it was staged, when a case fails, or when a promise is
    broken that nobody accepted (`access.policy.promise-broken`).
    """
    version = require_version(unit.access, version_id)
    require_other(version, by=by, four_eyes=four_eyes)
    if version.digest != text_digest(version.text):
        raise _untrusted(version, "its text is not what was staged")
    require_sound(version.text, vocabulary)
    before = unit.access.active_policy_version()
    if weighed is not None:
        require_weighed(version, before, weighed, accept)
    if before is not None:
        unit.access.change_policy_version(replace(before, state=VersionState.SUPERSEDED))
    activated = replace(
        version,
        state=VersionState.ACTIVE,
        serial=unit.access.highest_policy_serial() + 1,
        activated=unit.now,
        activated_by=by,
    )
    signed = replace(activated, signature=attester.sign(KIND, activated.content()))
    unit.access.change_policy_version(signed)
    data: Mapping[str, Json] = {
        "digest": signed.digest,
        "serial": signed.serial,
        "replaces": before.id if before is not None else None,
        "rolls_back": version.state is VersionState.SUPERSEDED,
        **_weighing(weighed, accept),
    }
    unit.record("access.policy.activated", actor=by, subject=signed.id, data=data)
    return signed


def require_other(version: PolicyVersion, *, by: str, four_eyes: bool) -> None:
    """Refuse what is in force already, and, of four eyes, two that are the same."""
    if version.state is VersionState.ACTIVE:
        raise Conflict("access.policy.active", f"the version `{version.id}` is active already")
    if four_eyes and version.by == by:
        raise Conflict(
            "access.policy.same-person",
            "the person who staged a policy does not activate it",
            next_step="ask somebody else to activate it",
        )


def require_version(rows: PolicyRows, version_id: str) -> PolicyVersion:
    """The version of that id. Raises `NotFound` (`access.policy.unknown`)."""
    version = rows.policy_version(version_id)
    if version is None:
        raise NotFound(
            "access.policy.unknown",
            f"no policy version `{version_id[:40]}`",
            next_step="`remit policy versions` lists them",
        )
    return version


def previous(rows: PolicyRows) -> PolicyVersion:
    """The version that was in force before the active one. Raises `NotFound` (`access.policy.unknown`)."""
    kept = [each for each in rows.policy_versions(limit=_MANY) if each.state is VersionState.SUPERSEDED]
    if not kept:
        raise NotFound(
            "access.policy.unknown",
            "no version was in force before this one",
            next_step="`remit policy versions` lists those that there are",
        )
    return max(kept, key=lambda each: each.serial)


def require_weighed(
    version: PolicyVersion, before: PolicyVersion | None, weighed: Weighed, accept: Collection[str]
) -> None:
    """Refuse a version that was not weighed as it stands, whose cases fail, or that breaks what nobody accepted."""
    in_force = before.digest if before is not None else ""
    if (weighed.digest, weighed.promises, weighed.before) != (version.digest, version.promises, in_force):
        raise moved()
    require_cases(weighed)
    unaccepted = [each for each in weighed.broken if each.invariant not in accept]
    if unaccepted:
        first = unaccepted[0]
        more = f" (and {len(unaccepted) - 1} more)" if len(unaccepted) > 1 else ""
        said = "no longer holds" if first.kept_before else "does not hold"
        raise Rejected(
            "access.policy.promise-broken",
            f"the invariant `{first.invariant}` {said}{more}: {first.text[:200]}",
            next_step=f"`remit policy prove` shows the request; `{_accepting(unaccepted)}` accepts it in your name",
        )


def moved() -> Conflict:
    """Something else was put in force while this was being weighed."""
    return Conflict(
        "access.policy.moved",
        "another version was put in force meanwhile",
        next_step="look at `remit policy versions`, then try again",
    )


def require_cases(weighed: Weighed) -> None:
    """Refuse a candidate whose own cases fail."""
    if weighed.failed:
        raise Rejected(
            "access.policy.case-failed",
            f"{len(weighed.failed)} of its {weighed.cases} cases fail: {weighed.failed[0][:300]}",
            next_step="`remit policy test PATH` lists them all",
        )


def _accepting(broken: Collection[Broken]) -> str:
    return " ".join(f"--accept-broken {each.invariant}" for each in broken)[:500]


def _weighing(weighed: Weighed | None, accept: Collection[str]) -> dict[str, Json]:
    """What the ledger keeps of it."""
    if weighed is None:
        return {}
    broken: dict[str, Json] = {each.invariant: each.outcome for each in weighed.broken if each.invariant in accept}
    return {
        "cases": weighed.cases,
        "proved": list(weighed.proved),
        "accepted_broken": broken,
        "solver": weighed.solver,
        "unmeasured": weighed.unmeasured,
    }


def load_active(rows: PolicyRows, attester: Attester) -> tuple[PolicyVersion, CompiledPolicies] | None:
    """The active policies, compiled; None when there are none, and everything is then denied.

    Raises `Misconfigured`: `access.policy.untrusted` when text or signature do not verify,
    `access.policy.rolled-back` when a later activation is known.
    """
    version = rows.active_policy_version()
    if version is None:
        return None
    if version.digest != text_digest(version.text):
        raise _untrusted(version, "its text is not what was activated")
    if version.activated is None or not attester.verify(KIND, version.content(), version.signature):
        raise _untrusted(version, "its signature does not verify")
    if rows.highest_policy_serial() > version.serial:
        raise Misconfigured(
            "access.policy.rolled-back",
            f"the policy version `{version.id}` was superseded, and yet it is marked active",
            next_step="look for who wrote into the database; then activate a version with `remit policy apply`",
        )
    return version, compile_policies(version.text)


def require_sound(text: str, vocabulary: Vocabulary = STANDARD) -> None:
    """Refuse a text with an error: `Rejected` with the first problem (`access.policy.…`)."""
    errors = errors_of(check(text, vocabulary))
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Rejected(errors[0].code, f"{errors[0]}{more}", next_step="`remit policy check PATH` lists all problems")


def _untrusted(version: PolicyVersion, why: str) -> Misconfigured:
    return Misconfigured(
        "access.policy.untrusted",
        f"the policy version `{version.id}` is not loaded: {why}",
        next_step="compare it with the ledger, then activate a version with `remit policy apply`",
    )
