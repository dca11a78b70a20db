"""Static secrets of one installation: who may keep them, and how a registered gateway gets one for one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit.access.enforcers.model import Enforcer
from remit.access.model import Decision
from remit.access.secrets import Secrets, Use
from remit.kernel.errors import Denied

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

INJECTS = "inject-credential"
"""What a gateway is registered to fulfil that gets secrets."""


def open_secrets(control: ControlPlane) -> Secrets:
    """The secrets of an open control plane."""
    keys = control.keys
    return Secrets(store=control.store, sealer=keys, attester=control.witness, fingerprint=keys.fingerprint)


async def lend(control: ControlPlane, name: str, decision: Decision, gateway: Enforcer, *, subject: str) -> bytes:
    """The value of a secret for one request that was permitted. Raises as `Secrets.use`, and `Denied`
    (`access.secret.gateway`) to an enforcement point that does not inject credentials.
    """
    if INJECTS not in gateway.fulfils:
        raise Denied(
            "access.secret.gateway",
            f"the enforcement point `{gateway.name}` is not registered to inject credentials",
            next_step=f"`remit enforcer add … --fulfils {INJECTS}`",
        )
    assert decision.allowed, "a secret is lent for a permit alone"
    resource = decision.request.resource
    seen = control.desk.snapshot.see_resource(resource.type, resource.id)
    use = Use(
        gateway=gateway.name, decision=decision.id, subject=subject, resource=f"{resource.type}/{resource.id}",
        names=tuple(uid.id for uid in seen.view.ancestors),
    )  # fmt: skip
    return await control.secrets.use(name, use)
