"""A running Remit beside a PostgreSQL of its own, ready for leases: what measurements of the whole product stand on."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from remit.surface.cli.demo import files, shop
from remit.surface.cli.demo.move import NEED, add_target
from remit.surface.cli.demo.show import Narrator
from remit.surface.cli.demo.stage import Stage, set_stage

TASK = "bench"
__all__ = ["NEED", "TASK", "installation"]


@contextmanager
def installation(*command: str) -> Iterator[Stage]:
    """Serve, with a target `shop`, a policy, and `command` registered as the task `TASK`."""
    narrator = Narrator(Console(quiet=True))
    with set_stage(narrator, keep=False) as stage:
        shop.run(shop.build(stage.server, secrets.token_urlsafe(18)))
        files.write_policy(stage.tree / "policy/shop.cedar")
        stage.up()
        add_target(stage)
        found = shutil.which(command[0])
        assert found is not None, f"`{command[0]}` is a program on this machine"
        stage.cli("task", "add", TASK, "--", found, *command[1:])
        yield stage
