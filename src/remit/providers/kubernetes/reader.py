"""Everything of a cluster, read page by page: lists with `limit` and `continue`, as whoever the token is.

Only GET is ever sent. Of Secrets the table form is asked for: it tells names and types, and no value crosses the wire.

Spec: Kubernetes API concepts, "Retrieving large results sets in chunks", "Receiving resources as Tables".
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx2

from remit.kernel.errors import Denied, Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.pausing import pause
from remit.providers.tls import harden, load_identity

_SECONDS: Final = 20.0
_MAX_BYTES: Final = 64 << 20
_MAX_PAGES: Final = 5_000
_RESTARTS: Final = 3
_WAITS: Final = (0.2, 0.8, 2.4)
_LONGEST_WAIT: Final = 10.0
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json"
PAGE: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where the API server is, and what proves who asks; certificate authorities as PEM, empty for the system's."""

    url: str
    ca: str = ""
    token: str = field(default="", repr=False)
    identity: bytes = field(default=b"", repr=False)
    """A client certificate with its key, PEM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every object of one kind at one moment."""

    items: tuple[Mapping[str, Any], ...]
    version: str
    """The resourceVersion of the list."""


class ClusterReader:
    """One API server; `close` works twice. `sleep` is waited with between attempts.

    Raises `Unavailable` (`providers.kubernetes.unreachable`), `Denied` (`providers.kubernetes.forbidden`),
    `Misconfigured` (`providers.kubernetes.login`, `providers.kubernetes.ca`), `Rejected`
    (`providers.kubernetes.refused`).
    """

    def __init__(self, login: Login, *, page: int = PAGE, sleep: Callable[[float], None] = pause) -> None:
        self.url = login.url.rstrip("/")
        self._login, self._page, self._sleep = login, page, sleep
        self._client: httpx2.Client | None = None

    def __repr__(self) -> str:
        return f"ClusterReader({self.url!r})"

    def open(self) -> None:
        """Load what is needed for TLS; nothing is asked yet."""
        if not self.url.startswith("https://"):
            raise Rejected(
                "providers.kubernetes.refused",
                f"`{self.url[:120]}` is no https address",
                next_step="a token is never sent over a plain connection: use the https address of the API server",
            )
        self._client = httpx2.Client(
            base_url=self.url, verify=_context(self._login), timeout=_SECONDS, trust_env=False, follow_redirects=False
        )

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(httpx2.HTTPError, OSError):
                client.close()

    def get(self, path: str) -> Mapping[str, Any] | None:
        """One document; `None` where there is none."""
        status, answer = self._ask(path, "application/json")
        return None if status == 404 else self._judged(path, status, answer)

    def list(self, path: str, *, table: bool = False) -> Listing | None:
        """Every object of a collection; `None` where the server does not know the kind.

        When the server has forgotten the list that it was paging through (410), the kind is read again, thrice at
        most: half of one moment and half of another would be no list.
        """
        for _ in range(_RESTARTS + 1):
            try:
                return self._whole(path, table=table)
            except _GoneError:
                continue
        raise Unavailable(
            "providers.kubernetes.unreachable",
            f"`{self.url}` forgot the list `{path}` {_RESTARTS + 1} times while it was read",
            next_step="the cluster changes faster than its lists can be read: try again later",
        )

    def _whole(self, path: str, *, table: bool) -> Listing | None:
        items: list[Mapping[str, Any]] = []
        more = version = ""
        for _ in range(_MAX_PAGES):
            query = f"?limit={self._page}" + (f"&continue={quote(more, safe='')}" if more else "")
            status, answer = self._ask(path + query, _TABLE if table else "application/json")
            if status == 410 and more:
                raise _GoneError
            if status == 404 and not more:
                return None
            meta = _mapping(self._judged(path, status, answer).get("metadata"))
            items += _rows(answer) if answer.get("kind") == "Table" else _items(answer, bare=table)
            version, more = str(meta.get("resourceVersion") or version), str(meta.get("continue") or "")
            if not more:
                return Listing(items=tuple(items), version=version)
        raise Rejected("providers.kubernetes.refused", f"`{self.url}` lists more than {_MAX_PAGES} pages of `{path}`")

    def _ask(self, path: str, accept: str) -> tuple[int, dict[str, Any]]:
        """One GET; throttling and failures of the server are asked again three times."""
        for wait in (*_WAITS, None):
            status, answer, after = self._once(path, accept)
            if wait is None or not (status == 429 or status >= 500):
                break
            self._sleep(min(after or wait, _LONGEST_WAIT))
        return status, answer

    def _once(self, path: str, accept: str) -> tuple[int, dict[str, Any], float]:
        assert self._client is not None, "the reader is not open"
        headers = {"accept": accept}
        if self._login.token:
            headers["authorization"] = f"Bearer {self._login.token}"
        try:
            with self._client.stream("GET", path, headers=headers) as response:
                held = bytearray()
                for part in response.iter_bytes():
                    held += part
                    if len(held) > _MAX_BYTES:
                        raise Rejected(
                            "providers.kubernetes.refused",
                            f"`{self.url}` answers `{path.partition('?')[0]}` with a page of more than 64 MiB",
                        )
                after = response.headers.get("retry-after", "")
                return response.status_code, _read(bytes(held)), float(after) if after.isdecimal() else 0.0
        except (httpx2.HTTPError, OSError) as error:
            raise Unavailable(
                "providers.kubernetes.unreachable",
                f"`{self.url}` does not answer: {_why(error)}",
                next_step="check address and network, and that `ca` is the file of the cluster's certificate authority",
            ) from None

    def _judged(self, path: str, status: int, answer: dict[str, Any]) -> dict[str, Any]:
        if status < 300:
            return answer
        raise _refusal(self.url, path.partition("?")[0], status, answer)


class _GoneError(Exception):
    """The server forgot the list."""


def _refusal(url: str, path: str, status: int, answer: Mapping[str, Any]) -> RemitError:
    said = " ".join(str(answer.get("message") or answer.get("reason") or "no reason given").split())[:240]
    if status == 401:
        return Misconfigured(
            "providers.kubernetes.login",
            f"`{url}` refuses the token or certificate",
            next_step="make a new one: `kubectl create token ACCOUNT -n NAMESPACE`",
        )
    if status == 403:
        return Denied(
            "providers.kubernetes.forbidden",
            f"`{url}` forbids `{path}`: {said}",
            next_step="apply the ClusterRole that `remit connectors kubernetes` shows",
        )
    if status >= 500 or status == 429:
        return Unavailable(
            "providers.kubernetes.unreachable",
            f"`{url}` answers `{path}` with {status}",
            next_step="nothing was retired: run it again later",
        )
    return Rejected("providers.kubernetes.refused", f"`{url}` answers `{path}` with {status}: {said}")


def _context(login: Login) -> ssl.SSLContext:
    try:
        context = harden(ssl.create_default_context(cadata=login.ca or None))
        if login.identity:
            load_identity(context, login.identity)
    except (OSError, ValueError):
        raise Misconfigured(
            "providers.kubernetes.ca",
            "the certificate authorities or the client certificate cannot be read",
            next_step="`kubectl config view --raw --minify --flatten` has them, in base64",
        ) from None
    return context


def _rows(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rows of a table as objects without content: metadata, and the column `Type` where there is one."""
    columns = [str(_mapping(one).get("name")) for one in table.get("columnDefinitions") or ()]
    for row in table.get("rows") or ():
        entry = _mapping(row)
        cells = dict(zip(columns, entry.get("cells") or (), strict=False))
        yield {"metadata": _mapping(_mapping(entry.get("object")).get("metadata")), "type": cells.get("Type")}


def _items(answer: Mapping[str, Any], *, bare: bool) -> Iterator[Mapping[str, Any]]:
    """Objects of a list; `bare`: of a server that gives no tables, without what the objects hold."""
    for one in answer.get("items") or ():
        if isinstance(one, dict):
            yield {"metadata": _mapping(one.get("metadata")), "type": one.get("type")} if bare else one


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _read(content: bytes) -> dict[str, Any]:
    """A body that is no JSON object says nothing: the status is judged."""
    try:
        return _mapping(json.loads(content))
    except (ValueError, RecursionError):
        return {}


def _why(error: Exception) -> str:
    return "its certificate is not trusted" if "CERTIFICATE_VERIFY_FAILED" in str(error) else type(error).__name__
