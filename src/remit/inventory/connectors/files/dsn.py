"""Data source names: `scheme://user:password@host:port/database`, and libpq's `host=… user=…` form.

Spec: RFC 3986 §3; PostgreSQL documentation, "Connection Strings".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

_DEFAULT_PORT = {
    "postgres": "5432", "mysql": "3306", "redis": "6379", "rabbitmq": "5672", "mongodb": "27017", "mssql": "1433",
    "clickhouse": "9000", "nats": "4222", "ldap": "389", "oracle": "1521", "smtp": "587", "cassandra": "9042",
    "kafka": "9092", "elasticsearch": "9200", "ftp": "21", "sftp": "22", "ssh": "22", "mqtt": "1883",
}  # fmt: skip
_SYSTEM = {
    "postgres": "postgres", "postgresql": "postgres", "pgsql": "postgres", "timescaledb": "postgres", "mysql": "mysql",
    "mariadb": "mysql", "redis": "redis", "rediss": "redis", "amqp": "rabbitmq", "amqps": "rabbitmq",
    "mongodb": "mongodb",
    "mssql": "mssql", "sqlserver": "mssql", "clickhouse": "clickhouse", "nats": "nats", "tls": "nats", "ldap": "ldap",
    "ldaps": "ldap", "oracle": "oracle", "smtp": "smtp", "smtps": "smtp", "cassandra": "cassandra", "kafka": "kafka",
    "http": "http", "https": "http", "ftp": "ftp", "ftps": "ftp", "sftp": "sftp", "ssh": "ssh", "git": "git",
    "elasticsearch": "elasticsearch", "mqtt": "mqtt", "mqtts": "mqtt",
    "cockroachdb": "postgres", "snowflake": "snowflake",
}  # fmt: skip
DATABASES = frozenset({"postgres", "mysql", "mongodb", "mssql", "clickhouse", "oracle", "cassandra", "snowflake"})
_URL = re.compile(
    r"(?<![\w+.-])([A-Za-z][A-Za-z0-9+.-]{1,30})://([^/?#\s\"'`<>]{0,4000})(/[^?#\s\"'`<>]{0,1000})?(\?[^#\s\"'`<>]{0,2000})?"
)
_QUERY_SECRET = re.compile(
    r"(?:^|[?&])(password|passwd|pass|pwd|sslpassword|authtoken|access_token|token|api_?key)=([^&]*)", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dsn:
    """Where something connects, as whom, by what."""

    system: str
    host: str
    port: str
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


def find_dsns(value: str) -> Iterator[Dsn]:
    """Yield each URL of a known scheme that names a user or carries a password, wherever it lies in `value`."""
    for scheme, authority, path, query in _URL.findall(value):
        system = _SYSTEM.get(scheme.lower().partition("+")[0])
        if system is None:
            continue
        userinfo, _, place = authority.rpartition("@")
        user, _, password = userinfo.partition(":")
        in_query = _QUERY_SECRET.search(query)
        if not password and in_query:
            password = in_query.group(2)
        if not user and not password:
            continue
        host, port = _host_port(place.split(",")[0])
        if not host and query:
            given = re.search(r"[?&]host=([^&]*)", query)
            host = unquote(given.group(1)) if given else ""
        yield Dsn(
            system=system,
            host=(host or "localhost").lower(),
            port=port or _DEFAULT_PORT.get(system, ""),
            user=unquote(user),
            password=unquote(password),
            database=unquote(path).strip("/").partition("/")[0] if system in DATABASES else "",
        )


def _host_port(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host, rest.lstrip(":")
    host, _, port = place.partition(":")
    return unquote(host), port if port.isdigit() else ""


_CONNINFO = re.compile(
    r"\b(host|hostaddr|port|user|username|password|dbname|database|server|uid|pwd|user id|data source)"
    r"\s*=\s*('[^']*'|[^\s;]+)",
    re.I,
)
_CONNINFO_NAME = {
    "hostaddr": "host", "server": "host", "data source": "host", "username": "user", "uid": "user", "user id": "user",
    "pwd": "password", "dbname": "database",
}  # fmt: skip


def parse_conninfo(value: str) -> Dsn | None:
    """Read a key=value connection string (libpq's, or ADO's with semicolons); `None` without host and password."""
    if len(value) > 4000:
        return None
    parts = {_CONNINFO_NAME.get(key.lower(), key.lower()): item.strip("'") for key, item in _CONNINFO.findall(value)}
    if not {"host", "password"} <= parts.keys():
        return None
    system = "mssql" if ";" in value else "postgres"
    host, _, port = parts["host"].removeprefix("tcp:").replace(",", ":").partition(":")
    return Dsn(
        system=system,
        host=host.lower(),
        port=parts.get("port", "") or port or _DEFAULT_PORT[system],
        user=parts.get("user", ""),
        password=parts["password"],
        database=parts.get("database", ""),
    )


def dsn_of(system: str, *, host: str, port: str = "", user: str, password: str, database: str = "") -> Dsn:
    """Build one from separate settings, with the system's usual port."""
    return Dsn(
        system=system, host=(host or "localhost").lower(), port=port or _DEFAULT_PORT.get(system, ""),
        user=user, password=password, database=database,
    )  # fmt: skip
