"""Options of a target, as every broker reads them: unknown keys are errors, and the first that is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Mapping

from remit.kernel.errors import Misconfigured


def require_known(options: Mapping[str, str], known: frozenset[str]) -> None:
    """Raises `Misconfigured` (`access.target.option`) for a key that is none of `known`."""
    if unknown := sorted(options.keys() - known):
        raise bad_option(unknown[0], f"use one of: {', '.join(sorted(known))}")


def number_of(options: Mapping[str, str], key: str, *, default: int, least: int = 1, most: int) -> int:
    """A whole number from `least` to `most`; `Misconfigured` (`access.target.option`) for anything else."""
    text = options.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise bad_option(key, f"use a number from {least} to {most}")
    return int(text)


def bad_option(key: str, next_step: str) -> Misconfigured:
    """`access.target.option`."""
    return Misconfigured(
        "access.target.option", f"the option `{key[:64]}` of the target is not understood", next_step=next_step
    )
