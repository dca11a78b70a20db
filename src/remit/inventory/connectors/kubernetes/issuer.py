"""Under which issuer the cluster signs its service account tokens, where what was read says so.

Spec: Kubernetes, "Service Account Issuer Discovery"; kube-apiserver `--service-account-issuer` (the first one signs);
kubeadm `ClusterConfiguration`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from remit.inventory.connectors.kubernetes.objects import (
    DISCOVERY,
    KUBEADM,
    Cluster,
    Object,
    mapping,
    mappings,
    text,
    texts,
)

_FLAG = "--service-account-issuer"
_NAME = _FLAG.removeprefix("--")
_MAX_BYTES = 64 * 1024


def stated_issuer(cluster: Cluster) -> str:
    """The issuer without `https://`; empty where nothing says it, or two sources disagree."""
    said = {each.removeprefix("https://").rstrip("/") for each in _said(cluster) if each.startswith("https://")}
    return said.pop() if len(said) == 1 else ""


def _said(cluster: Cluster) -> Iterator[str]:
    for item in cluster.all(DISCOVERY):
        yield text(item.body.get("issuer"))
    for item in cluster.all(KUBEADM):
        yield _argument(item.body)
    for item in cluster.get("ConfigMap", "kube-system", "kubeadm-config"):
        yield _argument(_parsed(text(mapping(item.body.get("data")).get(KUBEADM))))
    for item in cluster.all("Pod"):
        if item.namespace == "kube-system":
            yield _flag(item)


def _argument(configuration: Any) -> str:
    """Of kubeadm's `extraArgs`: a mapping to v1beta3, a list of name and value from v1beta4."""
    arguments = mapping(mapping(configuration).get("apiServer")).get("extraArgs")
    if isinstance(arguments, dict):
        return text(arguments.get(_NAME))
    return next((text(each.get("value")) for each in mappings(arguments) if each.get("name") == _NAME), "")


def _parsed(document: str) -> Any:
    if not document or len(document) > _MAX_BYTES or document.count("&") > 20:
        return {}
    try:
        return yaml.safe_load(document)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}


def _flag(pod: Object) -> str:
    for container in mappings(mapping(pod.body.get("spec")).get("containers")):
        words = [*texts(container.get("command")), *texts(container.get("args"))]
        if not words or words[0].rpartition("/")[2] != "kube-apiserver":
            continue
        for position, word in enumerate(words):
            if word == _FLAG and position + 1 < len(words):
                return words[position + 1]
            if word.startswith(f"{_FLAG}="):
                return word.partition("=")[2]
    return ""
