"""Who asks for a decision? Every listener and gateway derives its asker here, from proof alone.

mutual TLS      the X.509-SVID that the handshake proved: a registered point by its SPIFFE ID, else itself
Unix socket     the process behind it: attested, a point by a SPIFFE ID of it; by its uid; else itself
bearer token    an access token of ours with the scope `pdp:evaluate`: a point by its subject, else itself
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from remit.access.enforcers.model import Asker, Enforcer
from remit.kernel.canonical import Json
from remit.kernel.errors import Denied, RemitError

if TYPE_CHECKING:
    from remit.surface.api.route import Call
    from remit.trust.model import Evidence, PresentedSvid
    from remit.trust.process import Peer
    from remit.wiring import ControlPlane

EVALUATE: Final = "pdp:evaluate"
"""The scope of an access token that asks for decisions."""


async def enforcer_of(
    control: ControlPlane, *, svid: PresentedSvid | None = None, peer: Peer | None = None
) -> Enforcer:
    """The registered point that a peer is. `Denied` (`access.enforcer.unregistered`) for anybody else.

    For gateways that serve nobody but registered points. The listener MUST have verified `svid`, or asked the kernel
    for `peer`, on this very connection.
    """
    asker = of_svid(control, svid) if svid is not None else None
    if asker is None and peer is not None:
        asker = await of_peer(control, peer)
    if asker is None or asker.enforcer is None:
        raise Denied(
            "access.enforcer.unregistered",
            f"`{asker.name if asker is not None else 'the caller'}` is no registered enforcement point",
            next_step="have it registered: `remit enforcer add NAME --spiffe-id ID`",
        )
    return asker.enforcer


def of_svid(control: ControlPlane, svid: PresentedSvid, *, source: str = "") -> Asker:
    """Whoever holds this verified X.509-SVID. `source` is the address of the connection that proved it."""
    proof = control.enforcers.facts_of_svid(svid)
    return _named(control, str(svid.spiffe_id), {**proof, **from_address(source)})


def from_address(source: str) -> dict[str, Json]:
    """The proven fact of where a connection of our own comes from.

    It is of who asks, and of its questions about itself: where a point's own connection comes from says nothing of
    the requests that it asks about.
    """
    return {"source_address": source} if source else {}


async def of_peer(control: ControlPlane, peer: Peer) -> Asker:
    """The process at the other end of a Unix socket, attested now. `Denied` when it is nobody that we know.

    A user's registration counts for its processes, but not for those that are a workload or a task of their own.
    """
    try:
        evidence: Evidence | None = await control.trust.attest(peer)
    except RemitError as error:
        if error.code == "trust.peer.gone":
            raise
        evidence = None
    entries = control.trust.match(evidence) if evidence is not None else ()
    names = [str(entry.spiffe_id) for entry in entries]
    found = next((one for name in names if (one := control.enforcers.index.of_spiffe_id(name)) is not None), None)
    if found is not None:
        return Asker(name=f"enforcer:{found.name}", enforcer=found, identity=_identity(control, found.spiffe_id))
    by_user = control.enforcers.index.of_uid(peer.uid)
    if by_user is not None and not await control.is_governed_process(peer.pid):
        return Asker(name=f"enforcer:{by_user.name}", enforcer=by_user)
    if evidence is None or not names:
        raise Denied(
            "access.enforcer.stranger",
            f"process {peer.pid} of user {peer.uid} is neither an enforcement point nor a registered workload",
            next_step="register it: `remit entry create`, or `remit enforcer add NAME --spiffe-id … --uid N`",
        )
    return _named(control, names[0], control.enforcers.facts_of_evidence(evidence))


def of_call(call: Call) -> Asker:
    """Whoever sends a request to the control plane's own application."""
    if call.caller.svid is not None:
        return of_svid(call.control, call.caller.svid, source=call.caller.source)
    return Asker(name=call.caller.actor, administrates=call.caller.administrates)


def of_subject(control: ControlPlane, subject: str, proven: Mapping[str, Json]) -> Asker:
    """Whoever proved itself as `subject`, a SPIFFE ID or the id of an identity, by a token of ours."""
    return _named(control, subject, proven)


def _named(control: ControlPlane, subject: str, proven: Mapping[str, Json]) -> Asker:
    found = control.enforcers.index.of_spiffe_id(subject)
    name = f"enforcer:{found.name}" if found is not None else subject
    return Asker(name=name, enforcer=found, identity=_identity(control, subject), proven=proven)


def _identity(control: ControlPlane, subject: str) -> str:
    return control.token_grants.identity_of(subject)


def revocations_of(control: ControlPlane) -> tuple[int, int]:
    """Changes whenever anything is revoked."""
    index = control.revocations.service.index
    return index.version, len(index)


class SvidGuest:
    """Who came with an X.509-SVID: asked for each request whether it still counts, looked up when that may differ."""

    __slots__ = ("_asker", "_control", "_source", "_stamp", "_tick", "svid")

    def __init__(self, control: ControlPlane, svid: PresentedSvid, *, source: str = "") -> None:
        self.svid = svid
        self._source = source
        self._control = control
        self._stamp: object = None
        self._tick = -1
        self._asker = Asker(name=str(svid.spiffe_id))

    def current(self, tick: int) -> Asker:
        """The asker; `tick` moves once a second. `Denied` (`surface.proof.refused`) once it counts no more."""
        control = self._control
        stamp = (*revocations_of(control), control.enforcers.index, control.trust.version)
        if stamp != self._stamp or tick != self._tick:
            self._require()
            self._asker = of_svid(control, self.svid, source=self._source)
            self._stamp, self._tick = stamp, tick
        return self._asker

    def _require(self) -> None:
        now = self._control.clock.now()
        if self.svid.expires <= now or self._control.svid_revoked(self.svid):
            raise Denied("surface.proof.refused", "the certificate has expired, or was revoked", next_step=_ANOTHER)
        self._control.federation.require(self.svid.spiffe_id, now)


class Refused:
    """Who came with a certificate that does not count."""

    __slots__ = ("_error",)
    svid = None

    def __init__(self, error: RemitError) -> None:
        self._error = error

    def current(self, tick: int) -> Asker:
        """Raises why."""
        raise self._error


_ANOTHER: Final = "fetch a new SVID"
