"""Revocation before expiry: one verb, one cascade, and who has heard of it.

Whatever was handed out lives for minutes or hours by itself. A revocation ends it now: for everyone who asks us, and
for everyone who verifies offline, by certificate revocation lists and token status lists that are signed anew at once.
"""

from remit.trust.revocation.board import Reached, RevocationBoard
from remit.trust.revocation.index import RevocationIndex
from remit.trust.revocation.model import Effect, Fallen, Revocation, Subject, SubjectKind
from remit.trust.revocation.ports import ListSigner, RevocationRows, RevocationUnit
from remit.trust.revocation.service import RevocationService
from remit.trust.revocation.statuslist import StatusIndex

__all__ = [
    "Effect",
    "Fallen",
    "ListSigner",
    "Reached",
    "Revocation",
    "RevocationBoard",
    "RevocationIndex",
    "RevocationRows",
    "RevocationService",
    "RevocationUnit",
    "StatusIndex",
    "Subject",
    "SubjectKind",
]
