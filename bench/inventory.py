"""AREA=inventory: the parts, each a module of its own `bench/inventory_<part>.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.race import Row


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area, part by part."""
    from bench.inventory_aws import before_aws
    from bench.inventory_postgres import before_postgres
    from bench.inventory_registry import before_registry
    from bench.inventory_secrets import before_secrets

    yield from before_registry(tell)
    yield from before_postgres(tell)
    yield from before_aws(tell)
    yield from before_secrets(tell)
