"""What every target says of logins that it does not touch, and of what it takes to show a refusal."""

from __future__ import annotations

from remit.access.model import Unproved
from remit.kernel.errors import Denied, NotFound

SECRET_UNKNOWN = Unproved(why="the secret is not known, and only with it can a refusal be shown")


def protected(user: str, what: str = "administers the server or carries leases") -> Denied:
    """`Denied` (`access.static.protected`)."""
    return Denied(
        "access.static.protected",
        f"`{user[:100]}` {what}: Remit does not change its login",
        next_step="have a person change it on the server",
    )


def missing(user: str, target: str) -> NotFound:
    """`NotFound` (`access.rotation.login`)."""
    return NotFound("access.rotation.login", f"`{user[:100]}` does not exist on `{target}`")
