"""Telemetry of other systems: PostgreSQL's own logs and OCSF, a line at a time.

A line that cannot be read is counted and skipped, never the end of the rest. A statement's text is classified and
dropped: it may hold secrets, and a detection needs only what it does and to what.

Spec: PostgreSQL 15, "Using CSV-Format Log Output" (20.8.4) and "JSON" (20.8.5); OCSF 1.8.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from remit.defense.model import EventClass, Outcome, QueryClass, TargetActivity, Telemetry
from remit.defense.statements import MAX_TEXT, classify
from remit.inventory.model import Skipped
from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339

MAX_LINE: Final = 262_144
"""Bytes of one record that are read at most."""

_CSV_COLUMNS: Final = (
    "timestamp", "user", "dbname", "pid", "remote", "session_id", "line_num", "ps", "session_start", "vxid", "txid",
    "error_severity", "state_code", "message", "detail", "hint", "internal_query", "internal_position", "context",
    "statement", "cursor_position", "location", "application_name",
)  # fmt: skip
_REFUSED: Final = frozenset({"28P01", "28000"})
_LOGGED_STATEMENT: Final = re.compile(
    r"(?:duration: [\d.]+ ms  )?(?:statement|execute [^:]*|parse [^:]*|bind [^:]*): ", re.S
)
_AUTHORIZED: Final = re.compile(r"connection authorized: user=(\S+)")
_FAILED_USER: Final = re.compile(r'(?:authentication failed for|role|user) (?:user )?"([^"]{1,63})"')
# One class of statement says more than another about what a record did; the first found here is its activity.
_GRAVE: Final = (
    QueryClass.PROGRAM, QueryClass.SET_ROLE, QueryClass.CREATE, QueryClass.GRANT, QueryClass.ALTER, QueryClass.DROP,
    QueryClass.CODE,
)  # fmt: skip
_LINE: Final = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One record of a PostgreSQL log, the parts we read."""

    id: str
    time: datetime
    user: str
    database: str
    client: str
    application: str
    state_code: str
    message: str
    statement: str


def postgres_json(lines: Iterable[bytes], *, target: str, received: datetime) -> Iterator[Telemetry | Skipped]:
    """Read a `jsonlog`: one JSON object a line. `target` is the server's name as leases have it."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = _decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            yield _skipped(target, number, error)
            continue
        yield from from_postgres(_log_line(fields, received, line), target=target)


def postgres_csv(text: io.TextIOBase, *, target: str, received: datetime) -> Iterator[Telemetry | Skipped]:
    """Read a `csvlog` opened with `newline=""`: records may span lines."""
    records = csv.reader(_bounded(text), strict=True)
    while True:
        try:
            row = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield _skipped(target, records.line_num, error)
            continue
        if len(row) < len(_CSV_COLUMNS):
            yield Skipped(
                what=f"{target}:{records.line_num}", reason="malformed", detail="too few columns for a csvlog"
            )
            continue
        fields: dict[str, Any] = dict(zip(_CSV_COLUMNS, row, strict=False))
        fields["remote_host"] = fields["remote"].rpartition(":")[0] or fields["remote"]
        yield from from_postgres(_log_line(fields, received, "\0".join(row).encode()), target=target)


def from_postgres(line: LogLine, *, target: str) -> Iterator[Telemetry]:
    """What one log record says: a login, a refused login, or what a statement did. Pure; nothing for the rest."""
    authorized = _AUTHORIZED.match(line.message)
    if authorized:
        yield _login(line, target, line.user or authorized[1], Outcome.SUCCESS)
    elif line.state_code in _REFUSED:
        named = _FAILED_USER.search(line.message)
        yield _login(line, target, line.user or (named[1] if named else ""), Outcome.FAILURE)
    else:
        logged = _LOGGED_STATEMENT.match(line.message)
        text = line.message[logged.end() :] if logged else line.statement
        if text and line.user:
            # Class 42: syntax error or access rule violation. A statement that was ended otherwise may have worked.
            refused = line.state_code[:2] == "42"
            yield from (from_activity(activity) for activity in statements_of(line, target, text, refused))


def statements_of(line: LogLine, target: str, text: str, refused: bool) -> Iterator[TargetActivity]:
    """The statements of one record, as activity; the harmless ones of one record are told once."""
    told: set[QueryClass] = set()
    for number, statement in enumerate(classify(text)):
        if statement.query_class in told and statement.query_class not in _GRAVE and not statement.objects:
            continue
        told.add(statement.query_class)
        yield TargetActivity(
            id=f"{line.id}.{number}",
            target=target,
            principal=line.user,
            at=line.time,
            query_class=statement.query_class,
            objects=statement.objects,
            application=line.application,
            client=line.client,
            refused=refused,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRow:
    """One row of `pg_stat_activity`, as a sampler read it: `query_start` is the moment of the query shown."""

    pid: int
    backend_start: datetime
    principal: str
    query: str
    query_start: datetime | None
    application: str = ""
    client: str = ""


def from_sample(rows: Iterable[ActivityRow], *, target: str, now: datetime) -> Iterator[TargetActivity]:
    """What the sessions of a target are doing. The same query seen in two samples has the same id."""
    for row in rows:
        at = row.query_start or now
        place = f"{target}\0{row.pid}\0{row.backend_start.isoformat()}\0{at.isoformat()}"
        line = LogLine(
            id="pa_" + hashlib.sha256(place.encode()).hexdigest()[:32],
            time=at,
            user=row.principal,
            database="",
            client=row.client,
            application=row.application,
            state_code="",
            message="",
            statement="",
        )
        yield from statements_of(line, target, row.query[:MAX_TEXT], refused=False)


def from_activity(activity: TargetActivity) -> Telemetry:
    """The telemetry's form of activity on a target."""
    return Telemetry(
        id=activity.id,
        event_class=EventClass.DATASTORE_ACTIVITY,
        activity=activity.query_class.value,
        time=activity.at,
        source="postgres",
        principal=activity.principal,
        system=activity.target,
        resource=activity.objects[0] if activity.objects else "",
        outcome=Outcome.FAILURE if activity.refused else Outcome.SUCCESS,
        client=activity.client,
        application=activity.application,
        attributes={"objects": list(activity.objects)},
    )


def ocsf(lines: Iterable[bytes], *, received: datetime) -> Iterator[Telemetry | Skipped]:
    """Read generic OCSF events, one JSON object a line. Classes that we do not know become `OTHER`, never an error."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _from_ocsf(_decode(line), received, line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            yield _skipped("ocsf", number, error)


_OCSF_CLASSES: Final = {
    1007: EventClass.PROCESS_ACTIVITY,
    2004: EventClass.DETECTION_FINDING,
    3002: EventClass.AUTHENTICATION,
    3003: EventClass.AUTHORIZE_SESSION,
    3004: EventClass.ENTITY_MANAGEMENT,
    6003: EventClass.API_ACTIVITY,
    6005: EventClass.DATASTORE_ACTIVITY,
    7001: EventClass.REMEDIATION_ACTIVITY,
}


def _from_ocsf(fields: Mapping[str, Any], received: datetime, line: bytes) -> Telemetry:
    user = _mapping(_mapping(fields.get("actor")).get("user")) or _mapping(fields.get("user"))
    metadata = _mapping(fields.get("metadata"))
    endpoint = _mapping(fields.get("src_endpoint"))
    status = {1: Outcome.SUCCESS, 2: Outcome.FAILURE}.get(_integer(fields.get("status_id")), Outcome.UNKNOWN)
    event_class = _OCSF_CLASSES.get(_integer(fields.get("class_uid")), EventClass.OTHER)
    fingerprint = _text(_mapping(user.get("credential")).get("uid") or user.get("credential_uid"))
    attributes: dict[str, Json] = {"credential": fingerprint} if fingerprint else {}
    return Telemetry(
        id=_text(metadata.get("uid")) or _digest(line),
        event_class=event_class,
        activity="login" if event_class is EventClass.AUTHENTICATION else _text(fields.get("activity_name")) or "other",
        time=_milliseconds(fields.get("time"), received),
        source="ocsf",
        principal=_text(user.get("uid")) or _text(user.get("name")),
        system=_text(_mapping(fields.get("dst_endpoint")).get("name"))
        or _text(_mapping(metadata.get("product")).get("name")),
        resource=_text(_mapping(fields.get("resource")).get("name")),
        outcome=status,
        client=_text(endpoint.get("ip")),
        application=_text(fields.get("app_name")),
        attributes=attributes,
    )


def _log_line(fields: Mapping[str, Any], received: datetime, raw: bytes) -> LogLine:
    session, number = _text(fields.get("session_id")), _text(str(fields.get("line_num", "")))
    return LogLine(
        id=f"pg_{session}.{number}" if session and number else _digest(raw),
        time=_log_time(_text(fields.get("timestamp")), received),
        user=_text(fields.get("user")),
        database=_text(fields.get("dbname")),
        client=_text(fields.get("remote_host")),
        application=_text(fields.get("application_name")),
        state_code=_text(fields.get("state_code")),
        message=_long(fields.get("message")),
        statement=_long(fields.get("statement")),
    )


def _login(line: LogLine, target: str, principal: str, outcome: Outcome) -> Telemetry:
    return Telemetry(
        id=line.id,
        event_class=EventClass.AUTHENTICATION,
        activity="login",
        time=line.time,
        source="postgres",
        principal=principal,
        system=target,
        resource=line.database,
        outcome=outcome,
        client=line.client,
        application=line.application,
        attributes={"code": line.state_code},
    )


def _log_time(text: str, received: datetime) -> datetime:
    # A zone's abbreviation is ambiguous: only UTC is read, everything else counts from when it came.
    stamp, _, zone = text.rpartition(" ")
    if zone in ("UTC", "GMT", "Z"):
        try:
            return datetime.fromisoformat(stamp).replace(tzinfo=UTC)
        except ValueError:
            return received
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        return received


def _milliseconds(value: object, received: datetime) -> datetime:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 253_402_300_799_000:
        return received
    return datetime.fromtimestamp(value / 1000, UTC)


def _decode(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise ValueError("the line is too long")
    return _LINE.decode(line)


def _bounded(text: io.TextIOBase) -> Iterator[str]:
    # A csv record may span lines; a line without an end is cut, which breaks that record and no other.
    while line := text.readline(MAX_LINE):
        yield line.replace("\0", "")


def _skipped(what: str, number: int, error: Exception) -> Skipped:
    return Skipped(what=f"{what}:{number}", reason="malformed", detail=type(error).__name__)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _integer(value: object) -> int:
    return value if isinstance(value, int) else -1


def _text(value: object) -> str:
    return value[:400] if isinstance(value, str) else ""


def _long(value: object) -> str:
    return value[: MAX_TEXT + 1000] if isinstance(value, str) else ""


def _digest(raw: bytes) -> str:
    return "ev_" + hashlib.sha256(raw).hexdigest()[:32]
