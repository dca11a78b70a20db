"""What is known of a revocation at a server that admits by certificate, and whether it proves anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from remit.access.brokers.x509_settings import Role
from remit.access.model import Proof, Proved, RevokeOrder, Unproved
from remit.providers.x509.folder import Entry
from remit.providers.x509.logins import Attempt


@dataclass(slots=True, kw_only=True)
class Work:
    """What is to be done for one order, and what was seen."""

    order: RevokeOrder
    role: Role
    struck: Entry
    identity: str = field(repr=False)
    stranger: bool
    """The book knows the lease under another key."""
    tried: Attempt | None = None
    seen: set[int] = field(default_factory=set)
    living: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How others fare at a role's place, after the server has read the list."""

    control: Attempt
    nobody: Attempt
    resumed: bool
    """Whether a session of a probe that was struck is still admitted."""


def judge(one: Work, view: View | None, left: Sequence[int]) -> Proof:
    """Proved only where the refusal can be of nothing but the list. `left` are workers that serve by an older one."""
    tried = one.tried
    assert tried is not None and view is not None
    if left:
        return Unproved(why=f"the process {left[0]} still serves connections from before: set worker_shutdown_timeout")
    if one.living:
        return Unproved(why="a session of it would not end")
    if one.stranger:
        return Unproved(why="nobody knows its key any more: it is revoked by its serial")
    if view.nobody.admitted:
        return Unproved(why="the server serves whoever shows no certificate")
    if tried.admitted:
        return Unproved(why="the server still admits the certificate")
    if view.resumed:
        return Unproved(why="a TLS session from before is still admitted: switch session tickets and cache off")
    if not view.control.admitted:
        return Unproved(why=f"the control was refused too: {view.control.words}")
    if not tried.of_the_client:
        return Unproved(why=f"the refusal is not of the certificate: {tried.words}")
    return Proved(refusal=tried.words, control="login by a fresh certificate of the same authority and role")
