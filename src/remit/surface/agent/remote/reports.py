"""What the agent handed out, kept until the control plane has heard of it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import datetime

from remit.surface.agent.remote.wire import MAX_BATCH, Handed, Seen
from remit.trust.model import Evidence, JwtSvid, X509Svid

_MOST = 20_000
_KNOWN = 65_536


class Reports:
    """A queue that is bounded: the oldest are lost when the control plane is away for long, and counted."""

    def __init__(self) -> None:
        self._queue: deque[Handed] = deque()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.handed = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._queue)

    def note(self, evidence: Evidence, svids: Sequence[X509Svid | JwtSvid], *, at: datetime, offline: bool) -> None:
        """A process got these. The same SVID for the same process is told once."""
        proof = evidence.digest
        for svid in svids:
            serial = f"{svid.serial:x}" if isinstance(svid, X509Svid) else svid.token_id
            if (serial, proof) in self._known:
                continue
            self._known[serial, proof] = None
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            self.handed += 1
            self._queue.append(Handed(entry=svid.entry, serial=serial, seen=Seen.of(evidence), at=at, offline=offline))
            if len(self._queue) > _MOST:
                self._queue.popleft()
                self.lost += 1

    def batch(self) -> list[Handed]:
        """The oldest, at most as many as one request takes."""
        return [self._queue[at] for at in range(min(len(self._queue), MAX_BATCH))]

    def told(self, count: int) -> None:
        """The control plane has this many of the oldest."""
        for _ in range(min(count, len(self._queue))):
            self._queue.popleft()
