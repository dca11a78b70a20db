"""A FastAPI application in a process of its own decides by itself; what a running installation revokes, it refuses."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from enforce_stage import FRONT, ORDERS, POLICY, STOCK, Stage, enforce_stage

APP = """
import socket, sys
import uvicorn
from fastapi import FastAPI
from remit.client.enforce import Guard, Identified, LocalPdp, RouteTable
from remit.client.enforce.asgi import Enforced

pdp = LocalPdp(sys.argv[2], sys.argv[1], key=sys.argv[3], timeout=30)
pdp.open()
routes = RouteTable.parse([
    {"method": ["GET"], "path": "/orders/{order}", "action": "read", "resource": "service/orders"},
    {"method": ["GET"], "path": "/later", "action": "later", "resource": "service/orders"},
])
app = FastAPI()

@app.get("/orders/{order}")
async def order(order: str):
    return {"order": order}

def identify(asked):
    sent = dict(asked.native["headers"]) if isinstance(asked.native, dict) else asked.native.headers
    return Identified(subject=dict((k.decode(), v.decode()) for k, v in sent.items())["x-who"])

@app.get("/later")
async def later():
    return {}

guard = Guard(pdp, routes, identify=identify)
made = socket.create_server(("127.0.0.1", 0))
print(made.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(Enforced(app, guard=guard), log_level="error")).run(sockets=[made])
"""

STOCK_READS = f"""
@id("stock-reads")
permit (principal in Remit::Identity::"{STOCK}", action == Remit::Action::"read", resource);
"""
Get = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with enforce_stage('proxy = "nginx"\nsubjects = ["token"]') as made:
        made.apply(POLICY + STOCK_READS)
        yield made


@pytest.fixture(scope="module")
def get(stage: Stage) -> Iterator[Get]:
    """The status of a request by somebody, and the decision's id."""
    key = stage.server.json("enforcer", "show", "edge")["snapshot_key"]
    program = subprocess.Popen(
        [sys.executable, "-c", APP, str(stage.decisions), str(stage.server.root / "journal"), key],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout is not None
        port = int(program.stdout.readline())

        def asked(who: str, path: str = "/orders/1") -> tuple[int, str]:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            line.request("GET", path, headers={"x-who": who})
            answer = line.getresponse()
            answer.read()
            line.close()
            return answer.status, answer.getheader("x-remit-decision", "")

        yield asked
    finally:
        program.terminate()
        program.communicate(timeout=60)


def test_what_policies_permit_passes_and_each_decision_can_be_explained(stage: Stage, get: Get) -> None:
    assert get(FRONT)[0] == 200
    status, decision = get(ORDERS)
    assert status == 403
    stage.until(lambda: stage.server.cli("explain", decision, code=None).returncode == 0)


def test_an_identity_that_is_taken_out_of_service_is_refused_there(stage: Stage, get: Get) -> None:
    assert get(STOCK)[0] == 200
    stage.server.cli("quarantine", STOCK, "--reason", "rogue")
    stage.until(lambda: get(STOCK)[0] == 403)


def test_a_policy_that_is_put_in_force_counts_there(stage: Stage, get: Get) -> None:
    assert get(FRONT, "/later")[0] == 403
    later = '@id("later") permit(principal, action == Remit::Action::"later", resource);'
    stage.apply(POLICY + STOCK_READS + later)
    stage.until(lambda: get(FRONT, "/later")[0] == 200)
