"""TokenReview: the API server's own word on a service account's token.

Spec: Kubernetes API, authentication.k8s.io/v1 TokenReview.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.errors import Unavailable
from remit.providers.documents import Documents, require_address

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What the API server answered; `authenticated` is false for everything that it does not vouch for."""

    authenticated: bool
    audiences: tuple[str, ...] = ()
    """Those of ours that the token is good for."""
    username: str = ""
    uid: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    """`authentication.kubernetes.io/pod-name` and its like, where there is exactly one value."""


class TokenReviews:
    """Asks one API server, as the service account whose token `documents` sends: it needs `system:auth-delegator`."""

    def __init__(self, server: str, *, documents: Documents) -> None:
        self._url = require_address(server).rstrip("/") + _PATH
        self._documents = documents

    async def review(self, token: str, audiences: Sequence[str]) -> Review:
        """Ask about a token. `Unavailable` (`providers.document.…`, `providers.kubernetes.review`)."""
        answer = await self._documents.post(
            self._url,
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": list(audiences)},
            },
            max_bytes=_MAX_BYTES,
        )
        status = answer.content.get("status")
        if answer.content.get("kind") != "TokenReview" or not isinstance(status, Mapping):
            raise Unavailable(
                "providers.kubernetes.review",
                "the API server answered with something else than a TokenReview",
                next_step="check the server's address",
                retry_after=timedelta(seconds=30),
            )
        return _read(status)


def _read(status: Mapping[str, Json]) -> Review:
    user = status.get("user")
    if status.get("authenticated") is not True or status.get("error") or not isinstance(user, Mapping):
        return Review(authenticated=False)
    extra = user.get("extra")
    return Review(
        authenticated=True,
        audiences=tuple(_texts(status.get("audiences"))),
        username=_text(user.get("username")),
        uid=_text(user.get("uid")),
        extra={
            name: values[0]
            for name, listed in (extra.items() if isinstance(extra, Mapping) else ())
            if len(values := _texts(listed)) == 1
        },
    )


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Json) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
