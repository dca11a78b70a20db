"""Which enforcement point is at the other end of a connection? The kernel, or a certificate, says so.

Unix socket    the process behind it, attested (`surface.decide.callers`)
mutual TLS     the X.509-SVID of the handshake
loopback TCP   the user that owns the other socket: for proxies that speak neither; that user is the point's alone

A connection that asks a second time is followed from then on, as those of `decide.sock` are: its process is looked at
again whenever what it is could have changed, and not for each request.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remit.access.enforcers.model import Asker
from remit.access.enforcers.registry import EnforcerIndex
from remit.kernel.errors import Denied
from remit.surface.agent.peer import peer_of_transport
from remit.surface.decide.callers import of_peer, of_svid
from remit.surface.decide.doors import UnixDoor

if TYPE_CHECKING:
    from remit.trust.model import PresentedSvid
    from remit.wiring import ControlPlane

_KNOWN_SECONDS: Final = 1.0
"""For how long a process that was attested is not looked at again."""
_MOST_KNOWN: Final = 1024
_SWEPT_AT: Final = 64
"""Connections that are kept before those that are closed are looked for."""
_ESTABLISHED: Final = "01"
_PROC: Final = Path("/proc/net")


class _Line:
    """A connection, as `UnixDoor` follows it: nothing is paused, for who waits to be known waits in `ask` here."""

    def __init__(self, transport: Any) -> None:
        self.transport = self
        self.connection = self
        self.guest: Any = None
        self.uid: int | None = None
        """The owner of the other socket, of a loopback connection."""
        self.given = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.given.get_extra_info(name, default)

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        """Hang up; who waits to be known hears of it."""
        self.given.abort()
        self.guest.gone = True
        self.guest.seen.set()


class Askers:
    """Finds who asks, connection by connection. Belongs to the event loop."""

    def __init__(self, control: ControlPlane, monotonic: Callable[[], float]) -> None:
        self._control = control
        self._monotonic = monotonic
        self._known: dict[tuple[int, int, int], tuple[float, EnforcerIndex, Asker]] = {}
        self._door = UnixDoor(control)
        self._lines: dict[int, _Line] = {}
        self._sweep_at = _SWEPT_AT

    async def of_transport(self, transport: Any) -> Asker:
        """Who is behind a Unix or a loopback socket. `Denied` (`access.enforcer.stranger`) for nobody we know."""
        listed = transport.get_extra_info("socket")
        line = self._lines.get(id(transport))
        if listed is not None and listed.family == socket.AF_UNIX:
            if line is not None:
                return await self._followed(line)
            asker = await self._of_process(transport)
            self._keep(transport)
            return asker
        if line is None:
            uid = await asyncio.to_thread(
                owner_of, transport.get_extra_info("peername"), transport.get_extra_info("sockname")
            )
            self._keep(transport).uid = uid
        else:
            uid = line.uid
        found = self._control.enforcers.index.of_uid(uid) if uid is not None else None
        if found is None:
            raise Denied(
                "access.enforcer.stranger",
                f"user {uid} is no enforcement point" if uid is not None else "the caller is not of this machine",
                next_step="have it registered: `remit enforcer add NAME --spiffe-id … --uid N`",
            )
        return Asker(name=f"enforcer:{found.name}", enforcer=found)

    def of_svid(self, svid: PresentedSvid, *, source: str = "") -> Asker:
        """Who holds the certificate that a handshake proved, at the address `source`."""
        return of_svid(self._control, svid, source=source)

    async def close(self) -> None:
        """Follow nobody any more."""
        lines, self._lines = list(self._lines.values()), {}
        await asyncio.gather(*(task for line in lines if (task := self._leave(line))), return_exceptions=True)

    def _keep(self, transport: Any) -> _Line:
        """Know this connection when it asks again; those that are closed are let go of."""
        if len(self._lines) >= self._sweep_at:
            for key, line in list(self._lines.items()):
                if line.given.is_closing():
                    del self._lines[key]
                    self._leave(line)
            self._sweep_at = 2 * len(self._lines) + _SWEPT_AT
        # It holds the transport, so that no other one has the same number meanwhile.
        return self._lines.setdefault(id(transport), _Line(transport))

    async def _followed(self, line: Any) -> Asker:
        if line.guest is None:
            self._door.enter(line)
        return self._door.asker(line) or await self._door.ask(line)

    def _leave(self, line: Any) -> asyncio.Task[None] | None:
        self._door.leave(line)
        return line.guest.task if line.guest is not None else None

    async def _of_process(self, transport: Any) -> Asker:
        index, now = self._control.enforcers.index, self._monotonic()
        with peer_of_transport(transport) as peer:
            key = (peer.pid, peer.start_ticks, peer.uid)
            known = self._known.get(key)
            if known is not None and known[1] is index and now - known[0] <= _KNOWN_SECONDS:
                return known[2]
            asker = await of_peer(self._control, peer)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = (now, index, asker)
        return asker


def owner_of(peer: Any, here: Any) -> int | None:
    """The user whose socket is at the other end of a loopback connection, in the kernel's word; `None` for none."""
    if not isinstance(peer, tuple) or peer[0] not in ("127.0.0.1", "::1"):
        return None
    table = "tcp6" if ":" in peer[0] else "tcp"
    wanted = (_hexadecimal(peer), _hexadecimal(here), _ESTABLISHED)
    with (_PROC / table).open("r", encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if tuple(fields[1:4]) == wanted:
                return int(fields[7])
    return None


def _hexadecimal(address: Any) -> str:
    """An address as `/proc/net/tcp` has it: words of 32 bits in the byte order of this machine."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, address[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
