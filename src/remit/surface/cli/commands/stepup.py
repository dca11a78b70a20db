"""`remit step-up`: a second proof, where a permit asks for one."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from remit.surface.cli.commands.agents import _option
from remit.surface.cli.commands.workload import _HERE, _SERVER, Agent
from remit.surface.cli.output import emit, say


def step_up(
    *,
    attest: Annotated[
        list[str],
        Parameter(help="KIND[:OPTION=VALUE,…]: another proof than the SVID, e.g. oidc:file=TOKEN.", negative=()),
    ],
    server: _SERVER = _HERE,
    where: Agent | None = None,
) -> None:
    """Prove this workload a second time, in another way, beside its SVID; policies see when (`context.step_up_at`).

    A registration entry of the same SPIFFE ID names what the second proof shows. It counts for as long as the policy
    says (300 s by default), at this control plane.
    """
    where = where or Agent()
    from remit.client.identity import Identity
    from remit.client.stepup import step_up as show
    from remit.trust.attestors.provers import KINDS, prover

    with Identity(where.endpoint) as identity:
        provers = []
        for spec in attest:
            kind, _, rest = spec.partition(":")
            options = dict(_option(part) for part in rest.split(",") if part)
            if "trust_domain" in KINDS.get(kind, ()):
                options.setdefault("trust_domain", identity.spiffe_id.trust_domain.name)
            provers.append(prover(kind, options))
        at = show(identity, server, provers)
    if where.format == "table":
        say(f"stepped up: proved a second time at {at}")
    else:
        emit({"step_up_at": at}, where.format)
