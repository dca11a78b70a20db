"""The systemd attestor and its message bus: dbus-daemon is real, the manager on it is played by dbus-python."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import systemd_stage
from remit.kernel.errors import NotFound, Rejected, Unavailable
from remit.providers.dbus import BUS, Bus, Reader, Writer, split
from remit.trust import Evidence, Selector, peer_of_pid
from remit.trust.attestors import systemd
from remit.trust.attestors.systemd import SystemdAttestor
from remit.trust.testing import NOON, sleeping_process


@pytest.fixture(scope="module", params=["new", "old"])
def stage(request: pytest.FixtureRequest) -> Iterator[systemd_stage.Stage]:
    if why := systemd_stage.missing():
        pytest.skip(why)
    with systemd_stage.manager(request.param) as made:
        yield made


def attested(attestor: SystemdAttestor, pid: int) -> Evidence:
    descriptor = os.pidfd_open(pid)
    try:
        with peer_of_pid(descriptor, pid) as peer:
            return attestor.attest(peer, NOON)
    finally:
        os.close(descriptor)


def of(stage: systemd_stage.Stage) -> SystemdAttestor:
    return SystemdAttestor(bus=str(stage.socket), manager_uid=os.geteuid())


def test_it_sees_the_unit_and_its_file(stage: systemd_stage.Stage) -> None:
    with sleeping_process() as child:
        stage.place(child.pid, "billing@eu.service", "/etc/systemd/system/billing@.service")
        evidence = attested(of(stage), child.pid)
    assert {str(one) for one in evidence.selectors} == {
        "systemd:id:billing@eu.service", "systemd:fragment_path:/etc/systemd/system/billing@.service"
    }  # fmt: skip


def test_a_transient_unit_has_no_file(stage: systemd_stage.Stage) -> None:
    with sleeping_process() as child:
        stage.place(child.pid, "run-r1.scope")
        assert {str(one) for one in attested(of(stage), child.pid).selectors} == {"systemd:id:run-r1.scope"}


def test_a_process_of_no_unit_has_no_selectors(stage: systemd_stage.Stage) -> None:
    with sleeping_process() as child:
        evidence = attested(of(stage), child.pid)
    assert evidence.selectors == frozenset()
    assert "NoUnitForPID" in evidence.unseen[0]


def test_a_value_that_could_not_be_a_selector_is_none(stage: systemd_stage.Stage) -> None:
    with sleeping_process() as child:
        stage.place(child.pid, "a b\n.service", "/etc/../x")
        evidence = attested(of(stage), child.pid)
    assert (evidence.selectors, len(evidence.unseen)) == (frozenset(), 2)


def test_a_manager_that_root_does_not_own_is_not_believed(stage: systemd_stage.Stage) -> None:
    with sleeping_process() as child:
        stage.place(child.pid, "billing.service")
        evidence = attested(SystemdAttestor(bus=str(stage.socket), manager_uid=os.geteuid() + 1), child.pid)
    assert evidence.selectors == frozenset()
    assert "another user" in evidence.unseen[0]


def test_numbers_of_another_name_space_are_not_asked_for(
    stage: systemd_stage.Stage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(systemd, "_INITIAL_PID_NAMESPACE", "pid:[1]")
    with sleeping_process() as child:
        stage.place(child.pid, "billing.service")
        evidence = attested(of(stage), child.pid)
    by_pidfd = "new" in request.node.callspec.id
    assert bool(evidence.selectors) is by_pidfd


def test_without_a_bus_nothing_is_seen_and_nothing_raised() -> None:
    with sleeping_process() as child:
        evidence = attested(SystemdAttestor(bus="/nonexistent/bus"), child.pid)
    assert evidence.selectors == frozenset()
    assert "no such file" in evidence.unseen[0]


@pytest.mark.parametrize(
    "text", ["systemd:id:billing", "systemd:id:a/b.service", "systemd:fragment_path:x", "systemd:uid:1"]
)
def test_a_selector_that_could_never_match_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        SystemdAttestor().check(Selector.parse(text))


# The client of the bus.


def test_the_bus_itself_answers() -> None:
    if why := systemd_stage.missing():
        pytest.skip(why)
    with systemd_stage.bus() as place, Bus(str(place)) as bus:
        (names,) = bus.call(BUS, "/org/freedesktop/DBus", BUS, "ListNames")
        assert BUS in names
        with pytest.raises(NotFound) as refused:
            bus.owner("org.example.Nobody")
        assert "NameHasNoOwner" in refused.value.message
        assert bus.owner(names[-1])[1] == os.geteuid()


@contextmanager
def false_bus(*answers: bytes) -> Iterator[str]:
    """A bus that answers each thing it hears by the next of these bytes, then says nothing more."""
    folder = tempfile.mkdtemp(prefix="remit-b-", dir="/tmp")
    place = f"{folder}/bus"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen()

    def play() -> None:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            for answer in answers:
                if not connection.recv(65536):
                    return
                connection.sendall(answer)
            while connection.recv(65536):
                pass

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        listener.close()
        thread.join(60)
        Path(place).unlink()
        Path(folder).rmdir()


OK, AGREED = b"OK 1234\r\n", b"AGREE_UNIX_FD\r\n"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ((b"REJECTED\r\n",), "silent"),
        ((b"x" * 2000,), "garbled"),
        ((OK, AGREED, b"\xff" * 64), "garbled"),
        ((OK, AGREED, b"l\2\1\1" + b"\xff" * 12), "garbled"),
        ((OK, AGREED, b"l\2\1\1" + b"\0\0\0\0" + b"\1\0\0\0" + b"\x08\0\0\0" + b"\5\1v\0\0\0\0\0"), "garbled"),
        ((OK, AGREED, (b"l\4\1\1" + b"\0" * 12) * 100), "garbled"),
        ((OK, AGREED), "silent"),
    ],
)
def test_a_false_bus_is_given_up_within_its_time(answers: tuple[bytes, ...], code: str) -> None:
    with false_bus(*answers) as place, pytest.raises(Unavailable) as given_up, Bus(place, timeout=0.5):
        pass
    assert given_up.value.code == f"providers.dbus.{code}"


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("ybnqiuxtd", (1, True, -2, 3, -4, 5, -6, 7, 0.5)),
        ("sog", ("ü", "/a/b", "a{sv}")),
        ("a(su)as", ((("a", 1), ("b", 2)), ())),
        ("a{s(uay)}", ({"k": (1, (2, 3))},)),
        ("y(yx)", (1, (2, 3))),
    ],
)
def test_what_is_written_is_read_again(signature: str, values: tuple[object, ...]) -> None:
    writer = Writer()
    writer.values(signature, values)
    assert Reader("<", bytes(writer.data)).values(signature) == values


@pytest.mark.parametrize(
    "signature", ["(", "()", "a", "{sv", "z", ")", "a" * 40 + "y", "y" * 256, "(" * 40 + "y" + ")" * 40]
)
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    with pytest.raises(ValueError, match=r"type|struct|signature"):
        split(signature)


def test_a_text_or_array_beyond_the_message_is_refused() -> None:
    for signature, raw in (
        ("s", b"\xff\xff\xff\x7f"),
        ("ay", b"\x08\0\0\0\1"),
        ("v", b"\2yy\0\1\2"),
        ("s", b"\1\0\0\0\xff\0"),
    ):
        with pytest.raises(Unavailable):
            Reader("<", raw).values(signature)


def test_dbus_send_and_we_hear_the_same(stage: systemd_stage.Stage) -> None:
    name, place, interface = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
    with sleeping_process() as child:
        stage.place(child.pid, "orders.service", "/usr/lib/systemd/system/orders.service")
        command = ["dbus-send", f"--bus=unix:path={stage.socket}", "--print-reply=literal", f"--dest={name}", place]
        done = subprocess.run(
            [*command, f"{interface}.GetUnitByPID", f"uint32:{child.pid}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        with Bus(str(stage.socket)) as bus:
            manager, _ = bus.owner(name)
            (path,) = bus.call(manager, place, interface, "GetUnitByPID", "u", child.pid)
    assert done.stdout.strip() == path
