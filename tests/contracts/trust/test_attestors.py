"""The contract of attestors, on each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import systemd_stage
from remit.trust.attestors.cgroup import CgroupAttestor
from remit.trust.attestors.systemd import SystemdAttestor
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.ports import Attestor
from remit.trust.testing import AttestorContract


class TestUnix(AttestorContract):
    def attestor(self) -> Attestor:
        return UnixAttestor()


class TestCgroup(AttestorContract):
    def attestor(self) -> Attestor:
        return CgroupAttestor()


class TestSystemdWithoutBus(AttestorContract):
    def attestor(self) -> Attestor:
        return SystemdAttestor(bus="/nonexistent/bus")


class TestSystemd(AttestorContract):
    """Every process that the contract starts is of one unit."""

    bus = ""

    @pytest.fixture(autouse=True)
    def _stage(self) -> Iterator[None]:
        if why := systemd_stage.missing():
            pytest.skip(why)
        with systemd_stage.manager() as made:
            self.bus = str(made.socket)
            made.place(0, "everything.service", "/etc/systemd/system/everything.service")
            yield

    def attestor(self) -> Attestor:
        return SystemdAttestor(bus=self.bus, manager_uid=os.geteuid())
