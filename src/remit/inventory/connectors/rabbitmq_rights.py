"""What a RabbitMQ permission admits: regular expressions on names, evaluated as the broker evaluates them.

An empty expression admits nothing; any other is searched for in the name, anchored only where it says so. The default
exchange is called `amq.default`: who may write to it publishes to every queue of the virtual host by its name.

Spec: RabbitMQ documentation, "Authentication, Authorisation, Access Control" (how permissions work, topic permissions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

DEFAULT: Final = "amq.default"
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What a user has in one virtual host."""

    configure: str
    write: str
    read: str

    @property
    def is_nothing(self) -> bool:
        """Whether it admits no name at all: its user may log in, and do nothing."""
        return all(admits(each, "") is False and each in ("", "^$") for each in (self.configure, self.write, self.read))

    def declares(self, name: str) -> bool | None:
        """Whether a queue or exchange of this name may be made or deleted; `None` where that cannot be told."""
        return admits(self.configure, name)

    def publishes(self, exchange: str) -> bool | None:
        """Whether it may publish to an exchange; the empty name is the default one."""
        return admits(self.write, exchange or DEFAULT)

    def consumes(self, queue: str) -> bool | None:
        """Whether it may read, get and purge a queue."""
        return admits(self.read, queue)


def admits(expression: str, name: str) -> bool | None:
    """Whether a permission's expression admits a name; `None` where the expression is one that we do not read."""
    if expression == "":
        return False
    compiled = _compiled(expression)
    if expression == "^$":
        return False
    return None if compiled is None else compiled.search(name[:255]) is not None


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> re.Pattern[str] | None:
    if len(expression) > _LONGEST or re.search(r"[+*}]\)?[+*{]|\(\?[^:]", expression):
        return None  # repetition of a repetition could take for ever, and some groups mean another thing to Erlang
    try:
        return re.compile(expression, re.ASCII)
    except (re.error, RecursionError, OverflowError):
        return None
