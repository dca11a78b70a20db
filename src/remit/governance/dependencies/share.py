"""The canary: which of an identity's consumers a test refuses, the same ones for as long as it lasts."""

from __future__ import annotations

import hashlib

from remit.access.model import Request

_BY = ("task_digest", "task", "credential", "sha256", "lease", "grant", "node")
"""Proven facts that tell one consumer from another, the steadiest first."""


def consumer_of(request: Request) -> str:
    """Who asks, as far as it is proven: the same consumer is always called the same."""
    for name in _BY:
        if name in request.proven:
            return f"{name} {str(request.proven[name])[:120]}"
    return f"{request.action[:80]} on {request.resource.type[:40]} {request.resource.id[:120]}"


def is_in(test: str, consumer: str, percent: int) -> bool:
    """Whether a consumer is in the share of a test; of another test it may be outside."""
    hashed = hashlib.blake2b(f"{test}\0{consumer}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(hashed) % 10_000 < percent * 100
