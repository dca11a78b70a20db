"""What a pattern with wildcards covers, found once for all who hold it.

A right to `arn:aws:s3:::*` would be one edge to each bucket for each principal. Where a pattern covers more than `FEW`,
it is one edge to a hub, and the hub has one edge to each resource: linear, however many principals hold the right.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from remit.inventory.connectors.aws.patterns import covers, meets, plain_head
from remit.kernel.ids import Name, name

FEW: Final = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Concrete:
    """A resource that some policy names without a wildcard in its name."""

    pattern: str
    name: Name
    kind: str
    title: str


class Sorted(Generic[T]):
    """Things by a text, for questions about a pattern: what cannot begin as it does is not looked at."""

    def __init__(self, pairs: Iterable[tuple[str, T]]) -> None:
        self._pairs = sorted(pairs, key=lambda pair: pair[0])
        self._keys = [key for key, _ in self._pairs]

    def covered(self, pattern: str) -> Iterator[T]:
        """Those that the pattern covers wholly."""
        return (thing for key, thing in self._near(pattern) if covers(pattern, key))

    def met(self, pattern: str) -> Iterator[T]:
        """Those, named without wildcards, that it matches."""
        return (thing for key, thing in self._near(pattern) if meets(pattern, key))

    def _near(self, pattern: str) -> Sequence[tuple[str, T]]:
        head = plain_head(pattern)
        first = bisect_left(self._keys, head)
        return self._pairs[first : bisect_left(self._keys, head + "\U0010ffff", first)] if head else self._pairs


@dataclass(slots=True)
class Spread:
    """The concrete resources of an account by service, what patterns cover of them, and the hubs that were told."""

    account: str
    resources: dict[str, dict[Name, Concrete]] = field(default_factory=dict)
    told: set[Name] = field(default_factory=set)
    """The hubs whose edges were emitted."""
    _sorted: dict[str, Sorted[Concrete]] = field(default_factory=dict)
    _inside: dict[tuple[str, str], tuple[Concrete, ...]] = field(default_factory=dict)

    def inside(self, service: str, pattern: str) -> tuple[Concrete, ...]:
        """The concrete resources of the services that `service` matches, which `pattern` covers."""
        key = (service, pattern)
        if key not in self._inside:
            known = [one for one in self.resources if service == one or covers(service, one)]
            self._inside[key] = tuple(found for one in known for found in self._of(one).covered(pattern))
        return self._inside[key]

    def _of(self, service: str) -> Sorted[Concrete]:
        if service not in self._sorted:
            self._sorted[service] = Sorted((one.pattern, one) for one in self.resources[service].values())
        return self._sorted[service]

    def hub(self, service: str, pattern: str) -> Name:
        """The node that stands for what a pattern covers."""
        shown = pattern if len(pattern) <= 200 else hashlib.sha256(pattern.encode("utf-8", "replace")).hexdigest()
        return name("aws", self.account, "any-of", f"{service} {shown}")
