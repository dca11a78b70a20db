"""Who calls? Derived from the listener and from proof, never from what the request says.

- `admin.sock`: the kernel names the peer; only the owner of DIR and root pass, and no process of a live task.
- the console: a session cookie that was exchanged for a single-use sign-in code minted over `admin.sock`.
- anything else on TCP: 401, but for public routes.
A registered person adds a signature over the request itself (`remit-signature`), which approvals, activation of
policies and releases ask for.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request

from remit.governance.signatures import HEADER
from remit.kernel.errors import Denied, Rejected
from remit.surface.api.route import Caller
from remit.surface.peers import address_of_peer

if TYPE_CHECKING:
    from remit.surface.context import Surface
    from remit.surface.peers import PeerIdentity
    from remit.trust.model import PresentedSvid

COOKIE = "remit_session"
_SAFE = ("GET", "HEAD")


async def authenticate(surface: Surface, request: Request, raw: bytes, *, public: bool) -> Caller:
    """The caller of `request`; raises `Denied` (`surface.proof.missing`, `surface.peer.refused`, …)."""
    via = request.scope["state"].get("via", "tcp")
    if via == "mtls":
        return _workload(request, public=public)
    caller = await _local(surface, request) if via == "admin.sock" else _remote(surface, request, public=public)
    header = request.headers.get(HEADER)
    if header is None or not caller.administrates:
        return caller
    query = request.scope["query_string"].decode("ascii", "replace")
    target = request.scope["raw_path"].decode("ascii", "replace") + (f"?{query}" if query else "")
    approver = await surface.control.verify_person(header, method=request.method, path=target, body=raw)
    return replace(caller, approver=approver)


async def _local(surface: Surface, request: Request) -> Caller:
    peer: PeerIdentity = request.scope["state"]["peer"]
    if peer.uid not in (0, os.geteuid()):
        raise Denied("surface.peer.refused", f"the user with uid {peer.uid} does not administrate this installation")
    if await surface.control.is_governed_process(peer.pid):
        raise Denied(
            "surface.peer.governed",
            "a process of a live task or registered workload cannot administrate",
            next_step="run the command from a shell of your own",
        )
    return Caller(via="admin.sock", uid=peer.uid, pid=peer.pid)


def _workload(request: Request, *, public: bool) -> Caller:
    """A peer of the listener of agents and workloads, by the certificate that its handshake proved."""
    svid: PresentedSvid | None = request.scope["state"].get("svid")
    if svid is None and not public:
        raise Denied(
            "surface.proof.missing",
            "this needs an X.509-SVID of the caller",
            next_step="connect with a certificate from the Workload API",
        )
    return Caller(via="mtls", svid=svid, source=address_of_peer(request.scope.get("client")))


def _remote(surface: Surface, request: Request, *, public: bool) -> Caller:
    check_host(surface, request)
    session = surface.sessions.check(request.cookies.get(COOKIE, ""))
    if session is not None:
        if request.method not in _SAFE:
            check_origin(request)
        return Caller(via="console", session=session.id, uid=session.uid)
    if public:
        return Caller(via="tcp")
    raise Denied(
        "surface.proof.missing",
        "this needs proof of who calls",
        next_step="sign in to the console with the link of `remit console`, or use the CLI on this machine",
    )


def check_host(surface: Surface, request: Request) -> None:
    """Refuse a Host that is not ours (DNS rebinding)."""
    host = request.headers.get("host", "")
    if host not in surface.hosts:
        raise Rejected("surface.host.unknown", "the Host header does not name this server")


def check_origin(request: Request) -> None:
    """Refuse a change that another site's page asks for."""
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise Denied("surface.origin.foreign", "a change must come from the console's own pages")
