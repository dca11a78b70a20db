"""The life of a policy text: staged → active → superseded, and back again by a new activation.

Activation is what carries authority: it signs the version with a serial that only grows. A version is loaded only if
its signature and digest verify, and if no version of a higher serial is known: writing into the database activates
nothing, and cannot quietly roll back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

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

    def content(self) -> dict[str, Json]:
        """What activation signs."""
        assert self.activated is not None
        return {
            "id": self.id,
            "digest": self.digest,
            "by": self.by,
            "serial": self.serial,
            "activated": rfc3339(self.activated),
            "activated_by": self.activated_by,
        }


def text_digest(text: str) -> str:
    """`sha256:<hex>` of a policy text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def stage(unit: PolicyUnit, text: str, *, by: str, vocabulary: Vocabulary = STANDARD) -> PolicyVersion:
    """Keep a checked text as a version that is not active yet.

    Raises `Rejected` with the first problem (`access.policy.…`) when `check` finds an error.
    """
    _require_sound(text, vocabulary)
    version = PolicyVersion(
        id=unit.new_id("pv"),
        text=text,
        digest=text_digest(text),
        created=unit.now,
        by=by,
        state=VersionState.STAGED,
    )
    unit.access.insert_policy_version(version)
    unit.record("access.policy.staged", actor=by, subject=version.id, data={"digest": version.digest})
    return version


def activate(
    unit: PolicyUnit,
    version_id: str,
    *,
    by: str,
    attester: Attester,
    four_eyes: bool = False,
    vocabulary: Vocabulary = STANDARD,
) -> PolicyVersion:
    """Make a version the active one; roll-back is the activation of a superseded version.

    `four_eyes` refuses whoever staged it. Raises `NotFound`, `Conflict` (`access.policy.active`: it is already;
    `access.policy.same-person`), and `Rejected` when the text fails a check that it passed when it was staged.
    """
    version = unit.access.policy_version(version_id)
    if version is None:
        raise NotFound(
            "access.policy.unknown",
            f"no policy version `{version_id[:40]}`",
            next_step="`remit policy activate` lists those that wait",
        )
    if version.state is VersionState.ACTIVE:
        raise Conflict("access.policy.active", f"the version `{version_id}` is active already")
    if four_eyes and version.by == by:
        raise Conflict(
            "access.policy.same-person",
            "the person who staged a policy does not activate it",
            next_step="ask somebody else to activate it",
        )
    if version.digest != text_digest(version.text):
        raise _untrusted(version, "its text is not what was staged")
    _require_sound(version.text, vocabulary)
    before = unit.access.active_policy_version()
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
    }
    unit.record("access.policy.activated", actor=by, subject=signed.id, data=data)
    return signed


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


def _require_sound(text: str, vocabulary: Vocabulary) -> None:
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
