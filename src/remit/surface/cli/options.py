"""Options that every command takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from remit.surface.cli.client import Admin
from remit.surface.cli.output import Format, ScanFormat

_COMMON = Group("Everywhere", sort_key=99)


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, kw_only=True)
class Where:
    """Which installation."""

    data: Annotated[Path, Parameter(env_var="REMIT_DATA", help="Data directory of the installation.")] = Path(".remit")
    socket_dir: Annotated[Path | None, Parameter(help="Where its sockets are, if not in the data directory.")] = None

    @property
    def admin(self) -> Admin:
        """A client of its control plane."""
        folder = self.socket_dir or self.data
        return Admin(folder.absolute() / "admin.sock", self.data.absolute())


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, kw_only=True)
class Listing(Where):
    """Which installation, and how to print."""

    format: Annotated[Format, Parameter(name=["--format", "-o"], help="How to print the result.")] = "table"


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, kw_only=True)
class Scanning(Where):
    """Which installation, and how to print what a scan found."""

    format: Annotated[ScanFormat, Parameter(name=["--format", "-o"], help="How to print the result.")] = "table"


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, kw_only=True)
class Reading(Scanning):
    """Which installation, how to print, and how a source is read."""

    dry_run: Annotated[bool, Parameter(help="Read, and show counts and a sample; write nothing.", negative=())] = False
    diff: Annotated[bool, Parameter(help="List what is new, gone and changed since the last run.", negative=())] = False
    watch: Annotated[
        int, Parameter(help="Read again every so many seconds, until Ctrl-C; print what changed, and nothing else.")
    ] = 0
