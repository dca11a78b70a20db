"""(c) An agent with a lease of 60 seconds goes rogue; beside it, what a plain DROP ROLE leaves behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from remit.surface.cli.demo import files, shop
from remit.surface.cli.demo.outcome import NotShown, Step, expect
from remit.surface.cli.demo.plain import Leftover, drop_plainly
from remit.surface.cli.demo.stage import Stage

_TASK = "triage-agent"
_NEED = "postgres://shop?role=write"
_LIFE = "60s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rogue:
    """What the agent said of itself. Times are seconds since the epoch, on this machine's one clock."""

    principal: str
    began: float
    """Its first step aside."""
    stopped: float
    why: str

    @property
    def seconds(self) -> float:
        return self.stopped - self.began

    def after(self, moment: str) -> float:
        """Seconds from the first step aside to an RFC 3339 time."""
        return datetime.fromisoformat(moment).timestamp() - self.began


def act(stage: Stage) -> Iterator[str]:
    """1. the plain way  2. the agent under a lease  3. detected, stopped, taken back  4. both side by side."""
    plain = shop.run(drop_plainly(stage))
    expect(plain.reads and plain.writes, "after a plain DROP ROLE the session goes on")
    yield "beside it, a plain DROP ROLE: the role is gone, its session (after SET ROLE) still reads and writes"
    expect(plain.refused and plain.admitted, "a role that made a table is not dropped, and logs in")
    yield "a plain DROP ROLE of a role that made a table is refused, and new logins by it go on"
    rogue = _misbehave(stage)
    yield f"the agent's session was killed in mid-query {rogue.seconds:.2f} s after its first step aside: {rogue.why}"
    yield from _contained(stage, rogue)
    yield from _taken_back(stage, rogue)
    _compare(stage, plain, rogue)


def _misbehave(stage: Stage) -> _Rogue:
    """The agent does its task, then what a ticket told it: SET ROLE, CREATE TABLE, dump another schema."""
    program = stage.root / _TASK
    files.write_agent(program)
    stage.cli("task", "add", _TASK, "--", str(program))
    agent = stage.start_run("--task", _TASK, "--need", _NEED, "--ttl", _LIFE, "--", str(program))
    stage.narrator.doing("the agent works, and then does not")
    acts, complaint = _watch(agent)
    if "was stopped" not in acts:
        did = ", ".join(acts) or "nothing"
        raise NotShown(f"the agent's query is stopped: it did {did}, ended with {agent.returncode}: {complaint}")
    principal = str(acts["its task"]["user"])
    expect(principal.startswith("remit_"), f"the agent works under its lease (it worked as {principal})")
    stopped = acts["was stopped"]
    return _Rogue(
        principal=principal, began=acts["went rogue"]["at"], stopped=stopped["at"],
        why=f"{stopped['sqlstate'] or ''} {stopped['why']}".strip(),
    )  # fmt: skip


def _contained(stage: Stage, rogue: _Rogue) -> Iterator[str]:
    """Its lease is revoked and proved; its identity is out of service."""
    lease = stage.until("the lease is revoked and proved", lambda: _lease(stage, rogue.principal), seconds=20)
    yield f"lease revoked and proved {rogue.after(lease['revoked']):.2f} s after: {lease['proof_text']}"
    incident = stage.until("the incident is contained", lambda: _incident(stage, lease["identity"]), seconds=20)
    detections = stage.admin.get(f"/api/v1/incidents/{incident['id']}")["detections"]
    titles = sorted({str(each["title"]) for each in detections})
    yield f"detected {rogue.after(incident['detected']):.2f} s after: {'; '.join(titles)}"
    state = stage.admin.get(f"/api/v1/identities/{lease['identity']}")["identity"]["state"]
    expect(state == "quarantined", f"the agent's identity is quarantined (it is {state})")
    again = stage.cli("run", "--task", _TASK, "--need", _NEED, "--", str(stage.root / _TASK), allowed=(125,))
    expect("quarantined" in again, f"a new run is refused because of the quarantine ({again.strip()[:160]})")
    yield "its identity is quarantined: a new run of it is refused"


def _taken_back(stage: Stage, rogue: _Rogue) -> Iterator[str]:
    """On the server itself: the object, the role, the sessions."""
    server = stage.server
    tables = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'loot' AND relkind = 'r'"
    owners = [str(owner) for (owner,) in shop.run(shop.rows(server, tables))]
    expect(owners and all(each.endswith("_quarantine") for each in owners), f"its table is re-owned (to: {owners})")
    yield f"its table is re-owned to {owners[0]}, a role without rights"
    roles = shop.run(shop.rows(server, "SELECT 1 FROM pg_roles WHERE rolname = $1", rogue.principal))
    expect(not roles, "its role is gone")
    running = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%payroll.salaries%' AND pid <> pg_backend_pid()"
    expect(not shop.run(shop.rows(server, running)), "no session of it is left")
    yield "its role is gone, and no session of it is left"


def _compare(stage: Stage, plain: Leftover, rogue: _Rogue) -> None:
    stage.narrator.compare(
        "at the end of a lease",
        (
            ("a session after SET ROLE", "reads and writes on", f"killed in mid-query after {rogue.seconds:.2f} s"),
            ("its name in pg_stat_activity", "empty: not to be found" if plain.nameless else "shown", "–"),
            ("a role that made a table", "cannot be dropped: stays" if plain.refused else "dropped", "gone"),
            ("a new login by that role", "admitted" if plain.admitted else "refused", "refused, and proved"),
        ),
    )  # fmt: skip


def _watch(agent: subprocess.Popen[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """What the agent says of itself, by what it did, until it ends (at most as long as its lease may live); and the
    end of what its run complains of."""
    try:
        out, complaint = agent.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        agent.kill()
        out, complaint = agent.communicate()
    lines = [msgspec.json.decode(line) for line in out.splitlines() if line.startswith("{")]
    return {str(line["did"]): line for line in lines}, " ".join(complaint.split())[-300:]


def _lease(stage: Stage, principal: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = stage.admin.get("/api/v1/leases", all=1)
    return next((each for each in rows if each["principal"] == principal and each["state"] == "revoked"), None)


def _incident(stage: Stage, identity: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = stage.admin.get("/api/v1/incidents")
    return next((each for each in rows if each["identity"] == identity and each["contained"]), None)


STEP = Step(
    name="c",
    title="An agent with a lease of 60 seconds goes rogue",
    shown="a rogue agent is detected, quarantined, killed in mid-query; its table re-owned, its role gone",
    act=act,
)
