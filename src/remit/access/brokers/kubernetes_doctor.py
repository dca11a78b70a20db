"""What `remit doctor` says of a Kubernetes target: reachable, enough rights, not one too many, and what would stay."""

from __future__ import annotations

from collections.abc import Sequence

from remit.access.brokers.kubernetes_settings import Settings, excessive, needed, outliving
from remit.access.brokers.port import Check
from remit.kernel.errors import RemitError
from remit.providers.kubernetes.api import Api

UNKNOWN_TOKEN = "remit.no.token"
"""No authenticator may admit it."""


async def examine(api: Api | None, settings: Settings, target: str) -> Sequence[Check]:
    """All checks; one alone where the API server cannot be asked."""
    try:
        if api is None:
            return [Check(ok=False, title="the server answers", detail="it is not open")]
        lacking = [str(one) for one in needed(settings) if not await api.may(one)]
        too_much = [str(one) for one in excessive(settings) if await api.may(one)]
        admitted = (await api.login(UNKNOWN_TOKEN)).admitted
        risks = [risk for risk in [await _risk(api, settings, text) for text in settings.roles] if risk]
    except RemitError as error:
        return [Check(ok=False, title="the server answers", detail=error.message, next_step=error.next_step)]
    apply = f"let an administrator apply what `remit target install {target} --print` shows"
    return [
        Check(ok=True, title="the server answers", detail=settings.url),
        Check(ok=not lacking, title="the broker may do its work", detail="; ".join(lacking)[:400], next_step=apply),
        Check(
            ok=not too_much,
            title="the broker holds no more than it needs",
            detail="; ".join(too_much)[:400],
            next_step="take it away from the broker's service account",
        ),
        Check(
            ok=not admitted,
            title="tokens are checked",
            detail=f"an unknown token was {'admitted' if admitted else 'refused'}",
            next_step="see the API server's authenticators: until then no revocation can be proved",
        ),
        Check(
            ok=not risks,
            title="what a role makes does not outlive its lease",
            detail="; ".join(risks)[:600],
            next_step="map a role without these rights",
        ),
        Check(
            ok=False,
            title="live sessions end when Remit is dead",
            detail="not fail-safe: a token ends with its grant, open streams do not",
            next_step="lower `--min-request-timeout` of the API servers for watches",
        ),
    ]


async def _risk(api: Api, settings: Settings, text: str) -> str:
    """What of a role lets its lease act on when it is gone; a role that we may not read is the first check's."""
    found: set[str] = set()
    for space in settings.namespaces:
        if await api.may(settings.roles[text].reading(space)):
            role = await api.get(settings.roles[text].path(space)) or {}
            found |= outliving(role.get("rules") or ())
    return f"`{text}` may {', '.join(sorted(found))}" if found else ""
