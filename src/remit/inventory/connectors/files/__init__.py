"""Files: SSH and X.509 keys, cloud and registry logins, environment files, pipelines, MCP clients.

`walk` finds and reads (I/O), `readers` understand (pure), `sheet` turns secrets into fingerprints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.inventory.connectors.files.connector import MANIFEST, FilesConnector
    from remit.inventory.connectors.files.record import FileRead, Role

__all__ = ["MANIFEST", "FileRead", "FilesConnector", "Role"]


def __getattr__(name: str) -> object:
    """The connector, when it is asked for: `remit scan` needs its formats alone, and starts without the rest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from remit.inventory.connectors.files import connector

    return getattr(connector, name)
