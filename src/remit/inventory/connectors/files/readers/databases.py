"""Logins that clients of databases keep in a home.

Spec: PostgreSQL, "The Password File", "The Connection Service File"; MySQL, "Using Option Files".
"""

from __future__ import annotations

import re

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.dsn import dsn_of
from remit.inventory.connectors.files.formats import Setting, decode, parse_ini
from remit.inventory.connectors.files.sheet import Sheet, clean

MAX_LINES = 20_000


def read_pgpass(sheet: Sheet) -> None:
    """Record each line `host:port:database:user:password`, in which `\\:` is a colon and `*` is any."""
    for number, line in enumerate(decode(sheet.file.data).splitlines()[:MAX_LINES], 1):
        fields = [
            field.replace("\\:", ":").replace("\\\\", "\\") for field in re.split(r"(?<!\\):", line.strip(), maxsplit=4)
        ]
        if line.startswith("#") or len(fields) != 5:
            continue
        host, port, database, user, password = ("" if field == "*" else field for field in fields)
        dsn = dsn_of(
            "postgres", host=host, port=port, user=user, password=fields[4] if password else "", database=database
        )
        sheet.dsn(dsn, "pgpass", line=number)


def read_pgservice(sheet: Sheet) -> None:
    """Record the services of libpq."""
    sections: dict[str, dict[str, Setting]] = {}
    for setting in parse_ini(sheet.file.data, separators="="):
        sections.setdefault(setting.section, {})[setting.key.lower()] = setting
    for settings in sections.values():
        plain = {key: setting.value for key, setting in settings.items()}
        dsn = dsn_of(
            "postgres", host=plain.get("host", ""), port=plain.get("port", ""), user=plain.get("user", ""),
            password=plain.get("password", ""), database=plain.get("dbname", ""),
        )  # fmt: skip
        sheet.dsn(dsn, "password", line=min(setting.line for setting in settings.values()))


def read_mysql(sheet: Sheet) -> None:
    """Record the logins of each group of a MySQL option file."""
    sections: dict[str, dict[str, Setting]] = {}
    for setting in parse_ini(sheet.file.data, separators="="):
        sections.setdefault(setting.section, {})[setting.key.lower()] = setting
    for section, settings in sections.items():
        if password := settings.get("password"):
            plain = {key: setting.value for key, setting in settings.items()}
            dsn = dsn_of(
                "mysql", host=plain.get("host", ""), port=plain.get("port", ""),
                user=plain.get("user") or sheet.file.account,
                password=password.value, database=plain.get("database", ""),
            )  # fmt: skip
            sheet.dsn(dsn, f"password of [{clean(section, 40)}]", line=password.line)


PGPASS = Reader(
    id="pgpass",
    reads="PostgreSQL password files",
    read=read_pgpass,
    patterns=(Pattern(names=(".pgpass", "pgpass.conf", "pgpass")),),
)
PGSERVICE = Reader(
    id="pg-service",
    reads="PostgreSQL service files",
    read=read_pgservice,
    patterns=(Pattern(names=(".pg_service.conf", "pg_service.conf")),),
)
MYSQL = Reader(
    id="mysql",
    reads="MySQL and MariaDB option files",
    read=read_mysql,
    patterns=(Pattern(names=(".my.cnf", "my.cnf", "debian.cnf", ".mylogin.cnf")),),
)

READERS = (PGPASS, PGSERVICE, MYSQL)
