"""What an agent says of itself to those who look after its machine: a file for people, and one for Prometheus.

DIR/status.json  read by `remit agent status`
DIR/agent.prom   text format, for the textfile collector of a node exporter
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of an agent."""

    pid: int
    state: str
    """`joining`, `connected`, `away` (it serves what it has) or `ended` (it serves nothing)."""
    since: datetime
    reason: str = ""
    server: str
    socket: str
    agent: str = ""
    name: str = ""
    spiffe_id: str = ""
    expires: datetime | None = None
    """End of the agent's own certificate."""
    entries: int = 0
    svids: int = 0
    """Held, for entries."""
    serves_until: datetime | None = None
    """When the last of them expires, should the control plane stay away."""
    revocations: int = -1
    """The version that it has applied."""
    handed: int = 0
    """SVIDs handed to processes since the start."""
    unreported: int = 0
    """Of these, not told to the control plane yet."""
    lost_reports: int = 0
    updated: datetime


def write_status(folder: Path, status: Status) -> None:
    """Replace both files. A status that is lost in a crash is no harm, so that nothing is synced."""
    _replace(folder / "status.json", msgspec.json.encode(status))
    _replace(folder / "agent.prom", _metrics(status).encode())


def read_status(folder: Path) -> Status | None:
    """What the agent on `folder` said last; `None` where there was none."""
    try:
        return msgspec.json.decode((folder / "status.json").read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError):
        return None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    temporary.replace(path)


def _metrics(status: Status) -> str:
    values = {
        "remit_agent_connected": (int(status.state == "connected"), "Whether the control plane answers."),
        "remit_agent_entries": (status.entries, "Registration entries of this node."),
        "remit_agent_svids": (status.svids, "X.509-SVIDs held."),
        "remit_agent_certificate_expires": (_unix(status.expires), "End of the agent's own certificate."),
        "remit_agent_serves_until": (_unix(status.serves_until), "End of the last X.509-SVID held."),
        "remit_agent_unreported": (status.unreported, "SVIDs handed out and not told to the control plane yet."),
        "remit_agent_lost_reports": (status.lost_reports, "Reports that were too many to keep."),
    }
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n" for name, (value, text) in values.items()
    )


def _unix(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment is not None else 0
