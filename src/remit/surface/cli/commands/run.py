"""What `remit run --help` shows. The command itself is in `remit.surface.cli.run`, which imports almost nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from remit.surface.cli.options import Where


def help_only(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True, help="The command, after `--`.")],
    task: Annotated[str, Parameter(help="Name of a registered task (`remit task add`).")],
    need: Annotated[
        list[str] | None, Parameter(help="SYSTEM://TARGET[/DATABASE]?role=ROLE; may be given again.", negative=())
    ] = None,
    env: Annotated[
        bool, Parameter(negative=(), help="Hand credentials over in the environment too, not by private file alone.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Say what would be decided and issued; issue and run nothing.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative=(), help="Say nothing but errors.")] = False,
    format: Annotated[Literal["text", "json"], Parameter(help="How to print what was granted and revoked.")] = "text",
    ttl: Annotated[str, Parameter(help="Longest life of the task, e.g. 10m.")] = "",
    reason: Annotated[str, Parameter(help="Why, for the ledger.")] = "",
    where: Where | None = None,
) -> None:
    """Run a command as a task, with credentials that end when it ends.

    The exit code is CMD's own, 128 + N for signal N, 125 when Remit refuses.
    """
    raise AssertionError("`remit run` is read by its own parser")
