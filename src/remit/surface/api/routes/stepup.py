"""Step-up: a workload shows a second proof, by the listener that its SVID opens."""

from __future__ import annotations

from typing import Any

import msgspec

from remit.kernel.errors import Rejected
from remit.surface.api.route import Call, Route
from remit.trust.proofs import Proof, Question


class Shown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is shown to one attestor."""

    attestor: str
    payload: dict[str, Any]

    def __repr__(self) -> str:
        return f"Shown({self.attestor!r})"


class SecondProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Proofs of another kind than the SVID's own; or the answers to the question that came back."""

    proofs: list[Shown] = []
    session: str = ""
    answers: dict[str, dict[str, Any]] = {}
    this_credential: bool = False
    """Count for the SVID of this connection alone, and not for all that is of its identity."""

    def __repr__(self) -> str:
        return "SecondProof()"


async def step_up(call: Call) -> Any:
    """Verify a second proof of the caller; `step_up_at`, or a question to answer."""
    svid, body = call.require_svid(), call.body
    desk = call.control.stepups
    if body.session:
        return {"step_up_at": await desk.answer(svid, body.session, body.answers, alone=body.this_credential)}
    if not body.proofs:
        raise Rejected("trust.proof.malformed", "a second proof is needed", next_step="`remit step-up --attest KIND`")
    found = await desk.present(svid, [Proof(attestor=one.attestor, payload=one.payload) for one in body.proofs],
                               alone=body.this_credential)  # fmt: skip
    if isinstance(found, Question):
        return {"session": found.session, "questions": msgspec.to_builtins(dict(found.questions))}
    return {"step_up_at": found}


ROUTES = [
    Route(
        method="POST", path="/trust/v1/step-up", summary="A second proof of the caller (step-up)", handler=step_up,
        body=SecondProof, mtls=True, tag="trust",
    ),
]  # fmt: skip
