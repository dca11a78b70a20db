"""Frames of a snapshot stream: each counts in its own stream and place, and nowhere else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from local_stage import KEY, SEED, point
from remit.access import stream
from remit.access.stream import Anchor, Beat, FrameSigner, FrameVerifier, Hello
from remit.kernel.errors import Rejected

NONCE, OTHER = "11" * 32, "22" * 32
HELLO = Hello(
    version=1, incarnation="i", scope="s", epoch=1, sequence=1, whole=True, point=dict(point().as_json()), clock=1.0,
    heartbeat=1.0,
)  # fmt: skip


def frames(nonce: str = NONCE, count: int = 3) -> list[bytes]:
    signer = FrameSigner(Ed25519PrivateKey.from_private_bytes(SEED), stream.stream_name(nonce, point().spiffe_id))
    return [signer.write(HELLO), *(signer.write(Beat(sequence=1, heartbeat=float(each))) for each in range(count))]


def read(verifier: FrameVerifier, frame: bytes) -> stream.Frame:
    head, body = frame[: stream.HEAD_BYTES], frame[stream.HEAD_BYTES :]
    assert stream.body_bytes(head) == len(body)
    return verifier.read(head, body)


def verifier(nonce: str = NONCE) -> FrameVerifier:
    return FrameVerifier(stream.read_key(KEY), nonce)


def test_frames_in_order_are_read() -> None:
    reader = verifier()
    assert [type(read(reader, frame)) for frame in frames()] == [Hello, Beat, Beat, Beat]


@pytest.mark.parametrize("order", [(0, 2), (0, 1, 1), (0, 1, 3), (1,), (0, 0)])
def test_a_frame_in_another_place_does_not_count(order: tuple[int, ...]) -> None:
    reader, made = verifier(), frames()
    *good, bad = order
    for each in good:
        read(reader, made[each])
    with pytest.raises(Rejected):
        read(reader, made[bad])


def test_a_recorded_stream_is_nothing_to_another_reader() -> None:
    with pytest.raises(Rejected, match="signature"):
        read(verifier(OTHER), frames()[0])


@pytest.mark.parametrize("at", [4, 40, stream.HEAD_BYTES, stream.HEAD_BYTES + 30, -1])
def test_a_changed_byte_is_noticed(at: int) -> None:
    frame = bytearray(frames()[0])
    frame[at] ^= 1
    with pytest.raises(Rejected):
        read(verifier(), bytes(frame))


def test_a_frame_of_another_length_is_not_waited_for() -> None:
    with pytest.raises(Rejected, match="longer"):
        stream.body_bytes(b"\xff" * stream.HEAD_BYTES)


def test_what_the_sender_says_is_never_younger_than_it_was() -> None:
    anchor = Anchor(asked=100.0, clock=5.0)
    assert anchor.here(7.0, now=110.0) == 102.0
    assert anchor.here(70.0, now=110.0) == 110.0
