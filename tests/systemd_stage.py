"""A private message bus with a manager on it that speaks as systemd does: dbus-daemon is real, the manager is emulated.

    systemd_stage.py BUS_ADDRESS TABLE [old]      (run by the system's Python, which has dbus-python)

`TABLE` is a JSON file, process number to unit and fragment path, read again at each call; `0` stands for every process.
`old` knows no pidfds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
<allow receive_type="signal"/><allow send_type="signal"/></policy></busconfig>
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """The bus's socket, and the table of the manager."""

    socket: Path
    table: Path

    def place(self, pid: int, unit: str, fragment: str = "") -> None:
        """Have the manager say that process `pid` is of `unit`."""
        known = json.loads(self.table.read_text())
        known[str(pid)] = [unit, fragment]
        fresh = self.table.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(self.table)


def missing() -> str:
    """What is not installed here, as the reason of a skip; empty when the stage can be set."""
    if shutil.which("dbus-daemon") is None:
        return "dbus-daemon: not installed"
    probe = [SYSTEM_PYTHON, "-c", "import dbus.service, dbus.mainloop.glib, gi.repository.GLib"]
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(probe, capture_output=True, check=False).returncode:
        return "python3-dbus: not installed"
    return ""


@contextmanager
def bus() -> Iterator[Path]:
    """A message bus with nobody on it; yields its socket."""
    folder = Path(tempfile.mkdtemp(prefix="remit-b-", dir="/tmp"))
    folder.chmod(0o755)
    place = folder / "bus"
    (folder / "bus.conf").write_text(_CONFIG.format(path=place))
    command = ["dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork", "--nopidfile", "--nosyslog"]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _await(place.exists)
        yield place
    finally:
        daemon.kill()
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def manager(*arguments: str) -> Iterator[Stage]:
    """A bus with the manager on it."""
    with bus() as place:
        table = place.with_name("table.json")
        table.write_text("{}")
        command = [SYSTEM_PYTHON, __file__, f"unix:path={place}", str(table), *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield Stage(place, table)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _await(there: object) -> None:
    for _ in range(500):
        if there():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise AssertionError("the message bus did not start")


def _serve(address: str, table: Path, old: bool) -> None:
    import dbus
    import dbus.bus
    import dbus.mainloop.glib
    import dbus.service
    from gi.repository import GLib

    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    connection = dbus.bus.BusConnection(address)
    units: dict[str, object] = {}
    properties, fresh = "org.freedesktop.DBus.Properties", "org.freedesktop.systemd1."

    class NoUnit(dbus.DBusException):
        _dbus_error_name = "org.freedesktop.systemd1.NoUnitForPID"

    class Unit(dbus.service.Object):
        def __init__(self, unit: str, fragment: str, path: str) -> None:
            super().__init__(connection, path)
            self.seen = {"Id": unit, "FragmentPath": fragment, "Names": dbus.Array([unit], signature="s")}
            self.seen |= {
                "ActiveEnterTimestamp": dbus.UInt64(1),
                "CanStart": True,
                "Conditions": dbus.Array([("a", False, True, "", 1)], signature="(sbbsi)"),
            }

        @dbus.service.method(properties, in_signature="s", out_signature="a{sv}")
        def GetAll(self, interface: str) -> object:
            return self.seen if interface == f"{fresh}Unit" else {}

    def unit_of(pid: int) -> str:
        known = json.loads(table.read_text())
        if str(pid) not in known and "0" not in known:
            raise NoUnit(f"PID {pid} does not belong to any loaded unit.")
        unit, fragment = known[str(pid) if str(pid) in known else "0"]
        path = "/org/freedesktop/systemd1/unit/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in unit)
        if path not in units:
            units[path] = Unit(unit, fragment, path)
        return path

    class Manager(dbus.service.Object):
        @dbus.service.method(f"{fresh}Manager", in_signature="u", out_signature="o")
        def GetUnitByPID(self, pid: int) -> object:
            return dbus.ObjectPath(unit_of(int(pid)))

    class NewManager(Manager):
        @dbus.service.method(f"{fresh}Manager", in_signature="h", out_signature="osay")
        def GetUnitByPIDFD(self, given: object) -> object:
            descriptor = given.take()  # type: ignore[attr-defined]
            lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
            os.close(descriptor)
            pid = next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))
            path = unit_of(pid)
            return dbus.ObjectPath(path), units[path].seen["Id"], dbus.ByteArray(b"\1" * 16)  # type: ignore[attr-defined]

    name = dbus.service.BusName("org.freedesktop.systemd1", connection)
    kept = (Manager if old else NewManager)(connection, "/org/freedesktop/systemd1")
    print("ready", flush=True)
    GLib.MainLoop().run()
    assert name
    assert kept


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), "old" in sys.argv[3:])
