"""Read what a partner's endpoint serves: its bundle, or a map of bundles of which only its own is taken.

Spec: SPIFFE Trust Domain and Bundle §4 (format, unknown keys are ignored, sequence); RFC 8259 §4 (names SHOULD be
unique: a second one is refused, since two readers would read two bundles).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from remit.kernel.errors import Rejected
from remit.trust.bundle import MAX_DOCUMENT_BYTES, Bundle
from remit.trust.spiffe import TrustDomain


def read_bundle(trust_domain: TrustDomain, document: bytes) -> Bundle:
    """The bundle of `trust_domain` in a JWK set, or under its name in a map `trust_domains`.

    Bundles of other domains in a map are not read at all. Raises `Rejected` (`trust.bundle.malformed`).
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise _malformed("it is larger than 1 MiB")
    found = _decode(document)
    if "trust_domains" not in found:
        return Bundle.parse(trust_domain, document)
    if "keys" in found or not isinstance(found["trust_domains"], dict):
        raise _malformed("it is neither a JWK set nor a map of bundles")
    own = found["trust_domains"].get(trust_domain.name)
    if not isinstance(own, dict):
        raise _malformed(f"the map has no bundle of `{trust_domain}`")
    return Bundle.parse(trust_domain, msgspec.json.encode(own))


def _decode(document: bytes) -> dict[str, Any]:
    try:
        found = json.loads(document.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _malformed("it is no JSON") from None
    if not isinstance(found, dict):
        raise _malformed("it is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _malformed("it names a member twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(text)


def _malformed(why: str) -> Rejected:
    return Rejected("trust.bundle.malformed", f"this is no bundle that we accept: {why}")
