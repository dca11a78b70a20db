"""JSON-RPC messages of MCP, read with bounds: one message at a time, never a batch.

Spec: JSON-RPC 2.0; MCP 2026-07-28, "Base protocol".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from remit.kernel.strict import NotStrict, read_object

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_MEMBERS: Final = 50_000
MODERN: Final = "2026-07-28"
HANDSHAKE: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
_MAX_ID: Final = 128
Id: TypeAlias = int | str


class Malformed(Exception):
    """A message that is not taken, with its JSON-RPC code; `id` where one could be read."""

    def __init__(self, code: int, message: str, id: Id | None = None, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
        self.data = data

    def answer(self) -> dict[str, Any]:
        return error(self.id, self.code, self.message, self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request (`id` and `method`), a notification (`method` alone), or an answer (`id` alone)."""

    id: Id | None = None
    method: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    error: Mapping[str, Any] | None = None

    @property
    def meta(self) -> Mapping[str, Any]:
        found = self.params.get("_meta")
        return found if isinstance(found, Mapping) else {}

    @property
    def modern(self) -> bool:
        """Whether it carries its own envelope, as revision 2026-07-28 has it."""
        return self.method != "initialize" and VERSION_KEY in self.meta


def parse_message(raw: bytes, *, max_bytes: int = MAX_BYTES) -> Message:
    """Read one message. Raises `Malformed`: too large, no JSON, a batch, no JSON-RPC."""
    if raw.lstrip()[:1] == b"[":
        raise Malformed(INVALID_REQUEST, "batches are not taken: send one message at a time")
    try:
        found: dict[str, Any] = dict(read_object(raw, max_bytes=max_bytes, depth=MAX_DEPTH, members=MAX_MEMBERS))
    except NotStrict as why:
        raise Malformed(INVALID_REQUEST if len(raw) > max_bytes else PARSE_ERROR, f"the message is {why}") from None
    given, method, params = found.get("id"), found.get("method", ""), found.get("params", {})
    id = given if _is_id(given) else None
    if found.get("jsonrpc") != "2.0" or ("id" in found and id is None):
        raise Malformed(
            INVALID_REQUEST, "the message is no JSON-RPC 2.0, or its id is no short text or whole number", id
        )
    if not isinstance(method, str) or len(method) > _MAX_ID or not isinstance(params, dict):
        raise Malformed(INVALID_REQUEST, "the method or its parameters are malformed", id)
    failed = found.get("error")
    if not method and (id is None or ("result" in found) == isinstance(failed, dict)):
        raise Malformed(INVALID_REQUEST, "the message is neither request, notification nor answer", id)
    return Message(
        id=id,
        method=method,
        params=params,
        result=found.get("result"),
        error=failed if isinstance(failed, dict) else None,
    )


def _is_id(given: Any) -> bool:
    if isinstance(given, str):
        return len(given) <= _MAX_ID
    return isinstance(given, int) and not isinstance(given, bool) and abs(given) < 2**53


def encode(message: Mapping[str, Any]) -> bytes:
    """One line of JSON, without its end."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def result(id: Id | None, value: Mapping[str, Any]) -> dict[str, Any]:
    """An answer."""
    return {"jsonrpc": "2.0", "id": id, "result": value}


def error(id: Id | None, code: int, message: str, data: Any = None) -> dict[str, Any]:
    """An error."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return {"jsonrpc": "2.0", "id": id, "error": body}


def request(id: Id, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A request."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def notification(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A notification."""
    return {"jsonrpc": "2.0", "method": method, "params": params}
