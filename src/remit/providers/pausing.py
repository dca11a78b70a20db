"""Waiting that is told: a system that throttles us makes us wait, and whoever looks on wants to know for what."""

from __future__ import annotations

import time
from collections.abc import Callable

_listeners: list[Callable[[float], None]] = []


def pause(seconds: float) -> None:
    """Sleep, after telling whoever listens in this process for how long."""
    for each in _listeners:
        each(seconds)
    time.sleep(seconds)


def tell_waits(listener: Callable[[float], None]) -> None:
    """Let `listener` hear of each wait from now on; for a process that does one thing."""
    _listeners.append(listener)
