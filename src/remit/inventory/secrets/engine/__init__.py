"""Which bytes are secrets? Rules as data, all matched at once; what they find is checked, scored, and mapped back.

Below: `inventory.secrets.model` alone. Nothing here reads a file (but its own cache), asks a network or logs.
"""

from __future__ import annotations

from remit.inventory.secrets.engine.scan import Engine, make_engine

__all__ = ["Engine", "make_engine"]
