"""One exchange with an MCP server over streamable HTTP: a message goes out, messages come back, all bounded.

Follows no redirect: the bearer token is for the server that was named. Spec: MCP, "Streamable HTTP".
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from remit.kernel.errors import Misconfigured, Unavailable

MAX_BYTES: Final = 4 << 20
"""Of one answer, all events of a stream together."""
_SECONDS: Final = 300.0
_ACCEPT: Final = "application/json, text/event-stream"


class StreamableHttp:
    """A server at `url`; the token, if there is one, goes to it alone. `bearer` is asked anew for each exchange."""

    def __init__(self, url: str, *, bearer: str | Callable[[], str] = "") -> None:
        parts = urlsplit(url)
        local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise Misconfigured("providers.mcp.url", "the upstream is no http or https URL without a user in it")
        if parts.scheme == "http" and not local:
            raise Misconfigured(
                "providers.mcp.plain", "plain http is for loopback alone", next_step="name the upstream by https"
            )
        self._host, self._port, self._tls = parts.hostname, parts.port, parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._bearer = bearer

    def open(self) -> http.client.HTTPConnection:
        """A connection for one exchange; closing it from elsewhere ends the exchange."""
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=_SECONDS, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_SECONDS)

    def exchange(
        self,
        connection: http.client.HTTPConnection,
        body: bytes,
        headers: Mapping[str, str],
        heard: Callable[[bytes], bool],
    ) -> Mapping[str, str]:
        """Post `body`; `heard` gets each message that comes back, until it says that it has what it wants.

        Returns the headers of the answer, in lower case. Raises `Unavailable` (`providers.mcp.away`, `.answer`).
        """
        sent = {"Content-Type": "application/json", "Accept": _ACCEPT, **headers}
        if shown := self._bearer if isinstance(self._bearer, str) else self._bearer():
            sent["Authorization"] = f"Bearer {shown}"
        try:
            connection.request("POST", self._path, body=body, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            for message in _messages(answer, found.get("content-type", "")):
                if heard(message):
                    break
        except (OSError, http.client.HTTPException, AttributeError, ValueError) as error:
            # AttributeError: the connection was closed under the reader.
            raise Unavailable("providers.mcp.away", f"the MCP server does not answer: {type(error).__name__}") from None
        if answer.status in (401, 403):
            raise Unavailable("providers.mcp.refused", f"the MCP server refuses the gateway: {answer.status}")
        return found


def _messages(answer: http.client.HTTPResponse, kind: str) -> Iterator[bytes]:
    if not kind.startswith("text/event-stream"):
        raw = answer.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ValueError("too large")
        if raw and kind.startswith("application/json"):
            yield raw
        return
    size, data = 0, b""
    while line := answer.readline(MAX_BYTES):
        size += len(line)
        if size > MAX_BYTES:
            raise ValueError("too large")
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data += line[5:].removeprefix(b" ")
        elif not line and data:
            yield data
            data = b""
