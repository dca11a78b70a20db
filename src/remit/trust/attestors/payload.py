"""What callers show, read within bounds, and the words in which every proof is refused."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Misconfigured, Rejected
from remit.trust.model import Selector

NONCE_BYTES = 32
MAX_VALUE_BYTES = 16 * 1024
DIGEST = re.compile(r"[0-9a-f]{64}")
"""The form of a SHA-256 in a selector."""
_VALUE = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")


def only(payload: Mapping[str, Json], names: Sequence[str]) -> None:
    """Refuse members that no attestor of the kind reads: a caller who sends them means another kind."""
    unknown = sorted(set(payload) - set(names))
    if unknown:
        raise malformed(f"`{ascii(unknown[0])[1:-1][:80]}` is no part of it")


def text(payload: Mapping[str, Json], name: str, *, most: int = MAX_VALUE_BYTES) -> str:
    """A text of 1 to `most` characters; `Rejected` (`trust.proof.malformed`)."""
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise malformed(f"`{name}` is missing, no text, or longer than {most} characters")
    return value


def octets(payload: Mapping[str, Json], name: str, *, most: int = MAX_VALUE_BYTES) -> bytes:
    """Base64 of 1 to `most` bytes."""
    return decoded(text(payload, name, most=(most + 2) // 3 * 4), name)


def several_octets(payload: Mapping[str, Json], name: str, *, most: int, least: int = 1) -> list[bytes]:
    """A list of `least` to `most` base64 values of at most 16 KiB each."""
    values = payload.get(name, [])
    if not isinstance(values, list | tuple) or not least <= len(values) <= most:
        raise malformed(f"`{name}` is no list of {least} to {most}")
    return [octets({name: value}, name) for value in values]


def decoded(value: str, name: str) -> bytes:
    """Strict base64."""
    try:
        return b64decode(value, validate=True)
    except ValueError:
        raise malformed(f"`{name}` is not base64") from None


def statement(kind: str, *, trust_domain: str, nonce: bytes, own_nonce: bytes, subject: str) -> bytes:
    """The bytes that a key signs to prove itself: for this kind of proof, this trust domain and this question alone.

    `own_nonce` is of the prover's choice, so that nobody else determines what it signs; `subject` is the SHA-256 of the
    certificate that it proves. Being canonical JSON, it is no message of TLS, SSH or X.509.
    """
    return canonical(
        {
            "context": f"remit {kind} proof v1",
            "trust_domain": trust_domain,
            "nonce": nonce.hex(),
            "own_nonce": own_nonce.hex(),
            "subject": subject,
        }
    )


def own_nonce(answer: Mapping[str, Json]) -> bytes:
    """The prover's own nonce, 32 bytes."""
    found = octets(answer, "own_nonce", most=NONCE_BYTES)
    if len(found) != NONCE_BYTES:
        raise malformed(f"`own_nonce` has {len(found)} bytes instead of {NONCE_BYTES}")
    return found


def check_selector(
    selector: Selector, attestor: str, keys: Mapping[str, str], forms: Mapping[str, re.Pattern[str]]
) -> None:
    """Refuse a key that the attestor does not have, or a value that it could never produce."""
    if selector.attestor != attestor or selector.key not in keys:
        raise Rejected(
            "trust.selector.unknown",
            f"`{str(selector)[:200]}` has no key of the attestor `{attestor}`",
            next_step=f"use one of: {', '.join(keys)}",
        )
    if forms.get(selector.key, _VALUE).fullmatch(selector.value) is None:
        raise Rejected(
            "trust.selector.malformed",
            f"`{str(selector)[:200]}` could never match",
            next_step=f"`{attestor}:{selector.key}` takes {keys[selector.key]}",
        )


def selectable(value: str) -> bool:
    """Whether a name from a certificate can be a selector's value: bounded, printable, no control characters."""
    return _VALUE.fullmatch(value) is not None and not any("\ud800" <= c <= "\udfff" for c in value)


def malformed(why: str) -> Rejected:
    """It cannot be read."""
    return Rejected(
        "trust.proof.malformed", f"the proof cannot be read: {why}", next_step="send what the attestor's page describes"
    )


def untrusted(why: str) -> Rejected:
    """It was read, and no anchor of the operator vouches for it."""
    return Rejected(
        "trust.proof.untrusted",
        f"nothing that we trust vouches for this proof: {why}",
        next_step="compare it with the anchors that are configured for the attestor",
    )


def mismatch(why: str) -> Rejected:
    """It is genuine, or looks so, and does not prove what was asked now."""
    return Rejected(
        "trust.proof.mismatch", f"this does not prove what was asked: {why}", next_step="ask for a new question"
    )


def expired(why: str) -> Rejected:
    """Its time has not come, or is over."""
    return Rejected(
        "trust.proof.expired", f"the proof is not valid now: {why}", next_step="renew it, and compare the clocks"
    )


def unconfigured(attestor: str, why: str) -> Misconfigured:
    """The attestor was given nothing to believe."""
    return Misconfigured(
        "trust.attestor.anchors",
        f"the attestor `{attestor}` cannot be used: {why}",
        next_step=f"correct section `{attestor.replace('_', '')}` of the settings",
    )
