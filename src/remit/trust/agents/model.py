"""An agent in records: which node it is, how that was proved, and what it may do now."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.trust.model import Evidence, Selector
from remit.trust.reach import NODE
from remit.trust.spiffe import SpiffeId, TrustDomain

SIGNED_AS = "trust.agent"
SERVER_PATH = "/remit/server"
"""The path of the control plane's own SPIFFE ID: agents accept no other server."""
_AGENTS = "/remit/agent"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


class AgentState(StrEnum):
    ACTIVE = "active"
    EVICTED = "evicted"
    """Serves no more; the node may attest again."""
    BANNED = "banned"
    """Serves no more, and the node of this name never again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One attested node. What gives it rights counts only while `signature` verifies."""

    id: str
    spiffe_id: SpiffeId
    attestor: str
    """The attestors of its proofs, with `+` between them."""
    name: str
    """Unique within the attestor."""
    selectors: frozenset[Selector]
    """What was proved of the node."""
    state: AgentState
    generation: int
    """Rises with each attestation."""
    serial: str
    """Of its X.509-SVID in use, lower-case hexadecimal."""
    previous: str = ""
    """Of the one before, which connections may still show."""
    evidence: str
    """Digest of what was seen when it attested."""
    attested: datetime
    expires: datetime
    """End of its SVID: an agent that does not come back before then attests anew."""
    signature: str = ""
    seen: datetime | None = None
    """When it last spoke to us; not signed."""
    software: str = ""
    """What it says it runs; not signed."""

    @property
    def title(self) -> str:
        """`ATTESTOR/NAME`: how people and entries name it."""
        return title_of(self.attestor, self.name)

    @property
    def node_selectors(self) -> frozenset[Selector]:
        """What holds for every process on the node: what was proved, and which agent it is."""
        names = (Selector(NODE, "agent", self.id), Selector(NODE, "agent", self.title))
        return self.selectors.union(names)

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "spiffe_id": str(self.spiffe_id),
            "attestor": self.attestor,
            "name": self.name,
            "selectors": sorted(str(one) for one in self.selectors),
            "state": self.state.value,
            "generation": self.generation,
            "serial": self.serial,
            "previous": self.previous,
            "evidence": self.evidence,
            "attested": rfc3339(self.attested),
            "expires": rfc3339(self.expires),
        }


def agent_id_path(attestor: str, name: str) -> str:
    """The path of an agent's SPIFFE ID."""
    return f"{_AGENTS}/{title_of(attestor, name)}"


def title_of(attestor: str, name: str) -> str:
    """`ATTESTOR/NAME`, in the characters of a SPIFFE ID's path."""
    return f"{attestor.replace('+', '.')}/{name}"


def is_agent_path(path: str) -> bool:
    """Whether a SPIFFE ID's path is one that only agents have."""
    return path.startswith(f"{_AGENTS}/")


def server_id(trust_domain: TrustDomain) -> SpiffeId:
    """The SPIFFE ID of the control plane of a trust domain."""
    return SpiffeId(trust_domain, SERVER_PATH)


def name_of(evidence: Evidence) -> str:
    """How the node is called: the fact `node` where its attestor names one, else a digest of what was proved.

    The same proof gives the same name again, so that a node which attests anew is the same agent.
    """
    named = evidence.facts.get("node")
    if isinstance(named, str) and _NAME.fullmatch(named) and named not in (".", ".."):
        return named
    text = "\n".join(sorted(str(one) for one in evidence.selectors))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
