"""The demo of an agent: a real MCP server, the gateway before it, and an agent that does whatever it reads.

Reading order: `mail_server` (the tools) → `wire` (the agent's client) → `script` (what the agent does) → `show`.
"""
