"""The broker's functions as SQL: made for one session, or installed for a login that has no other right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from remit.kernel.errors import Rejected

INSTANCE = re.compile(r"[a-z0-9]{8}")
PRINCIPAL = re.compile(r"remit_([a-z0-9]{8})_([0-9a-hjkmnp-tv-z]{26})")


def session_functions(instance: str, groups: Iterable[str]) -> str:
    """The functions in `pg_temp`, with the rights of whoever connects."""
    return _filled("broker.sql", _values(instance, groups, schema="pg_temp", security=""))


def installed_functions(instance: str, groups: Iterable[str], broker: str) -> str:
    """The script of `remit target install`: schema, functions, DDL notes and reaper, for the login `broker`."""
    security = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
    values = _values(instance, groups, schema=installed_schema(instance), security=security)
    functions = _filled("broker.sql", values)
    return _filled("install.sql", values | {"functions": functions, "broker": quote_identifier(broker)})


def installed_schema(instance: str) -> str:
    """The schema in which `remit target install` puts the functions."""
    return f"remit_{_checked(instance)}"


def quote_identifier(name: str) -> str:
    """Quote a name of any characters for SQL; `Rejected` when PostgreSQL could not hold it."""
    if not name or "\x00" in name or len(name.encode()) > 63:
        raise Rejected("access.target.identifier", f"`{name[:80]}` cannot be a name in PostgreSQL")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Quote a value for SQL, whatever `standard_conforming_strings` says; `Rejected` when it holds a NUL."""
    if "\x00" in text:
        raise Rejected("access.target.identifier", "a value for PostgreSQL holds a NUL")
    quoted = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{quoted}'" if "\\" in text else f"'{quoted}'"


def _values(instance: str, groups: Iterable[str], *, schema: str, security: str) -> dict[str, str]:
    allowed = ", ".join(quote_literal(group) for group in sorted(set(groups)))
    return {
        "schema": schema,
        "security": security,
        "instance": _checked(instance),
        "groups": f"ARRAY[{allowed}]::text[]",
    }


def _filled(file: str, values: Mapping[str, str]) -> str:
    # One pass: a value that looks like a placeholder stays what it is.
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], _text(file))


def _checked(instance: str) -> str:
    if INSTANCE.fullmatch(instance) is None:
        raise Rejected("access.principal.instance", "an instance is 8 lower-case letters and digits")
    return instance


@cache
def _text(file: str) -> str:
    return files(__package__).joinpath(file).read_text(encoding="utf-8")
