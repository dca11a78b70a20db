"""What a tool is: its whole definition by one digest, so that a changed word is another tool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

RESOURCES, PROMPTS = "resources.read", "prompts.get"
"""Reading a resource and having a prompt are decided as tools of these names, with `uri`, or `name` and `arguments`."""
_OWN: Final = {
    RESOURCES: {"name": RESOURCES, "description": "reads a resource", "inputSchema": {"uri": "string"}},
    PROMPTS: {"name": PROMPTS, "description": "has a prompt", "inputSchema": {"name": "string", "arguments": "object"}},
}


def definition_digest(tool: Mapping[str, Any]) -> str:
    """`sha256:<hex>` over everything that a server says of a tool, in one order."""
    text = json.dumps(tool, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


OWN_DEFINITIONS: Final = {name: definition_digest(tool) for name, tool in _OWN.items()}
"""Digests of what is no tool of a server."""
