"""AREA=access: a decision in process, over HTTP, behind Envoy, before a tool is called; the snapshot behind it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator

from bench.engines import in_process
from bench.proxies import behind_envoy
from bench.race import Row
from bench.serving import over_http
from bench.tools import before_tools


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area, one by one."""
    yield from in_process(tell)
    yield from over_http(tell)
    yield from behind_envoy(tell)
    yield from before_tools(tell)
    if importlib.util.find_spec("bench.snapshots") is not None:
        yield from importlib.import_module("bench.snapshots").rows(tell)
