"""The node on which a workload runs: selectors that the control plane makes of an agent's record, and nobody shows.

An entry with `node:agent:…` is served through that agent alone, and never to a process beside the control plane.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from remit.kernel.errors import Rejected
from remit.kernel.ids import is_id
from remit.trust.model import Selector
from remit.trust.reach import NODE

_NAME = re.compile(r"[a-z][a-z0-9_.]{0,127}/[A-Za-z0-9._-]{1,200}")


class NodeSelectors:
    """What registration needs of an attestor; it attests nothing."""

    id = NODE
    keys: Mapping[str, str] = {"agent": "the agent's id (`ag_…`), or its name (`ATTESTOR/NAME`)"}

    def check(self, selector: Selector) -> None:
        """Refuse what no agent's record could ever hold."""
        if selector.key not in self.keys:
            raise Rejected(
                "trust.selector.unknown",
                f"`{str(selector)[:200]}` has no key of the node",
                next_step="name the agent: `node:agent:ag_…` or `node:agent:ATTESTOR/NAME`",
            )
        if not is_id("ag", selector.value) and _NAME.fullmatch(selector.value) is None:
            raise Rejected(
                "trust.selector.malformed",
                f"`{str(selector)[:200]}` could never match",
                next_step="`remit agent ls` shows ids and names",
            )
