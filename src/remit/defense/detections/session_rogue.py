"""A leased session does what its task has no business with: it changes role, makes things, or reads elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from remit.defense.detections.port import DetectionManifest
from remit.defense.model import EventClass, Finding, Outcome, QueryClass, Telemetry
from remit.defense.ports import DetectionFacts, LeaseFact
from remit.inventory.model import Severity
from remit.kernel.canonical import Json

MANIFEST: Final = DetectionManifest(
    id="defense.session_rogue",
    title="A leased session went rogue",
    severity=Severity.CRITICAL,
    confidence=96,
    response="quarantine",
    needs=("activity of leased sessions: a sample of pg_stat_activity, or the log with log_statement",),
    blind_to=(
        "what a function does inside",
        "tables named without their schema",
        "statements shorter than the sampling interval, where only samples are there",
    ),
)
_MAKES: Final = {
    QueryClass.CREATE: "created an object",
    QueryClass.ALTER: "changed an object",
    QueryClass.DROP: "dropped an object",
    QueryClass.GRANT: "granted rights",
}
_SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema", "pg_temp", "pg_toast"})
_HARMLESS_ROLES: Final = frozenset({"default"})


class SessionRogue:
    """Looks at statements of principals that are leases."""

    id = MANIFEST.id
    manifest = MANIFEST

    def wants(self, telemetry: Telemetry) -> bool:
        return telemetry.event_class is EventClass.DATASTORE_ACTIVITY and bool(telemetry.principal)

    def inspect(self, telemetry: Telemetry, facts: DetectionFacts) -> Iterable[tuple[str, Finding]]:
        lease = facts.lease_of(telemetry.system, telemetry.principal)
        if lease is None:
            return
        for what, severity, confidence, objects in _wrong(telemetry, lease):
            refused = telemetry.outcome is Outcome.FAILURE
            yield (
                lease.identity,
                Finding(
                    key=f"{lease.id}:{telemetry.activity}:{what}",
                    title=f"a leased session on `{telemetry.system}` {what}" + (" (refused)" if refused else ""),
                    severity=severity,
                    confidence=confidence,
                    evidence={
                        "principal": telemetry.principal,
                        "system": telemetry.system,
                        "statement": telemetry.activity,
                        "objects": objects,
                        "role": lease.role,
                        "outcome": telemetry.outcome.value,
                        "client": telemetry.client,
                        "application": telemetry.application,
                    },
                    lease=lease.id,
                ),
            )


def _wrong(telemetry: Telemetry, lease: LeaseFact) -> Iterator[tuple[str, Severity, int, list[Json]]]:
    objects = _objects(telemetry)
    activity = telemetry.activity
    if activity == QueryClass.SET_ROLE.value:
        away = [role for role in objects if role not in _HARMLESS_ROLES and role not in (lease.role, lease.principal)]
        if away:
            yield "changed its role", Severity.HIGH, 96, list(away)
        return
    if activity == QueryClass.PROGRAM.value:
        yield "reached for the server's files or programs", Severity.CRITICAL, 96, list(objects)
        return
    made = next((words for made, words in _MAKES.items() if made.value == activity), None)
    if made is not None:
        yield made, Severity.HIGH, 94, list(objects)
        return
    if activity == QueryClass.CODE.value:
        # What it does cannot be seen: worth a person's look, not worth stopping a task.
        yield "ran an anonymous block", Severity.MEDIUM, 50, []
        return
    outside = _outside(objects, lease)
    if outside:
        verb = "wrote to" if activity == QueryClass.WRITE.value else "read"
        yield f"{verb} a schema outside its grant", Severity.CRITICAL, 95, list(outside)


def _outside(objects: tuple[str, ...], lease: LeaseFact) -> tuple[str, ...]:
    if lease.schemas is None:
        return ()
    found = []
    for name in objects:
        schema, dot, _ = name.rpartition(".")
        if dot and schema not in lease.schemas and schema not in _SYSTEM_SCHEMAS and not schema.startswith("pg_temp"):
            found.append(name)
    return tuple(found)


def _objects(telemetry: Telemetry) -> tuple[str, ...]:
    value = telemetry.attributes.get("objects")
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()
