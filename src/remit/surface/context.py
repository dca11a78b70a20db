"""What the listeners share: the control plane, the console's sessions, and how this server is named."""

from __future__ import annotations

from dataclasses import dataclass

from remit.surface.sessions import Sessions
from remit.wiring import ControlPlane


@dataclass(slots=True)
class Surface:
    """One running server."""

    control: ControlPlane
    sessions: Sessions
    url: str = ""
    """Base URL of the console, without a slash at the end."""
    hosts: frozenset[str] = frozenset()
    """Values of the Host header that mean this server."""
