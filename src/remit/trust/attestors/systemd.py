"""The systemd attestor: of which unit a process is, as the system manager says.

What keeps it honest:
- the manager is asked by pidfd (`GetUnitByPIDFD`, systemd 253 and later), so that it answers for this very process;
  an older one is asked by number, and only when our process numbers are the machine's own;
- the process must still live after the answer, and the answer counts only when root owns the manager's name on the bus;
- a fragment path is the file that the manager loaded, as it says, not one that the process names.

What it cannot see: units of a user's own manager (the unit is then that user's `user@UID.service`), and drop-ins that
change what a fragment says.

Spec: org.freedesktop.systemd1(5), "The Manager Object", "Properties" of units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from remit.kernel.canonical import Json
from remit.kernel.errors import NotFound, Rejected, RemitError, Unavailable
from remit.providers.dbus import Bus
from remit.trust.model import Evidence, Selector
from remit.trust.process import Peer, boot_id

SYSTEM_BUS: Final = "/run/dbus/system_bus_socket"
_MANAGER: Final = "org.freedesktop.systemd1"
_MANAGER_PATH: Final = "/org/freedesktop/systemd1"
_UNIT: Final = "org.freedesktop.systemd1.Unit"
_INITIAL_PID_NAMESPACE: Final = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the kernel: in it alone our numbers of processes are the manager's."""
_KEYS = {
    "id": "the name of the unit, for example `billing.service`",
    "fragment_path": "the absolute path of the unit file that was loaded",
}
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,244}\.(service|scope|slice|socket|mount|swap|timer|path|target|automount)")
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f]+)+")
_FORMS: Mapping[str, Callable[[str], bool]] = {
    "id": lambda v: _NAME.fullmatch(v) is not None,
    "fragment_path": lambda v: _PATH.fullmatch(v) is not None and len(v.encode()) <= 4096,
}


class SystemdAttestor:
    """Asks the manager on the bus at the socket `bus`; `manager_uid` is who must own its name there."""

    id = "systemd"
    keys: Mapping[str, str] = _KEYS

    def __init__(self, *, bus: str = SYSTEM_BUS, manager_uid: int = 0, timeout: float = 2.0) -> None:
        self._bus = bus
        self._manager_uid = manager_uid
        self._timeout = timeout

    def check(self, selector: Selector) -> None:
        """Refuse a key that it does not know, or a value that it could never produce."""
        form = _FORMS.get(selector.key)
        if form is None:
            raise Rejected(
                "trust.selector.unknown",
                f"`{str(selector)[:200]}` has no key of the systemd attestor",
                next_step=f"use one of: {', '.join(_KEYS)}",
            )
        if not form(selector.value):
            raise Rejected(
                "trust.selector.malformed",
                f"`{str(selector)[:200]}` could never match",
                next_step=f"`systemd:{selector.key}` takes {_KEYS[selector.key]}",
            )

    def attest(self, peer: Peer, now: datetime) -> Evidence:
        """Ask of which unit the process behind `peer` is.

        Raises `Rejected` (`trust.peer.gone`) when it ended, or became another, while it was asked for.
        """
        unseen: list[str] = []
        try:
            said = self._unit(peer)
        except RemitError as error:
            said = {}
            unseen.append(f"unit: {error.message}")
        # INVARIANT: nothing heard above counts unless the very process is still there now.
        if not peer.alive():
            raise Rejected("trust.peer.gone", f"process `{peer.pid}` ended while it was looked at")
        selectors = set()
        for key, value in said.items():
            if value and _FORMS[key](value):
                selectors.add(Selector(self.id, key, value))
            elif value:
                unseen.append(f"{key}: the manager gave a value that cannot be a selector")
        facts: dict[str, Json] = {"pid": peer.pid, "start_ticks": peer.start_ticks, "boot_id": boot_id()}
        return Evidence(
            attestor=self.id, selectors=frozenset(selectors), facts=facts, unseen=tuple(unseen), observed=now
        )

    def _unit(self, peer: Peer) -> dict[str, str]:
        with Bus(self._bus, timeout=self._timeout) as bus:
            manager, uid = bus.owner(_MANAGER)
            if uid != self._manager_uid:
                raise Unavailable("trust.systemd.impostor", "the manager's name on the bus is owned by another user")
            path = _unit_path(bus, manager, peer)
            (found,) = bus.call(manager, path, "org.freedesktop.DBus.Properties", "GetAll", "s", _UNIT)
        if not isinstance(found, dict):
            return {}
        return {"id": str(found.get("Id", "")), "fragment_path": str(found.get("FragmentPath", ""))}


def _unit_path(bus: Bus, manager: str, peer: Peer) -> str:
    interface = "org.freedesktop.systemd1.Manager"
    if peer.pidfd >= 0:
        try:
            path, *_ = bus.call(manager, _MANAGER_PATH, interface, "GetUnitByPIDFD", "h", 0, fds=[peer.pidfd])
        except NotFound as error:
            # Managers before 253 do not know the method, nor does their policy on the bus; another error is the answer.
            if not any(one in error.message for one in ("UnknownMethod", "AccessDenied")):
                raise
        else:
            return str(path)
    if not _numbers_are_the_machines():
        raise Unavailable("trust.systemd.unnumbered", "its process numbers are not those of the machine's manager")
    (path,) = bus.call(manager, _MANAGER_PATH, interface, "GetUnitByPID", "u", peer.pid)
    return str(path)


def _numbers_are_the_machines() -> bool:
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _INITIAL_PID_NAMESPACE
    except OSError:
        return False
