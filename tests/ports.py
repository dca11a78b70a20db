"""Port numbers for servers in other processes, which nobody else takes before the server has them.

A number that the kernel chose (`bind` to 0) is free for everybody once it is closed again: the next outgoing connection
of any process may have it. These are below the range from which the kernel chooses, each worker of pytest has its own
share of them, and a process hands each out once. A server of our own process binds port 0 and keeps its socket.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FIRST, LAST = 20_000, 32_700
"""Below `ip_local_port_range` as Linux has it (32768 and up), above the ports of well-known servers."""
_SHARES = 8


def free_port() -> int:
    """A port of the loopback address that nobody listens on, and that nobody else is given."""
    return next(_free)


def free_ports(count: int) -> list[int]:
    """That many of them."""
    return [free_port() for _ in range(count)]


def numbers(worker: str, pid: int) -> Iterator[int]:
    """The share of a worker of pytest (`gw3`), or of a process without one: each number once, from a place of its own.

    Workers of two runs on one machine, and what a worker starts, have the same share: they begin at other places of it.
    """
    own = int(worker[2:]) if re.fullmatch(r"gw\d+", worker) else pid
    share = range(FIRST + own % _SHARES, LAST, _SHARES)
    begin = pid * 211 % len(share)
    return itertools.chain(share[begin:], share[:begin])


def is_free(port: int) -> bool:
    """Whether a server can have it; one that listens on every address, or a closed connection that lingers, has it."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _handed_out() -> Iterator[int]:
    yield from filter(is_free, numbers(os.environ.get("PYTEST_XDIST_WORKER", ""), os.getpid()))
    raise AssertionError("this process has had all ports of its share")


_free = _handed_out()


class PortTaken(AssertionError):
    """A server ended at its start because somebody else listens on its port."""


def ended(log: str) -> AssertionError:
    """What to raise for a server that ended at its start with these words."""
    taken = re.search(r"address (is )?already in use|address in use|eaddrinuse|errno[ =:]*98\b", log, re.IGNORECASE)
    return (PortTaken if taken else AssertionError)(
        f"the server ended at its start:\n{log[-4000:] or 'without a word'}"
    )


def on_a_free_port(server: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """As `contextmanager`; where it raises `PortTaken` before it yields, it is entered once again."""
    made = contextmanager(server)

    @contextmanager
    @wraps(server)
    def entered(*args: P.args, **named: P.kwargs) -> Iterator[T]:
        with ExitStack() as stack:
            try:
                value = stack.enter_context(made(*args, **named))
            except PortTaken:
                value = stack.enter_context(made(*args, **named))
            yield value

    return entered
