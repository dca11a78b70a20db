"""Static secrets that we keep for programs: an API key that a gateway injects, so that the program never holds it.

A person adds one for certain resources. It rests sealed, is never shown again, and leaves only towards a registered
gateway that injects credentials, for one request that was permitted on one of those resources. Each use is in the
ledger, with its decision, before the value is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, Denied, Misconfigured, NotFound, Rejected
from remit.kernel.unit import Attester, Fingerprinter, Sealer, Store, Unit

SIGNED_AS: Final = "access.secret"
ADDED, ROTATED, REMOVED = "access.secret.added", "access.secret.rotated", "access.secret.removed"
USED: Final = "access.secret.used"
SHORTEST, LONGEST = 8, 8192
"""Bytes of a value: a shorter one could not be told from other text in an answer."""
MAX_RESOURCES: Final = 64
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSecret:
    """What is known of a secret, but for its value. It counts only while `signature` verifies."""

    name: str
    resources: tuple[str, ...]
    """`KIND/NAME`, or a prefix that ends in `*`: requests on these may use it."""
    version: int
    """1, and one more with each rotation."""
    fingerprint: str
    """`hmac:<hex>` of the value, under a key of this installation."""
    created: datetime
    created_by: str
    changed: datetime
    changed_by: str
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers: everything but the signature."""
        return {
            "name": self.name,
            "resources": list(self.resources),
            "version": self.version,
            "fingerprint": self.fingerprint,
            "created": rfc3339(self.created),
            "created_by": self.created_by,
            "changed": rfc3339(self.changed),
            "changed_by": self.changed_by,
        }

    def covers(self, names: Iterable[str]) -> bool:
        """Whether the resource that has these names is one that it is for."""
        return any(_matches(pattern, name) for name in names for pattern in self.resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use of a secret: by which gateway, for which permitted request."""

    gateway: str
    decision: str
    subject: str
    resource: str
    names: tuple[str, ...]
    """Every name that the registry has for the resource and what it is part of."""


class SecretRows(Protocol):
    """Rows of secrets, by name."""

    def all(self) -> Sequence[StaticSecret]: ...
    def get(self, name: str) -> tuple[StaticSecret, bytes] | None:
        """The secret and its sealed value."""
        ...

    def put(self, secret: StaticSecret, sealed: bytes) -> None:
        """Insert it, or replace the one of that name."""
        ...

    def remove(self, name: str) -> bool: ...
    def change(self, name: str) -> tuple[bytes, bytes] | None:
        """The sealed values, old and new, of a change that has not ended."""
        ...

    def begin_change(self, name: str, old: bytes, new: bytes, now: datetime) -> None: ...
    def end_change(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A value that is being replaced; both may count at the target."""

    old: bytes = field(repr=False)
    new: bytes = field(repr=False)


class SecretUnit(Unit, Protocol):
    """A unit of work with the rows of secrets."""

    @property
    def secrets(self) -> SecretRows: ...


class Secrets:
    """The verbs on static secrets."""

    def __init__(
        self, *, store: Store[SecretUnit], sealer: Sealer, attester: Attester, fingerprint: Fingerprinter
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._fingerprint = fingerprint

    async def add(
        self, name: str, value: bytes, resources: Sequence[str], *, actor: str, approval: Mapping[str, Json]
    ) -> StaticSecret:
        """Keep a new secret. `Rejected` (`access.secret.malformed`), `Conflict` (`access.secret.exists`)."""
        _require_form(name, value, resources)
        sealed = self._sealer.seal(value, context=_context(name))

        def work(unit: SecretUnit) -> StaticSecret:
            known = unit.secrets.get(name)
            if known is not None and self._is_genuine(known[0]):
                raise Conflict(
                    "access.secret.exists",
                    f"a secret is already called `{name}`",
                    next_step=f"`remit secret rotate {name}` gives it another value",
                )
            made = StaticSecret(
                name=name, resources=tuple(resources), version=1, fingerprint=self._fingerprint(value),
                created=unit.now, created_by=actor, changed=unit.now, changed_by=actor,
            )  # fmt: skip
            return self._keep(unit, ADDED, made, sealed, actor=actor, approval=approval)

        return await self._store.write(work)

    async def rotate(self, name: str, value: bytes, *, actor: str, approval: Mapping[str, Json]) -> StaticSecret:
        """Replace the value; the old one is used no more when this returns. `NotFound` (`access.secret.unknown`)."""
        _require_value(name, value)
        sealed = self._sealer.seal(value, context=_context(name))

        def work(unit: SecretUnit) -> StaticSecret:
            known, _ = self._require(unit, name)
            made = replace(
                known, version=known.version + 1, fingerprint=self._fingerprint(value), changed=unit.now,
                changed_by=actor,
            )  # fmt: skip
            return self._keep(unit, ROTATED, made, sealed, actor=actor, approval=approval)

        return await self._store.write(work)

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget it and its value. `NotFound` (`access.secret.unknown`)."""

        def work(unit: SecretUnit) -> None:
            if not unit.secrets.remove(name):
                raise _unknown(name)
            unit.secrets.end_change(name)
            unit.record(REMOVED, actor=actor, subject=f"secret:{name}", data={"name": name})

        await self._store.write(work)

    async def list(self) -> Sequence[StaticSecret]:
        """All that count, by name."""
        return [one for one in await self._store.read(lambda unit: unit.secrets.all()) if self._is_genuine(one)]

    async def forged(self) -> tuple[str, ...]:
        """Names of rows that were not written by this installation: they are not used."""
        rows = await self._store.read(lambda unit: unit.secrets.all())
        return tuple(one.name for one in rows if not self._is_genuine(one))

    async def use(self, name: str, use: Use) -> bytes:
        """The value, for one permitted request; the use is in the ledger when this returns.

        Raises `NotFound` (`access.secret.unknown`), `Misconfigured` (`access.secret.forged`), and `Denied`
        (`access.secret.bounds`) when it is for other resources.
        """

        def work(unit: SecretUnit) -> tuple[StaticSecret, bytes]:
            known, sealed = self._require(unit, name)
            if not known.covers(use.names):
                raise Denied(
                    "access.secret.bounds",
                    f"the secret `{name}` is not for `{use.resource[:200]}`",
                    next_step="add a secret for that resource, or correct the route",
                )
            unit.record(
                USED, actor=f"enforcer:{use.gateway}", subject=f"secret:{name}",
                data={"decision": use.decision, "identity": use.subject, "resource": use.resource,
                      "version": known.version, "fingerprint": known.fingerprint},
            )  # fmt: skip
            return known, sealed

        known, sealed = await self._store.write(work)
        value = self._sealer.unseal(sealed, context=_context(name))
        if self._fingerprint(value) != known.fingerprint:  # an older value, put back into the row
            raise _forged(name)
        return value

    async def held(self, name: str) -> bytes:
        """The value, for the rotation that replaces it; it must stay in memory. Raises as `use`, but for `Denied`."""
        known, sealed = await self._store.read(lambda unit: self._require(unit, name))
        value = self._sealer.unseal(sealed, context=_context(name))
        if self._fingerprint(value) != known.fingerprint:
            raise _forged(name)
        return value

    # A change of the value that nobody approves one by one: the target is told, both values kept until it is proved.

    async def pending(self, name: str) -> Change | None:
        """The change that has not ended; `None` where there is none."""
        found = await self._store.read(lambda unit: unit.secrets.change(name))
        return None if found is None else self._opened(name, *found)

    async def begin_change(self, name: str, value: bytes, *, actor: str) -> Change:
        """Write down the next value before anybody is told; the change under way where there is one."""
        _require_value(name, value)
        sealed = self._sealer.seal(value, context=_next_context(name))

        def work(unit: SecretUnit) -> tuple[bytes, bytes]:
            known, old = self._require(unit, name)
            found = unit.secrets.change(name)
            if found is None:
                found = (old, sealed)
                unit.secrets.begin_change(name, old, sealed, unit.now)
                unit.record("access.change.begun", actor=actor, subject=f"secret:{name}",
                            data={"name": name, "version": known.version})  # fmt: skip
            return found

        return self._opened(name, *await self._store.write(work))

    async def commit_change(self, name: str, change: Change, *, actor: str) -> StaticSecret:
        """From now on the new value is used; the old one is still kept. Again changes nothing."""
        sealed = self._sealer.seal(change.new, context=_context(name))

        def work(unit: SecretUnit) -> StaticSecret:
            known, _ = self._require(unit, name)
            fingerprint = self._fingerprint(change.new)
            if known.fingerprint == fingerprint:
                return known
            made = replace(
                known, version=known.version + 1, fingerprint=fingerprint, changed=unit.now, changed_by=actor
            )
            made = replace(made, signature=self._attester.sign(SIGNED_AS, made.as_json()))
            unit.secrets.put(made, sealed)
            unit.record(ROTATED, actor=actor, subject=f"secret:{name}", data=made.as_json())
            return made

        return await self._store.write(work)

    async def end_change(self, name: str, *, actor: str, refusal: str) -> None:
        """Forget the old value: the target refused it, in these words."""

        def work(unit: SecretUnit) -> None:
            unit.secrets.end_change(name)
            unit.record("access.change.proved", actor=actor, subject=f"secret:{name}",
                        data={"name": name, "refusal": refusal})  # fmt: skip

        await self._store.write(work)

    def _opened(self, name: str, old: bytes, new: bytes) -> Change:
        return Change(
            old=self._sealer.unseal(old, context=_context(name)),
            new=self._sealer.unseal(new, context=_next_context(name)),
        )

    def _keep(
        self, unit: SecretUnit, event: str, made: StaticSecret, sealed: bytes, *, actor: str,
        approval: Mapping[str, Json],
    ) -> StaticSecret:  # fmt: skip
        made = replace(made, signature=self._attester.sign(SIGNED_AS, made.as_json()))
        unit.secrets.put(made, sealed)
        unit.record(
            "governance.approval.signed", actor=actor, subject=f"secret:{made.name}",
            data={"step": event.rpartition(".")[2], "approval": dict(approval)},
        )  # fmt: skip
        unit.record(event, actor=actor, subject=f"secret:{made.name}", data=made.as_json())
        return made

    def _require(self, unit: SecretUnit, name: str) -> tuple[StaticSecret, bytes]:
        found = unit.secrets.get(name) if _NAME.fullmatch(name) else None
        if found is None:
            raise _unknown(name)
        if not self._is_genuine(found[0]):
            raise _forged(name)
        return found

    def _is_genuine(self, secret: StaticSecret) -> bool:
        return self._attester.verify(SIGNED_AS, secret.as_json(), secret.signature)


def _require_form(name: str, value: bytes, resources: Sequence[str]) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed(name, "its name is 1 to 63 of a-z, 0-9, `.`, `_`, `-`")
    if not 1 <= len(resources) <= MAX_RESOURCES or not all(_is_pattern(each) for each in resources):
        raise _malformed(name, "it is for 1 to 64 of KIND/NAME, or a prefix that ends in `*`")
    _require_value(name, value)


def _require_value(name: str, value: bytes) -> None:
    if not SHORTEST <= len(value) <= LONGEST:
        raise _malformed(name, f"its value has {SHORTEST} to {LONGEST} bytes")
    if any(byte < 0x21 or byte > 0x7E for byte in value):
        raise _malformed(name, "its value is visible ASCII, without spaces or line ends")


def _is_pattern(text: str) -> bool:
    kind, slash, rest = text.partition("/")
    return bool(kind and slash and rest) and len(text) <= 512 and text.isprintable() and "*" not in text[:-1]


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _context(name: str) -> str:
    return f"access_secret/{name}/value"


def _next_context(name: str) -> str:
    return f"access_secret/{name}/next"


def _malformed(name: str, why: str) -> Rejected:
    return Rejected(
        "access.secret.malformed",
        f"the secret `{name[:64]}` is not well formed: {why}",
        next_step="see `remit secret add --help`",
    )


def _unknown(name: str) -> NotFound:
    return NotFound(
        "access.secret.unknown",
        f"no secret is called `{name[:64]}`",
        next_step="`remit secret ls`, or `remit secret add NAME --for KIND/NAME`",
    )


def _forged(name: str) -> Misconfigured:
    return Misconfigured(
        "access.secret.forged",
        f"the record of the secret `{name}` was changed outside Remit",
        next_step=f"`remit secret rm {name}`, then add it again",
    )
