"""The LDAP broker keeps the contract, on a real slapd, as a login without any other right."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ldap_stage import LdapStage, ldap_server, ldap_stage
from remit.access.brokers.ldap_settings import MANIFEST
from remit.access.testing import BrokerContract


class TestLdapBroker(BrokerContract):
    manifest = MANIFEST

    def stage(self) -> AbstractAsyncContextManager[LdapStage]:
        @asynccontextmanager
        async def on_server() -> AsyncIterator[LdapStage]:
            with ldap_server() as server:
                async with ldap_stage(server) as stage:
                    yield stage

        return on_server()
