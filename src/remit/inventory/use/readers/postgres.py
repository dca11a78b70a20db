"""The server log of PostgreSQL (`csvlog`, `jsonlog`) → uses of roles.

Spec: PostgreSQL documentation, "Using CSV-Format Log Output", "Using JSON-Format Log Output"; `log_connections`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from remit.inventory.use.model import UNCLEAR, Act, Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.statements import acts_in
from remit.inventory.use.readers.words import address_of, environment_in, loaded, moment_of, person_of, text
from remit.kernel.ids import name

_REFUSED = ("28000", "28P01")
_NOT_PERMITTED = "42501"
_STATEMENT = re.compile(r"(?:duration: [\d.]+ ms  )?(?:statement|execute [^:]*): (.*)", re.DOTALL)
_DENIED = re.compile(r"permission denied for (?:table|view|relation|materialized view) (.+)")
_OBJECTS = {"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"}
_NEEDS = {
    "SELECT": ("SELECT",), "INSERT": ("INSERT",), "UPDATE": ("UPDATE", "SELECT"), "DELETE": ("DELETE", "SELECT"),
    "TRUNCATE TABLE": ("TRUNCATE",), "COPY TO": ("SELECT",), "COPY FROM": ("INSERT",),
}  # fmt: skip
_NO_USE = ("connection received", "connection authenticated", "disconnection")
_PROGRAM_SAID = re.compile(r"connection authorized: .*?application_name=(.+?)(?: SSL enabled .*| GSS .*)?", re.DOTALL)
"""The column is still empty when a connection is authorized; the message has it."""
_TIME, _USER, _DATABASE, _FROM, _STATE, _MESSAGE, _QUERY, _PROGRAM = 0, 1, 2, 4, 12, 13, 19, 22


def read_json(record: bytes, context: Context) -> Iterator[Told]:
    body = loaded(record)
    if body:
        keys = ("timestamp", "user", "dbname", "remote_host", "state_code", "message", "application_name", "statement")
        yield from _told([text(body.get(key)) for key in keys], context)


def read_csv(record: bytes, context: Context) -> Iterator[Told]:
    try:
        row = next(csv.reader(io.StringIO(record.decode("utf-8", "replace"))), [])
    except csv.Error:
        return
    if len(row) > _PROGRAM:
        columns = (_TIME, _USER, _DATABASE, _FROM, _STATE, _MESSAGE, _PROGRAM, _QUERY)
        yield from _told([row[each] for each in columns], context)


def _told(fields: list[str], context: Context) -> Iterator[Told]:
    when, user, database, client, state, message, program, query = fields
    moment = moment_of(when)
    if moment is None:
        return
    if not user or message.startswith(_NO_USE):
        yield Told(moment=moment)
        return
    if not program and (said := _PROGRAM_SAID.fullmatch(message)):
        program = said[1]
    use = Use(
        name=name("postgres", context.instance, "role", user),
        moment=moment,
        address=address_of(client),
        program=program,
        environment=context.environment or environment_in(database),
        admitted=state not in _REFUSED and state != _NOT_PERMITTED,
        person=person_of(program),
        acts=_acts(message, query, state, database),
    )
    yield Told(moment=moment, uses=(use,))


def _acts(message: str, query: str, state: str, database: str) -> tuple[Act, ...]:
    """What was done, as pgaudit or `log_statement` tells it; a refusal names the table alone."""
    if state == _NOT_PERMITTED:
        denied = _DENIED.fullmatch(message)
        tables = {f"{database}.?.{denied[1]}"} if denied else set()
        told = acts_in(query, database) if query else ()
        return tuple(each for each in told if not tables or _last(each.resource) in map(_last, tables)) or told
    if message.startswith("AUDIT: "):
        return _audited(message.removeprefix("AUDIT: "), database)
    said = _STATEMENT.fullmatch(message)
    return acts_in(said[1], database) if said else ()


def _last(resource: str) -> str:
    return resource.rpartition(".")[2]


def _audited(text_: str, database: str) -> tuple[Act, ...]:
    """Spec: pgAudit, "Format": type, statement id, substatement id, class, command, object type, object, statement."""
    try:
        row = next(csv.reader(io.StringIO(text_)), [])
    except csv.Error:
        return (Act(action=UNCLEAR, resource=database),)
    if len(row) < 8:
        return (Act(action=UNCLEAR, resource=database),)
    kind, command, thing, called = row[3], row[4], row[5], row[6]
    if kind == "MISC":
        return ()
    if thing in _OBJECTS and called and command in _NEEDS:
        return tuple(Act(action=each, resource=f"{database}.{called}") for each in _NEEDS[command])
    if kind == "FUNCTION" and called:
        return (Act(action="EXECUTE", resource=f"{database}.{called}"),)
    return acts_in(row[7], database)
