"""What a RabbitMQ server's management API tells to somebody who only looks.

Spec: RabbitMQ "Management HTTP API", "Passwords", "Permissions" (tags).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5, sha256, sha512
from typing import Any, Final

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.reading import JsonReader

PAGE: Final = 500
MOST: Final = 1_000_000
_HASHES: Final = {
    "rabbit_password_hashing_sha256": sha256, "rabbit_password_hashing_sha512": sha512,
    "rabbit_password_hashing_md5": md5,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as the server keeps it."""

    name: str
    tags: tuple[str, ...]
    algorithm: str
    """`sha256`, `sha512`, `md5`, or another one's module."""
    stored: str = field(repr=False)
    """The salted hash, base64; empty: no password opens it."""

    def has_password(self, word: str) -> bool:
        """Tell offline whether the password is `word`."""
        digest = _HASHES.get(f"rabbit_password_hashing_{self.algorithm}")
        try:
            raw = base64.b64decode(self.stored, validate=True)
        except (ValueError, binascii.Error):
            return False
        return digest is not None and hmac.compare_digest(raw[4:], digest(raw[:4] + word.encode()).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What may not be read with our tags."""

    what: str


class Reader:
    """One server, as a user with the tag `monitoring` or `administrator`; for one thread."""

    def __init__(self, url: str, user: str, secret: str, *, ca: str = "") -> None:
        self._url = url
        self._user = user
        self._http = JsonReader(f"{url}/api", basic=(user, secret), ca=ca)

    def close(self) -> None:
        self._http.close()

    def tags(self) -> frozenset[str]:
        """Our own. Raises `Misconfigured` (`inventory.rabbitmq.login`) when we are not let in."""
        status, said = self._http.ask("whoami")
        if status != 200 or not isinstance(said, dict):
            raise Misconfigured(
                "inventory.rabbitmq.login",
                f"`{self._url}` refuses `{self._user[:80]}` ({status})",
                next_step="see the user, its password, and its tag: `monitoring` at the least",
            )
        return frozenset(_tags(said.get("tags")))

    def overview(self) -> Mapping[str, Any]:
        """The cluster's name, its versions and listeners."""
        status, said = self._http.ask("overview?columns=cluster_name,rabbitmq_version,listeners,node")
        if status != 200 or not isinstance(said, dict):
            raise Rejected(
                "inventory.rabbitmq.unfit", f"`{self._url}` is no management API of RabbitMQ ({status})",
                next_step="give the address of the management listener, usually port 15672",
            )  # fmt: skip
        return said

    def users(self) -> Iterator[User | Hidden]:
        for row in self._rows("users"):
            if isinstance(row, Hidden):
                yield row
            else:
                algorithm = str(row.get("hashing_algorithm") or "").removeprefix("rabbit_password_hashing_")
                yield User(
                    name=str(row.get("name", "")), tags=_tags(row.get("tags")), algorithm=algorithm,
                    stored=str(row.get("password_hash") or ""),
                )  # fmt: skip

    def user_limits(self) -> dict[str, dict[str, int]]:
        """Limits by user."""
        rows = [row for row in self._rows("user-limits") if not isinstance(row, Hidden)]
        return {str(row.get("user")): dict(row.get("value") or {}) for row in rows}

    def vhosts(self) -> list[Mapping[str, Any] | Hidden]:
        return list(self._rows("vhosts?columns=name,description,metadata,tags,tracing"))

    def permissions(self) -> Iterator[Mapping[str, Any] | Hidden]:
        """`user`, `vhost`, `configure`, `write` and `read`."""
        yield from self._rows("permissions")

    def topics(self) -> Iterator[Mapping[str, Any] | Hidden]:
        """`user`, `vhost`, `exchange`, `write` and `read`."""
        yield from self._rows("topic-permissions")

    def connections(self) -> Iterator[Mapping[str, Any] | Hidden]:
        """Live ones: `user`, `peer_host`, `user_provided_name` and what the client says of itself."""
        wanted = "user,vhost,peer_host,ssl,connected_at,user_provided_name,client_properties,protocol"
        yield from self._rows(f"connections?columns={wanted}&page=1&page_size={PAGE}", paged=True)

    def parameters(self) -> Iterator[Mapping[str, Any] | Hidden]:
        """Shovels, federation upstreams and other parameters; their URIs may carry passwords."""
        yield from self._rows("parameters")

    def _rows(self, path: str, *, paged: bool = False) -> Iterator[Mapping[str, Any] | Hidden]:
        count, page = 0, 1
        while True:
            status, said = self._http.ask(path.replace("page=1&", f"page={page}&") if paged else path)
            if status in (401, 403):
                yield Hidden(what=path.partition("?")[0])
                return
            if status == 404 or (paged and status == 400 and page > 1):
                return  # it went, or the last page did, while it was read
            if status != 200:
                raise Unavailable("providers.reading.unreachable", f"`{self._url}` answers with {status}")
            rows = said.get("items", []) if isinstance(said, dict) else said
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict):
                    yield row
            count += len(rows) if isinstance(rows, list) else 0
            last = int(said.get("page_count", 1)) if isinstance(said, dict) else 1
            if not paged or page >= last or count >= MOST:
                return
            page += 1


def _tags(said: object) -> tuple[str, ...]:
    words: Sequence[object] = said if isinstance(said, list) else str(said or "").replace(",", " ").split()
    return tuple(str(each) for each in words)
