"""Registration entries: who is which SPIFFE ID, by what can be seen of it.

An entry carries authority, so it is signed when it is created and counts only while the signature verifies: a row that
somebody wrote into the database gives nobody an identity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import attrgetter
from typing import Protocol, TypeVar

from remit.kernel.errors import Conflict, Misconfigured, NotFound, Rejected
from remit.kernel.ids import is_id
from remit.kernel.unit import Attester
from remit.trust.model import Entry, Selector, entry_key
from remit.trust.ports import TrustUnit
from remit.trust.reach import reaches
from remit.trust.spiffe import SpiffeId, TrustDomain

SIGNED_AS = "trust.entry"
DEFAULT_X509_TTL = timedelta(hours=1)
DEFAULT_JWT_TTL = timedelta(minutes=5)
RESERVED = "/remit/"
"""What the paths of the control plane's and its agents' own SPIFFE IDs begin with."""
MAX_SELECTORS = 32
MAX_HINT_BYTES = 1024
MAX_FEDERATED = 64
_TTL_BOUNDS = {
    "x509_ttl": (timedelta(minutes=1), timedelta(hours=4)),
    "jwt_ttl": (timedelta(seconds=30), timedelta(hours=1)),
}
_AGE = attrgetter("created", "id")
# The rarer a selector, the fewer workloads show it: an entry is looked up under its rarest.
_RARITY = ("sha256", "path", "user", "uid")


class Checks(Protocol):
    """The part of an attestor, of either kind, that registration needs."""

    @property
    def id(self) -> str: ...
    def check(self, selector: Selector) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRequest:
    """What an operator asks to register, checked: see `request_entry`."""

    spiffe_id: SpiffeId
    selectors: frozenset[Selector]
    x509_ttl: timedelta
    jwt_ttl: timedelta
    hint: str
    identity: str
    federates_with: tuple[str, ...] = ()


def request_entry(
    *,
    spiffe_id: str,
    selectors: Iterable[str],
    trust_domain: TrustDomain,
    attestors: Mapping[str, Checks],
    x509_ttl: timedelta = DEFAULT_X509_TTL,
    jwt_ttl: timedelta = DEFAULT_JWT_TTL,
    hint: str = "",
    identity: str = "",
    federates_with: Iterable[str] = (),
) -> EntryRequest:
    """Check a registration as it was typed.

    1 to 32 selectors, each of a known attestor; X.509 lifetimes of 1 minute to 4 hours, JWT of 30 seconds to 1 hour.
    Raises `Rejected`: `trust.spiffe_id.malformed`, `trust.entry.foreign`, `.reserved`, `trust.entry.selectors`,
    `trust.selector.malformed`, `.unknown`, `trust.entry.lifetime`, `.hint`, `.identity`.
    """
    parsed = SpiffeId.parse(spiffe_id)
    if parsed.trust_domain != trust_domain:
        raise Rejected(
            "trust.entry.foreign",
            f"`{parsed}` is not of our trust domain `{trust_domain}`",
            next_step=f"use `{trust_domain.id}{parsed.path}`",
        )
    if parsed.path.startswith(RESERVED):
        raise Rejected(
            "trust.entry.reserved",
            f"`{parsed}` is kept for the control plane and its agents",
            next_step=f"choose a path that does not begin with `{RESERVED}`",
        )
    _check_lifetime("x509_ttl", x509_ttl)
    _check_lifetime("jwt_ttl", jwt_ttl)
    if len(hint.encode(errors="replace")) > MAX_HINT_BYTES or not hint.isprintable():
        raise Rejected("trust.entry.hint", "the hint is longer than 1,024 bytes or not printable")
    if identity and not is_id("id", identity):
        raise Rejected(
            "trust.entry.identity", f"`{identity[:80]}` is no identity's id", next_step="use the `id_…` of `remit ls`"
        )
    return EntryRequest(
        spiffe_id=parsed,
        selectors=_checked_selectors(selectors, attestors),
        x509_ttl=x509_ttl,
        jwt_ttl=jwt_ttl,
        hint=hint,
        identity=identity,
        federates_with=_checked_domains(federates_with, trust_domain),
    )


def create_entry(unit: TrustUnit, request: EntryRequest, *, actor: str, attester: Attester) -> Entry:
    """Register it, signed and in the ledger; the very same registration again returns the entry that exists.

    Raises `Conflict` (`trust.entry.exists`) when SPIFFE ID and selectors are registered with other settings.
    """
    existing = unit.trust.entry_by_key(entry_key(request.spiffe_id, request.selectors))
    if existing is not None and is_genuine(existing, attester):
        return _same_or_conflict(existing, request)
    if existing is not None:
        unit.trust.remove_entry(existing.id)
    entry = Entry(
        id=unit.new_id("en"),
        spiffe_id=request.spiffe_id,
        selectors=request.selectors,
        x509_ttl=request.x509_ttl,
        jwt_ttl=request.jwt_ttl,
        hint=request.hint,
        identity=request.identity,
        federates_with=request.federates_with,
        created=unit.now,
    )
    entry = replace(entry, signature=attester.sign(SIGNED_AS, entry.as_json()))
    unit.trust.add_entry(entry)
    unit.record("trust.entry.created", actor=actor, subject=_subject(entry), data=entry.as_json())
    return entry


def remove_entry(unit: TrustUnit, entry_id: str, *, actor: str) -> Entry:
    """Take an entry away, in the ledger; `NotFound` (`trust.entry.unknown`) when there is none."""
    entry = unit.trust.entry(entry_id)
    if entry is None:
        raise NotFound(
            "trust.entry.unknown", f"no entry is called `{entry_id[:80]}`", next_step="list them by `remit entry ls`"
        )
    unit.trust.remove_entry(entry.id)
    unit.record("trust.entry.removed", actor=actor, subject=_subject(entry), data=entry.as_json())
    return entry


def is_genuine(entry: Entry, attester: Attester) -> bool:
    """Tell whether the entry was signed here, as it stands."""
    return attester.verify(SIGNED_AS, entry.as_json(), entry.signature)


class EntryIndex:
    """The entries that count, found by selectors without looking at each of them."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[str, Entry] = {}
        self._anchored: dict[Selector, dict[str, Entry]] = {}
        self._of_nodes: dict[Selector, dict[str, Entry]] = {}
        """By each selector that a node may show: not by those of processes."""
        self._asked: Counter[str] = Counter()
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, entry_id: str) -> Entry | None:
        return self._entries.get(entry_id)

    def all(self) -> tuple[Entry, ...]:
        """Every entry, oldest first."""
        return tuple(sorted(self._entries.values(), key=_AGE))

    def add(self, entry: Entry) -> None:
        """Let it count; an entry without selectors would match everyone and is a bug."""
        assert entry.selectors
        self.discard(entry.id)
        self._entries[entry.id] = entry
        self._asked.update(one.attestor for one in entry.selectors)
        self._anchored.setdefault(_anchor(entry), {})[entry.id] = entry
        for selector in _of_nodes(entry):
            self._of_nodes.setdefault(selector, {})[entry.id] = entry

    def discard(self, entry_id: str) -> None:
        """Let it count no more."""
        entry = self._entries.pop(entry_id, None)
        if entry is None:
            return
        self._asked.subtract(one.attestor for one in entry.selectors)
        anchored = self._anchored[_anchor(entry)]
        del anchored[entry_id]
        if not anchored:
            del self._anchored[_anchor(entry)]
        for selector in _of_nodes(entry):
            del self._of_nodes[selector][entry_id]
            if not self._of_nodes[selector]:
                del self._of_nodes[selector]

    def through(self, node: frozenset[Selector]) -> tuple[Entry, ...]:
        """The entries that reach a node which shows these selectors, oldest first."""
        named = {entry.id: entry for selector in node for entry in self._of_nodes.get(selector, {}).values()}
        return tuple(sorted((one for one in named.values() if reaches(one.selectors, node)), key=_AGE))

    def asks_for(self, attestor: str) -> bool:
        """Whether any entry names a selector of this attestor."""
        return self._asked[attestor] > 0

    def match(self, selectors: frozenset[Selector]) -> tuple[Entry, ...]:
        """The entries all of whose selectors are among these, oldest first: the first is the default identity."""
        found = [
            entry
            for selector in selectors
            for entry in self._anchored.get(selector, {}).values()
            if entry.selectors <= selectors
        ]
        return tuple(sorted(found, key=_AGE))


def _subject(entry: Entry) -> str:
    return entry.identity or str(entry.spiffe_id)


def _anchor(entry: Entry) -> Selector:
    def rarity(selector: Selector) -> tuple[int, Selector]:
        return (_RARITY.index(selector.key) if selector.key in _RARITY else len(_RARITY), selector)

    return min(entry.selectors, key=rarity)


def _of_nodes(entry: Entry) -> list[Selector]:
    """The selectors that may be of a node: those of the unix attestor are of processes, and by far the most."""
    return [one for one in entry.selectors if one.attestor != "unix"]


def _checked_selectors(texts: Iterable[str], attestors: Mapping[str, Checks]) -> frozenset[Selector]:
    selectors = frozenset(Selector.parse(text) for text in texts)
    if not 1 <= len(selectors) <= MAX_SELECTORS:
        raise Rejected(
            "trust.entry.selectors",
            f"an entry has 1 to {MAX_SELECTORS} selectors, not {len(selectors)}",
            next_step="say who it is for, for example `--selector unix:uid:1000`",
        )
    for selector in selectors:
        if selector.attestor not in attestors:
            raise Rejected(
                "trust.selector.unknown",
                f"no attestor is called `{selector.attestor}`",
                next_step=f"use one of: {', '.join(attestors)}",
            )
        attestors[selector.attestor].check(selector)
    return selectors


def _check_lifetime(name: str, value: timedelta) -> None:
    least, most = _TTL_BOUNDS[name]
    if not least <= value <= most or value.microseconds:
        raise Rejected(
            "trust.entry.lifetime",
            f"`{name}` is {value}: it must be whole seconds between {least} and {most}",
            next_step="leave it out for the default",
        )


def _same_or_conflict(existing: Entry, request: EntryRequest) -> Entry:
    def settings(one: Entry | EntryRequest) -> tuple[object, ...]:
        return (one.x509_ttl, one.jwt_ttl, one.hint, one.identity, one.federates_with)

    if settings(existing) == settings(request):
        return existing
    raise Conflict(
        "trust.entry.exists",
        f"`{existing.id}` registers these selectors as `{existing.spiffe_id}` with other settings",
        next_step=f"remove `{existing.id}` first",
    )


def _checked_domains(names: Iterable[str], own: TrustDomain) -> tuple[str, ...]:
    domains = sorted({TrustDomain.parse(name).name for name in names})
    if own.name in domains or len(domains) > MAX_FEDERATED:
        raise Rejected(
            "trust.entry.federation",
            f"an entry federates with at most {MAX_FEDERATED} trust domains, and not with its own",
            next_step="name a partner of `remit federation ls`",
        )
    return tuple(domains)


A = TypeVar("A", bound=Checks)


def attestors_by_id(attestors: Iterable[A]) -> dict[str, A]:
    """Index attestors by id; `Misconfigured` (`trust.attestor.duplicate`) when two share one."""
    found: dict[str, A] = {}
    for attestor in attestors:
        if attestor.id in found:
            raise Misconfigured("trust.attestor.duplicate", f"two attestors are called `{attestor.id}`")
        found[attestor.id] = attestor
    return found
