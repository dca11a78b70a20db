"""Logins: the user, host and database beside a password, named as the connectors of those systems name them."""

from __future__ import annotations

import re
from urllib.parse import unquote

from remit.inventory.connectors.files.dsn import DATABASES, Dsn, dsn_of, find_dsns, parse_conninfo
from remit.inventory.connectors.files.values import is_placeholder
from remit.inventory.model import CredentialKind, IdentityKind
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, known, subject
from remit.kernel.ids import name

_HOSTS = (
    ("postgres", r"postgres|pgsql|\bpg\b|\.pgpass|:5432"), ("mysql", r"mysql|mariadb|my\.cnf|:3306"),
    ("redis", r"redis|:6379"), ("rabbitmq", r"rabbit|amqp|:5672"), ("mongodb", r"mongo|:27017"),
    ("mssql", r"mssql|sqlserver|:1433"), ("ldap", r"ldap|:389\b|:636\b"), ("smtp", r"smtp|:587\b"),
    ("clickhouse", r"clickhouse"), ("kafka", r"kafka|:9092"), ("nats", r"\bnats\b|:4222"),
)  # fmt: skip


def bind(seen: Seen) -> Binding | None:
    """The login of a URL or key=value connection string, found whole or by its password; else of named neighbours."""
    dsn = _whole(seen) or _by_password(seen) or _by_parts(seen)
    if dsn is None:
        return None
    return _binding(dsn, seen)


def _whole(seen: Seen) -> Dsn | None:
    if "://" in seen.value:
        return next((found for found in find_dsns(seen.value) if found.password), None)
    return parse_conninfo(seen.value) if "=" in seen.value else None


def _by_password(seen: Seen) -> Dsn | None:
    """The connection string of the line in which the password stands."""
    middle = min(seen.hit.start, 3_000)
    before, after = seen.around[:middle], seen.around[middle:]
    line = before.rpartition("\n")[2][-2_000:] + after.partition("\n")[0][:2_000]
    wanted = {seen.value, unquote(seen.value)}
    if "://" in line:
        for found in find_dsns(line):
            if found.password in wanted:
                return found
            if found.system == "http" and not found.password and found.user in wanted and len(found.user) >= 20:
                return Dsn(system="http", host=found.host, port=found.port, password=found.user)
    whole = parse_conninfo(line)
    return whole if whole and whole.password in wanted else _pgpass(line, wanted, seen.blob.path)


def _pgpass(line: str, wanted: set[str], path: str) -> Dsn | None:
    fields = [part.replace("\\:", ":") for part in re.split(r"(?<!\\):", line.strip(), maxsplit=4)]
    if len(fields) != 5 or fields[4] not in wanted or "pgpass" not in path:
        return None
    host, port, database, user, password = ("" if part == "*" else part for part in fields)
    return dsn_of("postgres", host=host, port=port, user=user, password=password, database=database)


def _by_parts(seen: Seen) -> Dsn | None:
    user, host = seen.part("user", "username", "login"), seen.part("host", "hostname", "server", "machine")
    if not user or seen.hit.kind not in (CredentialKind.PASSWORD, CredentialKind.SECRET):
        return None
    if is_placeholder(f"{user}..") or len(user) > 200:
        return None
    system = seen.part("system", "scheme") or _system(seen)
    if not system or (not host and system == "http"):
        return None
    return dsn_of(
        next((found.system for found in find_dsns(f"{system}://u:p@h")), system),
        host=host, port=seen.part("port"), user=user, password=seen.value, database=seen.part("database", "dbname"),
    )  # fmt: skip


def _system(seen: Seen) -> str:
    """Of which system a password is, by the words of its own name, then of its file's and its neighbours'."""
    near = seen.around[max(0, min(seen.hit.start, 3_000) - 400) :][:800]
    port = f":{port}" if (port := seen.part("port")) else ""
    for text in (f"{seen.hit.variable} {seen.hit.rule} {port}", seen.blob.path, near):
        for system, words in _HOSTS:
            if re.search(words, text, re.IGNORECASE):
                return system
    return "http" if seen.blob.path.rpartition("/")[2] in (".netrc", "_netrc", ".authinfo") else ""


def _binding(dsn: Dsn, seen: Seen) -> Binding:
    user = dsn.user or ("default" if dsn.system == "redis" else "")
    user = "" if is_placeholder(user) and not user.isalnum() else user
    instance = dsn.endpoint if dsn.system != "http" else dsn.host
    who = None
    if user:
        who = subject(
            _system_name(dsn), instance, "role" if dsn.system == "postgres" else "user", user,
            of=IdentityKind.DATABASE_ROLE if dsn.system in DATABASES else IdentityKind.SERVICE_ACCOUNT,
            title=f"{user} at {instance}",
            attributes={"host": dsn.host, "port": dsn.port, "user": user, "database": dsn.database},
        )  # fmt: skip
    reached: tuple[Reached, ...] = ()
    if dsn.database:
        at = name(dsn.system, dsn.endpoint, "database", dsn.database[:500])
        reached = (Reached(name=at, kind="database", title=f"{dsn.database[:80]} at {dsn.endpoint[:100]}"),)
    return Binding(
        provider=dsn.system,
        method="user, host and database of the connection" if user else "host of the connection",
        what=f"{dsn.system} password of {user[:60]} at {instance[:100]}" if user else "",
        kind=CredentialKind.PASSWORD if dsn.system != "http" or user else None,
        secret=dsn.password.encode() if dsn.password and dsn.password != seen.value else None,
        subject=who,
        reached=reached,
        attributes=known({
            "system": dsn.system, "host": dsn.host, "port": dsn.port, "user": user, "database": dsn.database
        }),
    )  # fmt: skip


def _system_name(dsn: Dsn) -> str:
    """Forges have names of their own: a login in a remote is the login that their connectors see."""
    if dsn.system == "http":
        return next((kind for kind in ("github", "gitlab", "bitbucket") if kind in dsn.host), "http")
    return dsn.system
