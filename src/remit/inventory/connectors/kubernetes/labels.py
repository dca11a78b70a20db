"""Owner, environment and service, as labels and annotations say: proposals, which nobody has confirmed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from remit.inventory.connectors.kubernetes.objects import Cluster, Object
from remit.inventory.model import Attribute, OwnerFact
from remit.kernel.ids import Name

_OWNER_KEYS = {"owner": 80, "team": 75, "contact": 65, "maintainer": 65}
_ENVIRONMENT_KEYS = ("environment", "env")
_SERVICE_KEYS = ("app.kubernetes.io/part-of", "app.kubernetes.io/name", "app", "k8s-app")
_WORDS = {
    "prod": "production",
    "production": "production",
    "prd": "production",
    "live": "production",
    "stage": "staging",
    "staging": "staging",
    "stg": "staging",
    "preprod": "staging",
    "dev": "development",
    "development": "development",
    "test": "test",
    "testing": "test",
    "qa": "test",
    "sandbox": "sandbox",
}
_MAX_VALUE = 200


def environment_of(item: Object, cluster: Cluster) -> str | None:
    """The environment: by the object's own label, its namespace's, or a word in the namespace's name."""
    namespace = cluster.namespace(item.namespace)
    for labelled in filter(None, (item, namespace)):
        for source in (labelled.labels, labelled.annotations):
            for key, value in source.items():
                if key.rpartition("/")[2].lower() in _ENVIRONMENT_KEYS and value:
                    return _WORDS.get(value.lower(), value[:_MAX_VALUE])
    return environment_of_namespace(item.namespace)


def environment_of_namespace(name: str) -> str | None:
    """The environment that a namespace's name tells, if any: `orders-prod` is production."""
    return next((_WORDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in _WORDS), None)


def described(item: Object, cluster: Cluster) -> dict[str, Attribute]:
    """The attributes in the inventory's words that labels tell."""
    attributes: dict[str, Attribute] = {}
    if environment := environment_of(item, cluster):
        attributes["environment"] = environment
    service = next((item.labels[key] for key in _SERVICE_KEYS if item.labels.get(key)), None)
    if service:
        attributes["service"] = service[:_MAX_VALUE]
    if item.namespace:
        attributes["namespace"] = item.namespace
    return attributes


def owners_of(identity: Name, item: Object, cluster: Cluster) -> Iterator[OwnerFact]:
    """Who may answer for `identity`: by its own labels and annotations, with less confidence by its namespace's."""
    own = list(_owners(identity, item, 0))
    yield from own
    namespace = cluster.namespace(item.namespace)
    if not own and namespace is not None:
        yield from _owners(identity, namespace, 25)


def _owners(identity: Name, item: Object, discount: int) -> Iterator[OwnerFact]:
    for method, source in (("label", item.labels), ("annotation", item.annotations)):
        for key, value in source.items():
            confidence = _OWNER_KEYS.get(key.rpartition("/")[2].lower())
            if confidence and 0 < len(value.strip()) <= _MAX_VALUE:
                yield OwnerFact(
                    identity=identity,
                    owner=value.strip(),
                    method=method,
                    evidence=f"{method} `{key}` of {item.kind} {item.local}",
                    confidence=confidence - discount,
                    place=item.place,
                )
