"""What `fetch` of the host connector hands to `translate`: the bytes of one thing, and what only the disk knew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from remit.inventory.connectors.files.record import FileRead
from remit.inventory.connectors.host.sudoers import Part
from remit.inventory.connectors.host.tree import Program

Programs: TypeAlias = Mapping[str, Program]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRead:
    """A unit with its drop-ins behind it, and what it runs."""

    file: FileRead
    label: str
    programs: Programs = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRead:
    """A file whose content a unit is given: its environment, or one credential called `label`."""

    file: FileRead
    unit: str
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrontabRead:
    """A table of jobs; `user` is set where the table is that account's own, empty where each line names one."""

    file: FileRead
    user: str = ""
    anacron: bool = False
    programs: Programs = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRead:
    """A script that root runs every `period` (cron.daily and its like)."""

    file: FileRead
    period: str
    program: Program | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SudoersRead:
    """The rules of sudo: every file in the order in which sudo reads it."""

    file: FileRead
    parts: tuple[Part, ...] = field(repr=False)
    programs: Programs = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoasRead:
    file: FileRead


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsRead:
    """passwd (in `file`), shadow and group; `shadow` is `None` where it could not be read."""

    file: FileRead
    shadow: bytes | None = field(repr=False)
    group: bytes = field(repr=False)
    logins: Mapping[str, datetime] = field(default_factory=dict)
    """Account → its last login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerRead:
    """A program that gives who runs it more than they have: set-user-id, or file capabilities."""

    file: FileRead
    owner: int
    mode: int
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRead:
    """What runs now: one program under one account, in one unit."""

    file: FileRead
    program: str
    account: str
    unit: str
    """Empty outside a unit."""
    count: int
    listens: tuple[str, ...] = ()
    environments: frozenset[tuple[tuple[str, str], ...]] = field(default=frozenset(), repr=False)
    """Those with which it was started, where they were asked for."""


Record: TypeAlias = (
    UnitRead | GivenRead | CrontabRead | ScriptRead | SudoersRead | DoasRead | AccountsRead | PowerRead | ProcessRead
)
