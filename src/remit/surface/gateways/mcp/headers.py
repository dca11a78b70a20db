"""The headers that say what a body says, so that who stands between can decide: they must agree.

Spec: MCP 2026-07-28, "Streamable HTTP", request headers; error -32020.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Final

from remit.surface.gateways.mcp import messages
from remit.surface.gateways.mcp.messages import Malformed, Message

NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=")
_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def encode_header(value: str) -> str:
    """Write a value so that it survives as a header."""
    if _PLAIN.fullmatch(value) and not _ENCODED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_header(value: str) -> str | None:
    """The inverse; `None` for what is not written so."""
    found = _ENCODED.fullmatch(value)
    if found is None:
        return value
    try:
        raw = base64.b64decode(found[1], validate=True)
        return raw.decode() if base64.b64encode(raw).decode() == found[1] else None
    except (binascii.Error, ValueError):
        return None


def require_agreement(message: Message, header: Callable[[str], Sequence[str]]) -> None:
    """Hold headers and body of a request of revision 2026-07-28 to each other.

    `header` gives all values of one. Raises `Malformed` (-32020) for one that is missing, twice there, or another.
    """
    expected = {
        "mcp-protocol-version": str(message.meta.get(messages.VERSION_KEY, "")),
        "mcp-method": message.method,
    }
    if message.method in NAMED:
        expected["mcp-name"] = str(message.params.get(NAMED[message.method], ""))
    for name, wanted in expected.items():
        given = header(name)
        if len(given) != 1 or decode_header(given[0]) != wanted:
            raise Malformed(
                messages.HEADER_MISMATCH, f"the header `{name}` does not say what the body says", message.id
            )
