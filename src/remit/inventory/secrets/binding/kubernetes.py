"""A credential inside a kubeconfig: to which cluster, as whom.

Spec: Kubernetes documentation, "kubeconfig (v1)", "X509 client certificates".
"""

from __future__ import annotations

import base64

from remit.inventory.connectors.files.formats import Malformed, Tree, mapping, sequence, text
from remit.inventory.connectors.files.keys import pem_blocks
from remit.inventory.connectors.files.pem import load_certificate
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, subject
from remit.kernel.ids import name

_MAX_BYTES = 512 * 1024


def bind(seen: Seen) -> Binding | None:
    """The user entry in which the value stands; `None` elsewhere than in a kubeconfig."""
    data = seen.blob.data
    if len(data) > _MAX_BYTES or b"clusters" not in data or b"users" not in data or b"contexts" not in data:
        return None
    try:
        documents = parse_yaml(data)
    except Malformed:
        return None
    for document in documents[:20]:
        root = mapping(document.value)
        for entry in sequence(root.get("users")):
            if seen.value in _texts(mapping(mapping(entry).get("user"))):
                return _user(root, mapping(entry))
    return None


def _texts(user: dict[str, Tree]) -> set[str]:
    """Every text of a user entry, and what its base64 fields hold."""
    plain = {value.strip() for value in user.values() if isinstance(value, str)}
    for key in ("client-key-data", "client-certificate-data"):
        try:
            plain.add(base64.b64decode(text(user.get(key))).decode("latin-1").strip())
        except ValueError:
            continue
    return plain - {""}


def _user(root: dict[str, Tree], entry: dict[str, Tree]) -> Binding:
    label, user = text(entry.get("name")), mapping(entry.get("user"))
    clusters = {
        text(mapping(each).get("name")): mapping(mapping(each).get("cluster"))
        for each in sequence(root.get("clusters"))
    }
    cluster = next(
        (
            text(context.get("cluster"))
            for context in (mapping(mapping(each).get("context")) for each in sequence(root.get("contexts")))
            if text(context.get("user")) == label
        ),
        "",
    )
    address = text(clusters.get(cluster, {}).get("server"))
    server = address.removeprefix("https://").removeprefix("http://") or "unknown"
    who = _common_name(text(user.get("client-certificate-data"))) or text(user.get("username")) or label
    at = name("kubernetes", server, "cluster", server)
    return Binding(
        provider="kubernetes",
        method="user entry of the kubeconfig",
        what=f"Kubernetes credential of {who[:60]}",
        subject=subject("kubernetes", server, "user", who, title=f"{who} at {server}"),
        reached=(Reached(name=at, kind="cluster", title=f"Kubernetes at {server}"[:200]),),
        attributes={"server": server, "user": who, "cluster": cluster},
    )


def _common_name(encoded: str) -> str:
    from cryptography.x509.oid import NameOID

    try:
        block = next(pem_blocks(base64.b64decode(encoded)), None)
        if block is None:
            return ""
        found = load_certificate(block.text, pem=True).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (Malformed, ValueError):
        return ""
    return str(found[0].value) if found else ""
