"""gRPC by mutual TLS: the SPIFFE ID of the handshake is who asks, and what cannot be decided is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import certificates
from remit.client.enforce import Decided, Guard, Question, RouteTable
from remit.client.enforce.grpc import EnforcedServer, spiffe_peer
from remit.client.enforce.pdp import Owed
from remit.kernel.errors import Unavailable

ROUTES = [{"path": "/shop.Orders/Get", "action": "read", "resource": "service/orders"}]
JOB = "spiffe://remit.test/job"


@dataclass(slots=True)
class Answers:
    """A decision point that answers what it was told to."""

    decided: Decided | Unavailable = field(default_factory=lambda: Decided(allowed=True, id="dc_1"))
    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> Decided:
        self.asked.append(question)
        if isinstance(self.decided, Unavailable):
            raise self.decided
        return self.decided

    async def ask_async(self, question: Question) -> Decided:
        return self.ask(question)


def key_pem(made: certificates.Made) -> bytes:
    return made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[no-any-return]


@contextmanager
def called(guard: Guard, spiffe_id: str = JOB) -> Iterator[grpc.UnaryUnaryMultiCallable]:
    """A real client's call by mutual TLS as this SPIFFE ID."""
    root = certificates.root()
    names = [*certificates.uris("spiffe://remit.test/server"), x509.DNSName("localhost")]
    server_svid, mine = certificates.leaf(root, names=names), certificates.leaf(root, spiffe_id)
    credentials = grpc.ssl_server_credentials([(key_pem(server_svid), server_svid.pem)], root.pem, True)
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    with ThreadPoolExecutor(2) as pool:
        handlers = [grpc.method_handlers_generic_handler("shop.Orders", {"Get": handler})]
        server = grpc.server(pool, handlers=handlers, interceptors=[EnforcedServer(guard)])
        port = server.add_secure_port("localhost:0", credentials)
        server.start()
        shown = grpc.ssl_channel_credentials(root.pem, key_pem(mine), mine.pem)
        try:
            with grpc.secure_channel(f"localhost:{port}", shown) as channel:
                yield channel.unary_unary("/shop.Orders/Get")
        finally:
            server.stop(None).wait()


def test_the_name_of_the_handshake_asks() -> None:
    pdp = Answers()
    with called(Guard(pdp, RouteTable.parse(ROUTES), identify=spiffe_peer)) as call:
        assert call(b"x", timeout=60) == b"x"
    assert (pdp.asked[0].subject, pdp.asked[0].action, pdp.asked[0].name) == (JOB, "read", "orders")
    assert pdp.asked[0].proven["sender_constraint"] == "mtls"


@pytest.mark.parametrize(
    ("decided", "code"),
    [
        (Decided(allowed=False, id="dc_1", reason="no"), "PERMISSION_DENIED"),
        (Decided(allowed=True, id="dc_1", obligations=(Owed(kind="redact"),)), "PERMISSION_DENIED"),
        (Decided(allowed=False, id="dc_1", obligations=(Owed(kind="step-up"),)), "UNAUTHENTICATED"),
        (Unavailable("client.pdp.away", "away"), "UNAVAILABLE"),
    ],
)
def test_what_is_no_plain_permit_is_refused(decided: Decided | Unavailable, code: str) -> None:
    with (
        called(Guard(Answers(decided), RouteTable.parse(ROUTES), identify=spiffe_peer)) as call,
        pytest.raises(grpc.RpcError) as refused,
    ):
        call(b"x", timeout=60)
    assert refused.value.code().name == code


def test_an_obligation_that_the_program_does_itself_is_no_refusal() -> None:
    permit = Decided(allowed=True, id="dc_1", obligations=(Owed(kind="redact"),))
    guard = Guard(Answers(permit), RouteTable.parse(ROUTES), identify=spiffe_peer, fulfils=("redact",))
    with called(guard) as call:
        assert call(b"x", timeout=60) == b"x"
