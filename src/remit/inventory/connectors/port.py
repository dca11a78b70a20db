"""What a connector is: `fetch` (I/O) → `translate` (pure) → reconcile → retire (the registry's two beats).

`fetch` yields raw records of the source, or `Skipped`; `translate` turns one raw record into facts and does no I/O.
Both may be generators over millions of records: memory is bounded by one record.
A connector is read-only, bounded in time and size, and one bad record never hides the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from remit.inventory.model import Fact, Skipped
from remit.kernel.unit import Fingerprinter

Raw = TypeVar("Raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A right that the connector needs at the source, in the source's own words (the exact grant to give it)."""

    grant: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """What the connector cannot see, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting of a connector, given as `--set NAME=VALUE`."""

    name: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorManifest:
    """What a connector says of itself; shown by `remit connectors` and in the documentation."""

    id: str
    title: str
    source: str
    """What SOURCE means on the command line."""
    observes: tuple[str, ...]
    needs: tuple[Permission, ...]
    blind_to: tuple[Blind, ...]
    hazards: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    record_of: tuple[str, ...] = ()
    """Systems of which this source is the system of record. Only there may it say that two names mean one identity:
    a certificate that somebody drops into a scanned tree must not join an identity with another."""
    resumable: bool = False
    """True where `fetch` can go on after the marks of a run that was interrupted (`Scan.resumed`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What one run of a connector gets: its moment, its fingerprinter, a way to report progress, and to be stopped."""

    now: datetime
    fingerprint: Fingerprinter
    progress: Callable[[int, str], None] = lambda done, where: None
    """Called now and then with the number of records read and the place."""
    stopped: Callable[[], bool] = lambda: False
    recalled: Mapping[str, str] = field(default_factory=dict)
    """What the last run remembered: one that read everything or, when `resumed`, the one that was interrupted."""
    remember: Callable[[str, str], None] = lambda key, value: None
    """Keep a mark (an ETag, a cursor) for the next run. Call it *after* what it stands for was yielded: it is stored
    together with those facts. At most `marks.MOST` keys; `Rejected` (`inventory.mark.unfit`) beyond the bounds."""
    cache_dir: str = ""
    """A private folder of the installation for what only saves time; empty: nothing is kept."""
    resumed: bool = False
    """True when this run goes on where one was interrupted: what that one delivered counts as seen, and need not be
    delivered again. Otherwise what a finished run did not show is retired, marks or not."""


class Connector(Protocol, Generic[Raw]):
    """Reads one source."""

    @property
    def manifest(self) -> ConnectorManifest: ...

    @property
    def instance(self) -> str:
        """A stable fingerprint of the server, account, cluster or host that is read, known after `open`."""
        ...

    @property
    def scope(self) -> str:
        """What part of the instance this run covers: a path, an account, a database. Only its facts are retired."""
        ...

    def open(self) -> None:
        """Connect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        ...

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]: ...
    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]: ...

    def close(self) -> None:
        """Works after a failed `open`, and twice."""
        ...


AnyConnector = Connector[Any]
