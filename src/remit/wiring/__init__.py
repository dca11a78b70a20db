"""The composition root: the one place that knows every name. Above it are only surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane, open_control_plane
    from remit.wiring.settings import Settings, settings_from

_HOMES = {
    "ControlPlane": "remit.wiring.control",
    "Settings": "remit.wiring.settings",
    "open_control_plane": "remit.wiring.control",
    "settings_from": "remit.wiring.settings",
}
__all__ = [
    "ControlPlane",
    "Settings",
    "open_control_plane",
    "settings_from",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: an agent needs none of the control plane."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
