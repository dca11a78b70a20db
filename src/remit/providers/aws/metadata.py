"""The metadata service of an EC2 instance (IMDSv2), asked for the instance's own signed identity.

`endpoint` replaces its link-local address, for a server that stands in for it on this machine alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from remit.kernel.errors import Misconfigured, Unavailable

ENDPOINT: Final = "http://169.254.169.254"
TIMEOUT: Final = timedelta(seconds=5)
MAX_ANSWER_BYTES: Final = 32 * 1024
_DOCUMENT: Final = "/latest/dynamic/instance-identity/rsa2048"


async def fetch_instance_identity(endpoint: str = "") -> str:
    """The PKCS #7 message of the instance identity document, in base64.

    Raises `Unavailable` (`providers.aws.metadata`) and `Misconfigured` (`providers.aws.metadata-address`).
    """
    import httpx2

    base = _require_local(endpoint or ENDPOINT)
    try:
        async with (
            asyncio.timeout(TIMEOUT.total_seconds()),
            httpx2.AsyncClient(
                base_url=base, follow_redirects=False, trust_env=False, timeout=TIMEOUT.total_seconds()
            ) as client,
        ):
            token = await _body(client, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            return await _body(client, "GET", _DOCUMENT, {"X-aws-ec2-metadata-token": token})
    except (httpx2.HTTPError, OSError, TimeoutError) as error:
        raise _unavailable(type(error).__name__) from None


async def _body(client: object, method: str, path: str, headers: dict[str, str]) -> str:
    import httpx2

    assert isinstance(client, httpx2.AsyncClient)
    async with client.stream(method, path, headers=headers) as answer:
        found = bytearray()
        async for chunk in answer.aiter_raw(4096):
            found += chunk
            if len(found) > MAX_ANSWER_BYTES:
                raise _unavailable("its answer is too long")
        if answer.status_code != 200 or not found.isascii():
            raise _unavailable(f"it answered {answer.status_code}")
    return found.decode("ascii").strip()


def _require_local(endpoint: str) -> str:
    try:
        address = ipaddress.ip_address(urlsplit(endpoint).hostname or "")
    except ValueError:
        address = None
    if address is None or not (address.is_loopback or address.is_link_local) or not endpoint.startswith("http://"):
        raise Misconfigured(
            "providers.aws.metadata-address",
            "the metadata service is at a loopback or link-local address alone",
            next_step="leave `endpoint` out",
        )
    return endpoint


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        "providers.aws.metadata",
        f"the instance's metadata service does not say who the instance is: {why}",
        next_step="allow IMDSv2 on the instance, and a hop limit that reaches this process",
        retry_after=timedelta(seconds=10),
    )
