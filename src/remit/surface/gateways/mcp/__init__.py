"""The MCP gateway: an agent's tools, each call decided against the intent of its task.

Reading order: `messages` (JSON-RPC, bounded) → `definitions` (what a tool is, by digest) → `desk` (asking the control
plane) → `gate` (what the agent meets; `results` counts rows, `stepup` asks for what is missing, `params` holds headers
to arguments) → `upstream` (the server behind) → `stdio` and `http` (how the agent reaches us).

Spec: Model Context Protocol, revisions 2026-07-28 (stateless) and 2024-11-05 to 2025-11-25 (handshake).
"""
