"""Docker: definitions (Dockerfiles, compose), images in archives, and what a running engine shows."""

from __future__ import annotations

from collections.abc import Mapping

from remit.inventory.connectors.docker.connector import MANIFEST, DockerConnector

__all__ = ["MANIFEST", "DockerConnector", "make"]


def make(source: str, options: Mapping[str, str], secret: str) -> DockerConnector:
    """A connector on a directory, a file, an archive, or `unix:///var/run/docker.sock`."""
    return DockerConnector(source)
