"""Only an active registered person's own signature over this very command, now and once, makes an approver."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from remit.governance.people import deactivate
from remit.governance.signatures import (
    Approver,
    SignedCommand,
    confirm,
    encode_signed,
    parse_signed,
    require_public_key,
    verify_signed,
)
from remit.governance.testing import AUDIENCE, GovernanceMemoryUnit, Keyholder
from remit.kernel.clock import ManualClock
from remit.kernel.errors import Denied, RemitError


def verify(unit: GovernanceMemoryUnit, signed: SignedCommand, **changed: object) -> Approver:
    asked: dict[str, object] = {"method": "POST", "path": "/api/v1/x", "body": b"", "audience": AUDIENCE, **changed}
    return verify_signed(unit, signed, **asked)  # type: ignore[arg-type]


def code_of(unit: GovernanceMemoryUnit, signed: SignedCommand, **changed: object) -> str:
    with pytest.raises(RemitError) as caught:
        verify(unit, signed, **changed)
    return caught.value.code


def test_a_genuine_command_names_its_person(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    assert verify(unit, alice.sign(unit.now)).name == "alice"


def test_the_header_carries_a_command_unchanged(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    signed = alice.sign(unit.now)
    assert parse_signed(encode_signed(signed)) == signed


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "DELETE"},
        {"path": "/api/v1/x?force=1"},
        {"body": b"other"},
        {"audience": "another-installation"},
    ],
)
def test_it_covers_the_whole_request(unit: GovernanceMemoryUnit, alice: Keyholder, changed: dict[str, object]) -> None:
    assert code_of(unit, alice.sign(unit.now), **changed) == "governance.signature.mismatch"


@pytest.mark.parametrize("field", ["method", "path", "body_sha256", "nonce", "audience", "time"])
def test_a_claim_changed_after_signing_is_refused(unit: GovernanceMemoryUnit, alice: Keyholder, field: str) -> None:
    signed = alice.sign(unit.now)
    other = replace(alice.sign(unit.now - timedelta(seconds=1)), method="PUT", path="/y", body_sha256="0" * 64)
    forged = replace(signed, **{field: getattr(replace(other, audience="other"), field)})
    assert code_of(unit, forged) == "governance.signature.refused"


def test_it_is_good_once(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    signed = alice.sign(unit.now)
    verify(unit, signed)
    assert code_of(unit, signed) == "governance.signature.replayed"


@pytest.mark.parametrize("seconds", [-61, 61])
def test_it_is_good_for_a_minute(
    unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock, seconds: int
) -> None:
    signed = alice.sign(unit.now + timedelta(seconds=seconds))
    assert code_of(unit, signed) == "governance.signature.stale"


def test_a_nonce_is_remembered_as_long_as_its_command_could_pass(
    unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock
) -> None:
    signed = alice.sign(unit.now + timedelta(seconds=60))
    verify(unit, signed)
    clock.advance(timedelta(seconds=120))
    assert code_of(unit, signed) == "governance.signature.replayed"


def test_used_nonces_are_forgotten_when_they_can_serve_no_more(
    unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock
) -> None:
    verify(unit, alice.sign(unit.now))
    clock.advance(timedelta(minutes=5))
    assert unit.governance.prune_nonces(unit.now) == 1


def test_a_stranger_and_a_forger_get_the_same_answer(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    stranger = code_of(unit, Keyholder("mallory").sign(unit.now))
    forger = code_of(unit, replace(alice.sign(unit.now), signature=Keyholder("mallory").sign(unit.now).signature))
    assert stranger == forger == "governance.signature.refused"


def test_a_refused_signature_burns_no_nonce(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    signed = alice.sign(unit.now, nonce="chosen-by-a-stranger")
    code_of(unit, replace(signed, signature="0" * 128))
    assert verify(unit, signed).name == "alice"


def test_who_left_signs_in_vain(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    assert code_of(unit, bob.sign(unit.now)) == "governance.signature.refused"


def test_a_verification_does_not_keep(unit: GovernanceMemoryUnit, alice: Keyholder, clock: ManualClock) -> None:
    approver = alice.approver(unit)
    clock.advance(timedelta(minutes=3))
    with pytest.raises(Denied) as caught:
        confirm(unit, approver)
    assert caught.value.code == "governance.approver.stale"


def test_a_verification_ends_with_the_person(unit: GovernanceMemoryUnit, alice: Keyholder, bob: Keyholder) -> None:
    approver = bob.approver(unit)
    deactivate(unit, "bob", by=alice.approver(unit), reason="left")
    with pytest.raises(Denied):
        confirm(unit, approver)


def test_nothing_else_makes_an_approver(unit: GovernanceMemoryUnit, alice: Keyholder) -> None:
    person = unit.governance.person("alice")
    assert person is not None
    with pytest.raises(AssertionError):
        Approver(person, alice.sign(unit.now), unit.now, witness=object())


@pytest.mark.parametrize("header", ["", "%%%", "e30=", "bnVsbA==", "A" * 5000, "eyJwZXJzb24iOjF9"])
def test_a_hostile_header_is_malformed(header: str) -> None:
    with pytest.raises(RemitError) as caught:
        parse_signed(header)
    assert caught.value.code == "governance.signature.malformed"


@pytest.mark.parametrize("time", ["", "yesterday", "2026-11-22T12:00:00", "9999-99-99T00:00:00Z"])
def test_a_hostile_time_is_malformed(unit: GovernanceMemoryUnit, alice: Keyholder, time: str) -> None:
    assert code_of(unit, replace(alice.sign(unit.now), time=time)) == "governance.signature.malformed"


P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P


def _order_divides_eight(encoded: bytes) -> bool:
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    y %= P
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - xx) % P:
        return False
    for _ in range(3):
        k = D * x * x * y * y % P
        x, y = 2 * x * y * pow(1 + k, P - 2, P) % P, (y * y + x * x) * pow(1 - k, P - 2, P) % P
    return (x, y) == (0, 1)


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize(
    "encoded",
    [
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    ],
)
def test_a_key_under_which_anybody_can_sign_is_refused(encoded: str, sign: int) -> None:
    raw = bytearray.fromhex(encoded)
    assert _order_divides_eight(bytes(raw))
    raw[31] |= sign
    with pytest.raises(RemitError) as caught:
        require_public_key(raw.hex())
    assert caught.value.code == "governance.person.key"


def test_an_ordinary_key_is_accepted() -> None:
    key = Keyholder("alice").public_key
    assert require_public_key(key.upper()) == key
    assert not _order_divides_eight(bytes.fromhex(key))
