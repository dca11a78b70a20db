"""Tokens of OpenBao as their broker needs them: made with an id of ours, found by accessor, renewed, ended, tried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from remit.kernel.errors import Rejected, Unavailable
from remit.providers.openbao.client import OpenBao

MARK: Final = "remit"
"""The key of a token's metadata that holds the principal's name."""
_AT_ONCE: Final = 16
_GONE: Final = "invalid accessor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as a look-up shows it; never its id."""

    accessor: str
    name: str
    """The principal that it was made for; empty for other people's tokens."""
    policies: tuple[str, ...]
    ends: float = 0.0
    """When it ends whatever happens, in seconds since 1970; 0 for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a token was told when it looked at itself."""

    admitted: bool
    words: str
    token: Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What an engine gave."""

    data: Mapping[str, str] = field(repr=False)
    lease: str
    seconds: int


class Tokens:
    """The verbs on one server."""

    def __init__(self, bao: OpenBao, role: str) -> None:
        self._bao = bao
        self._role = role
        # Whose a token is never changes: each accessor is looked up once.
        self._seen: dict[str, Token] = {}

    async def create(
        self, token: str, name: str, *, policies: Sequence[str], seconds: int, longest: int, label: str
    ) -> bool:
        """Make a token with this id; `False` where that id exists already. `Rejected`, `Unavailable` as of `write`."""
        body: dict[str, Any] = {
            "id": token, "policies": list(policies), "display_name": name, "meta": {MARK: name, "for": label},
            "ttl": f"{seconds}s", "explicit_max_ttl": f"{longest}s", "renewable": True, "type": "service",
        }  # fmt: skip
        try:
            made = (await self._bao.issue(f"auth/token/create/{self._role}", body)).get("auth")
        except Rejected as error:
            if "duplicate ID" in error.message:
                return False
            raise
        if not isinstance(made, dict) or made.get("client_token") != token or not made.get("accessor"):
            raise Rejected(
                "access.openbao.token",
                "OpenBao gave a token of its own choice, or one without an accessor",
                next_step="set `token_type=service` on the token role",
            )
        return True

    async def try_token(self, token: str) -> Tried:
        """Let a token look at itself. `Unavailable` where OpenBao cannot say, as when it is sealed."""
        status, answer = await self._bao.attempt(token, "GET", "auth/token/lookup-self")
        if status == 200:
            return Tried(admitted=True, words="200", token=_token(answer.get("data")))
        if status == 403:
            return Tried(admitted=False, words=f"403 {_said(answer)}")
        raise Unavailable("access.openbao.answer", f"OpenBao answered {status} to a token that looks at itself")

    async def itself(self) -> Mapping[str, Any]:
        """Our own token's description; who can read this was let in a moment ago."""
        return await self._bao.read("auth/token/lookup-self")

    async def read(self, token: str, path: str, body: Mapping[str, str]) -> Read:
        """Read an engine's path with a lease's token. `Rejected` (`access.openbao.engine`)."""
        status, answer = await self._bao.attempt(token, "POST" if body else "GET", path, body or None)
        data = answer.get("data")
        if status != 200 or not isinstance(data, dict):
            raise Rejected(
                "access.openbao.engine",
                f"`{path[:100]}` gave nothing ({status}): {_said(answer)}",
                next_step="correct the role's path, or its policy",
            )
        texts = {str(key): _text(value) for key, value in data.items() if value is not None}
        return Read(data=texts, lease=str(answer.get("lease_id") or ""), seconds=int(answer.get("lease_duration") or 0))

    async def keep(self, token: str, path: str, data: Mapping[str, str]) -> None:
        """Put something into a token's own cubbyhole: it is gone with the token. `Rejected`."""
        status, answer = await self._bao.attempt(token, "POST", path, data)
        if status not in (200, 204):
            raise Rejected("access.openbao.cubbyhole", f"`{path}` was refused ({status}): {_said(answer)}")

    async def kept(self, token: str, path: str) -> Mapping[str, str]:
        """What is there; empty for none, and for a token that is no more."""
        status, answer = await self._bao.attempt(token, "GET", path)
        data = answer.get("data")
        return {str(key): str(value) for key, value in data.items()} if status == 200 and isinstance(data, dict) else {}

    async def marked(self) -> Mapping[str, Token]:
        """Principal → token, of every token that bears the mark."""
        present = list(dict.fromkeys(await self._bao.list("auth/token/accessors")))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def look(accessor: str) -> None:
            async with gate:
                found = await self._look(accessor)
                if found is not None:
                    self._seen[accessor] = found

        await asyncio.gather(*(look(each) for each in present if each not in self._seen))
        for gone in self._seen.keys() - set(present):
            del self._seen[gone]
        known = [self._seen[each] for each in present if each in self._seen]
        return {each.name: each for each in known if each.name}

    async def _look(self, accessor: str) -> Token | None:
        try:
            return _token(await self._bao.write("auth/token/lookup-accessor", {"accessor": accessor}))
        except Rejected as error:
            if _GONE not in error.message:
                raise
            return None  # it ended between the two

    async def renew(self, accessor: str, seconds: int) -> bool:
        """Move its end; whether it exists."""
        try:
            await self._bao.issue("auth/token/renew-accessor", {"accessor": accessor, "increment": f"{seconds}s"})
        except Rejected as error:
            if _GONE not in error.message:
                raise
            return False
        return True

    async def revoke(self, accessor: str) -> str:
        """End it and what hangs on it; what OpenBao said where it did not, or not yet."""
        try:
            await self._bao.write("auth/token/revoke-accessor", {"accessor": accessor})
        except Rejected as error:
            return "" if _GONE in error.message else error.message
        except Unavailable as error:
            if error.code != "providers.openbao.busy":
                raise
            return error.message
        return ""

    async def has_lease(self, lease: str) -> bool:
        """Whether the engine still holds it."""
        try:
            await self._bao.write("sys/leases/lookup", {"lease_id": lease})
        except Rejected as error:
            if "invalid lease" in error.message:
                return False
            raise
        return True

    async def renew_lease(self, lease: str, seconds: int) -> None:
        """Move an engine's lease; `Rejected` where it cannot be."""
        await self._bao.issue("sys/leases/renew", {"lease_id": lease, "increment": seconds})

    async def role(self) -> Mapping[str, Any]:
        """The token role as it stands."""
        return await self._bao.read(f"auth/token/roles/{self._role}")

    async def capabilities(self, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """What our own token may do on each path."""
        found = await self._bao.write("sys/capabilities-self", {"paths": list(paths)})
        return {path: frozenset(found.get(path) or ()) for path in paths}


def _token(data: Any) -> Token | None:
    if not isinstance(data, dict):
        return None
    meta = data.get("meta")
    name = meta.get(MARK) if isinstance(meta, dict) else ""
    longest = data.get("explicit_max_ttl") or 0
    return Token(
        accessor=str(data.get("accessor", "")),
        name=str(name or ""),
        policies=tuple(data.get("policies") or ()),
        ends=float(data.get("creation_time") or 0) + float(longest) if longest else 0.0,
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    import msgspec

    return msgspec.json.encode(value).decode()


def _said(answer: Mapping[str, Any]) -> str:
    said = answer.get("errors")
    return str(said[0])[:200].replace("`", "'").strip() if isinstance(said, list) and said else "no reason given"
