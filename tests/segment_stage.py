"""Segments without an installation: targets, tasks and places as their builder gets them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from remit.access.model import Target
from remit.access.segments import Permitted, Place, Segment, Situation, build
from remit.access.tasks.model import Program, Remote, TaskDefinition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INSTANCE = "abcd1234"


def target(**more: Any) -> Target:
    given: dict[str, Any] = {
        "name": "orders", "system": "postgres", "host": "10.0.0.7", "port": 5432, "database": "shop", "user": "remit",
        "roles": {"read": "app_ro"}, **more,
    }  # fmt: skip
    return Target(**given)


def local_task(name: str = "nightly", *, uid: int | None = 1000, identity: str = "id_1") -> TaskDefinition:
    program = Program(executable="/usr/bin/true", sha256="0" * 64)
    return TaskDefinition(name=name, identity=identity, program=program, created=NOW, created_by="person:ann", uid=uid)


def pod_task(name: str = "report", *, namespace: str = "billing") -> TaskDefinition:
    program = Remote(kind="kubernetes", selectors=(f"k8s_psat:service_account:prod/{namespace}/{name}",))
    return TaskDefinition(name=name, identity="id_2", program=program, created=NOW, created_by="person:ann")


def permitted(
    task: TaskDefinition, *, role: str = "app_ro", database: str = "shop", why: str = "grant gr_1"
) -> Permitted:
    return Permitted(task=task, role=role, database=database, why=why)


def segment(*tasks: Permitted, places: tuple[Place, ...] = (), **more: Any) -> Segment:
    situation: dict[str, Any] = {"instance": INSTANCE, "target": target(), "uid": 0, **more}
    return build(Situation(permitted=tasks, places={one.subject: one for one in places}, **situation))
