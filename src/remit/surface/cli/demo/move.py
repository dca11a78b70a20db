"""(b) The job moves to leases; then its static password ends, and is proved to have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from remit.providers.postgres.client import connected
from remit.providers.postgres.login import Refused
from remit.surface.cli.demo import shop
from remit.surface.cli.demo.outcome import Step, expect
from remit.surface.cli.demo.stage import Stage

NEED = "postgres://shop?role=report"
_TASK = "nightly-report"


def act(stage: Stage) -> Iterator[str]:
    """1. target, policy, task  2. the same job under a lease  3. dry run  4. revoke under use  5. replay."""
    expect(stage.found.identity, "the leaked password was found")
    add_target(stage)
    stage.cli("task", "add", _TASK, "--identity", stage.found.identity, "--", _job(stage))
    yield from _run_the_job(stage)
    yield from _plan(stage)
    yield from _revoke(stage)


def add_target(stage: Stage) -> None:
    """What is needed once: the shop's database as a target, with its password sealed, and a policy in force."""
    server = stage.server
    url = f"postgres://{server.user}@{server.host}:{server.port}/{shop.DATABASE}"
    stage.cli(
        "target", "add", "postgres", "--name", "shop", "--url", url, "--role", "report=app_report",
        "--role", "write=app_rw", "--password-stdin", stdin=f"{server.password}\n",
    )  # fmt: skip
    stage.cli("policy", "apply", str(stage.tree / "policy"))


def _run_the_job(stage: Stage) -> Iterator[str]:
    """The job itself is not changed: it only finds other credentials."""
    said = stage.cli("run", "--task", _TASK, "--need", NEED, "--", _job(stage)).strip()
    expect("read as remit_" in said, f"the job runs under a lease (it said `{said[:120]}`)")
    yield f"the unchanged job under `remit run`: {said}"
    stage.until("its role is gone", lambda: not shop.run(shop.remit_roles(stage.server)), seconds=15)
    ended = [each for each in stage.admin.get("/api/v1/leases", all=1) if each["task"] == _TASK]
    expect(ended and all(each["state"] == "revoked" for each in ended), "its lease is revoked and proved at its end")
    yield f"at its end the lease was revoked and proved: {ended[0]['proof_text']}"


def _plan(stage: Stage) -> Iterator[str]:
    """What would break? Nothing is changed by asking."""
    expect(_works(stage), "the static password still works before it is revoked")
    plan = stage.ask("revoke", stage.found.fingerprint, "--dry-run")
    expect(plan["revoked"], "the dry run names the credential")
    expect(plan["dependents"], "the dry run names who depends on it")
    expect(_works(stage), "a dry run changes nothing")
    who = len(plan["dependents"])
    yield f"dry run: would revoke {plan['revoked'][0]['what']}, {who} dependants named; it works still"


def _revoke(stage: Stage) -> Iterator[str]:
    done, session_ended = asyncio.run(_revoke_under_use(stage))
    settled = done["revoked"] and all(each["state"] == "revoked" for each in done["revoked"])
    expect(settled, f"it is revoked and proved ({done['revoked']})")
    yield f"revoked and proved: {done['revoked'][0]['proof']}"
    expect(session_ended, "a session that was open under the static password is ended")
    yield "a session that a thief held open under it was ended"
    replay = shop.run(shop.try_login(stage.server, shop.STATIC_ROLE, stage.found.static_password))
    expect(isinstance(replay, Refused) and replay.is_authentication, f"a replay is refused (it was: {replay})")
    yield f"replay with the leaked password: {replay} (the same login worked before)"


async def _revoke_under_use(stage: Stage) -> tuple[dict[str, Any], bool]:
    """Revoke while a session is open under the password; returns the answer, and whether that session ended."""
    address = stage.server.address(user=shop.STATIC_ROLE, database=shop.DATABASE)
    async with connected(address, stage.found.static_password) as thief:
        trouble = await shop.works(thief, address, "SELECT count(*) FROM app.orders")
        expect(not trouble, f"the thief's session reads before the revocation ({trouble})")
        reason = "leaked in the repository"
        done = await asyncio.to_thread(stage.ask, "revoke", stage.found.fingerprint, "--reason", reason)
        return done, bool(await shop.works(thief, address, "SELECT 1"))


def _works(stage: Stage) -> bool:
    return shop.run(shop.is_admitted(stage.server, shop.STATIC_ROLE, stage.found.static_password))


def _job(stage: Stage) -> str:
    return str(stage.tree / "jobs/nightly-report")


STEP = Step(
    name="b",
    title="The job moves to leases, and the static password ends",
    shown="the job runs by `remit run`; the static password is revoked after a dry run; its replay is refused",
    act=act,
)
