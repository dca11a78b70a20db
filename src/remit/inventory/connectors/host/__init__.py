"""A host's own: units, scheduled jobs, who may become whom, accounts, and what runs. Of this machine or of an image."""

from remit.inventory.connectors.host.connector import MANIFEST, HostConnector, make

__all__ = ["MANIFEST", "HostConnector", "make"]
