"""Responses: graded, limited, rehearsed by a dry run, undone where that is possible. One file each."""

from remit.defense.responses.limits import Limits
from remit.defense.responses.port import Hand, ResponseManifest, ResponsePlugin
from remit.defense.responses.quarantine import Quarantine
from remit.defense.responses.revoke_leases import RevokeLeases
from remit.defense.responses.ticket import Ticket, TicketFolder

__all__ = (
    "Hand",
    "Limits",
    "Quarantine",
    "ResponseManifest",
    "ResponsePlugin",
    "RevokeLeases",
    "Ticket",
    "TicketFolder",
)
