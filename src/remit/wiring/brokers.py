"""Every broker by the scheme of its needs."""

from __future__ import annotations

from remit.access.brokers.port import BrokerFactory
from remit.kernel.catalog import Catalog


def broker_factories() -> Catalog[BrokerFactory]:
    """The brokers that ship."""
    from remit.access.brokers.postgres import PostgresBrokerFactory

    factories: Catalog[BrokerFactory] = Catalog("broker", (PostgresBrokerFactory(),))
    factories.load_entry_points()
    return factories
