"""What a MariaDB target can be told, and which of its roles a lease may have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from remit.access.brokers.options import bad_option, number_of, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured
from remit.providers.mariadb.hashing import Plugin

MANIFEST = BrokerManifest(
    id="mariadb",
    title="MariaDB 10.5 and later",
    needs=(
        "CREATE USER remit_broker@'…' IDENTIFIED BY '…'",
        "GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO remit_broker@'…'",
        "GRANT SELECT ON mysql.global_priv TO remit_broker@'…'",
        "-- for each role that tasks have: the broker gives it on, and finds through it what leases made",
        "GRANT app_rw TO remit_broker@'…' WITH ADMIN OPTION",
    ),
    fail_safe=False,
    native_expiry=False,
    hazards=(
        "accounts of MariaDB expire by the day: with a dead Remit a lease goes on until the next start of Remit",
        "CREATE USER is as much as every right: guard the broker's password as an administrator's",
        "rows and tables that a lease made are data of its role and stay; nobody can tell who made them",
        "code that a lease made is found only where its role may see it: a role with CREATE VIEW wants SHOW VIEW and "
        "DROP too; code that was made with DEFINER = the role is reported, and lives on",
        "a prepared XA transaction does not say whose it is: those that came while the lease lived are reported, or "
        "rolled back by the option `xa=rollback`",
        "a connection that changed to another account is closed where it was seen before as the lease's (option "
        "`census`), and not where both logins fell between two looks",
        "sessions on replicas and on other Galera nodes are not ended: their accounts go by replication alone",
        "option files of the user (`~/.my.cnf`) win over the lease's: `--defaults-file` names it",
    ),
)

_OPTIONS = frozenset({"auth", "ca", "census", "connections", "host", "made", "tls", "xa"})
_GRANT = re.compile(
    r"GRANT (.+) ON (?:(?:TABLE|FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) )?(\S+|`.*`)\.(\S+|`.*`) TO .+", re.S
)
_EVERYWHERE = frozenset({"USAGE", "SHOW DATABASES"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded."""

    auth: Plugin
    tls: bool
    ca: str
    host: str
    """From where leases may come, as accounts of MariaDB say it."""
    connections: int
    """Sessions that one lease may hold at once."""
    census: float
    """Seconds between two looks at who is connected, while leases live; 0: none."""
    keep_code: bool
    """Leave views and routines that a lease made; events and triggers go in any case."""
    roll_back: bool
    """Roll back XA transactions that came while the lease lived."""


def decode_options(target: Target) -> Settings:
    """Read the options; `Misconfigured` (`access.target.option`) names the first that is wrong."""
    options = target.options
    require_known(options, _OPTIONS)
    _one_of(target, "tls", "false", "true")
    _one_of(target, "auth", "mysql_native_password", "ed25519")
    _one_of(target, "made", "remove", "keep")
    _one_of(target, "xa", "report", "rollback")
    host = options.get("host", "%")
    if not re.fullmatch(r"[A-Za-z0-9%_.:/-]{1,255}", host):
        raise bad_option("host", "write a host, an address or a pattern as accounts of MariaDB have it")
    return Settings(
        auth="ed25519" if options.get("auth") == "ed25519" else "mysql_native_password",
        tls=options.get("tls") == "true",
        ca=options.get("ca", ""),
        host=host,
        connections=number_of(target.options, "connections", default=10, least=1, most=1000),
        census=float(number_of(target.options, "census", default=5, least=0, most=3600)),
        keep_code=options.get("made") == "keep",
        roll_back=options.get("xa") == "rollback",
    )


def check_grants(role: str, grants: Sequence[str]) -> None:
    """Refuse a role whose rights reach logins, the grant tables, or everything. `access.role.too_powerful`."""
    for grant in grants:
        said = _GRANT.fullmatch(grant)
        if said is None:
            # A role in a role is told by its name, and its rights by lines of their own.
            if re.fullmatch(r"GRANT \S+ TO \S+", grant):
                continue
            raise _too_powerful(role)
        rights, schema = {right.strip() for right in said[1].split(",")}, said[2].strip("`")
        if "WITH GRANT OPTION" in grant or "WITH ADMIN OPTION" in grant:
            raise _too_powerful(role)
        if schema == "*" and rights - _EVERYWHERE:
            raise _too_powerful(role)
        if schema != "*" and _matches(schema, "mysql"):
            raise _too_powerful(role)


def _matches(pattern: str, schema: str) -> bool:
    """Names of databases in grants are patterns of LIKE."""
    parts = re.findall(r"\\.|.", pattern, re.S)
    text = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(text, schema, re.I) is not None


def _one_of(target: Target, key: str, *values: str) -> None:
    if target.options.get(key, values[0]) not in values:
        raise bad_option(key, f"use `{'` or `'.join(values)}`")


def _too_powerful(role: str) -> Misconfigured:
    return Misconfigured(
        "access.mariadb.role",
        f"the role `{role[:64]}` holds rights on every database, on `mysql`, or rights to give on",
        next_step="map a role that holds only what the task needs, on the databases that it needs",
    )
