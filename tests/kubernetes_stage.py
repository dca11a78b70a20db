"""A broker on an API server of the test's own, with exactly the rights that it asks for, and clients that use leases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from kubernetes_api import KubernetesApi, kubernetes_api
from remit.access.brokers.kubernetes import KubernetesBroker, KubernetesBrokerFactory
from remit.access.brokers.kubernetes_settings import BROKER, BROKER_HOME
from remit.access.brokers.presentation import Credential
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import mint_order

ROLE = "clusterrole/view"
EDIT = "clusterrole/edit"
DEPLOY = "role/deployer"
SCENE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer, namespace: shop}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get, create]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: database, namespace: shop}
data: {password: aHVudGVyMg==}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
"""


@contextmanager
def cluster() -> Iterator[KubernetesApi]:
    """With an application in the namespace `shop`."""
    with kubernetes_api() as api:
        api.namespace("shop", "books")
        api.apply(SCENE)
        yield api


def target_on(api: KubernetesApi, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "prod",
        "system": "kubernetes",
        "host": "127.0.0.1",
        "port": api.port,
        "database": "shop",
        "user": BROKER,
        "roles": {"view": ROLE, "edit": EDIT, "deploy": DEPLOY},
        "options": {"ca": str(api.ca)},
    }
    return Target(**(values | changes))


def install(api: KubernetesApi, target: Target) -> str:
    """What an administrator does once; returns the broker's token."""
    api.apply(KubernetesBroker(target, "x" * 20).install_script("test0001"))
    return str(api.token_for(BROKER, BROKER_HOME, 3600)["token"])


def token_in(minted: Minted, secret: str) -> str:
    """What a task finds."""
    credential = Credential(target="prod", role="view", settings=minted.settings, secret=secret)
    return KubernetesBrokerFactory().present(credential).secrets["KUBE_TOKEN"]


@dataclass(slots=True)
class Session:
    """A task's connection, kept alive."""

    client: httpx2.AsyncClient

    async def work(self) -> None:
        (await self.client.get("/api/v1/namespaces/shop/pods")).raise_for_status()

    async def close(self) -> None:
        await self.client.aclose()


@dataclass(slots=True)
class KubernetesStage:
    """`BrokerStage` on an API server."""

    api: KubernetesApi
    broker: KubernetesBroker
    target: Target
    role: str = ROLE
    database: str = "shop"
    sessions: list[Session] = field(default_factory=list)

    async def use(self, minted: Minted, secret: str) -> Session:
        session = self.client(token_in(minted, secret))
        await session.work()
        return session

    def client(self, token: str) -> Session:
        import ssl

        context = ssl.create_default_context(cafile=str(self.api.ca))
        headers = {"authorization": f"Bearer {token}"}
        session = Session(httpx2.AsyncClient(base_url=self.api.url, verify=context, headers=headers, trust_env=False))
        self.sessions.append(session)
        return session

    async def lease(self, **changes: Any) -> tuple[MintOrder, str]:
        """Mint, and return the order with the token of the task."""
        order = mint_order(self, **changes)
        return order, token_in(await self.broker.mint(order), order.secret)

    async def admit_anyone(self) -> None:
        self.api.trusting = True

    async def stop(self) -> None:
        self.api.stop()


@asynccontextmanager
async def kubernetes_stage(**changes: Any) -> AsyncIterator[KubernetesStage]:
    """An open broker, on an API server of its own."""
    with cluster() as served:
        options = {"ca": str(served.ca), **changes.pop("options", {})}
        target = target_on(served, options=options, **changes)
        broker = KubernetesBroker(target, install(served, target))
        stage = KubernetesStage(served, broker, target)
        try:
            await broker.open()
            yield stage
        finally:
            await broker.close()
            for session in stage.sessions:
                await session.close()
