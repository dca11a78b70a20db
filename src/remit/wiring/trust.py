"""Open the trust room over the control plane: authority, proofs, revocations, tokens, enforcers, partners, agents."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit.trust.authority.downstream import Downstreams
from remit.trust.service import TrustService
from remit.trust.spiffe import TrustDomain
from remit.trust.ssh import SshAuthority
from remit.wiring.agents import Agents
from remit.wiring.attestors import local_attestors
from remit.wiring.enforcers import Enforcers
from remit.wiring.federation import make_federation
from remit.wiring.proofs import Proofs, proof_attestors
from remit.wiring.revocation import Revocations
from remit.wiring.tokens import make_tokens
from remit.wiring.upstreams import authority_policy, upstream_of

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane


async def open_trust(control: ControlPlane) -> None:
    """Open each part after those that it asks; what must be closed is noted with the control plane."""
    believed = proof_attestors(control.settings, clock=control.clock, store=control.store, attester=control.witness)
    control.trust = TrustService(
        control.store, sealer=control.keys, attester=control.witness, clock=control.clock,
        trust_domain=TrustDomain.parse(control.settings.trust.domain), admission=control.admits,
        attestors=local_attestors(), policy=authority_policy(control.settings.trust),
        upstream=upstream_of(control.settings, control.clock.now),
        proofs=believed,
    )  # fmt: skip
    control.closes(control.trust.close)
    control.proof_house = Proofs(control.store, believed, clock=control.clock)
    control.proofs = control.proof_house.desk
    control.closes(control.proof_house.close)
    await control.trust.open()
    control.downstreams = Downstreams(
        control.store, attester=control.witness, clock=control.clock, trust_domain=control.trust.trust_domain,
        keyring=lambda: control.trust.keeper.keyring, entropy=os.urandom,
    )  # fmt: skip
    control.revocations = Revocations(control)
    control.closes(control.revocations.close)
    await control.revocations.open()
    nonces = await control.store.write(lambda unit: control.keys.named_key(unit.conn, "mac:dpop", unit.now))
    control.tokens = make_tokens(control, nonces)
    control.closes(control.tokens.close)
    await control.tokens.open()
    control.enforcers = Enforcers(control)
    await control.enforcers.open()
    ssh_seed = await control.store.write(lambda unit: control.keys.named_key(unit.conn, "sign:ssh", unit.now))
    control.ssh = SshAuthority(ssh_seed, entropy=os.urandom)
    control.federation = make_federation(control)
    await control.federation.open()
    control.agents = Agents(control)
    await control.agents.open()
