"""One request to see whether a credential is taken: the status alone counts, and nothing of the answer is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from remit.kernel.errors import Unavailable
from remit.providers.http_forward import tls_context

TIMEOUT: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was answered."""

    status: int

    @property
    def admitted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """The credential was not taken: 401, or 403. Anything else is no word about it."""
        return self.status in (401, 403)


async def probe(url: str, headers: Mapping[str, str], *, ca: str = "", within: timedelta = TIMEOUT) -> Probed:
    """GET `url`, on a connection of its own. `Unavailable` (`providers.probe.unreachable`) where nobody answers."""
    import httpx2

    try:
        async with (
            asyncio.timeout(within.total_seconds()),
            httpx2.AsyncClient(
                follow_redirects=False, trust_env=False, timeout=within.total_seconds(),
                verify=tls_context(ca) if url.startswith("https:") else False,
            ) as client,
            client.stream("GET", url, headers={**headers, "connection": "close"}) as answer,
        ):  # fmt: skip
            return Probed(status=int(answer.status_code))
    except (TimeoutError, httpx2.HTTPError, OSError) as error:
        raise Unavailable(
            "providers.probe.unreachable",
            f"the probe was not answered: {type(error).__name__}",
            next_step="check that the service runs, and that its address and CA are right",
        ) from None
