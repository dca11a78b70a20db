"""How credentials reach a task: private files that end with it, and an environment that points at them.

PostgreSQL clients find theirs by `PGPASSFILE` and `PGSERVICEFILE` (`psql service=TARGET`), and for a single need by
`PG*` as well. Every need has a `TARGET.json` beside them. Only with `--env` is a secret in the environment.

Spec: libpq "The Password File", "The Connection Service File", "Environment Variables".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_PREFIX = "remit-run-"
_MINE = re.compile(r"remit-run-([0-9]+)-[A-Za-z0-9_]+")
_STALE = frozenset(
    "PGPASSWORD PGHOSTADDR PGSERVICE PGPASSFILE PGSERVICEFILE PGHOST PGPORT PGDATABASE PGUSER".split()  # noqa: SIM905
)
"""Of the caller's environment: a static password there would win over the lease."""
_SETTINGS = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One credential as the agent handed it over."""

    need: str
    lease: str
    system: str
    target: str
    role: str
    settings: Mapping[str, str]
    secret: str
    fail_safe: bool

    def __repr__(self) -> str:
        return f"Handed(lease={self.lease!r})"


class Handover:
    """A private directory of one run, removed with `close`."""

    def __init__(self, *, pid: int) -> None:
        parent = _parent()
        _remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{pid}-", dir=parent))

    def write(self, credentials: Sequence[Handed]) -> None:
        """Write every credential in the forms that its clients read, 0600 each."""
        postgres = [one for one in credentials if one.system == "postgres"]
        if postgres:
            self._file("pgpass", "".join(line for one in postgres for line in _pgpass_lines(one)))
            self._file("pg_service.conf", "".join(_service(name, one) for name, one in _services(postgres)))
        for one in credentials:
            document = {"need": one.need, "lease": one.lease, "settings": dict(one.settings), "secret": one.secret}
            self._file(f"{one.target}-{one.role}.json", json.dumps(document))

    def link(self, path: str, handle: int) -> str:
        """A name for an open script, under which an interpreter opens that very file; its last part is the script's.

        Programs look at their own last name (`$0`), which a bare descriptor would hide from them.
        """
        folder = self.path / "script"
        folder.mkdir(mode=0o700)
        link = folder / os.path.basename(path)  # noqa: PTH119
        link.symlink_to(f"/proc/self/fd/{handle}")
        return str(link)

    def environment(self, credentials: Sequence[Handed], base: Mapping[str, str], *, secrets: bool) -> dict[str, str]:
        """The task's environment: what the caller's had, without stale credentials, with pointers to these."""
        env = dict(base)
        env["REMIT_CREDENTIALS"] = str(self.path)
        postgres = [one for one in credentials if one.system == "postgres"]
        if postgres:
            for name in _STALE:
                env.pop(name, None)
            env["PGPASSFILE"] = str(self.path / "pgpass")
            env["PGSERVICEFILE"] = str(self.path / "pg_service.conf")
        if len(credentials) == 1 and postgres:
            env |= {name: postgres[0].settings[key] for key, name in _SETTINGS.items() if key in postgres[0].settings}
            if secrets:
                env["PGPASSWORD"] = postgres[0].secret
        elif secrets:
            env |= {name: _url(one) for name, one in _variables(credentials)}
        return env

    def close(self) -> None:
        """Remove the directory and what is in it; works twice."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, name: str, text: str) -> None:
        handle = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)


def _parent() -> Path:
    """The user's own runtime directory (memory, private) where there is one, else that of temporary files."""
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/"):
        with suppress(OSError):
            seen = Path(named).stat()
            if seen.st_uid == os.getuid() and not seen.st_mode & 0o077:
                return Path(named)
    return Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    """Directories of supervisors that were killed: their credentials are dead, their files need not stay."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            match = _MINE.fullmatch(entry.name)
            if match is None or not entry.is_dir(follow_symlinks=False):
                continue
            if entry.stat(follow_symlinks=False).st_uid == os.getuid() and not Path(f"/proc/{match[1]}").exists():
                shutil.rmtree(entry.path, ignore_errors=True)


def _pgpass_lines(one: Handed) -> list[str]:
    """One line for the host as it is given, one more for a Unix socket, which libpq may look up as `localhost`."""
    host = one.settings.get("host", "*")
    hosts = [host, "localhost"] if host.startswith("/") else [host]
    user = one.settings.get("user", "*")
    port = one.settings.get("port", "*")
    return [":".join(_escaped(part) for part in (each, port, "*", user, one.secret)) + "\n" for each in hosts]


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:")


def _services(credentials: Sequence[Handed]) -> list[tuple[str, Handed]]:
    """`TARGET` for the first need on a target, and `TARGET-ROLE` for every one."""
    named: dict[str, Handed] = {}
    for one in credentials:
        named.setdefault(one.target, one)
    for one in credentials:
        named.setdefault(f"{one.target}-{one.role}", one)
    return list(named.items())


def _service(name: str, one: Handed) -> str:
    lines = [f"{key}={value}" for key, value in one.settings.items() if "\n" not in value]
    return "\n".join((f"[{name}]", *lines, ""))


def _variables(credentials: Sequence[Handed]) -> list[tuple[str, Handed]]:
    """`ORDERS_URL`, or `ORDERS_READ_URL` where a target is needed in more than one role."""
    targets = [one.target for one in credentials]
    named = []
    for one in credentials:
        stem = one.target if targets.count(one.target) == 1 else f"{one.target}_{one.role}"
        named.append((re.sub(r"[^A-Z0-9]", "_", stem.upper()) + "_URL", one))
    return named


def _url(one: Handed) -> str:
    settings = dict(one.settings)
    host, port = settings.pop("host", ""), settings.pop("port", "")
    user, database = settings.pop("user", ""), settings.pop("dbname", "")
    scheme = "postgresql" if one.system == "postgres" else one.system
    where = quote(host, safe="") + (f":{port}" if port else "")
    rest = "&".join(f"{key}={quote(value, safe='')}" for key, value in settings.items())
    return f"{scheme}://{quote(user, safe='')}:{quote(one.secret, safe='')}@{where}/{quote(database, safe='')}" + (
        f"?{rest}" if rest else ""
    )
