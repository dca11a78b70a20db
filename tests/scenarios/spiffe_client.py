"""py-spiffe in a process of its own: its generated messages and ours cannot share one descriptor pool.

    spiffe_client.py x509 | jwt AUDIENCE [ID] | watch COUNT | save FOLDER | inherit

Prints JSON. The socket is named by SPIFFE_ENDPOINT_SOCKET, as the standard has it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from pathlib import Path
from typing import Any


def x509() -> dict[str, Any]:
    from spiffe import WorkloadApiClient
    from spiffe.errors import PySpiffeError

    with WorkloadApiClient() as client:
        try:
            context = client.fetch_x509_context(timeout=60)
        except PySpiffeError as error:
            return {"error": str(error)}
        return {
            "ids": [str(svid.spiffe_id) for svid in context.x509_svids],
            "serial": f"{context.default_svid.leaf.serial_number:x}",
            "verified": _verified(context),
        }


def jwt(audience: str, subject: str = "") -> dict[str, Any]:
    from spiffe import JwtSvid, SpiffeId, WorkloadApiClient
    from spiffe.errors import PySpiffeError

    with WorkloadApiClient() as client:
        try:
            svid = client.fetch_jwt_svid({audience}, SpiffeId(subject) if subject else None, timeout=60)
        except PySpiffeError as error:
            return {"error": str(error)}
        bundle = client.fetch_jwt_bundles(timeout=60).get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        assert bundle is not None
        by_bundle = JwtSvid.parse_and_validate(svid.token, bundle, {audience})
        by_api = client.validate_jwt_svid(svid.token, audience, timeout=60)
        try:
            client.validate_jwt_svid(svid.token, audience + "x", timeout=60)
            other = "accepted"
        except PySpiffeError:
            other = "refused"
        return {
            "id": str(svid.spiffe_id),
            "by_api": str(by_api.spiffe_id),
            "by_bundle": str(by_bundle.spiffe_id),
            "other_audience": other,
        }


def watch(count: str) -> None:
    from spiffe import WorkloadApiClient

    updates: queue.Queue[Any] = queue.Queue()
    with WorkloadApiClient() as client:
        handle = client.stream_x509_contexts(updates.put, updates.put)
        for _ in range(int(count)):
            context = updates.get(timeout=60)
            if isinstance(context, Exception):
                raise context
            line = {
                "serial": f"{context.default_svid.leaf.serial_number:x}",
                "roots": len(_roots(context)),
                "verified": _verified(context),
            }
            print(json.dumps(line), flush=True)
        handle.cancel()


def save(folder: str) -> dict[str, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding
    from spiffe import WorkloadApiClient

    with WorkloadApiClient() as client:
        context = client.fetch_x509_context(timeout=60)
    Path(folder, "svid.pem").write_bytes(context.default_svid.leaf.public_bytes(Encoding.PEM))
    Path(folder, "bundle.pem").write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in _roots(context)))
    return {}


def inherit() -> None:
    """Connect, fork, let the parent die, call in the child over the inherited connection; prints the gRPC status."""
    import socket

    import h2.config
    import h2.connection
    import h2.events

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://"))
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.01)
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="ascii"))
    http.initiate_connection()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("workload.spiffe.io", "true"),
    ]
    http.send_headers(1, headers)
    http.send_data(1, b"\0\0\0\0\0", end_stream=True)
    connection.sendall(http.data_to_send())
    connection.settimeout(60)
    while data := connection.recv(65536):
        for event in http.receive_data(data):
            if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                found = dict(event.headers)
                if "grpc-status" in found:
                    print(json.dumps({"status": found["grpc-status"]}), flush=True)
                    return
            if isinstance(event, h2.events.DataReceived):
                print(json.dumps({"status": "served"}), flush=True)
                return


def _roots(context: Any) -> Any:
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(context.default_svid.spiffe_id.trust_domain)
    return bundle.x509_authorities


def _verified(context: Any) -> bool:
    """A second opinion on the chain, by another verifier: one of the published roots signed the leaf."""
    from cryptography.exceptions import InvalidSignature

    for root in _roots(context):
        try:
            context.default_svid.leaf.verify_directly_issued_by(root)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


if __name__ == "__main__":
    answer = {"x509": x509, "jwt": jwt, "watch": watch, "save": save, "inherit": inherit}[sys.argv[1]](*sys.argv[2:])
    if answer is not None:
        print(json.dumps(answer), flush=True)
