"""What the listeners share: the control plane, the console's sessions, and how this server is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remit.surface.sessions import Sessions
from remit.wiring import ControlPlane

if TYPE_CHECKING:
    from remit.surface.schedule import Scheduler


@dataclass(slots=True)
class Surface:
    """One running server."""

    control: ControlPlane
    sessions: Sessions
    url: str = ""
    """Base URL of the console, without a slash at the end."""
    agents: str = ""
    """HOST:PORT of the listener of agents and workloads; empty where there is none."""
    decisions: str = ""
    """URL of the decision listener on TCP; empty where there is none."""
    hosts: frozenset[str] = frozenset()
    """Values of the Host header that mean this server."""
    scheduler: Scheduler | None = None
    """Reads sources when they are due; None until the server is being opened."""
