"""Several attestors look at one process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from remit.kernel.errors import Rejected
from remit.trust.model import Evidence
from remit.trust.ports import Attestor
from remit.trust.process import Peer


def look(attestors: Sequence[Attestor], peer: Peer, now: datetime) -> Evidence:
    """Ask each about the process; it must still be there after the last. Blocks for file I/O.

    Raises `Rejected` (`trust.peer.gone`, `.changed`).
    """
    seen = Evidence.joined([one.attest(peer, now) for one in attestors])
    if len(attestors) > 1 and not peer.alive():
        raise Rejected("trust.peer.gone", f"process `{peer.pid}` ended while it was looked at")
    return seen
