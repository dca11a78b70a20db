"""A lease that begins and ends is in the graph that the control plane keeps, without anything being discovered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from remit.access.edges import control_plane
from remit.access.leases.model import HeldLease
from remit.access.model import Entity, Lease, LeaseState, Request, Target
from remit.access.ports import StoredTarget
from remit.inventory.graph.blast import blast
from remit.kernel.clock import ManualClock
from remit.kernel.ids import name
from remit.wiring.graph import Graphs
from stores import opened

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ROLE = name("postgres", "127.0.0.1:5432", "role", "app_ro")


def held(state: LeaseState) -> HeldLease:
    lease = Lease(
        id="ls_1", grant="gr_1", identity="id_billing", task="nightly", target="shop", need="postgres://shop?role=read",
        principal="remit_test0001_1", state=state, process=None, created=NOW, expires=NOW + timedelta(minutes=5),
    )  # fmt: skip
    request = Request(subject=Entity(type="Identity", id="x"), action="use", resource=Entity(type="Role", id="x"))
    return HeldLease(lease=lease, sealed=b"", role="app_ro", database="shop", request=request, holder="en", epoch=1)


def plant(unit: Any) -> None:
    target = Target(name="shop", system="postgres", host="127.0.0.1", port=5432, database="shop", user="adm",
                    roles={"read": "app_ro"})  # fmt: skip
    unit.access.insert_target(StoredTarget(target=target, sealed=b"s", created=NOW, created_by="p", signature="s"))
    unit.access.insert_lease(held(LeaseState.ACTIVE))
    unit.record("access.lease.issued", actor="system", subject="ls_1")


def end(unit: Any) -> None:
    unit.access.change_lease(held(LeaseState.REVOKED), epoch=1, was={LeaseState.ACTIVE})
    unit.record("access.lease.revoked", actor="system", subject="ls_1")


def test_a_lease_is_an_edge_while_it_lives(tmp_path: Path) -> None:
    async def run() -> list[bool]:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}", clock=ManualClock(NOW)) as store:
            graphs = Graphs(SimpleNamespace(store=store, instance="test0001"))  # type: ignore[arg-type]
            found = ["id_billing" in await graphs.now()]
            for work in (plant, end):
                await store.write(work)
                graph = await graphs.now()
                found.append("id_billing" in graph and ROLE in blast(graph, "id_billing"))
            found.append(name("postgres", "127.0.0.1:5432", "role", "adm") in blast(graph, control_plane("test0001")))
            return found

    assert asyncio.run(run()) == [False, True, False, True]


def test_what_a_lease_lets_reach_is_counted_while_it_lives(tmp_path: Path) -> None:
    async def run() -> list[int]:
        async with opened(f"sqlite:///{tmp_path / 'remit.db'}", clock=ManualClock(NOW)) as store:
            graphs = Graphs(SimpleNamespace(store=store, instance="test0001"))  # type: ignore[arg-type]
            counted = []
            for work in (plant, end):
                await store.write(work)
                await graphs.settle()
                radius = graphs.radius("id_billing")
                counted.append(0 if radius is None else radius.becomes)
            return counted

    before, after = asyncio.run(run())
    assert before > 0
    assert after == 0
