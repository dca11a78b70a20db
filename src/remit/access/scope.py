"""What of a snapshot one enforcement point gets: all that decides about the resources of its registration, no others.

Identities, grants, exceptions, revocations and policies travel whole: any of them may decide. A point that is held to
some resources gets these, what they are part of, and what policies name; of the others a *fence*: keyed digests of
their names, by which it knows, without knowing them, that a name leads to something that is not its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from remit.access.enforcers.asking import covers
from remit.access.enforcers.model import Enforcer
from remit.access.policy.compile import CompiledPolicies
from remit.access.policy.facts import ResourceFacts
from remit.access.snapshot import Snapshot

DIGEST_BYTES: Final = 8
_NAMED: Final = re.compile(r'Remit::Resource::"((?:\\.|[^"\\])*)"')


class Scope:
    """Cuts snapshots for one registration."""

    def __init__(self, point: Enforcer) -> None:
        self.point = point
        self.limited = bool(point.resources)

    def resources(self, snapshot: Snapshot) -> dict[str, ResourceFacts]:
        """The resources that this point must know. Reads all of them: use a thread."""
        if not self.limited:
            return dict(snapshot.resources.items())
        found: dict[str, ResourceFacts] = {}
        for name, facts in snapshot.resources.items():
            if covers(self.point, snapshot, facts.kind, name):
                found[name] = facts
                for above in snapshot.see_resource(facts.kind, name).view.ancestors:
                    part_of = snapshot.resources.get(above.id)
                    if part_of is not None:
                        found[above.id] = part_of
        for name in _named_by(snapshot.policies, snapshot.bounds):
            named = snapshot.resources.get(name)
            if named is not None:
                found[name] = named
        return found

    def fence(self, snapshot: Snapshot, held: Iterable[str], key: bytes) -> bytes:
        """Digests of every name that leads to a resource which is not among `held`. Use a thread."""
        if not self.limited:
            return b""
        kept = set(held)
        foreign = {name for name, _ in snapshot.resources.items() if name not in kept}
        foreign |= {alias for alias, (name, *_) in snapshot.resource_names.items() if name not in kept}
        return b"".join(sorted(digest_of(name, key) for name in foreign))


def digest_of(name: str, key: bytes) -> bytes:
    """As fences have it."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES, key=key).digest()


class Fence:
    """The receiver's side of it."""

    def __init__(self, data: bytes = b"", key: bytes = b"") -> None:
        cut = range(0, len(data) - DIGEST_BYTES + 1, DIGEST_BYTES)
        self._foreign = frozenset(data[at : at + DIGEST_BYTES] for at in cut)
        self._key = key

    def stands_before(self, snapshot: Snapshot, kind: str, name: str) -> bool:
        """Whether the request's resource is, by its names in the registry, one that this point does not know."""
        if not self._foreign:
            return False
        for each in (f"{kind}/{name}", name):
            if digest_of(each, self._key) in self._foreign:
                return True
            if each in snapshot.resources or each in snapshot.resource_names:
                return False
        return False


def _named_by(*sets: CompiledPolicies | None) -> set[str]:
    """Resources that policies name literally; a name with escapes is read as Cedar's simplest ones are written."""
    texts = (policy.source.text for each in sets if each is not None for policy in each.policies)
    return {re.sub(r"\\(.)", r"\1", found) for text in texts for found in _NAMED.findall(text)}
