"""The token service of a CI job: makes a token of the job for one audience (GitHub Actions, compatible runners)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from remit.kernel.errors import Unavailable
from remit.kernel.strict import NotStrict, read_object
from remit.providers.documents import require_address

TIMEOUT: Final = timedelta(seconds=20)
MAX_ANSWER_BYTES: Final = 64 * 1024


async def fetch_job_token(url: str, bearer: str, audience: str) -> str:
    """Ask `url`, which the runner gave to the job together with `bearer`.

    Raises `Unavailable` (`providers.job_token.unreachable`), `Misconfigured` (`providers.document.address`).
    """
    import httpx2

    asked = f"{require_address(url)}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
    seconds = TIMEOUT.total_seconds()
    try:
        async with (
            asyncio.timeout(seconds),
            httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=seconds) as client,
            client.stream("GET", asked, headers={"authorization": f"Bearer {bearer}"}) as answer,
        ):
            found = bytearray()
            async for chunk in answer.aiter_bytes(4096):
                found += chunk
                if len(found) > MAX_ANSWER_BYTES:
                    raise _unreachable("its answer is too long")
            if answer.status_code != 200:
                raise _unreachable(f"it answered {answer.status_code}")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
        raise _unreachable(type(error).__name__) from None
    try:
        value = read_object(bytes(found), max_bytes=MAX_ANSWER_BYTES).get("value")
    except NotStrict:
        value = None
    if not isinstance(value, str) or not value:
        raise _unreachable("its answer holds no token")
    return value


def _unreachable(why: str) -> Unavailable:
    return Unavailable(
        "providers.job_token.unreachable",
        f"the job's token service gives no token: {why}",
        next_step="give the job `permissions: id-token: write`, then run it again",
        retry_after=timedelta(seconds=10),
    )
