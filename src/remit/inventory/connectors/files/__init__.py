"""Files: SSH and X.509 keys, cloud and registry logins, environment files, pipelines, MCP clients.

`walk` finds and reads (I/O), `readers` understand (pure), `sheet` turns secrets into fingerprints.
"""

from remit.inventory.connectors.files.connector import MANIFEST, FilesConnector
from remit.inventory.connectors.files.record import FileRead, Role

__all__ = ["MANIFEST", "FileRead", "FilesConnector", "Role"]
