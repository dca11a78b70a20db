"""What every broker says before it does anything: to a role that is not mapped, and while it is not open."""

from __future__ import annotations

from remit.access.model import Target
from remit.kernel.errors import Rejected, Unavailable


def require_mapped(target: Target, role: str, write_as: str) -> None:
    """Raises `Rejected` (`access.role.not_mapped`) for a role that the operator did not map."""
    if role not in target.roles.values():
        raise not_mapped(target, role, write_as)


def not_mapped(target: Target, role: str, write_as: str) -> Rejected:
    """`access.role.not_mapped`; `write_as` is the shape of what roles are mapped to."""
    return Rejected(
        "access.role.not_mapped",
        f"the target `{target.name}` maps no role to `{role[:100]}`",
        next_step=f"map it with `remit target add --role NAME={write_as}`",
    )


def not_open(target: Target) -> Unavailable:
    """`access.target.closed`."""
    return Unavailable("access.target.closed", f"the target `{target.name}` is not open")
