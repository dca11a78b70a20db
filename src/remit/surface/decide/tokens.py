"""Who asks, by an access token of ours: signed, in force, meant for us, with the scope, by the holder of its key.

A token without DPoP is looked at whole a few times a second at most; a revocation is heard at once. Each DPoP proof is
looked at, and counts once.

Spec: RFC 6750 §2.1; RFC 8705 §3; RFC 9068 §4; RFC 9449 §4.3, §7.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from remit.access.enforcers.model import Asker
from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, RemitError
from remit.surface.context import Surface
from remit.surface.decide import callers
from remit.trust.model import PresentedSvid
from remit.trust.tokens import Places, TokenKind
from remit.trust.tokens.dpop import verify_dpop
from remit.trust.tokens.model import Confirmation, Held
from remit.trust.tokens.present import require_possession
from remit.trust.tokens.replay import ReplayWindow

_AGAIN_SECONDS: Final = 0.25
_REMEMBERED: Final = 4096
_SOURCES: Final = 64
_MAX_TOKEN: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    held: Held
    askers: dict[str, Asker]
    """Who asks, by where the token came from."""
    stamp: object
    until: float


class TokenDesk:
    """Verifies the tokens that come with requests to one listener."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._control = surface.control
        self._window = ReplayWindow()
        self._kept: dict[str, _Kept] = {}

    def knows(self, authorization: str) -> bool:
        """Whether this token was verified a moment ago."""
        return authorization.partition(" ")[2].strip() in self._kept

    def until(self, authorization: str) -> datetime | None:
        """When a token that is remembered here ends; None for one that counts anew each time."""
        kept = self._kept.get(authorization.partition(" ")[2].strip())
        return kept.held.expires if kept is not None else None

    async def asker(
        self, authorization: str, dpop: str, *, path: str, base: str, svid: PresentedSvid | None, source: str = ""
    ) -> Asker:
        """The bearer of the token, from the address `source`.

        `Denied` (`surface.proof.…`: 401), (`access.enforcer.scope`: 403).
        """
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() not in ("bearer", "dpop") or not 0 < len(token) <= _MAX_TOKEN:
            raise _refused("it is no bearer token")
        now = self._control.clock.now()
        try:
            kept = self._kept.get(token) or await self._verified(token, base, now)
            if not self._is_fresh(kept, now):
                kept = await self._verified(token, base, now)
            self._require_sender(kept.held, scheme, token, dpop, base + path, svid, now)
        except Denied:
            self._kept.pop(token, None)
            raise
        except RemitError as error:
            self._kept.pop(token, None)
            raise _refused(error.message) from None
        return self._asker(kept, source)

    def _is_fresh(self, kept: _Kept, now: datetime) -> bool:
        return kept.stamp == self._stamp() and self._control.clock.monotonic() < kept.until and now < kept.held.expires

    async def _verified(self, token: str, base: str, now: datetime) -> _Kept:
        """Everything but the sender: signature, times, revocation, grant, audience and scope."""
        places = self._places(base)
        stamp = self._stamp()
        held = await self._control.tokens.standing(token, places)
        if held is None or held.kind is not TokenKind.ACCESS:
            raise _refused("the access token is not valid here")
        if not {places.issuer, base} & set(held.audience):
            raise _refused("the access token is not meant for this decision point")
        if callers.EVALUATE not in held.scopes:
            raise Denied(
                "access.enforcer.scope",
                f"the access token has not the scope `{callers.EVALUATE}`",
                next_step=f"ask for one with it: `remit token fetch {places.issuer} --scope {callers.EVALUATE}`",
            )
        if held.actors:
            raise _refused("a token by which somebody acts for another asks for no decisions")
        kept = _Kept(held=held, askers={}, stamp=stamp, until=self._control.clock.monotonic() + _AGAIN_SECONDS)
        if not held.confirmation.jkt:
            if len(self._kept) >= _REMEMBERED:
                self._kept.clear()
            self._kept[token] = kept
        return kept

    def _asker(self, kept: _Kept, source: str) -> Asker:
        """One and the same for one address, for as long as the token is remembered."""
        found = kept.askers.get(source)
        if found is None:
            if len(kept.askers) >= _SOURCES:
                kept.askers.clear()
            facts = {**_facts(kept.held), **callers.from_address(source)}
            found = kept.askers[source] = callers.of_subject(self._control, kept.held.subject, facts)
        return found

    def _require_sender(
        self, held: Held, scheme: str, token: str, dpop: str, url: str, svid: PresentedSvid | None, now: datetime
    ) -> None:
        """The sender holds the key to which the token is bound."""
        if (scheme.lower() == "dpop") != bool(held.confirmation.jkt):
            raise _refused("the access token came by another scheme than its own")
        thumbprint = ""
        if held.confirmation.jkt:
            shown = verify_dpop(dpop, method="POST", urls=(url,), now=now, token=token)
            self._window.take((shown.spend,), now)
            thumbprint = shown.thumbprint
        require_possession(held, Confirmation(x5t=svid.thumbprint if svid is not None else "", jkt=thumbprint))

    def _places(self, base: str) -> Places:
        configured = self._control.settings.tokens.issuer.rstrip("/")
        return Places(issuer=configured or self._surface.url, base=base)

    def _stamp(self) -> object:
        """Changes whenever something was revoked, or who may ask changed."""
        return (*callers.revocations_of(self._control), self._control.enforcers.index)


def _facts(held: Held) -> dict[str, Json]:
    """What a token says of its subject: that it was given under a grant, and how it is bound; not that it was seen."""
    return {
        "attested": False,
        "attestation_method": "access-token",
        "credential": held.token_id,
        "client": held.client_id,
        "sender_constraint": held.confirmation.kind,
    }


def _refused(why: str) -> Denied:
    return Denied("surface.proof.refused", f"the token does not prove who calls: {why}")
