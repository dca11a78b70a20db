"""A local decision point far from the control plane: the snapshot stream and the reports by mutual TLS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from installation import Installation, installation
from remit.client import Identity
from remit.client.enforce import LocalPdp, Question
from remit.kernel.errors import Rejected

DOMAIN = "spiffe://remit.local/"
POLICY = f'permit(principal in Remit::Identity::"{DOMAIN}alice", action == Remit::Action::"read", resource);'


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installation(REMIT_ACCESS_LISTEN="127.0.0.1:0") as one:
        one.cli("people", "enrol", "ann")
        path = one.root / "p.cedar"
        path.write_text(POLICY)
        one.cli("policy", "apply", path)
        for name in ("gateway", "alice"):
            entry = {"spiffe_id": DOMAIN + name, "selectors": [f"unix:uid:{os.getuid()}"]}
            one.admin.post("/api/v1/entries", entry)
        yield one


def test_it_decides_reports_and_ends_with_its_registration(remit: Installation) -> None:
    shown = remit.cli(
        "enforcer", "add", "gateway", "--spiffe-id", DOMAIN + "gateway", "--resources", "service/*"
    ).stderr
    key = next(word for word in shown.split() if word.startswith("ed25519:"))
    server = str(remit.admin.get("/healthz")["decisions"])
    question = Question(subject=DOMAIN + "alice", action="read", kind="service", name="orders")
    outside = Question(subject=DOMAIN + "alice", action="read", kind="target", name="orders")
    identity = Identity(f"unix://{remit.data / 'agent.sock'}", spiffe_id=DOMAIN + "gateway")
    made = LocalPdp(remit.root / "journal", server=server, identity=identity, key=key, timeout=30)
    with closing(identity), closing(made) as pdp:
        decided = pdp.ask(question)
        assert decided.allowed
        with pytest.raises(Rejected, match="not registered"):
            pdp.ask(outside)
        until(lambda: remit.cli("explain", decided.id, code=None).returncode == 0)
        remit.cli("enforcer", "rm", "gateway")
        until(lambda: "stale" in pdp.ask(question).reason)


def test_a_revoked_credential_is_told_to_local_decision_points(remit: Installation) -> None:
    """What falls under a revocation is pushed: whoever proves itself by it is refused here, without asking."""
    shown = remit.cli("enforcer", "add", "gateway", "--spiffe-id", DOMAIN + "gateway", "--vouches", "credential").stderr
    key = next(word for word in shown.split() if word.startswith("ed25519:"))
    server, socket = str(remit.admin.get("/healthz")["decisions"]), f"unix://{remit.data / 'agent.sock'}"
    stolen = remit.json("svid", "fetch", "--spiffe-id", DOMAIN + "alice")[0]["serial"]

    def asked(credential: str) -> Question:
        return Question(subject=DOMAIN + "alice", action="read", kind="service", name="orders",
                        proven={"credential": credential})  # fmt: skip

    identity = Identity(socket, spiffe_id=DOMAIN + "gateway")
    made = LocalPdp(remit.root / "journal-2", server=server, identity=identity, key=key, timeout=30)
    with closing(identity), closing(made) as pdp:
        assert pdp.ask(asked(stolen)).allowed
        remit.cli("revoke", f"serial:{stolen}", "--reason", "stolen")
        until(lambda: not pdp.ask(asked(stolen)).allowed)
        assert "revoked" in pdp.ask(asked(stolen)).reason
        assert pdp.ask(asked("b2")).allowed
    remit.cli("enforcer", "rm", "gateway")


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
