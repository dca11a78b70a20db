"""A partner's bounds as Cedar: which of its ids, which of our resources, until when.

They only forbid. The decision point asks them before every other policy, of every principal that has a SPIFFE ID of
another trust domain, so that no permit can reach beyond them; what they let pass still needs a permit.

What they speak of: `principal.partner` is the trust domain, `principal.partner_id` the SPIFFE ID.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from remit.trust.spiffe import TrustDomain

_NAMED = 8
"""Patterns that a reason names; the policy has them all."""


def bounds_of(
    relation_id: str, trust_domain: TrustDomain, *, ids: Sequence[str], resources: Sequence[str], until: datetime
) -> str:
    """Three policies, one for each bound, ready to be read; the terms were checked by `terms.request_relation`."""
    name, end = trust_domain.name, until.strftime("%Y-%m-%dT%H:%M:%S")
    scope = f'forbid (principal, action, resource)\nwhen {{ principal has partner && principal.partner == "{name}" }}'
    whom = " ||\n  ".join(_id_clause(each) for each in ids)
    what = " ||\n  ".join(_resource_clause(each) for each in resources)
    return (
        f"// What {name} may do here, by the relation {relation_id}.\n\n"
        f'@id("remit:partner:{name}:ids")\n'
        f'@reason("{name} may act here only as {_told(ids)}")\n'
        f"{scope}\nunless\n{{\n  principal has partner_id &&\n  ({whom})\n}};\n\n"
        f'@id("remit:partner:{name}:resources")\n'
        f'@reason("{name} may reach here only {_told(resources)}")\n'
        f"{scope}\nunless\n{{\n  {what}\n}};\n\n"
        f'@id("remit:partner:{name}:until")\n'
        f'@reason("the relation with {name} ended at {end}Z")\n'
        f'{scope}\nunless {{ context.time < datetime("{end}Z") }};\n'
    )


class Bounded(Protocol):
    """What the bounds of one partner are made of: of a `Relation`, for one."""

    @property
    def trust_domain(self) -> TrustDomain: ...
    @property
    def policy(self) -> str: ...


def bounds_text(relations: Iterable[Bounded]) -> str:
    """The policies of all relations, behind one that refuses everybody of any other trust domain."""
    known = sorted(relations, key=lambda one: one.trust_domain)
    names = ", ".join(f'"{one.trust_domain}"' for one in known)
    unless = f"\nunless {{ [{names}].contains(principal.partner) }}" if known else ""
    first = (
        '@id("remit:partner:unknown")\n'
        '@reason("it is of a trust domain with which no relation is in force")\n'
        f"forbid (principal, action, resource)\nwhen {{ principal has partner }}{unless};\n"
    )
    return "\n".join([first, *(one.policy for one in known)])


def _id_clause(pattern: str) -> str:
    return f'principal.partner_id {"like" if pattern.endswith("/*") else "=="} "{pattern}"'


def _resource_clause(pattern: str) -> str:
    """A name is any name of the resource, or of what it is part of; a prefix is of its first name alone."""
    if pattern.endswith("*"):
        return f'resource.name like "{pattern}"'
    return f'resource in Remit::Resource::"{pattern}"'


def _told(patterns: Sequence[str]) -> str:
    shown = ", ".join(patterns[:_NAMED])
    return shown if len(patterns) <= _NAMED else f"{shown}, and {len(patterns) - _NAMED} more"
