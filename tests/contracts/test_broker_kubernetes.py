"""The Kubernetes broker keeps the contract, on an API server that judges by RBAC (emulated: see `kubernetes_api`)."""

from contextlib import AbstractAsyncContextManager

from kubernetes_stage import KubernetesStage, kubernetes_stage
from remit.access.brokers.kubernetes_settings import MANIFEST
from remit.access.testing import BrokerContract


class TestKubernetesBroker(BrokerContract):
    manifest = MANIFEST

    def stage(self) -> AbstractAsyncContextManager[KubernetesStage]:
        return kubernetes_stage()
