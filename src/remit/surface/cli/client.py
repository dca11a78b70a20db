"""The CLI's side of `admin.sock`: HTTP over a Unix socket, by the standard library alone."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from remit.kernel.errors import Unavailable
from remit.surface.problem import from_problem


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Admin:
    """Calls the control plane that serves `admin.sock`; raises its errors, or `Unavailable` when there is none."""

    def __init__(self, admin_socket: Path, data: Path) -> None:
        self._socket = admin_socket
        self._data = data

    def get(self, path: str, **query: Any) -> Any:
        """GET a JSON document."""
        return self._call("GET", _with(path, query), b"")

    def post(self, path: str, body: Any = None, *, signed: bool = False) -> Any:
        """POST a JSON document; `signed` adds the person's own signature."""
        return self._call("POST", path, _encode(body), signed=signed)

    def delete(self, path: str, *, signed: bool = False) -> Any:
        """DELETE a thing."""
        return self._call("DELETE", path, b"", signed=signed)

    def text(self, path: str, **query: Any) -> str:
        """GET something that is no JSON."""
        connection, response = self._open("GET", _with(path, query), b"", timeout=60)
        with connection:
            return response.read().decode()

    def stream(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """POST, and yield each line of the answer as it comes."""
        connection, response = self._open("POST", path, _encode(body), timeout=None)
        with connection:
            for line in response:
                document = msgspec.json.decode(line)
                if document.get("kind") == "error":
                    raise from_problem(document["problem"])
                yield document

    def _call(self, method: str, path: str, body: bytes, *, signed: bool = False) -> Any:
        connection, response = self._open(method, path, body, timeout=120, signed=signed)
        with connection:
            raw = response.read()
        return msgspec.json.decode(raw) if raw else None

    def _open(
        self, method: str, path: str, body: bytes, *, timeout: float | None, signed: bool = False
    ) -> tuple[_Closing, http.client.HTTPResponse]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if signed:
            from remit.surface.cli.person import sign_request

            headers.update(sign_request(self, self._data, method, path, body))
        connection = _UnixConnection(self._socket, timeout)
        try:
            connection.request(method, path, body=body or None, headers=headers)
            response = connection.getresponse()
        except (FileNotFoundError, ConnectionRefusedError):
            raise _nobody(self._socket) from None
        except PermissionError:
            raise Unavailable(
                "surface.socket.forbidden",
                f"`{self._socket}` is not yours to use",
                next_step="run the command as the user that runs Remit, or as root",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise lost(error) from None
        if response.status >= 400:
            raw = response.read()
            connection.close()
            raise from_problem(_problem(raw, response.status))
        return _Closing(connection), response


class _Closing:
    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._connection.close()
        if isinstance(error, OSError | http.client.HTTPException):
            raise lost(error) from None


def _problem(raw: bytes, status: int) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict) and "code" in body:
        return body
    return {"status": status, "code": "surface.server.failed", "title": f"the control plane answered {status}"}


def lost(error: object = "") -> Unavailable:
    """The control plane ended, or was ended, in the middle of an answer."""
    why = f": {error}" if str(error) else ""
    return Unavailable(
        "surface.server.lost",
        f"the control plane went away before it had answered{why}",
        next_step="look at its log; what it had committed is kept, and the command can be given again",
    )


def _nobody(path: Path) -> Unavailable:
    return Unavailable(
        "surface.server.absent",
        f"no control plane serves `{path}`",
        next_step=f"start one: `remit up --data {path.parent}`",
    )


def _with(path: str, query: dict[str, Any]) -> str:
    given = {key: value for key, value in query.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(given)}" if given else path


def _encode(body: Any) -> bytes:
    return b"" if body is None else msgspec.json.encode(body)
