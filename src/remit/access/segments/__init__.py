"""Who may reach a target over the network? Rules for legacy targets, generated from grants and tasks, and probed.

`build` says who may come from where, `kubernetes`, `nftables` and `pg_hba` write it in the language of the place, each
a pure function. Applying and probing is done by `wiring.segments` through `providers.network`.
"""

from remit.access.segments.build import Permitted, Situation, build
from remit.access.segments.model import (
    Applied,
    Check,
    Form,
    LeftOut,
    Opening,
    Place,
    Probe,
    Segment,
    Source,
    Verdict,
    parse_place,
)
from remit.access.segments.render import render

__all__ = [
    "Applied",
    "Check",
    "Form",
    "LeftOut",
    "Opening",
    "Permitted",
    "Place",
    "Probe",
    "Segment",
    "Situation",
    "Source",
    "Verdict",
    "build",
    "parse_place",
    "render",
]
