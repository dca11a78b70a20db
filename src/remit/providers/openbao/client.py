"""A client of OpenBao's HTTP API: signs in, keeps its connection and its token, and signs in again when that has ended.

HTTPS to anywhere, HTTP to this machine alone; redirects are not followed and proxies of the environment not used. What
it signs in with is read from its file at each login and never kept; neither it nor the token is in a message or repr.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec

from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable

if TYPE_CHECKING:
    import httpx2

TIMEOUT: Final = timedelta(seconds=10)
"""For one request, from connecting to the last byte of its answer."""
MAX_ANSWER_BYTES: Final = 1024 * 1024
_PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_RETRY: Final = frozenset({408, 412, 425, 429})
_LATER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAuth:
    """A token that somebody keeps in a file (an OpenBao agent, for one)."""

    token: Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRoleAuth:
    """A role's id, and its secret id from a file."""

    role_id: str
    secret_id: Callable[[], bytes]
    mount: str = "approle"


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtAuth:
    """A role, and a JWT from a file: of Kubernetes, of a pipeline, or a JWT-SVID of another trust domain."""

    role: str
    jwt: Callable[[], bytes]
    mount: str = "jwt"


Auth: TypeAlias = TokenAuth | AppRoleAuth | JwtAuth


class OpenBao:
    """Reads and writes paths below `/v1/`. Belongs to one event loop."""

    def __init__(
        self,
        address: str,
        auth: Auth,
        *,
        namespace: str = "",
        ca_file: str | None = None,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self._address = require_address(address)
        self._auth = auth
        self._namespace = namespace
        self._ca_file = ca_file
        self._timeout = timeout
        self._token = ""
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"OpenBao({urlsplit(self._address).hostname!r})"

    async def read(self, path: str) -> Mapping[str, Any]:
        """The `data` of a path. Errors as of `write`."""
        return _data(await self._ask("GET", path, None))

    async def write(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write to a path; the `data` of the answer, empty where there is none.

        Raises `Unavailable` (`providers.openbao.unreachable`, `.busy`), `Rejected` (`.refused`) or, when the login does
        not hold, `Misconfigured` (`.login`).
        """
        return _data(await self._ask("POST", path, body))

    async def list(self, path: str) -> Sequence[str]:
        """The names below a path; none where there is nothing. Errors as of `write`."""
        found = _data(await self._ask("LIST", path, None)).get("keys")
        return [str(each) for each in found] if isinstance(found, list) else []

    async def issue(self, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Read a path, or write `body` to it, for what stands beside `data` too, as `auth`. Errors as of `write`."""
        return await self._ask("GET" if body is None else "POST", path, body)

    async def attempt(
        self, token: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        """Ask as the holder of another token: status and document, a refusal included.

        Raises `Unavailable` where OpenBao cannot answer (`providers.openbao.unreachable`, or `.busy`: also when it is
        sealed), so that only its own word about the token is left.
        """
        _require_path(path)
        status, answer = await self._send(method, path, body, token)
        if status >= 500 or status in _RETRY:
            raise self._meaning(status, answer)
        return status, answer

    async def login(self) -> None:
        """Sign in anew."""
        self._token = await self._sign_in()

    async def close(self) -> None:
        """Close the connection; the token is left to end by itself."""
        client, self._client, self._token = self._client, None, ""
        if client is not None:
            await client.aclose()

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        _require_path(path)
        signed_in = not self._token
        if signed_in:
            await self.login()
        status, answer = await self._send(method, path, body, self._token)
        if status == 403 and not signed_in:
            # The token may have ended: once more with a new one.
            await self.login()
            status, answer = await self._send(method, path, body, self._token)
        if not 200 <= status < 300:
            raise self._meaning(status, answer)
        return answer

    async def _sign_in(self) -> str:
        match self._auth:
            case TokenAuth(token=token):
                return await _secret(token)
            case AppRoleAuth(role_id=role_id, secret_id=secret_id, mount=mount):
                body = {"role_id": role_id, "secret_id": await _secret(secret_id)}
            case JwtAuth(role=role, jwt=jwt, mount=mount):
                body = {"role": role, "jwt": await _secret(jwt)}
        status, answer = await self._send("POST", f"auth/{mount}/login", body, "")
        signed = answer.get("auth")
        issued = signed.get("client_token") if isinstance(signed, dict) else None
        if 200 <= status < 300 and isinstance(issued, str) and issued:
            return issued
        if 400 <= status < 500 and status not in _RETRY:
            raise Misconfigured(
                "providers.openbao.login",
                f"OpenBao at `{urlsplit(self._address).hostname}` refused our login ({status})",
                next_step="correct the role, or the file with what we sign in with",
            )
        raise self._meaning(status, answer)

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str
    ) -> tuple[int, Mapping[str, Any]]:
        import httpx2

        headers = {"x-vault-request": "true", "content-type": "application/json"}
        if token:
            headers["x-vault-token"] = token
        if self._namespace:
            headers["x-vault-namespace"] = self._namespace
        content = None if body is None else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                client = await self._opened()
                async with client.stream(
                    method, f"{self._address}/v1/{path}", content=content, headers=headers
                ) as answer:
                    return int(answer.status_code), _decoded(await _bounded(answer))
        except TimeoutError:
            raise self._unreachable("no answer in time") from None
        except (httpx2.HTTPError, OSError) as error:
            raise self._unreachable(type(error).__name__) from None

    async def _opened(self) -> httpx2.AsyncClient:
        import ssl

        import httpx2

        if self._client is None:
            context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
            self._client = httpx2.AsyncClient(
                follow_redirects=False, trust_env=False, timeout=self._timeout.total_seconds(), verify=context
            )
        return self._client

    def _meaning(self, status: int, answer: Mapping[str, Any]) -> RemitError:
        said = answer.get("errors")
        why = str(said[0])[:200].replace("`", "'") if isinstance(said, list) and said else "no reason given"
        if status >= 500 or status in _RETRY:
            return Unavailable(
                "providers.openbao.busy", f"OpenBao answered {status}: {why}", next_step="it is tried again",
                retry_after=_LATER,
            )  # fmt: skip
        return Rejected(
            "providers.openbao.refused",
            f"OpenBao answered {status}: {why}",
            next_step="correct the path, or the policy of the role that we sign in with",
        )

    def _unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            "providers.openbao.unreachable",
            f"OpenBao at `{urlsplit(self._address).hostname}` does not answer: {why}",
            next_step="check that it runs, is unsealed, and that the address and its CA are right",
            retry_after=_LATER,
        )


def require_address(address: str) -> str:
    """Accept `https://HOST[:PORT]` and, for this machine alone, `http://…`.

    Raises `Misconfigured` (`providers.openbao.address`).
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or len(address) > 2000 or not address.isascii() or not address.isprintable() or " " in address:
        raise _bad_address("it is no URL")
    if parts.username is not None or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise _bad_address("it has more than a scheme, a host and a port")
    if parts.scheme == "https" or (parts.scheme == "http" and _loopback(host)):
        return address.rstrip("/")
    raise _bad_address("only https is allowed, or http to this machine")


def _require_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise Rejected("providers.openbao.path", f"`{path[:80]}` is no path of OpenBao")


def _loopback(host: str) -> bool:
    # A name could point anywhere: only literal addresses count.
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _secret(source: Callable[[], bytes]) -> str:
    raw = (await asyncio.to_thread(source)).strip()
    if not raw or not raw.isascii() or any(one <= 32 or one == 127 for one in raw):
        raise Misconfigured(
            "providers.openbao.secret", "the file with what we sign in to OpenBao with is empty or no text"
        )
    return raw.decode("ascii")


async def _bounded(answer: httpx2.Response) -> bytes:
    read = bytearray()
    async for chunk in answer.aiter_bytes():
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            raise Rejected("providers.openbao.too_large", "OpenBao's answer is larger than 1 MiB")
    return bytes(read)


def _decoded(raw: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(raw) if raw.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _data(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    data = answer.get("data")
    return data if isinstance(data, dict) else {}


def _bad_address(why: str) -> Misconfigured:
    return Misconfigured(
        "providers.openbao.address", f"OpenBao's address cannot be used: {why}", next_step="give an https address"
    )
