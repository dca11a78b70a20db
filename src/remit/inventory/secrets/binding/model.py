"""What a binder sees of a found secret, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from remit.inventory.model import Attribute, CredentialKind, IdentityKind
from remit.inventory.secrets.model import Blob, Hit
from remit.kernel.ids import Name, name

MAX_VALUE = 64 * 1024
NEIGHBOURS = 3_000
"""Bytes before and after a value in which its neighbours are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The identity that a secret proves, in the words by which connectors name it."""

    name: Name
    kind: IdentityKind
    title: str
    aliases: tuple[Name, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A resource that the secret's neighbours name: a database, a cluster, a registry."""

    name: Name
    kind: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Whose a secret is, as far as it can be told without asking anybody. Holds nothing secret but `secret`."""

    provider: str
    method: str
    """How it is known, for the evidence of the edge: `account number in the key id`."""
    what: str = ""
    """For people, better than the rule's title where the value says more: `Slack bot token`."""
    kind: CredentialKind | None = None
    public: str = ""
    """`sha256:…` of public material (SPKI, key id); empty: the secret is known by its keyed fingerprint alone."""
    secret: bytes | None = field(default=None, repr=False)
    """The secret itself where the value found wraps it (a URL, `user:password` in base64); `None`: the value."""
    companion: bytes | None = field(default=None, repr=False)
    """A second secret that is found together with a public id: its keyed fingerprint is kept as an attribute."""
    clear: tuple[str, ...] = ()
    """Parts of the value that are no secret and may be shown: a key id, a team, an account."""
    subject: Subject | None = None
    reached: tuple[Reached, ...] = ()
    issued: datetime | None = None
    expires: datetime | None = None
    encrypted: bool = False
    harmless: str = ""
    """Why it opens nothing, where its form says so: `test mode`, `public by design`."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """One hit, and the text round it."""

    hit: Hit
    blob: Blob

    @cached_property
    def value(self) -> str:
        """The value as text, bounded."""
        return self.hit.value[:MAX_VALUE].decode("utf-8", "replace").strip()

    @cached_property
    def around(self) -> str:
        """The blob from `NEIGHBOURS` bytes before the value to as many after it."""
        start, end = max(0, self.hit.start - NEIGHBOURS), self.hit.end + NEIGHBOURS
        return self.blob.data[start:end].decode("utf-8", "replace")

    def part(self, *keys: str) -> str:
        """The first of these neighbours that the engine named; empty without one."""
        return next((clean for key in keys if (clean := self.hit.parts.get(key, "").strip())), "")


def subject(
    system: str,
    instance: str,
    kind: str,
    local: str,
    *,
    of: IdentityKind = IdentityKind.SERVICE_ACCOUNT,
    title: str = "",
    aliases: tuple[Name, ...] = (),
    attributes: Mapping[str, Attribute] | None = None,
) -> Subject:
    """An identity of another system; each part at most 500 characters, printable."""
    system, instance, kind, local = (printable(part, 500) for part in (system, instance, kind, local))
    return Subject(
        name=name(system, instance, kind, local),
        kind=of,
        title=printable(title or f"{local} ({system})", 200),
        aliases=aliases,
        attributes=known(attributes or {}),
    )


def printable(text: str, limit: int) -> str:
    """Text fit to be shown and stored."""
    text = text[: limit * 2].encode("utf-8", "replace").decode()
    return "".join(mark if mark.isprintable() else " " for mark in text).strip()[:limit]


def known(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """What of it is known, and fit to be shown."""
    shown = {key: printable(item, 200) if isinstance(item, str) else item for key, item in attributes.items()}
    return {key: item for key, item in shown.items() if item not in ("", None)}


def moment(value: object) -> datetime | None:
    """A Unix time in seconds or milliseconds, or an RFC 3339 text; `None` of anything else."""
    try:
        if isinstance(value, str) and value:
            found = datetime.fromisoformat(value)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None
