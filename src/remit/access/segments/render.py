"""A segment in the language of a place."""

from __future__ import annotations

from typing import assert_never

from remit.access.segments import kubernetes, nftables, pg_hba
from remit.access.segments.model import Form, Segment
from remit.kernel.errors import Rejected


def render(segment: Segment, form: Form) -> str:
    """The rules as text. The same segment is always the same text.

    Raises `Rejected` (`access.segment.form`) where this form cannot say it: a Unix socket has no network, a host name
    no address, and only PostgreSQL has a `pg_hba.conf`.
    """
    if form is Form.PG_HBA and segment.system != "postgres":
        raise _cannot(segment, "only a PostgreSQL server reads pg_hba.conf", "choose another form by --for")
    inside = form is Form.KUBERNETES and segment.place is not None and segment.place.labels
    if form is not Form.PG_HBA and not segment.networks and not inside:
        raise _cannot(
            segment,
            "the address of its target is not known",
            f"`remit segment place target:{segment.target} --from ADDRESS` registers it",
        )
    match form:
        case Form.NFTABLES:
            return nftables.render(segment)
        case Form.KUBERNETES:
            return kubernetes.render(segment)
        case Form.PG_HBA:
            return pg_hba.render(segment)
        case _:
            assert_never(form)


def _cannot(segment: Segment, why: str, step: str) -> Rejected:
    return Rejected(
        "access.segment.form", f"the segment of `{segment.target}` cannot be said so: {why}", next_step=step
    )
