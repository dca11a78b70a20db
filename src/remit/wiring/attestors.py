"""The attestors of local processes that ship: each agent has them all, and asks those whose word an entry wants."""

from __future__ import annotations

from remit.trust.attestors.cgroup import CgroupAttestor
from remit.trust.attestors.systemd import SystemdAttestor
from remit.trust.attestors.unix import UnixAttestor
from remit.trust.ports import Attestor


def local_attestors() -> tuple[Attestor, ...]:
    """One of each; the first is asked for every caller."""
    return (UnixAttestor(), CgroupAttestor(), SystemdAttestor())
