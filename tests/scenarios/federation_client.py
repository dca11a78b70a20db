"""py-spiffe in a process of its own, as a workload that has partners.

    federation_client.py watch COUNT | save FOLDER | validate AUDIENCE < TOKEN | token AUDIENCE

Prints JSON, a line for each update.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import WorkloadApiClient
from spiffe.errors import PySpiffeError


def watch() -> None:
    updates: queue.Queue[Any] = queue.Queue()
    with WorkloadApiClient() as client:
        handle = client.stream_x509_contexts(updates.put, updates.put)
        while True:
            context = updates.get()
            if isinstance(context, Exception):
                break
            print(json.dumps(_domains(context)), flush=True)
        handle.cancel()


def save(folder: str) -> dict[str, Any]:
    place = Path(folder)
    place.mkdir(exist_ok=True)
    with WorkloadApiClient() as client:
        context = client.fetch_x509_context(timeout=60)
    svid = context.default_svid
    key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in svid.cert_chain)
    (place / "svid.pem").write_bytes(key + chain)
    for bundle in context.x509_bundle_set.bundles:
        text = b"".join(one.public_bytes(Encoding.PEM) for one in bundle.x509_authorities)
        (place / f"{bundle.trust_domain.name}.pem").write_bytes(text)
    return {"id": str(svid.spiffe_id), **_domains(context)}


def token(audience: str) -> dict[str, Any]:
    with WorkloadApiClient() as client:
        return {"token": client.fetch_jwt_svid({audience}, timeout=60).token}


def validate(audience: str) -> dict[str, Any]:
    with WorkloadApiClient() as client:
        try:
            return {"id": str(client.validate_jwt_svid(sys.stdin.read(), audience, timeout=60).spiffe_id)}
        except PySpiffeError as error:
            return {"error": str(error)}


def _domains(context: Any) -> dict[str, list[str]]:
    return {
        bundle.trust_domain.name: sorted(
            hashlib.sha256(one.public_bytes(Encoding.DER)).hexdigest() for one in bundle.x509_authorities
        )
        for bundle in context.x509_bundle_set.bundles
    }


if __name__ == "__main__":
    answer = {"watch": watch, "save": save, "token": token, "validate": validate}[sys.argv[1]](*sys.argv[2:])
    if answer is not None:
        print(json.dumps(answer), flush=True)
