"""Ports for other processes: nobody else takes them, and a server that lost one to somebody is started once again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from patience import listens, until_ready
from ports import FIRST, LAST, PortTaken, free_port, free_ports, is_free, numbers, on_a_free_port


def test_workers_and_processes_beside_each_other_have_different_numbers() -> None:
    shares = [set(numbers(f"gw{worker}", 1)) for worker in range(8)]
    assert sum(map(len, shares)) == len(set().union(*shares))
    assert set().union(*shares) <= set(range(FIRST, LAST))


def test_no_number_is_one_that_an_outgoing_connection_is_given() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert first >= LAST


def test_what_a_worker_starts_begins_elsewhere_in_its_share() -> None:
    here, there = (set(islice(numbers("gw1", pid), 100)) for pid in (4000, 4001))
    assert not here & there


def test_a_process_hands_each_out_once() -> None:
    found = [free_port(), *free_ports(50), free_port()]
    assert len(set(found)) == 52


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_not_free(host: str) -> None:
    port = free_port()
    assert is_free(port)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        assert not is_free(port)


SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""


def _serve(port: int, folder: Path) -> Iterator[int]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stderr=log)
    try:
        until_ready(process, folder / "log", lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_server_whose_port_was_taken_is_started_once_more_on_another(tmp_path: Path) -> None:
    taken, other = free_ports(2)
    ports = [taken, other]
    serve = on_a_free_port(lambda: _serve(ports.pop(0), tmp_path))
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", taken))
        with serve() as port:
            assert port == other


def test_a_server_that_finds_no_port_twice_is_told_with_its_log(tmp_path: Path) -> None:
    taken = free_port()
    serve = on_a_free_port(lambda: _serve(taken, tmp_path))
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", taken))
        with pytest.raises(PortTaken, match="Address already in use"), serve():
            raise AssertionError("it was started")


def test_a_server_that_ends_for_another_reason_is_not_started_again(tmp_path: Path) -> None:
    started: list[int] = []

    @on_a_free_port
    def serve() -> Iterator[None]:
        started.append(os.getpid())
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-c", "raise SystemExit('no such file')"], stderr=log)
        until_ready(process, tmp_path / "log", lambda: False)
        yield

    with pytest.raises(AssertionError, match="no such file"), serve():
        raise AssertionError("it was started")
    assert len(started) == 1
