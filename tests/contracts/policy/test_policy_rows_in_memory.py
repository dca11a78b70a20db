"""The fake of the policy rows passes the suite that it is shipped with."""

from __future__ import annotations

from remit.access.policy.ports import PolicyRows
from remit.access.policy.testing import MemoryPolicyRows, PolicyRowsContract


class TestMemoryPolicyRows(PolicyRowsContract):
    def make(self) -> PolicyRows:
        return MemoryPolicyRows()
