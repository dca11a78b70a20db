"""The host connector: the machine that Remit runs on, or the root directory of an image or another machine."""

from __future__ import annotations

import os
import posixpath
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.host import host_fingerprint
from remit.inventory.connectors.files.record import FileRead, Role
from remit.inventory.connectors.files.sheet import clean
from remit.inventory.connectors.files.units import credential_files, environment_files, parse_unit
from remit.inventory.connectors.host import accounts, cron, facts, logins, processes, sudoers
from remit.inventory.connectors.host.records import (
    AccountsRead,
    CrontabRead,
    DoasRead,
    GivenRead,
    PowerRead,
    ProcessRead,
    Programs,
    Record,
    ScriptRead,
    SudoersRead,
    UnitRead,
)
from remit.inventory.connectors.host.tree import MOST_BYTES, Tree
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Rejected, Unavailable

MANIFEST = ConnectorManifest(
    id="host",
    record_of=("host",),
    title="A Linux host: units, jobs, sudo, accounts, and what runs",
    source="`/` for this machine, or the root directory of an image",
    observes=(
        "units of systemd with their drop-ins and timers: as whom they run, which credentials and environment they get",
        "jobs of cron and anacron, and scripts of cron.daily and its like",
        "rules of sudo (includes, aliases, tags) and doas: who may become whom, with what condition",
        "accounts that can log in, run something or are strong: the state and kind of their password, its age",
        "groups that are root by another name (docker, lxd, disk …) and who is in them",
        "set-user-id programs and file capabilities outside the distribution's own",
        "programs that run now, in which unit, under which account, and where they listen (only for `/`)",
        "last logins, from wtmp and lastlog",
        "secrets in the environment of programs that run now, where they are asked for",
    ),
    options=(
        Option(
            name="environment", help="programs, by path and with commas, whose processes' environment is read; or `all`"
        ),
    ),
    needs=(
        Permission(grant="read access to /etc, /var/spool/cron and the unit directories", why="what is declared there"),
        Permission(
            grant="AmbientCapabilities=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE for the scanning service, or root",
            why="shadow, sudoers, crontabs of accounts, and handles of processes are closed to others",
        ),
    ),
    blind_to=(
        Blind(what="rules of polkit", why="they are programs: each file of them is listed as skipped"),
        Blind(what="sudo rules in LDAP or SSSD", why="only files are read"),
        Blind(what="accounts of NSS modules (LDAP, SSSD, systemd-homed)", why="only passwd is read"),
        Blind(what="units of users' own managers", why="only the system's manager is read"),
        Blind(what="the distribution's own units that run as root", why="they are the platform, nobody's identity"),
        Blind(
            what="accounts of the distribution without shell, password or anything that runs as them", why="the same"
        ),
        Blind(what="what runs between two runs", why="/proc shows this moment"),
    ),
    hazards=("it reads the hashes of passwords: a keyed fingerprint and the kind are kept, nothing else",),
)
_UNIT_DIRECTORIES = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system",
)  # fmt: skip
_UNIT_SUFFIXES = (".service", ".timer")
_SHIPPED = ("/usr/lib/", "/lib/")
_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_SPOOLS = ("/var/spool/cron/crontabs", "/var/spool/cron")
_PROGRAMS = (
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/opt",
    "/srv",
)
_POLKIT = ("/etc/polkit-1/rules.d", "/usr/share/polkit-1/rules.d", "/etc/polkit-1/localauthority")
_MOST_UNITS = 5_000
_MOST_PROGRAMS = 50_000
_MOST_DEPTH = 5
_MOST_ENVIRONMENTS = 16


class HostConnector:
    """Reads the host below `root`; runs no program."""

    manifest = MANIFEST

    def __init__(self, root: Path, *, instance: str | None = None, environment: frozenset[str] = frozenset()) -> None:
        self._root = root
        self._environment = environment
        self._instance = instance
        self._tree = Tree(root)
        self._accounts: dict[int, str] = {}

    @property
    def instance(self) -> str:
        """The machine's fingerprint, from its machine id; an image without one is named by its place."""
        if self._instance is None:
            own = self._tree.read("/etc/machine-id")
            if isinstance(own, bytes) and own.strip():
                self._instance = host_fingerprint(own)
            else:
                self._instance = host_fingerprint(None if self._is_live else str(self._root).encode())
        return self._instance

    @property
    def scope(self) -> str:
        return clean(str(self._root), 400)

    @property
    def _is_live(self) -> bool:
        return str(self._root) == "/"

    def open(self) -> None:
        """Resolve the root; `Rejected` (`inventory.host.no_root`), or `Unavailable` when it is closed to us."""
        try:
            self._root = self._root.resolve(strict=True)
            os.close(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except PermissionError:
            raise Unavailable("inventory.host.unreadable", f"`{self.scope}` cannot be read") from None
        except (OSError, RuntimeError, ValueError):
            raise _no_root(self.scope) from None
        self._tree = Tree(self._root)
        if not self._tree.names("/etc"):
            raise _no_root(self.scope)

    def fetch(self, scan: Scan) -> Iterator[Record | Skipped]:
        """Everything that the host declares, then what runs."""
        passwd = self._tree.read("/etc/passwd")
        if isinstance(passwd, bytes):
            listed = accounts.parse_accounts(passwd)
            for account in reversed(listed):
                self._accounts[account.uid] = account.login
            yield from self._account_files(passwd)
        elif passwd is not None:
            yield passwd
        for number, (name, reading) in enumerate((
            ("units", self._units), ("jobs", self._jobs), ("rules", self._rules), ("programs", self._powers),
            ("processes", self._processes),
        )):  # fmt: skip
            if scan.stopped():
                yield Skipped(what=f"{name} of {self.scope}", reason="not-supported", detail="the run was stopped")
                continue
            scan.progress(number + 1, f"{name} of {self.scope}")
            yield from reading()

    def translate(self, raw: Record, scan: Scan) -> Iterable[Fact]:
        """The facts of one record; what breaks a reader becomes `Skipped`."""
        sheet = facts.HostSheet(raw.file, scan)
        try:
            facts.record(sheet, raw, self._accounts)
        except (Malformed, ValueError, RecursionError) as error:
            sheet.skip("malformed", type(error).__name__)
        return sheet.facts()

    def close(self) -> None:
        """Nothing is held."""

    def _file(self, path: str, data: bytes, *, vendor: bool = False) -> FileRead:
        found = self._tree.status(path)
        owner = found.st_uid if found else 0
        return FileRead(
            path=clean(path, 1000), reader="host", data=data, host=self.instance,
            account=self._accounts.get(owner, "root" if owner == 0 else f"uid-{owner}"),
            role=Role.VENDOR if vendor else Role.LIVE, open_to_all=self._tree.open_to_all(path),
            open_to_group=bool(found and found.st_mode & stat.S_IRGRP),
        )  # fmt: skip

    def _account_files(self, passwd: bytes) -> Iterator[Record | Skipped]:
        shadow, group = self._tree.read("/etc/shadow"), self._tree.read("/etc/group")
        for each in (shadow, group):
            if isinstance(each, Skipped):
                yield each
        last: dict[str, datetime] = {}
        for path in ("/var/log/wtmp", "/var/log/lastlog"):
            data = self._tree.read(path, last=logins.MOST_BYTES if path.endswith("wtmp") else 64 * MOST_BYTES)
            if isinstance(data, Skipped):
                yield data
            elif data is not None:
                wtmp = path.endswith("wtmp")
                for login, moment in (
                    logins.from_wtmp(data) if wtmp else logins.from_lastlog(data, self._accounts)
                ).items():
                    last[login] = max(moment, last.get(login, moment))
        yield AccountsRead(
            file=self._file("/etc/passwd", passwd), shadow=shadow if isinstance(shadow, bytes) else None,
            group=group if isinstance(group, bytes) else b"", logins=last,
        )  # fmt: skip

    def _units(self) -> Iterator[Record | Skipped]:
        seen: dict[str, str] = {}
        drops: dict[str, dict[str, str]] = {}
        for directory in _UNIT_DIRECTORIES:
            for name in self._tree.names(directory):
                if name.endswith(_UNIT_SUFFIXES):
                    seen.setdefault(name, f"{directory}/{name}")
                elif name.endswith(tuple(f"{suffix}.d" for suffix in _UNIT_SUFFIXES)):
                    for drop in self._tree.names(f"{directory}/{name}"):
                        if drop.endswith(".conf"):
                            drops.setdefault(name[:-2], {}).setdefault(drop, f"{directory}/{name}/{drop}")
        if len(seen) > _MOST_UNITS:
            yield Skipped(what=f"{len(seen) - _MOST_UNITS} units", reason="too-large")
        for name in sorted(seen)[:_MOST_UNITS]:
            path = seen[name]
            if self._tree.inside(path) not in {"", "/dev/null"} and not self._is_alias(path, name):
                yield from self._unit(name, path, [drops.get(name, {})[key] for key in sorted(drops.get(name, {}))])

    def _is_alias(self, path: str, name: str) -> bool:
        """A link to a unit of another name is that unit once more."""
        real = posixpath.basename(self._tree.inside(path))
        return real != name and real.endswith(_UNIT_SUFFIXES) and "@" not in name

    def _unit(self, name: str, path: str, drops: list[str]) -> Iterator[Record | Skipped]:
        texts: list[bytes] = []
        for each in (path, *drops[:100]):
            data = self._tree.read(each)
            if isinstance(data, Skipped):
                yield data
            elif data is not None:
                texts.append(data)
        if not texts:
            return
        shipped = self._tree.inside(path).startswith(_SHIPPED) and not any(not d.startswith(_SHIPPED) for d in drops)
        file = self._file(path, b"\n".join(texts), vendor=shipped)
        try:
            unit = parse_unit(file.data, name)
        except Malformed:
            yield Skipped(what=clean(path), reason="malformed")
            return
        programs = [cron.program_of(cron.words_of(setting.value.lstrip("@-:+!"))) for setting in unit.commands]
        yield UnitRead(file=file, label=name, programs=self._look(programs))
        given = [("", path) for path in environment_files(unit)] + list(credential_files(unit))
        for label, source in given[:200]:
            data = self._tree.read(source)
            if isinstance(data, Skipped):
                yield data
            elif data is not None:
                yield GivenRead(file=self._file(source, data), unit=name, label=label)

    def _look(self, paths: Iterable[str]) -> Programs:
        found = {path: self._tree.program(path) for path in list(dict.fromkeys(filter(None, paths)))[:500]}
        return {path: program for path, program in found.items() if program is not None}

    def _jobs(self) -> Iterator[Record | Skipped]:
        shared = ["/etc/crontab", *(f"/etc/cron.d/{name}" for name in self._tree.names("/etc/cron.d") if _runs(name))]
        tables = [(path, "", False) for path in shared] + [("/etc/anacrontab", "", True)]
        for spool in _SPOOLS:
            if not self._tree.can_list(spool):
                yield Skipped(what=spool, reason="not-permitted", detail="crontabs of accounts are root's to read")
            tables += [(f"{spool}/{name}", name, False) for name in self._tree.names(spool)]
        for path, user, anacron in tables:
            data = self._tree.read(path)
            if isinstance(data, Skipped):
                yield data
            elif data is not None:
                table = cron.parse_anacrontab(data) if anacron else cron.parse_crontab(data, user=user)
                programs = self._look(cron.program_of(cron.words_of(job.command)) for job in table.jobs)
                yield CrontabRead(file=self._file(path, data), user=user, anacron=anacron, programs=programs)
        for period in _PERIODS:
            for name in self._tree.names(f"/etc/cron.{period}"):
                path = f"/etc/cron.{period}/{name}"
                program = self._tree.program(path)
                if _runs(name) and program is not None and program.mode & 0o111 and stat.S_ISREG(program.mode):
                    data = self._tree.read(path)
                    body = data if isinstance(data, bytes) else b""
                    yield ScriptRead(file=self._file(path, body), period=period, program=program)

    def _rules(self) -> Iterator[Record | Skipped]:
        closed: list[Skipped] = []

        def read(path: str) -> bytes | None:
            data = self._tree.read(path)
            if isinstance(data, Skipped):
                closed.append(data)
            return data if isinstance(data, bytes) else None

        parts, left_out = sudoers.gather("/etc/sudoers", read, self._tree.names, self._host_name())
        yield from closed
        for path in left_out:
            yield Skipped(what=clean(path), reason="malformed", detail="an include that goes in circles or too deep")
        if parts:
            rules = sudoers.parse_sudoers(parts)
            paths = [grant.command.partition(" ")[0] for grant in rules.grants]
            file = self._file("/etc/sudoers", b"")
            yield SudoersRead(file=file, parts=tuple(parts), programs=self._look(p for p in paths if p[:1] == "/"))
        for path in ("/etc/doas.conf", "/usr/local/etc/doas.conf", "/etc/opendoas.conf"):
            data = self._tree.read(path)
            if isinstance(data, Skipped):
                yield data
            elif data is not None:
                yield DoasRead(file=self._file(path, data))
        for directory in _POLKIT:
            for name in self._tree.names(directory):
                if name.endswith((".rules", ".pkla")):
                    yield Skipped(
                        what=clean(f"{directory}/{name}"),
                        reason="not-supported",
                        detail="a rule of polkit is a program",
                    )

    def _host_name(self) -> str:
        own = self._tree.read("/etc/hostname")
        named = own.decode("utf-8", "replace").strip() if isinstance(own, bytes) else ""
        return (named or (socket.gethostname() if self._is_live else "")).partition(".")[0]

    def _powers(self) -> Iterator[Record | Skipped]:
        seen: set[tuple[int, int]] = set()
        pending = [(directory, 0) for directory in reversed(_PROGRAMS)]
        budget = _MOST_PROGRAMS
        while pending:
            directory, depth = pending.pop()
            for name in self._tree.names(directory):
                path = f"{directory}/{name}"
                budget -= 1
                if budget < 0:
                    yield Skipped(what="programs", reason="too-large", detail=f"more than {_MOST_PROGRAMS} files")
                    return
                real = self._tree.real(path)
                found = self._tree.status(path)
                if real is None or found is None or (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
                if stat.S_ISDIR(found.st_mode) and depth < _MOST_DEPTH and real.endswith(path):
                    pending.append((path, depth + 1))
                elif (powers := processes.powers_of(real, found)) is not None:
                    yield PowerRead(
                        file=self._file(path, b""), owner=found.st_uid, mode=found.st_mode, capabilities=powers
                    )

    def _processes(self) -> Iterator[Record]:
        if not self._is_live:
            return
        grouped: dict[tuple[str, int, str], ProcessRead] = {}
        for process in processes.processes():
            key = process.program, process.uid, process.unit
            known = grouped.get(key)
            environments = known.environments if known else frozenset()
            if self._environment & {process.program, "all"} and len(environments) < _MOST_ENVIRONMENTS:
                environments |= {processes.environment_of(process.pid)} - {()}
            grouped[key] = (
                replace(
                    known,
                    count=known.count + 1,
                    listens=tuple(sorted({*known.listens, *process.listens})),
                    environments=environments,
                )
                if known
                else ProcessRead(
                    file=replace(self._file("/proc", b""), open_to_all=False, open_to_group=False),
                    program=process.program,
                    unit=process.unit,
                    count=1,
                    account=self._accounts.get(process.uid, f"uid-{process.uid}"),
                    listens=process.listens,
                    environments=environments,
                )
            )
        yield from grouped.values()


def _runs(name: str) -> bool:
    """Names that cron and run-parts pass over: backups, hidden files, packages' leftovers."""
    return bool(name) and all(mark.isalnum() or mark in "_-" for mark in name)


def _no_root(scope: str) -> Rejected:
    return Rejected(
        "inventory.host.no_root",
        f"`{scope}` is no root directory of a host",
        next_step="use `/` for this machine, or a directory with an `etc` in it",
    )


def make(source: str, options: Mapping[str, str], secret: str) -> HostConnector:
    """A connector on a root directory."""
    programs = (each.strip() for each in options.get("environment", "").split(","))
    return HostConnector(Path(source), environment=frozenset(each for each in programs if each))
