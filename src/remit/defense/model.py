"""Defense in records: telemetry, detections, incidents, responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from remit.inventory.model import Severity
from remit.kernel.canonical import Json


class VerifiedPerson:
    """A registered person whose own credential verified, moments ago. Nominal: governance alone makes one."""

    __slots__ = ()

    @property
    def name(self) -> str:
        raise NotImplementedError

    def evidence(self) -> Mapping[str, Json]:
        """The signed command and its signature, for the ledger."""
        raise NotImplementedError


class EventClass(StrEnum):
    """The OCSF 1.8 classes that we use, by name; `class_uid` has the number."""

    AUTHENTICATION = "authentication"
    AUTHORIZE_SESSION = "authorize-session"
    ENTITY_MANAGEMENT = "entity-management"
    API_ACTIVITY = "api-activity"
    DATASTORE_ACTIVITY = "datastore-activity"
    PROCESS_ACTIVITY = "process-activity"
    DETECTION_FINDING = "detection-finding"
    REMEDIATION_ACTIVITY = "remediation-activity"
    OTHER = "other"


CLASS_UID: Mapping[EventClass, int] = {
    EventClass.AUTHENTICATION: 3002,
    EventClass.AUTHORIZE_SESSION: 3003,
    EventClass.ENTITY_MANAGEMENT: 3004,
    EventClass.API_ACTIVITY: 6003,
    EventClass.DATASTORE_ACTIVITY: 6005,
    EventClass.PROCESS_ACTIVITY: 1007,
    EventClass.DETECTION_FINDING: 2004,
    EventClass.REMEDIATION_ACTIVITY: 7001,
    EventClass.OTHER: 0,
}


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """One thing that was seen to happen, in a small OCSF shape, joined to an identity where one is named."""

    id: str
    """The source's own id of it, or a digest of its place and content: the same event is the same id."""
    event_class: EventClass
    activity: str
    """What was done: `login`, `decision`, `lease.issued`, `query` …"""
    time: datetime
    source: str
    """Who says so: `remit`, `postgres`, `ocsf`."""
    identity: str = ""
    """The identity's id, empty when no name of it is known."""
    principal: str = ""
    """The actor as the source named it."""
    system: str = ""
    """The target or system it happened on."""
    resource: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    client: str = ""
    """Address of the caller, where the source says."""
    application: str = ""
    attributes: Mapping[str, Json] = field(default_factory=dict)
    """Small, never a secret, never a query's text."""

    @property
    def class_uid(self) -> int:
        return CLASS_UID[self.event_class]

    def as_ocsf(self) -> dict[str, Json]:
        """The OCSF 1.8 form, for export."""
        return {
            "class_uid": self.class_uid,
            "activity_name": self.activity,
            "time": int(self.time.timestamp() * 1000),
            "status": self.outcome.value.capitalize(),
            "metadata": {"uid": self.id, "product": {"name": self.source}, "version": "1.8.0"},
            "actor": {"user": {"uid": self.identity, "name": self.principal, "type": "System"}},
            "src_endpoint": {"ip": self.client},
            "app_name": self.application,
            "resource": self.resource,
            "unmapped": dict(self.attributes),
        }


class QueryClass(StrEnum):
    """What sort of statement was run on a database."""

    READ = "read"
    WRITE = "write"
    SET_ROLE = "set-role"
    CREATE = "create"
    CREATE_TEMPORARY = "create-temporary"
    ALTER = "alter"
    DROP = "drop"
    GRANT = "grant"
    PROGRAM = "program"
    """Runs a program, or reads or writes a file, on the server."""
    CODE = "code"
    """An anonymous block: what it does cannot be seen."""
    SESSION = "session"
    """Settings, transactions, cursors: nothing of interest."""
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetActivity:
    """What a principal did on a target, without the text: from a sample of its sessions, or from its log."""

    id: str
    target: str
    """The target's name, as leases have it."""
    principal: str
    at: datetime
    query_class: QueryClass
    objects: tuple[str, ...] = ()
    """What it touched: `schema.table`, a role for `set-role`; at most 32."""
    application: str = ""
    client: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a detection says about one observation."""

    key: str
    """What makes it another finding of the same rule for the same identity: a lease, a role, a class of statement."""
    title: str
    severity: Severity
    confidence: int
    """0–100."""
    evidence: Mapping[str, Json]
    lease: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A finding, kept: of one identity, by one rule, from one event."""

    id: str
    """`dt_…`, derived from rule, identity and event: the same event never gives two."""
    rule: str
    identity: str
    title: str
    severity: Severity
    confidence: int
    evidence: Mapping[str, Json]
    event_id: str
    happened: datetime
    detected: datetime
    suggested: str
    """The id of the response that the rule suggests."""
    incident: str = ""
    lease: str = ""


class IncidentStatus(StrEnum):
    OPEN = "open"
    CONTAINED = "contained"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What a person reads: detections of one identity that belong together, and what was done."""

    id: str
    identity: str
    title: str
    severity: Severity
    status: IncidentStatus
    opened: datetime
    happened: datetime
    """The earliest event."""
    detected: datetime
    """The first detection."""
    updated: datetime
    detections: int = 0
    contained: datetime | None = None
    """When the identity was denied everywhere we decide, and its leases were revoked."""
    proved: datetime | None = None
    """The last refused attempt; `None` while any revocation is unproved."""
    closed: datetime | None = None

    @property
    def time_to_detect(self) -> timedelta:
        return self.detected - self.happened

    @property
    def time_to_contain(self) -> timedelta | None:
        """From the event to the last refused attempt; `None` until that is proved."""
        return None if self.proved is None else self.proved - self.happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of an incident's time line."""

    incident: str
    time: datetime
    kind: str
    """`detected`, `intended`, `contained`, `ticketed`, `failed`, `undone`, `closed` …"""
    text: str
    data: Mapping[str, Json] = field(default_factory=dict)


class ResponseState(StrEnum):
    INTENDED = "intended"
    """Recorded, and being done; a node that starts finishes what it finds so."""
    DONE = "done"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One step of a response: what it does to what, and what came of it."""

    kind: str
    """`deny`, `revoke`, `ticket`, `release`."""
    subject: str
    text: str
    done: bool = False
    result: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "subject": self.subject,
            "text": self.text,
            "done": self.done,
            "result": dict(self.result),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a response is asked to do."""

    response_id: str
    """`rs_…`: the same order again is the same response."""
    identity: str
    reason: str
    incident: str
    by: str
    """`system:defense` when automatic, else who ordered it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response, kept: its intent before it is tried, its effects after."""

    id: str
    kind: str
    """The plug-in's id: `quarantine`, `revoke-leases`, `ticket`."""
    identity: str
    incident: str
    reason: str
    by: str
    automatic: bool
    state: ResponseState
    environment: str
    contains: bool
    """Takes the identity out of service: counts against the limits."""
    intended: datetime
    next_try: datetime
    attempts: int = 0
    finished: datetime | None = None
    effects: tuple[Effect, ...] = ()
    error: str = ""
    note: str = ""
    """Why a lesser response was chosen, where one was."""
    undo_by: str = ""
    undo_reason: str = ""
    undo_at: datetime | None = None

    def running_at(self, now: datetime) -> bool:
        """Whether an attempt is under way: it was claimed, and has neither ended nor run out of its time."""
        return self.state is ResponseState.INTENDED and self.attempts > 0 and not self.error and self.next_try > now

    def order(self) -> Order:
        return Order(
            response_id=self.id, identity=self.identity, reason=self.reason, incident=self.incident, by=self.by
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependant:
    """Who would notice: something that uses the identity."""

    id: str
    title: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a response would do, from its dry run."""

    kind: str
    identity: str
    effects: tuple[Effect, ...]
    dependants: tuple[Dependant, ...]
    blocked: str = ""
    """Why the limits would not let it run now; empty when they would."""
