"""What `remit run --help` shows. The command itself is in `remit.surface.cli.run`, which imports almost nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from remit.surface.cli.options import Where


def help_only(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True, help="The command, after `--`.")],
    task: Annotated[str, Parameter(help="Name of a registered task (`remit task add`).")],
    need: Annotated[
        list[str] | None,
        Parameter(help="[NAME=]SYSTEM://TARGET[/DATABASE]?role=ROLE; may be given again.", negative=()),
    ] = None,
    env: Annotated[
        list[str] | None,
        Parameter(negative=(), help="Hand secrets over in the environment too: of the need NAME, or of all."),
    ] = None,
    handover: Annotated[
        Literal["file", "env", "socket", "socket-once"],
        Parameter(help="How the task gets its credentials: private files, variables, or a socket it asks."),
    ] = "file",
    lazy: Annotated[
        bool, Parameter(negative=(), help="With a socket: mint each credential when the task asks for it.")
    ] = False,
    tree: Annotated[
        Literal["kill", "wait"],
        Parameter(help="What becomes of processes that the command leaves behind: end them, or wait for them."),
    ] = "kill",
    matrix: Annotated[
        list[str] | None,
        Parameter(help="KEY=A,B,C or a file; run once for each combination, `{KEY}` filled in.", negative=()),
    ] = None,
    jobs: Annotated[int, Parameter(help="Cells of the matrix at the same time; 0 is one for each processor.")] = 0,
    fail_fast: Annotated[bool, Parameter(negative=(), help="Begin no more cells when one has failed.")] = False,
    proof: Annotated[
        Literal["none", "github", "gitlab", "k8s_psat", "oidc"],
        Parameter(help="Show the platform's token of this job too; `github` by itself inside of GitHub Actions."),
    ] = "none",
    proof_file: Annotated[Path | None, Parameter(help="Where that token lies, if not in its usual place.")] = None,
    audience: Annotated[str, Parameter(help="Whom that token is made out to.")] = "spiffe://remit.local",
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

    `remit run github WORKFLOW --job JOB` and `remit run kubernetes JOB.yaml` run what those files say; see their own
    --help. The exit code is CMD's own, 128 + N for signal N, 125 when Remit refuses.
    """
    raise AssertionError("`remit run` is read by its own parser")
