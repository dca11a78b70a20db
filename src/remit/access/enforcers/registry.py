"""Registering enforcement points: signed, in the ledger, and held in an index that a request asks.

Asking about others is authority: what may be done to whom is a map for an attacker, and a point that fulfils an
obligation is believed that it did. So a person registers each, and a row of the database alone is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from remit.access.enforcers.model import Enforcer
from remit.access.enforcers.ports import EnforcerUnit
from remit.access.policy.schema import PROVEN, is_action_name
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.unit import Attester
from remit.trust.spiffe import SpiffeId

SIGNED_AS: Final = "access.enforcer"
REGISTERED, REMOVED = "access.enforcer.registered", "access.enforcer.removed"
MAX_PATTERNS: Final = 64
_MAX_PATTERN: Final = 512
_MAX_UID: Final = 2**32 - 2
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KIND: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_OWN_ARITHMETIC: Final = frozenset({"attestation_age"})
"""Facts that the decision point computes itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcerRequest:
    """What an administrator asks to register, checked: see `request_enforcer`."""

    name: str
    spiffe_id: str
    uid: int | None
    fulfils: tuple[str, ...]
    vouches: tuple[str, ...]
    resources: tuple[str, ...]
    actions: tuple[str, ...]


def request_enforcer(
    *,
    name: str,
    spiffe_id: str,
    uid: int | None = None,
    fulfils: Iterable[str] = (),
    vouches: Iterable[str] = (),
    resources: Iterable[str] = (),
    actions: Iterable[str] = (),
) -> EnforcerRequest:
    """Check a registration as it was typed.

    Raises `Rejected`: `access.enforcer.name`, `.uid`, `.fulfils`, `.vouches`, `.resources`, `.actions`,
    `trust.spiffe_id.malformed`.
    """
    if not _NAME.fullmatch(name):
        raise _malformed("name", name, "use 1 to 64 of a-z, 0-9, `.`, `_`, `-`")
    if uid is not None and not 0 <= uid <= _MAX_UID:
        raise _malformed("uid", str(uid), "use a number of `id -u`")
    return EnforcerRequest(
        name=name,
        spiffe_id=str(SpiffeId.parse(spiffe_id)),
        uid=uid,
        fulfils=_listed("fulfils", fulfils, lambda kind: _KIND.fullmatch(kind) is not None, "e.g. step-up, redact"),
        vouches=_listed("vouches", vouches, _is_stated, "use names of proven facts, e.g. source_address"),
        resources=_listed("resources", resources, _is_pattern, "use KIND/NAME, or a prefix that ends in `*`"),
        actions=_listed("actions", actions, _is_action_pattern, "use actions, or a prefix such as `tool:*`"),
    )


def register_enforcer(unit: EnforcerUnit, request: EnforcerRequest, *, actor: str, attester: Attester) -> Enforcer:
    """Register it, signed and in the ledger; the very same registration again returns the one that is there.

    Raises `Conflict` (`access.enforcer.exists`) for a name, SPIFFE ID or uid that another registration has.
    """
    for known in unit.enforcers.all():
        if not is_genuine(known, attester):
            if known.name == request.name:
                unit.enforcers.remove(known.id)
        elif _settings(known) == _settings(request):
            return known
        elif clash := _clash(known, request):
            raise Conflict(
                "access.enforcer.exists",
                f"`{known.name}` is registered with this {clash}",
                next_step=f"`remit enforcer rm {known.name}` first",
            )
    made = Enforcer(
        id=unit.new_id("ef"),
        name=request.name,
        spiffe_id=request.spiffe_id,
        uid=request.uid,
        fulfils=request.fulfils,
        vouches=request.vouches,
        resources=request.resources,
        actions=request.actions,
        created=unit.now,
        created_by=actor,
    )
    made = replace(made, signature=attester.sign(SIGNED_AS, made.as_json()))
    unit.enforcers.add(made)
    unit.record(REGISTERED, actor=actor, subject=made.spiffe_id, data=made.as_json())
    return made


def remove_enforcer(unit: EnforcerUnit, name: str, *, actor: str) -> Enforcer:
    """Let it ask about others no more, in the ledger. `NotFound` (`access.enforcer.unknown`)."""
    found = unit.enforcers.named(name)
    if found is None:
        raise unknown(name)
    unit.enforcers.remove(found.id)
    unit.record(REMOVED, actor=actor, subject=found.spiffe_id, data=found.as_json())
    return found


def unknown(name: str) -> NotFound:
    """No point of that name."""
    return NotFound(
        "access.enforcer.unknown",
        f"no enforcement point is called `{name[:80]}`",
        next_step="list them by `remit enforcer ls`",
    )


def is_genuine(enforcer: Enforcer, attester: Attester) -> bool:
    """Whether it was registered here, as it stands, and not removed since."""
    return attester.verify(SIGNED_AS, enforcer.as_json(), enforcer.signature)


class EnforcerIndex:
    """The points that count, by what proves them. Immutable."""

    def __init__(self, enforcers: Iterable[Enforcer] = ()) -> None:
        self._all = tuple(sorted(enforcers, key=attrgetter("created", "id")))
        self._by_name = {name: one for one in self._all for name in (one.name, one.id)}
        self._by_spiffe_id = {one.spiffe_id: one for one in self._all}
        self._by_uid = {one.uid: one for one in self._all if one.uid is not None}

    def all(self) -> tuple[Enforcer, ...]:
        """Every one, oldest first."""
        return self._all

    def named(self, name: str) -> Enforcer | None:
        """By its name, or its id."""
        return self._by_name.get(name)

    def of_spiffe_id(self, spiffe_id: str) -> Enforcer | None:
        return self._by_spiffe_id.get(spiffe_id)

    def of_uid(self, uid: int) -> Enforcer | None:
        return self._by_uid.get(uid)


def _settings(one: Enforcer | EnforcerRequest) -> tuple[object, ...]:
    return (one.name, one.spiffe_id, one.uid, one.fulfils, one.vouches, one.resources, one.actions)


def _clash(known: Enforcer, request: EnforcerRequest) -> str:
    if known.name == request.name:
        return "name"
    if known.spiffe_id == request.spiffe_id:
        return "SPIFFE ID"
    return "uid" if known.uid is not None and known.uid == request.uid else ""


def _listed(what: str, given: Iterable[str], fits: Callable[[str], bool], hint: str) -> tuple[str, ...]:
    found = tuple(sorted({*given}))
    for each in found:
        if not fits(each):
            raise _malformed(what, each, hint)
    if len(found) > MAX_PATTERNS:
        raise Rejected(f"access.enforcer.{what}", f"more than {MAX_PATTERNS} are named", next_step="use prefixes")
    return found


def _is_stated(name: str) -> bool:
    return name in PROVEN and name not in _OWN_ARITHMETIC


def _is_pattern(pattern: str) -> bool:
    return 0 < len(pattern) <= _MAX_PATTERN and pattern.isprintable() and "*" not in pattern[:-1] and pattern != "*"


def _is_action_pattern(pattern: str) -> bool:
    return is_action_name(pattern.removesuffix("*"))


def _malformed(what: str, given: str, hint: str) -> Rejected:
    return Rejected(f"access.enforcer.{what}", f"`{given[:100]}` is none that can be registered", next_step=hint)
