"""The contract of attestors, on each of them."""

from __future__ import annotations

from remit.trust.attestors.unix import UnixAttestor
from remit.trust.ports import Attestor
from remit.trust.testing import AttestorContract


class TestUnix(AttestorContract):
    def attestor(self) -> Attestor:
        return UnixAttestor()
