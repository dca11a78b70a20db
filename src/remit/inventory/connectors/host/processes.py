"""What runs now: programs, their accounts and units, and where they listen. Reads /proc, nothing else.

Spec: proc(5); cgroups(7).
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MOST = 20_000
_MOST_HANDLES = 2_000
_MOST_ENVIRONMENT = 256 * 1024
_LISTEN = "0A"
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    pid: int
    uid: int
    program: str
    unit: str
    """The system's unit; empty for what a person or a container started."""
    listens: tuple[str, ...]


def processes(proc: Path = Path("/proc")) -> Iterator[Process]:
    """Every process with a program, at most 20,000; the handles of others are visible to root alone."""
    listening = _listening(proc)
    with os.scandir(proc) as entries:
        pids = [int(entry.name) for _, entry in zip(range(_MOST * 4), entries, strict=False) if entry.name.isdigit()]
    for pid in sorted(pids)[:_MOST]:
        with suppress(OSError, ValueError):
            here = proc / str(pid)
            program = str((here / "exe").readlink()).removesuffix(" (deleted)")
            cgroup = (here / "cgroup").read_bytes()[:8192].decode("utf-8", "replace")
            uid = here.stat().st_uid
            yield Process(
                pid=pid, uid=uid, program=program, unit=unit_of(cgroup), listens=_sockets(here / "fd", listening)
            )


def environment_of(pid: int, proc: Path = Path("/proc")) -> tuple[tuple[str, str], ...]:
    """The environment with which a process was started, of its first 256 KiB; empty where it is closed to us."""
    try:
        with (proc / str(pid) / "environ").open("rb") as file:
            text = file.read(_MOST_ENVIRONMENT).decode("utf-8", "replace")
    except OSError:
        return ()
    pairs = (setting.partition("=") for setting in text.split("\0"))
    return tuple((key, value) for key, mark, value in pairs if key and mark)


def unit_of(cgroup: str) -> str:
    """The system's service in which a process runs, by the text of its `cgroup` file."""
    for line in cgroup.splitlines():
        path = line.rpartition(":")[2]
        found = _UNIT.findall(path)
        if found and path.startswith("/system.slice/"):
            return str(found[0])
    return ""


def _sockets(handles: Path, listening: dict[str, str]) -> tuple[str, ...]:
    found: set[str] = set()
    with suppress(OSError), os.scandir(handles) as entries:
        for _, entry in zip(range(_MOST_HANDLES), entries, strict=False):
            with suppress(OSError):
                named = _SOCKET.fullmatch(str(Path(entry.path).readlink()))
                if named and named.group(1) in listening:
                    found.add(listening[named.group(1)])
    return tuple(sorted(found))[:20]


def _listening(proc: Path) -> dict[str, str]:
    """Socket's inode → `address:port`, of what waits for connections."""
    found: dict[str, str] = {}
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            text = (proc / "net" / name).read_text("ascii", "replace")
            for line in text.splitlines()[1 : _MOST + 1]:
                words = line.split()
                if len(words) > 9 and words[3] == _LISTEN:
                    found[words[9]] = address_of(words[1])
    return found


def address_of(text: str) -> str:
    """`0100007F:1F90` of /proc/net/tcp as `127.0.0.1:8080`."""
    host, _, port = text.partition(":")
    raw = bytes.fromhex(host)
    ordered = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    shown = str(ipaddress.ip_address(ordered))
    return f"[{shown}]:{int(port, 16)}" if len(raw) > 4 else f"{shown}:{int(port, 16)}"


_CAPABILITIES = {
    0: "cap_chown", 1: "cap_dac_override", 2: "cap_dac_read_search", 3: "cap_fowner", 6: "cap_setgid", 7: "cap_setuid",
    8: "cap_setpcap", 12: "cap_net_admin", 13: "cap_net_raw", 10: "cap_net_bind_service", 16: "cap_sys_module",
    17: "cap_sys_rawio", 18: "cap_sys_chroot", 19: "cap_sys_ptrace", 21: "cap_sys_admin", 24: "cap_sys_resource",
    27: "cap_mknod", 31: "cap_setfcap",
}  # fmt: skip
DANGEROUS = frozenset({
    "cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_setgid", "cap_setuid", "cap_setpcap",
    "cap_sys_module", "cap_sys_rawio", "cap_sys_ptrace", "cap_sys_admin", "cap_setfcap",
})  # fmt: skip
"""Capabilities from which root is one step away."""


def capabilities(attribute: bytes) -> tuple[str, ...]:
    """The permitted set of a file's `security.capability`, by name; a number where the name is not known here."""
    if len(attribute) < 12:
        return ()
    low = int.from_bytes(attribute[4:8], "little")
    high = int.from_bytes(attribute[12:16], "little") if len(attribute) >= 20 else 0
    permitted = low | high << 32
    return tuple(_CAPABILITIES.get(bit, f"cap_{bit}") for bit in range(41) if permitted >> bit & 1)


def powers_of(path: str, status: os.stat_result) -> tuple[str, ...] | None:
    """Capabilities of a program that gives more than its caller has, `()` for set-user-id; `None` of any other."""
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return None
    with suppress(OSError):
        if found := capabilities(os.getxattr(path, "security.capability", follow_symlinks=False)):
            return found
    return () if status.st_mode & stat.S_ISUID else None
