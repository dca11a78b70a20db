"""The API of Kubernetes over strict TLS, as one service account: objects, tokens, reviews.

Spec: Kubernetes API 1.28 and later: core/v1, rbac.authorization.k8s.io/v1, authentication.k8s.io/v1 (TokenRequest,
SelfSubjectReview), authorization.k8s.io/v1 (SelfSubjectAccessReview).
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx2

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.tls import harden

_SECONDS: Final = 10.0
_MAX_BYTES: Final = 8 << 20
_PAGE: Final = 500
_MAX_PAGES: Final = 200
_WHO_AM_I: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_MAY_I: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a request with a token."""

    admitted: bool
    words: str
    """The server's own, with its code; the user's name where it was admitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One question to RBAC: may I do `verb` on this?"""

    verb: str
    resource: str
    """As `rolebindings`, or `serviceaccounts/token`."""
    group: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        where = f" in {self.namespace}" if self.namespace else " in the cluster"
        return f"{self.verb} {self.resource}{name}{where}"


class Api:
    """One API server; safe for concurrent calls.

    Raises `Unavailable` (`access.kubernetes.unreachable`), `Misconfigured` (`access.kubernetes.login`, `….forbidden`,
    `….ca`), `Rejected` (`access.kubernetes.refused`).
    """

    def __init__(self, url: str, token: str, *, ca: str = "") -> None:
        self.url = url.rstrip("/")
        self._context, self.authorities = _context(ca)
        """`authorities`: the file's certificates as a kubeconfig has them, in base64; empty for the system's own."""
        self._token = token
        self._client = self._new_client()

    def __repr__(self) -> str:
        return f"Api({self.url!r})"

    async def close(self) -> None:
        with suppress(httpx2.HTTPError, OSError):
            await self._client.aclose()

    async def get(self, path: str) -> dict[str, Any] | None:
        """An object; `None` where there is none."""
        status, answer = await self._ask("GET", path)
        if status == 404:
            return None
        return self._judged(status, answer)

    async def list(self, path: str, *, selector: str = "") -> list[dict[str, Any]]:
        """Every object of a collection, page after page."""
        found: list[dict[str, Any]] = []
        more = ""
        for _ in range(_MAX_PAGES):
            query = f"?limit={_PAGE}&labelSelector={quote(selector, safe='')}&continue={quote(more, safe='')}"
            answer = self._judged(*await self._ask("GET", path + query))
            found += [one for one in answer.get("items") or () if isinstance(one, dict)]
            more = str((answer.get("metadata") or {}).get("continue") or "")
            if not more:
                return found
        raise Rejected("access.kubernetes.refused", f"`{self.url}` lists more than {_PAGE * _MAX_PAGES} objects")

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The new object; `None` where one of that name is there already."""
        status, answer = await self._ask("POST", path, body)
        if status == 409:
            return None
        return self._judged(status, answer)

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object by a merge patch (RFC 7396)."""
        status, answer = await self._ask("PATCH", path, body, kind="application/merge-patch+json")
        return self._judged(status, answer)

    async def delete(self, path: str) -> None:
        """Ask for its deletion; what is not there is deleted. It may stay while it has finalizers."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        status, answer = await self._ask("DELETE", path, options)
        if status != 404:
            self._judged(status, answer)

    async def may(self, access: Access) -> bool:
        """What RBAC says of our own right."""
        resource, _, subresource = access.resource.partition("/")
        asked = {"verb": access.verb, "group": access.group, "resource": resource, "subresource": subresource}
        asked |= {"namespace": access.namespace, "name": access.name}
        spec = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
        answer = self._judged(*await self._ask("POST", _MAY_I, body))
        return (answer.get("status") or {}).get("allowed") is True

    async def login(self, token: str = "") -> Attempt:
        """Who is it that shows this token (ours without one)? On a connection of its own."""
        client = self._new_client()
        try:
            status, answer = await self._ask("POST", _WHO_AM_I, _REVIEW, client=client, token=token or self._token)
        finally:
            with suppress(httpx2.HTTPError, OSError):
                await client.aclose()
        if status == 401:
            return Attempt(admitted=False, words=f"401 {_message(answer)}")
        if status == 404:
            raise Rejected(
                "access.kubernetes.refused",
                f"`{self.url}` knows no SelfSubjectReview",
                next_step="use Kubernetes 1.28 or later",
            )
        if status >= 500 or status == 429:
            raise self._unavailable(status)
        user = ((answer.get("status") or {}).get("userInfo") or {}).get("username", "")
        return Attempt(admitted=True, words=str(user)[:240] if status < 300 else f"{status} {_message(answer)}")

    def _new_client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url, verify=self._context, timeout=_SECONDS, trust_env=False, follow_redirects=False
        )

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        kind: str = "application/json",
        client: httpx2.AsyncClient | None = None,
        token: str = "",
    ) -> tuple[int, dict[str, Any]]:
        headers = {"authorization": f"Bearer {token or self._token}", "accept": "application/json"}
        content = None
        if body is not None:
            headers["content-type"] = kind
            content = json.dumps(body).encode()
        try:
            async with (client or self._client).stream(method, path, content=content, headers=headers) as response:
                return response.status_code, _read(await self._bounded(response))
        except (httpx2.HTTPError, OSError) as error:
            raise Unavailable(
                "access.kubernetes.unreachable",
                f"`{self.url}` does not answer: {_why(error)}",
                next_step="check host, port, network, and that `ca` is the file of the cluster's certificate authority",
            ) from None

    async def _bounded(self, response: httpx2.Response) -> bytes:
        held = bytearray()
        async for part in response.aiter_bytes():
            held += part
            if len(held) > _MAX_BYTES:
                raise Rejected("access.kubernetes.refused", f"`{self.url}` answered with more than 8 MiB")
        return bytes(held)

    def _judged(self, status: int, answer: dict[str, Any]) -> dict[str, Any]:
        if status < 300:
            return answer
        if status == 401:
            raise Misconfigured(
                "access.kubernetes.login",
                f"`{self.url}` refuses the broker's token",
                next_step="give it a token that has not expired, by `remit target rm` and `add`",
            )
        if status == 403:
            raise Misconfigured(
                "access.kubernetes.forbidden",
                f"`{self.url}` forbids it: {_message(answer)}",
                next_step="let an administrator apply what `remit target install NAME --print` shows",
            )
        if status >= 500 or status == 429:
            raise self._unavailable(status)
        raise Rejected("access.kubernetes.refused", f"`{self.url}` answers with {status}: {_message(answer)}")

    def _unavailable(self, status: int) -> Unavailable:
        return Unavailable(
            "access.kubernetes.unreachable", f"`{self.url}` answers with {status}", retry_after=timedelta(seconds=1)
        )


_REVIEW: Final = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def _context(ca: str) -> tuple[ssl.SSLContext, str]:
    try:
        text = Path(ca).read_text() if ca else None
        return harden(ssl.create_default_context(cadata=text)), base64.b64encode((text or "").encode()).decode()
    except (OSError, ValueError):
        raise Misconfigured(
            "access.kubernetes.ca",
            f"the file of certificate authorities `{ca[:120]}` cannot be read",
            next_step="`kubectl config view --raw --minify --flatten` has it, in base64",
        ) from None


def _read(content: bytes) -> dict[str, Any]:
    """A body that is no JSON object says nothing: the status is judged."""
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _message(answer: Mapping[str, Any]) -> str:
    return " ".join(str(answer.get("message") or answer.get("reason") or "no reason given").split())[:240]


def _why(error: Exception) -> str:
    text = str(error)
    return "its certificate is not trusted" if "CERTIFICATE_VERIFY_FAILED" in text else type(error).__name__
