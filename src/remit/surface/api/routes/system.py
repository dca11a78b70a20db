"""The installation itself: health, metrics, doctor, console sign-in."""

from __future__ import annotations

from typing import Any

from remit import __version__
from remit.kernel.errors import Denied, Unavailable
from remit.surface.api.metrics import IDENTITIES, LEASES, LEDGER_SIZE, exposition
from remit.surface.api.route import Call, Route, Text

_TAG = "system"


async def healthz(call: Call) -> Any:
    return {
        "status": "ok",
        "version": __version__,
        "agents": call.surface.agents,
        "decisions": call.surface.decisions,
    }


async def readyz(call: Call) -> Any:
    if not call.control.ready:
        raise Unavailable("surface.server.starting", "not ready yet")
    await call.control.store.read(lambda unit: unit.ledger.size())
    return {"status": "ready"}


async def metrics(call: Call) -> Any:
    counts = await call.control.summary()
    IDENTITIES.set(counts["identities"])
    LEDGER_SIZE.set(counts["ledger_entries"])
    for state, number in counts["leases"].items():
        LEASES.labels(state).set(number)
    return Text(body=exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def doctor(call: Call) -> Any:
    return await call.control.checks()


async def sign_in(call: Call) -> Any:
    if call.caller.via != "admin.sock":
        raise Denied("surface.signin.remote", "a sign-in link is minted over admin.sock only")
    code = call.surface.sessions.mint_code(call.caller.uid or 0)
    return {"url": f"{call.surface.url}/sign-in?code={code}", "expires_seconds": 60}


ROUTES = [
    Route(method="GET", path="/healthz", summary="Is the process alive?", handler=healthz, public=True, tag=_TAG),
    Route(method="GET", path="/readyz", summary="Does it serve?", handler=readyz, public=True, tag=_TAG),
    Route(method="GET", path="/metrics", summary="Prometheus metrics", handler=metrics, tag=_TAG),
    Route(method="GET", path="/api/v1/doctor", summary="Check the installation", handler=doctor, tag=_TAG),
    Route(method="POST", path="/api/v1/sign-in", summary="Mint a console sign-in link", handler=sign_in, tag=_TAG),
]
