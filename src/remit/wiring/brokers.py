"""Every broker by the scheme of its needs."""

from __future__ import annotations

from remit.access.brokers.port import BrokerFactory
from remit.kernel.catalog import Catalog


def broker_factories() -> Catalog[BrokerFactory]:
    """The brokers that ship."""
    from remit.access.brokers.aws import AwsBrokerFactory
    from remit.access.brokers.kubernetes import KubernetesBrokerFactory
    from remit.access.brokers.ldap import LdapBrokerFactory
    from remit.access.brokers.mariadb import MariaBrokerFactory
    from remit.access.brokers.nats import NatsBrokerFactory
    from remit.access.brokers.openbao import OpenBaoBrokerFactory
    from remit.access.brokers.postgres import PostgresBrokerFactory
    from remit.access.brokers.rabbitmq import RabbitBrokerFactory
    from remit.access.brokers.redis import RedisBrokerFactory
    from remit.access.brokers.ssh import SshBrokerFactory
    from remit.access.brokers.static import StaticBrokerFactory
    from remit.access.brokers.x509 import X509BrokerFactory

    factories: Catalog[BrokerFactory] = Catalog(
        "broker",
        (
            PostgresBrokerFactory(),
            RedisBrokerFactory(),
            RabbitBrokerFactory(),
            NatsBrokerFactory(),
            MariaBrokerFactory(),
            SshBrokerFactory(),
            LdapBrokerFactory(),
            OpenBaoBrokerFactory(),
            StaticBrokerFactory(),
            KubernetesBrokerFactory(),
            AwsBrokerFactory(),
            X509BrokerFactory(),
        ),
    )
    factories.load_entry_points()
    return factories
