"""A run far from the control plane: begin it, keep it alive, end it; by an SVID."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remit.client.server import Server
from remit.kernel.errors import Conflict, NotFound

PATH = "/api/v1/runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handle:
    """What continues a run: kept in a file that its user alone reads. `key` is a secret."""

    key: str = field(repr=False)
    server: str
    run: str = ""
    heartbeat_seconds: int = 0

    @classmethod
    def new(cls, server: str) -> Handle:
        """A handle for a run that is not begun yet."""
        return cls(key=secrets.token_urlsafe(32), server=server)

    @classmethod
    def read(cls, path: Path) -> Handle:
        """Read one that `write` wrote. `NotFound` (`client.run.missing`)."""
        try:
            said = json.loads(path.read_bytes())
            return cls(**said)
        except (OSError, ValueError, TypeError):
            raise NotFound(
                "client.run.missing", f"`{path}` is no state of a run", next_step="`remit task begin` writes one"
            ) from None

    def write(self, path: Path, *, new: bool = False) -> None:
        """Write it with mode 0600. `Conflict` (`client.run.exists`) where `new` and the file is there."""
        said = {"key": self.key, "server": self.server, "run": self.run, "heartbeat_seconds": self.heartbeat_seconds}
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_EXCL if new else os.O_TRUNC)
        try:
            handle = os.open(path, flags, 0o600)
        except FileExistsError:
            raise Conflict(
                "client.run.exists",
                f"`{path}` is there already",
                next_step="`remit task end` ends the run of it; or name another file",
            ) from None
        with os.fdopen(handle, "w") as file:
            os.fchmod(handle, 0o600)  # one that was there may have been open to others
            json.dump(said, file)


def begin(
    server: Server,
    handle: Handle,
    *,
    task: str,
    needs: Sequence[str],
    seconds: int = 0,
    reason: str = "",
    intent: str = "",
    proofs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Begin the run of this handle; the same answer when it is repeated. Raises what the control plane says."""
    body = {"task": task, "needs": list(needs), "key": handle.key, "ttl_seconds": seconds, "reason": reason,
            "intent": intent, "proofs": [dict(one) for one in proofs]}  # fmt: skip
    return server.post_json(PATH, body)


def heartbeat(server: Server, handle: Handle) -> dict[str, Any]:
    """The run lives for another interval; what became of its leases."""
    return server.post_json(f"{PATH}/{handle.run}/heartbeat", {"key": handle.key})


def end(server: Server, handle: Handle) -> dict[str, Any]:
    """The run is over; what proved that its credentials are refused."""
    return server.post_json(f"{PATH}/{handle.run}/end", {"key": handle.key})
