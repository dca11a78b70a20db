"""What a record of a log says of a use, and what is kept of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from remit.kernel.ids import Name

ANY = "any"
"""The instance of logs that tell of several."""
DAYS = 400
"""For how many days, the newest first, uses are counted by day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What was done: an action, as the system names it, on a resource."""

    action: str
    """`?` where the log shows that something was done and not what."""
    resource: str = ""
    """Empty where the log does not say."""
    wide: bool = False
    """The resource is a pattern that ends in `*`: it was something of that kind."""


UNCLEAR = "?"
"""The action of which a log shows only that it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """All acts of one name that were the same action on the same resource."""

    name: Name
    action: str
    resource: str
    count: int
    """Those that were admitted."""
    refused: int
    first: datetime
    last: datetime
    wide: bool = False
    """`resource` ends in `*` and stands for all that begins so: there were too many to keep each."""
    days: tuple[str, ...] = ()
    """On which days it was admitted (2026-03-03), the newest of them."""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use of an identity or credential, as a log tells it."""

    name: Name
    moment: datetime
    address: str = ""
    """Of the client, without port."""
    program: str = ""
    """The name of a program, or the first word of a user agent."""
    environment: str = ""
    admitted: bool = True
    person: str = ""
    """Why a person seems to be behind it: an interactive program, a known address. Empty for a machine."""
    acts: tuple[Act, ...] = ()
    """What was done, where the log says so."""

    @property
    def consumer(self) -> str:
        """The workload's fingerprint: where it runs and what it is."""
        return " ".join(filter(None, (self.address, self.program))) or "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class UseRow:
    """The uses of one name: how often on which day (2026-03-03 → count), by whom, in which environments."""

    name: Name
    first: datetime
    last: datetime | None
    """The last that was admitted; `None` where every attempt was refused."""
    count: int
    failures: int = 0
    days: Mapping[str, int] = field(default_factory=dict)
    consumers: Mapping[str, int] = field(default_factory=dict)
    """The most frequent ones; a count may be too high, never too low (space-saving)."""
    environments: tuple[str, ...] = ()
    people: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who is connected right now. `number` grows with each new session of one server's life."""

    use: Use
    """Its moment is the session's beginning, as far as the server tells it."""
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UseFact:
    """A piece of a log was read: from when to when it tells of a system, and what it tells of each name.

    Uses add up, so each piece counts once, whoever reads it and however often a run is interrupted: `log` names the log
    by what it says, and `start` and `end` say where in it the piece lies (bytes).
    """

    system: str
    instance: str
    since: datetime
    until: datetime
    place: str
    rows: tuple[UseRow, ...] = ()
    others: tuple[str, ...] = ()
    """Further instances of the system of which the piece tells: accounts of one trail."""
    log: str = ""
    start: int = 0
    end: int = 0
    deeds: tuple[Deed, ...] = ()
    """What was done, by the names of `rows`."""
    beyond: Mapping[str, int] = field(default_factory=dict)
    """Name → acts that `deeds` does not tell of."""
    sessions: tuple[Session, ...] = ()
    """Instead of rows: a live list. It shows a moment, and is no window in which a use would have been seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From when to when the logs of one system were read without a gap."""

    system: str
    instance: str
    since: datetime
    until: datetime
    read: datetime
