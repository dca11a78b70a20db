"""Errors, by whose move is next.

    RemitError
    ├── Rejected        input or evidence failed          the caller corrects it
    ├── Denied          policy said no                    the caller asks for less, or for an approval
    ├── NotFound        no such thing                     the caller names another
    ├── Conflict        the state does not allow it       the caller looks again
    ├── Unavailable     the world does not answer         anyone tries again, after `retry_after`
    └── Misconfigured   the installation is wrong         the operator mends it

Each error has a stable `code` (`<capability>.<noun>.<what>`), one sentence, and one thing to do next.
A message is lower case, has no full stop, quotes user values in backticks and never carries a secret.
A broken invariant is a bug: `AssertionError`, never caught.
"""

from __future__ import annotations

from datetime import timedelta


class RemitError(Exception):
    """The root: everything that Remit raises on purpose."""

    def __init__(self, code: str, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message


class Rejected(RemitError):
    """Input or evidence failed: the caller's move."""


class Denied(RemitError):
    """Policy, or the absence of one, said no."""


class NotFound(RemitError):
    """Nothing of that name is known."""


class Conflict(RemitError):
    """The present state does not allow it."""


class Unavailable(RemitError):
    """Something outside does not answer; trying again later may help."""

    def __init__(self, code: str, message: str, *, next_step: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(code, message, next_step=next_step)
        self.retry_after = retry_after


class Misconfigured(RemitError):
    """The installation is wrong and only its operator can mend it."""
