"""Arguments that a tool's schema wants said in headers as well (`x-mcp-header` → `Mcp-Param-NAME`): they must agree.

Spec: MCP 2026-07-28, "Streamable HTTP", custom headers from tool parameters; error -32020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.headers import decode_header, encode_header
from remit.surface.gateways.mcp.messages import Malformed

Header = Callable[[str], Sequence[str]]
HEADERS: ContextVar[Header | None] = ContextVar("remit_gateway_headers", default=None)
"""All values of a header of the request that is being answered; `None` where there are no headers."""
_MOST: Final = 64


def param_headers(tool: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    """The headers that a call of `tool` carries."""
    found = {}
    for path, name in _declared(tool.get("inputSchema")):
        text = _text(_at(arguments, path))
        if text is not None:
            found[f"Mcp-Param-{name}"] = encode_header(text)
    return found


def require_params(tool: Mapping[str, Any], arguments: Mapping[str, Any], header: Header) -> None:
    """Hold the headers of a call to its arguments: there together and the same, or absent together.

    Raises `Malformed` (-32020).
    """
    for path, name in _declared(tool.get("inputSchema")):
        given, text = header(f"mcp-param-{name}".lower()), _text(_at(arguments, path))
        same = not given if text is None else len(given) == 1 and decode_header(given[0]) == text
        if not same:
            raise Malformed(
                messages.HEADER_MISMATCH, f"the header `Mcp-Param-{name[:60]}` does not say what the body says"
            )


def _declared(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Properties with a header of their own: those reached through `properties` alone."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or len(path) > 8:
        return
    for name, each in list(properties.items())[:_MOST]:
        if not isinstance(each, Mapping):
            continue
        token = each.get("x-mcp-header")
        if isinstance(token, str) and token.replace("-", "").replace("_", "").isalnum() and token.isascii():
            yield (*path, name), token
        yield from _declared(each, (*path, name))


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        arguments = arguments.get(name) if isinstance(arguments, Mapping) else None
    return arguments


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
