"""Remit: a zero-trust control plane for non-human identities.

What exists, who it really is, what it may do now, what it did, who answers for it, and how that is proved:
one folder each (`inventory`, `trust`, `access`, `defense`, `governance`, `ledger`).
"""

__version__ = "0.1.0"
