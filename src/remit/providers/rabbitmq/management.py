"""The management API of RabbitMQ: users, permissions, limits, connections, and what users made.

Spec: RabbitMQ "Management HTTP API", "Passwords" (salted SHA-256).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2

from remit.kernel.errors import Misconfigured, Rejected, Unavailable

_SECONDS = 10.0
_MAX_BYTES = 32 << 20
_LOOK_AGAIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A user as the server keeps it, without what its password is known by."""

    has_password: bool
    tags: frozenset[str]
    permissions: Mapping[str, Mapping[str, str]]
    """Virtual host → `configure`, `write` and `read`."""
    topics: Sequence[Mapping[str, str]]
    """`vhost`, `exchange`, `write` and `read` of each."""
    limits: Mapping[str, int]


class Management:
    """One server's management API; safe for concurrent calls."""

    def __init__(self, url: str, user: str, secret: str, *, ca: str = "") -> None:
        import ssl

        self.url = url.rstrip("/")
        verify = ssl.create_default_context(cafile=ca or None) if self.url.startswith("https:") else False
        self._client = httpx2.AsyncClient(
            base_url=self.url + "/api/",
            auth=httpx2.BasicAuth(user, secret),
            verify=verify,
            timeout=_SECONDS,
            trust_env=False,
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"Management({self.url!r})"

    async def close(self) -> None:
        with suppress(httpx2.HTTPError, OSError):
            await self._client.aclose()

    async def overview(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._get("overview")
        return found

    async def users(self) -> list[str]:
        return [str(row["name"]) for row in await self._get("users?columns=name")]

    async def has_user(self, name: str) -> bool:
        return await self._get(f"users/{_part(name)}", missing=None) is not None

    async def has_vhost(self, vhost: str) -> bool:
        return await self._get(f"vhosts/{_part(vhost)}", missing=None) is not None

    async def standing(self, name: str) -> Standing | None:
        """A user with all that it may do; `None` where there is none."""
        user = await self._get(f"users/{_part(name)}", missing=None)
        if user is None:
            return None
        tags = user.get("tags") or []
        limits = await self._get(f"user-limits/{_part(name)}", missing=[])
        return Standing(
            has_password=bool(user.get("password_hash")),
            tags=frozenset(tags if isinstance(tags, list) else str(tags).replace(",", " ").split()),
            permissions={row["vhost"]: row for row in await self._get(f"users/{_part(name)}/permissions")},
            topics=tuple(await self._get(f"users/{_part(name)}/topic-permissions")),
            limits={str(key): int(value) for row in limits for key, value in dict(row["value"]).items()},
        )

    async def put_user(self, name: str, password_hash: str, tags: str = "") -> None:
        """Make or change a user; an empty hash refuses every password."""
        body = {"password_hash": password_hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": tags}
        await self._change("PUT", f"users/{_part(name)}", body)

    async def limit(self, name: str, limit: str, value: int) -> None:
        await self._change("PUT", f"user-limits/{_part(name)}/{limit}", {"value": value})

    async def permit(self, name: str, vhost: str, rights: Mapping[str, str]) -> None:
        """`configure`, `write` and `read`, as regular expressions."""
        await self._change("PUT", f"permissions/{_part(vhost)}/{_part(name)}", dict(rights))

    async def permit_topic(self, name: str, vhost: str, exchange: str, rights: Mapping[str, str]) -> None:
        """`write` and `read` of routing keys on one topic exchange."""
        body = {"exchange": exchange, **rights}
        await self._change("PUT", f"topic-permissions/{_part(vhost)}/{_part(name)}", body)

    async def delete_user(self, name: str) -> None:
        """A user that is not there is deleted."""
        await self._change("DELETE", f"users/{_part(name)}")

    async def connections(self, name: str) -> list[str]:
        """The connections of a user, by their names."""
        return [str(row["name"]) for row in await self._get(f"connections/username/{_part(name)}", missing=[])]

    async def close_connections(self, name: str) -> None:
        """Close them all; again, for a client that does not answer, and the server hangs up on it."""
        await self._change("DELETE", f"connections/username/{_part(name)}")

    async def end_connections(self, name: str, *, within: float) -> tuple[set[str], int]:
        """Close them again and again until none is left: which have been seen, and how many are left after `within` s.

        The second time the server hangs up on a client that does not answer.
        """
        clock = asyncio.get_running_loop().time
        until, seen = clock() + within, set[str]()
        while live := await self.connections(name):
            seen |= set(live)
            if clock() > until:
                return seen, len(live)
            await self.close_connections(name)
            await asyncio.sleep(_LOOK_AGAIN)
        return seen, 0

    async def queues(self, vhost: str) -> set[str]:
        return {str(row["name"]) for row in await self._get(f"queues/{_part(vhost)}?columns=name", missing=[])}

    async def exchanges_by(self, name: str, vhost: str) -> list[str]:
        """The exchanges that a user declared."""
        rows = await self._get(f"exchanges/{_part(vhost)}?columns=name,user_who_performed_action", missing=[])
        return [str(row["name"]) for row in rows if row.get("user_who_performed_action") == name]

    async def remove_unused(self, kind: str, vhost: str, name: str) -> bool:
        """Delete a queue (empty, without consumers) or an exchange (without bindings); `False` when it is in use."""
        terms = "if-unused=true" + ("&if-empty=true" if kind == "queues" else "")
        try:
            await self._change("DELETE", f"{kind}/{_part(vhost)}/{_part(name)}?{terms}")
        except Rejected:
            return False
        return True

    async def _get(self, path: str, **when: Any) -> Any:
        response = await self._send("GET", path)
        if response.status_code == 404 and "missing" in when:
            return when["missing"]
        self._judge(response)
        if len(response.content) > _MAX_BYTES:
            raise Rejected("access.rabbitmq.refused", f"`{self.url}` answered with more than 32 MiB")
        try:
            return response.json()
        except ValueError:
            raise Rejected("access.rabbitmq.refused", f"`{self.url}` did not answer in JSON") from None

    async def _change(self, method: str, path: str, body: object = None) -> None:
        response = await self._send(method, path, body)
        if not (method == "DELETE" and response.status_code == 404):
            self._judge(response)

    async def _send(self, method: str, path: str, body: object = None) -> httpx2.Response:
        try:
            return await self._client.request(method, path, json=body)
        except (httpx2.HTTPError, OSError) as error:
            raise Unavailable(
                "access.rabbitmq.unreachable", f"`{self.url}` does not answer: {type(error).__name__}"
            ) from None

    def _judge(self, response: httpx2.Response) -> None:
        code = response.status_code
        if code in (401, 403):
            raise Misconfigured(
                "access.rabbitmq.login",
                f"`{self.url}` refuses the broker ({code})",
                next_step="give it a user with the tag `administrator`, and its password",
            )
        if code >= 500:
            raise Unavailable("access.rabbitmq.unreachable", f"`{self.url}` answers with {code}")
        if code >= 300:
            raise Rejected("access.rabbitmq.refused", f"`{self.url}` answers with {code}")


def password_hash(secret: str, salt: bytes) -> str:
    """What RabbitMQ keeps of a secret: base64 of `salt` (4 bytes) and SHA-256 over salt and secret."""
    return base64.b64encode(salt + hashlib.sha256(salt + secret.encode()).digest()).decode()


def _part(text: str) -> str:
    return quote(text, safe="")
