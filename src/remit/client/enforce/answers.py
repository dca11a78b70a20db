"""What an enforcement point tells whoever asked: let through, or refused with a short reason. One shape for all.

Spec: RFC 6750 §3 (challenges), RFC 9449 §7.1 (DPoP), RFC 9470 §3 (step-up), RFC 9110 §11.6.1, §15.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

DECISION, SUBJECT, REASON, OBLIGATIONS = "x-remit-decision", "x-remit-subject", "x-remit-reason", "x-remit-obligations"
OWN_HEADERS: Final = (DECISION, SUBJECT, REASON, OBLIGATIONS)
"""Headers that only an enforcement point sets: what a client sends under these names is never believed."""
STEP_UP: Final = frozenset({"fresh-attestation", "step-up"})
"""Obligations that whoever asks can meet by proving itself again."""
_SPELT: Final = tuple(name.replace("-", "_") for name in OWN_HEADERS)
"""The same as some upstreams read them too: WSGI and CGI make one name of `-` and `_`."""
_UNSPEAKABLE: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether a request passes, and what goes back or on with it."""

    allowed: bool
    status: int
    reason: str = ""
    decision: str = ""
    """Id of the decision (`dc_…`); empty where none was asked."""
    subject: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Refused: for the client. Allowed: for the upstream, in place of what the client sent."""
    obligations: tuple[str, ...] = ()
    """Allowed: what the enforcement point must still do, as `kind: detail`."""
    strip: tuple[str, ...] = ()
    """Allowed: headers of the client that the upstream must not see."""

    @property
    def body(self) -> bytes:
        """What a refused client reads: short JSON."""
        return msgspec.json.encode({"error": _ERRORS[self.status], "reason": self.reason, "decision": self.decision})


_ERRORS: Final = {200: "", 401: "unauthenticated", 403: "denied", 503: "unavailable"}


def passes(*, decision: str, subject: str, obligations: Sequence[str] = (), strip: tuple[str, ...] = ()) -> Answer:
    """Let it through; `obligations` are what the enforcement point itself does about it."""
    headers = {DECISION: decision, SUBJECT: speakable(subject)} if decision else {}
    if obligations:
        headers[OBLIGATIONS] = speakable(", ".join(obligations))
    unsaid = tuple(name for name in OWN_HEADERS if name not in headers)
    return Answer(
        allowed=True,
        status=200,
        decision=decision,
        subject=subject,
        headers=headers,
        obligations=tuple(obligations),
        strip=(*strip, *unsaid, *_SPELT),
    )


def refuses(reason: str, *, decision: str = "") -> Answer:
    """Refuse whoever was recognised, or whatever nothing permits."""
    return Answer(allowed=False, status=403, reason=reason, decision=decision, headers=_refusal(reason, decision))


def challenges(reason: str, *, error: str = "", dpop: bool = False) -> Answer:
    """Refuse for want of proof. `error` is of RFC 6750 §3.1, and empty where no proof was shown at all."""
    said = f' error="{error}", error_description="{speakable(reason)}"' if error else ""
    scheme = 'DPoP algs="ES256 ES384 EdDSA PS256 RS256"' + ("," if said else "") if dpop else "Bearer"
    headers = {"www-authenticate": f"{scheme}{said}", **_refusal(reason, "")}
    return Answer(allowed=False, status=401, reason=reason, headers=headers)


def steps_up(kind: str, seconds: int | None, reason: str, *, decision: str) -> Answer:
    """Refuse until a proof is there that is fresh enough (`max_age`), or of the second kind (`acr_values`)."""
    parts = ['error="insufficient_user_authentication"', f'error_description="{speakable(reason)}"']
    if kind == "step-up":
        parts.append('acr_values="urn:remit:acr:step-up"')
    if seconds is not None:
        parts.append(f'max_age="{seconds}"')
    headers = {"www-authenticate": "Bearer " + ", ".join(parts), **_refusal(reason, decision)}
    return Answer(allowed=False, status=401, reason=reason, decision=decision, headers=headers)


def is_away(reason: str) -> Answer:
    """Refuse because nobody could decide: never a permit."""
    return Answer(allowed=False, status=503, reason=reason, headers={"retry-after": "1", **_refusal(reason, "")})


def speakable(text: str) -> str:
    """The text as a quoted header value may have it, of at most 200 characters."""
    return _UNSPEAKABLE.sub("?", text)[:_LONGEST]


def _refusal(reason: str, decision: str) -> dict[str, str]:
    return {REASON: speakable(reason), "cache-control": "no-store", **({DECISION: decision} if decision else {})}
