"""Tables of scheduled jobs, read as cron and anacron read them. Never raises; every loop has an end.

Spec: crontab(5); anacrontab(5).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from remit.inventory.connectors.files.formats import Setting, decode, unquote

_MOST_JOBS = 2_000
_MOST_LINE = 65_536
_SETTING = re.compile(r"\s*([A-Za-z_]\w{0,199}|\"[^\"]{1,200}\"|'[^']{1,200}')\s*=\s*(.*?)\s*")
_TIME = re.compile(r"[0-9*,/~A-Za-z-]{1,200}")
_MACROS = frozenset({"reboot", "yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"})
_PERIOD = re.compile(r"\d{1,5}|@[a-z]{1,20}")
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One line of a table."""

    line: int
    schedule: str
    user: str
    command: str = field(repr=False)


@dataclass(slots=True)
class Table:
    jobs: list[Job] = field(default_factory=list)
    environment: list[Setting] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)


def parse_crontab(data: bytes, *, user: str = "") -> Table:
    """Read a table; with `user` it is that account's own, without one each line names an account."""
    return _parse(data, lambda line, number: _job(line, number, user))


def parse_anacrontab(data: bytes) -> Table:
    """Read anacron's table: its jobs run as root."""
    return _parse(data, _daily)


def _parse(data: bytes, read: object) -> Table:
    table = Table()
    for number, line in enumerate(decode(data).split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        setting = _SETTING.fullmatch(line) if len(line) <= _MOST_LINE else None
        job = read(line, number) if len(line) <= _MOST_LINE and setting is None else None  # type: ignore[operator]
        if len(table.jobs) + len(table.environment) >= _MOST_JOBS:
            table.broken.append(number)
            break
        if setting is not None:
            key, value = unquote(setting.group(1)), unquote(setting.group(2))
            table.environment.append(Setting("", key, value, number))
        elif job is not None:
            table.jobs.append(job)
        elif len(table.broken) < _MOST_JOBS:
            table.broken.append(number)
    return table


def _job(line: str, number: int, user: str) -> Job | None:
    line = line.removeprefix("-")  # SUSE: not logged
    if line.startswith("@"):
        words = line.split(None, 1 if user else 2)
        times, rest = words[:1], words[1:]
        if not words or words[0][1:].lower() not in _MACROS:
            return None
    else:
        words = line.split(None, 5 if user else 6)
        times, rest = words[:5], words[5:]
        if not all(_TIME.fullmatch(word) for word in times):
            return None
    if len(rest) != (1 if user else 2) or not (user or _LOGIN.fullmatch(rest[0])):
        return None
    return Job(line=number, schedule=" ".join(times), user=user or rest[0], command=rest[-1])


def _daily(line: str, number: int) -> Job | None:
    words = line.split(None, 3)
    if len(words) != 4 or not _PERIOD.fullmatch(words[0]) or not words[1].isdigit():
        return None
    return Job(line=number, schedule=f"every {words[0]} days", user="root", command=words[3])


def words_of(command: str) -> list[str]:
    """A command line as words; one that no shell would take is cut at its spaces. At most 200."""
    text = command[:8192]
    try:
        return shlex.split(text)[:200]
    except ValueError:
        return text.split()[:200]


def program_of(words: list[str]) -> str:
    """The absolute path of the first program that a command line runs; empty where it names none."""
    for word in words:
        if word.startswith("/"):
            return word.rstrip(";")
        if "=" not in word and word not in _PREFIXES:
            return ""
    return ""


_PREFIXES = frozenset({"exec", "nice", "nohup", "env", "time", "test", "[", "-x", "-n", "-e", "!", "if", "then"})
