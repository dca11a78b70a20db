"""Agents far from the control plane: attested nodes, each known by an X.509-SVID of its own."""

from remit.trust.agents.model import Agent, AgentState, agent_id_path
from remit.trust.agents.ports import AgentRows, AgentUnit
from remit.trust.agents.registry import Admitted, AgentRegistry

__all__ = ["Admitted", "Agent", "AgentRegistry", "AgentRows", "AgentState", "AgentUnit", "agent_id_path"]
