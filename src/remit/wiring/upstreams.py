"""The upstream authority that the settings name, and how authorities live."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from remit.kernel.errors import Misconfigured
from remit.trust.authority.ca import CURVES
from remit.trust.authority.lifecycle import AuthorityPolicy
from remit.trust.spiffe import TrustDomain
from remit.wiring.settings import Settings, TrustSettings, UpstreamSettings

if TYPE_CHECKING:
    from remit.providers.openbao.client import Auth
    from remit.trust.authority.upstream.port import Upstream

_LEAST, _MOST = timedelta(minutes=10), timedelta(days=3650)
_KINDS = ("disk", "openbao", "remit")


def authority_policy(settings: TrustSettings) -> AuthorityPolicy:
    """How long authorities live and on which curve. `Misconfigured` (`trust.authority.curve`, `.lifetime`)."""
    if settings.curve not in CURVES:
        raise Misconfigured(
            "trust.authority.curve",
            f"`trust.curve` is `{settings.curve[:40]}`",
            next_step=f"use one of: {', '.join(CURVES)}",
        )
    lifetime = timedelta(seconds=settings.ca_ttl)
    if not _LEAST <= lifetime <= _MOST:
        raise Misconfigured(
            "trust.authority.lifetime",
            f"`trust.ca_ttl` is {settings.ca_ttl}: an authority lives for 10 minutes to 10 years",
            next_step="give it in seconds; 86400 is usual",
        )
    return AuthorityPolicy(lifetime=lifetime, curve=settings.curve)


def upstream_of(settings: Settings, now: Callable[[], datetime]) -> Upstream | None:
    """The upstream of `[upstream]`, not asked yet; `None` where we are our own root. `Misconfigured`."""
    found, domain = settings.upstream, TrustDomain.parse(settings.trust.domain)
    match found.kind:
        case "":
            return None
        case "disk":
            from remit.trust.authority.upstream.disk import DiskUpstream

            return DiskUpstream(
                domain,
                certificate=_path(found, "certificate"),
                key=_path(found, "key"),
                roots=Path(found.roots) if found.roots else None,
            )
        case "openbao":
            from remit.providers.openbao.client import OpenBao
            from remit.trust.authority.upstream.openbao import OpenBaoUpstream

            client = OpenBao(
                _needed(found, "address"), _auth(found), namespace=found.namespace, ca_file=found.ca or None
            )
            return OpenBaoUpstream(client, mount=found.mount, issuer=found.issuer)
        case "remit":
            from remit.trust.authority.upstream.remit import RemitUpstream

            return RemitUpstream(domain, address=_needed(found, "address"), folder=_path(found, "folder"), now=now)
    raise Misconfigured(
        "trust.upstream.kind",
        f"`upstream.kind` is `{found.kind[:40]}`",
        next_step=f"use one of: {', '.join(_KINDS)}, or leave it out",
    )


def _auth(found: UpstreamSettings) -> Auth:
    from remit.providers.openbao.client import AppRoleAuth, JwtAuth, TokenAuth
    from remit.trust.authority.upstream.disk import read_secret

    secret = partial(read_secret, _path(found, "secret_file"))
    match found.auth:
        case "token":
            return TokenAuth(token=secret)
        case "approle":
            return AppRoleAuth(role_id=_needed(found, "role"), secret_id=secret, mount=found.auth_mount or "approle")
        case "jwt":
            return JwtAuth(role=_needed(found, "role"), jwt=secret, mount=found.auth_mount or "jwt")
    raise Misconfigured(
        "trust.upstream.auth", f"`upstream.auth` is `{found.auth[:40]}`", next_step="use token, approle or jwt"
    )


def _path(found: UpstreamSettings, name: str) -> Path:
    return Path(_needed(found, name))


def _needed(found: UpstreamSettings, name: str) -> str:
    value: str = getattr(found, name)
    if not value:
        raise Misconfigured(
            "trust.upstream.incomplete",
            f"an upstream of the kind `{found.kind}` needs `upstream.{name}`",
            next_step="set it in the section `[upstream]`",
        )
    return value
