"""The composition root: the one place that knows every name. Above it are only surfaces."""

from remit.wiring.connectors import connector_manifests, make_connector
from remit.wiring.control import ControlPlane, open_control_plane
from remit.wiring.settings import Settings, settings_from

__all__ = [
    "ControlPlane",
    "Settings",
    "connector_manifests",
    "make_connector",
    "open_control_plane",
    "settings_from",
]
