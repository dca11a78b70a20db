"""What an upstream authority does for us."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol


class Upstream(Protocol):
    """Signs intermediates of our trust domain. What it answers is verified before it is used (`ca.verify_chain`).

    Methods belong to the event loop. They raise `Unavailable` when it does not answer, `Rejected` when it refuses and
    `Misconfigured` when only the operator can mend it, all as `trust.upstream.…`; no error holds a credential.
    """

    @property
    def id(self) -> str:
        """Which kind it is: `disk`, `openbao`, `remit`."""
        ...

    async def mint(self, request: bytes, lifetime: timedelta, now: datetime) -> tuple[bytes, ...]:
        """Have a request (PKCS#10, DER) signed, for `lifetime` at most: the DER of ours first, of the root last."""
        ...

    async def roots(self, now: datetime) -> tuple[bytes, ...]:
        """DER of each root that it publishes now, those that it will sign under next included; never empty."""
        ...

    async def close(self) -> None:
        """Let go of what is open; again is no error."""
        ...
