"""The snapshot stream: what travels from the decision point to a point that decides by itself.

    1  the receiver asks with a fresh nonce; every frame is signed over the stream (nonce, point), its number and body
    2  `Hello` tells where the stream begins; `Part` after `Part` of a whole snapshot follow, and `Ready`, or, where the
       receiver has what we still remember, nothing of these
    3  `Change` after `Change` follow, each naming the sequence that it continues; `Beat` says: nothing newer exists

A frame that is forged, replayed, left out or moved fails its signature, whoever carries the stream. One that is held
back does not become younger by it: frames carry the sender's monotonic clock, and the receiver counts from the moment
at which it asked (`Anchor`). Policies travel as Cedar text with their digest; the receiver compiles them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from remit.access.enforcers.model import Enforcer
from remit.access.policy.compile import CompiledPolicies, compile_sources
from remit.access.policy.facts import ExceptionFacts, GrantFacts, IdentityFacts, ResourceFacts
from remit.access.policy.source import read_policies
from remit.access.snapshot import Delta
from remit.kernel.errors import Rejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 16 << 20
NONCE_BYTES: Final = 32
HEAD_BYTES: Final = 4 + 64
"""Length of the body (big-endian), signature; then the body."""
BEAT_SECONDS: Final = 0.25
_DOMAIN: Final = b"remit/snapshot/v1\n"
_KEY: Final = "ed25519:"


class PolicyText(msgspec.Struct, frozen=True, array_like=True):
    """One policy as it is written: its id and place come from the text of which it is part."""

    id: str
    line: int
    ordinal: int
    text: str


class Policies(msgspec.Struct, frozen=True):
    """A set of policies: its digest is checked after all of its texts have come."""

    digest: str
    texts: tuple[PolicyText, ...]


class Hello(msgspec.Struct, frozen=True, tag="hello", kw_only=True):
    """The first frame."""

    version: int
    incarnation: str
    """Of the sender's memory: sequences of another incarnation say nothing about this one's."""
    scope: str
    """Digest of the registration for which this stream is cut."""
    epoch: int
    sequence: int
    """Where the receiver stands after this frame (`whole` false), or after `Ready`."""
    whole: bool
    point: dict[str, Any]
    """The registration (`Enforcer.as_json`): what this point may ask about, and what it is believed."""
    clock: float
    """The sender's monotonic seconds, now."""
    heartbeat: float
    """When the sender's snapshot was last known current, by that clock."""


class Part(msgspec.Struct, frozen=True, tag="part", kw_only=True, omit_defaults=True):
    """A piece of a whole snapshot; the pieces of one field add up."""

    identities: tuple[IdentityFacts, ...] = ()
    resources: tuple[ResourceFacts, ...] = ()
    grants: tuple[GrantFacts, ...] = ()
    exceptions: tuple[ExceptionFacts, ...] = ()
    revoked: dict[str, str] = {}
    quarantined: dict[str, str] = {}
    policies: Policies | None = None
    bounds: Policies | None = None
    stepped_up: dict[str, int] = {}
    fence: bytes = b""


class Ready(msgspec.Struct, frozen=True, tag="ready", kw_only=True):
    """The whole snapshot has been sent: as of `Hello.sequence`."""

    heartbeat: float


class Change(msgspec.Struct, frozen=True, tag="change", kw_only=True, omit_defaults=True):
    """What leads from the sequence `base` to `sequence`. In mappings, None removes."""

    base: int
    sequence: int
    heartbeat: float
    identities: dict[str, IdentityFacts | None] = {}
    resources: dict[str, ResourceFacts | None] = {}
    grants: dict[str, GrantFacts | None] = {}
    exceptions: dict[str, ExceptionFacts | None] = {}
    revoked: dict[str, str] = {}
    quarantined: dict[str, str | None] = {}
    policies: Policies | None = None
    bounds: Policies | None = None
    stepped_up: dict[str, int | None] = {}
    fence: bytes | None = None


class Beat(msgspec.Struct, frozen=True, tag="beat", kw_only=True):
    """Nothing newer than `sequence` existed at `heartbeat`."""

    sequence: int
    heartbeat: float


Frame: TypeAlias = Hello | Part | Ready | Change | Beat
_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
_decode = _decoder.decode


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the receiver sends (JSON): its nonce, and where it stands; empty for nowhere."""

    nonce: str
    """32 random bytes as 64 hexadecimal digits."""
    incarnation: str = ""
    scope: str = ""
    sequence: int = 0


def read_ask(body: bytes) -> Ask:
    """Read and check it. `Rejected` (`access.snapshot.request`)."""
    try:
        asked = msgspec.json.decode(body, type=Ask)
        if len(bytes.fromhex(asked.nonce)) == NONCE_BYTES and len(asked.nonce) == 2 * NONCE_BYTES:
            return asked
    except (msgspec.DecodeError, ValueError):
        pass
    raise Rejected(
        "access.snapshot.request",
        "this does not ask for a snapshot stream",
        next_step="send JSON with a fresh `nonce` of 64 hexadecimal digits",
    )


# Signing.


def stream_name(nonce: str, spiffe_id: str) -> bytes:
    """What names one stream: whoever asked, and the nonce of this time."""
    return hashlib.sha256(bytes.fromhex(nonce) + spiffe_id.encode()).digest()


class FrameSigner:
    """Signs and numbers the frames of one stream."""

    def __init__(self, key: Ed25519PrivateKey, name: bytes) -> None:
        self._key = key
        self._name = name
        self._number = 0

    def write(self, frame: Frame) -> bytes:
        """The next frame, as it travels."""
        body = _encode(frame)
        assert len(body) <= MAX_FRAME_BYTES, "a frame is bounded by who cuts it"
        signature = self._key.sign(_signed(self._name, self._number, body))
        self._number += 1
        return struct.pack(">I", len(body)) + signature + body


class FrameVerifier:
    """Verifies the frames of one stream in order. The first names its own point; all must be of that stream."""

    def __init__(self, key: Ed25519PublicKey, nonce: str) -> None:
        self._key = key
        self._nonce = nonce
        self.nonce = bytes.fromhex(nonce)
        self._name = b""
        self._number = 0

    def read(self, head: bytes, body: bytes) -> Frame:
        """One frame, verified. `Rejected` (`access.snapshot.forged`)."""
        from cryptography.exceptions import InvalidSignature

        # The first frame says for whom it is signed; that claim is under the same signature.
        name = self._name or stream_name(self._nonce, _named_in(body))
        try:
            self._key.verify(head[4:], _signed(name, self._number, body))
        except InvalidSignature:
            raise forged("its signature does not fit this stream and place") from None
        try:
            frame = _decode(body)
        except msgspec.DecodeError:
            raise forged("its body is none that is known here") from None
        if (type(frame) is Hello) != (self._number == 0):
            raise forged("it stands in the wrong place")
        self._name, self._number = name, self._number + 1
        return frame


def body_bytes(head: bytes) -> int:
    """How long the body is. `Rejected` (`access.snapshot.forged`) beyond the bound."""
    (length,) = struct.unpack(">I", head[:4])
    if length > MAX_FRAME_BYTES:
        raise forged("it is longer than a frame may be")
    return int(length)


def forged(why: str) -> Rejected:
    """A frame that does not count."""
    return Rejected(
        "access.snapshot.forged",
        f"a frame of the snapshot stream does not count: {why}",
        next_step="see that the pinned key is that of this installation, and what stands between",
    )


def write_key(public: bytes) -> str:
    """A verification key as people pin it: `ed25519:` and 64 hexadecimal digits."""
    return _KEY + public.hex()


def read_key(text: str) -> Ed25519PublicKey:
    """The inverse. `Rejected` (`access.snapshot.key`)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if text.startswith(_KEY):
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.removeprefix(_KEY)))
    except ValueError:
        pass
    raise Rejected(
        "access.snapshot.key",
        "this is no key of a snapshot stream",
        next_step="use `snapshot_key` as `remit enforcer show NAME` prints it",
    )


def _signed(name: bytes, number: int, body: bytes) -> bytes:
    return b"".join((_DOMAIN, name, struct.pack(">Q", number), body))


def _named_in(body: bytes) -> str:
    try:
        frame = _decode(body)
    except msgspec.DecodeError:
        raise forged("its body is none that is known here") from None
    if type(frame) is not Hello or frame.version != VERSION:
        raise forged("the stream does not begin with a greeting of this version")
    return str(frame.point.get("spiffe_id", ""))


# Facts.


def point_of(hello: Hello) -> Enforcer:
    """The registration that the stream was cut for. Its own signature stays where it was verified."""
    fields: dict[str, Any] = {**hello.point, "created": hello.point.get("created")}
    try:
        return msgspec.convert(fields, Enforcer)
    except msgspec.ValidationError:
        raise forged("it names no registration") from None


def write_policies(policies: CompiledPolicies | None) -> Policies | None:
    """Policies as they travel."""
    if policies is None:
        return None
    sources = [policy.source for policy in policies.policies]
    texts = tuple(PolicyText(each.id, each.line, each.ordinal, each.text) for each in sources)
    return Policies(policies.digest, texts)


def read_policy_texts(sent: Policies) -> CompiledPolicies:
    """Compile what came. `Rejected` (`access.snapshot.forged`) when its digest is another; blocks."""
    sources = read_policies("\n".join(each.text for each in sent.texts))
    if len(sources) != len(sent.texts):
        raise forged("its policies are not as many as their texts")
    named = [
        replace(source, id=each.id, line=each.line, ordinal=each.ordinal)
        for source, each in zip(sources, sent.texts, strict=True)
    ]
    made = compile_sources(named)
    if made.digest != sent.digest:
        raise forged("its policies have another digest")
    return made


def write_change(delta: Delta, *, base: int, heartbeat: float, **scoped: Any) -> Change:
    """A delta as it travels; `scoped` replaces what is cut for one point."""
    fields: dict[str, Any] = {
        "identities": delta.identities,
        "resources": delta.resources,
        "grants": delta.grants,
        "exceptions": delta.exceptions,
        "revoked": delta.revoked,
        "quarantined": delta.quarantined,
        "policies": write_policies(delta.policies),
        "bounds": write_policies(delta.bounds),
        "stepped_up": delta.stepped_up,
        **scoped,
    }
    return Change(base=base, sequence=delta.sequence, heartbeat=heartbeat, **fields)


def read_change(change: Change, *, epoch: int) -> Delta:
    """The delta that came; policies are compiled. Raises as `read_policy_texts`."""
    return Delta(
        epoch=epoch,
        sequence=change.sequence,
        base=change.base,
        policies=read_policy_texts(change.policies) if change.policies is not None else None,
        bounds=read_policy_texts(change.bounds) if change.bounds is not None else None,
        identities=change.identities,
        resources=change.resources,
        grants=change.grants,
        revoked=change.revoked,
        quarantined=change.quarantined,
        exceptions=change.exceptions,
        stepped_up=change.stepped_up,
    )


class Anchor:
    """Tells when, by our clock, something happened at the sender: never later than it truly was.

    What the greeting says of the sender's clock was said after we asked: at `asked` of ours, or later. So whatever it
    says of a later moment is placed at least as early as it was, and a carrier that holds frames back ages them.
    """

    def __init__(self, *, asked: float, clock: float) -> None:
        self._offset = asked - clock

    def here(self, theirs: float, now: float) -> float:
        """That moment by our clock; never in our future."""
        return min(now, self._offset + theirs)


def shared_strings() -> Callable[[IdentityFacts], IdentityFacts]:
    """Lets facts of one snapshot share the words that many of them have: half of their memory."""
    known: dict[str | None, str | None] = {None: None}

    def share(facts: IdentityFacts) -> IdentityFacts:
        once = known.setdefault
        return IdentityFacts(
            id=facts.id, name=facts.name, kind=once(facts.kind, facts.kind) or "",
            state=once(facts.state, facts.state) or "", owner=once(facts.owner, facts.owner),
            owner_active=facts.owner_active, tier=facts.tier,
            environment=once(facts.environment, facts.environment), service=once(facts.service, facts.service),
            purpose=once(facts.purpose, facts.purpose), autonomy=once(facts.autonomy, facts.autonomy),
            system=once(facts.system, facts.system), privileged=facts.privileged, risk=facts.risk,
            blast_radius=facts.blast_radius, names=facts.names,
            groups=facts.groups, partner=facts.partner, partner_id=facts.partner_id, labels=facts.labels,
        )  # fmt: skip

    return share
