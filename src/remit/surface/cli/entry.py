"""`remit`: the table of commands. Nothing of Remit is imported before the chosen command needs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cyclopts import App

_HERE: Final = "remit.surface.cli.commands"
ABOUT: Final = (
    "Find every machine identity, bind it to an owner, prove it, decide each request, issue for one task, "
    "revoke and prove it."
)
EPILOGUE: Final = (
    "Start with `remit tour`. Every command takes --data DIR (or REMIT_DATA); `remit COMMAND --help` says more."
)
GROUPS: Final = (
    "Run",
    "What exists?",
    "Who is it?",
    "What may it do?",
    "What then?",
    "Who answers?",
    "How is it proved?",
)
COMMANDS: Final[tuple[tuple[str, str, str, str], ...]] = (
    # path, function, group, help
    ("up", "server:up", "Run", "Run the control plane, the agent and the console in one process."),
    ("serve", "server:serve", "Run", "Run the control plane and the console, without the agent."),
    ("console", "server:console", "Run", "Print a sign-in link for the console (good once, for 60 seconds)."),
    ("doctor", "server:doctor", "Run", "Check this installation, and say what to do about what is wrong."),
    ("demo", "demo:demo", "Run", "Two minutes: a leak, a move to leases, a rogue agent, a crash, a proof."),
    ("tour", "server:tour", "Run", "Start, discover this machine, say what is wrong and what to do next."),
    ("discover files", "discover:files", "What exists?", "Scan a directory tree or a home directory."),
    ("discover kubernetes", "discover:kubernetes", "What exists?", "Read Kubernetes manifests."),
    ("discover aws", "discover:aws", "What exists?", "Read an AWS account: an authorization-details file, or `live`."),
    ("discover postgres", "discover:postgres", "What exists?", "Read a PostgreSQL server: a target's name, or a URL."),
    ("connectors", "discover:connectors", "What exists?", "What each connector sees, needs, and cannot see."),
    ("sources", "discover:sources", "What exists?", "The sources that were read, and what could not be seen."),
    ("ls", "inventory:ls", "What exists?", "List identities and credentials."),
    ("show", "inventory:show", "What exists?", "Everything known of one identity, with the sources."),
    ("findings", "inventory:findings", "What exists?", "What is wrong, worst first."),
    ("blast", "inventory:blast", "What exists?", "What one compromised credential or identity reaches."),
    ("deps", "inventory:deps", "What exists?", "Who depends on it: what would break if it were revoked."),
    ("entry create", "trust:entry_create", "Who is it?", "Register a workload: its SPIFFE ID and the selectors that prove it."),
    ("entry ls", "trust:entry_ls", "Who is it?", "List registration entries."),
    ("entry rm", "trust:entry_rm", "Who is it?", "Remove a registration entry."),
    ("policy apply", "policy:apply", "What may it do?", "Check Cedar policies and put them in force."),
    ("policy activate", "policy:activate", "What may it do?", "Put a staged version in force, as another person."),
    ("policy check", "policy:check", "What may it do?", "Check policies against the schema; change nothing."),
    ("policy test", "policy:test", "What may it do?", "Run test cases (YAML) against policies."),
    ("policy show", "policy:show", "What may it do?", "Show the policies in force, or the starter policies."),
    ("policy replay", "policy:replay", "What may it do?", "What past decisions would become under other policies."),
    ("policy explain", "policy:explain", "What may it do?", "Why was it decided so, and what would have changed it?"),
    ("explain", "policy:explain", "What may it do?", "Why was it decided so? (the same as `policy explain`)"),
    ("decisions", "policy:decisions", "What may it do?", "The latest decisions."),
    ("target add", "access:target_add", "What may it do?", "Add a system on which credentials are minted."),
    ("target ls", "access:target_ls", "What may it do?", "List targets."),
    ("target rm", "access:target_rm", "What may it do?", "Remove a target that has no live leases."),
    ("target install", "access:target_install", "What may it do?", "Install what lets the broker work with the least privilege."),
    ("task add", "access:task_add", "What may it do?", "Register a task: its name, its identity and its very program."),
    ("task ls", "access:task_ls", "What may it do?", "List task definitions."),
    ("task rm", "access:task_rm", "What may it do?", "Remove a task definition."),
    ("request", "access:request", "What may it do?", "Ask a person for a grant: which task, which needs, why."),
    ("approve", "access:approve", "What may it do?", "Approve a grant that waits, or list those that do."),
    ("leases", "access:leases", "What may it do?", "List leases: live, revoked and proved, not contained."),
    ("revoke", "access:revoke", "What may it do?", "Revoke leases, or a static credential, and prove it."),
    ("quarantine", "defense:quarantine", "What then?", "Deny an identity everything and revoke its leases."),
    ("release", "defense:release", "What then?", "Let a quarantined identity work again."),
    ("incidents", "defense:incidents", "What then?", "What was detected, and what was done."),
    ("own", "governance:own", "Who answers?", "Show proposed owners, or assign one."),
    ("claim", "governance:claim", "Who answers?", "Answer for an identity yourself."),
    ("lifecycle", "governance:lifecycle", "Who answers?", "Move an identity to another state of its life."),
    ("people enrol", "governance:enrol", "Who answers?", "Register a person with a key of their own."),
    ("people ls", "governance:people_ls", "Who answers?", "List registered persons."),
    ("exception request", "governance:exception_request", "Who answers?", "Ask for a temporary exception."),
    ("exception approve", "governance:exception_approve", "Who answers?", "Approve an exception, as another person."),
    ("exception ls", "governance:exception_ls", "Who answers?", "List exceptions."),
    ("exception revoke", "governance:exception_revoke", "Who answers?", "End an exception now."),
    ("ledger verify", "ledger:verify", "How is it proved?", "Verify the whole ledger from its files and a key alone."),
    ("ledger ls", "ledger:ls", "How is it proved?", "The latest entries."),
    ("ledger prove", "ledger:prove", "How is it proved?", "A proof that one entry is in the ledger."),
)  # fmt: skip
RUN: Final = "Run a command as a task, with credentials that end when it ends."
_PARENTS: Final = {
    "discover": ("What exists?", "Read a system and keep what it shows."),
    "entry": ("Who is it?", "Registration entries: which workload is who."),
    "policy": ("What may it do?", "Policy as code (Cedar): check, test, apply, explain."),
    "target": ("What may it do?", "Systems on which credentials are minted."),
    "task": ("What may it do?", "Task definitions: which program may ask for what."),
    "people": ("Who answers?", "Registered persons: who may approve and own."),
    "exception": ("Who answers?", "Exceptions: temporary, documented, enforced."),
    "ledger": ("How is it proved?", "The tamper-evident log."),
}


def build() -> App:
    """The whole command line."""
    from cyclopts import App, Group

    from remit import __version__

    app = App(
        name="remit",
        help=ABOUT,
        version=__version__,
        help_format="plaintext",
        help_epilogue=EPILOGUE,
    )
    groups = {name: Group(name, sort_key=number) for number, name in enumerate(GROUPS)}
    parents = {
        name: App(name=name, help=text, group=groups[group], version_flags=[])
        for name, (group, text) in _PARENTS.items()
    }
    for parent in parents.values():
        app.command(parent)
    for path, target, group, text in COMMANDS:
        *above, name = path.split()
        owner = parents[above[0]] if above else app
        if above:
            owner.command(f"{_HERE}.{target}", name=name, help=text)
        else:
            owner.command(f"{_HERE}.{target}", name=name, help=text, group=groups[group])
    # `remit run` takes everything after `--` as it stands: its own light parser, in the supervisor.
    app.command("remit.surface.cli.commands.run:help_only", name="run", group=groups["What may it do?"],
                help=RUN)  # fmt: skip
    app.register_install_completion_command()
    return app


def overview(*, color: bool) -> str:
    """All commands by the question that they answer: drawn from the table alone, so that it is there at once."""
    bold, plain = ("\033[1m", "\033[0m") if color else ("", "")
    width = max(len(path) for path, *_ in COMMANDS) + 2
    lines = [ABOUT, "", f"{bold}Usage{plain}  remit COMMAND", ""]
    for group in GROUPS:
        lines.append(f"{bold}{group}{plain}")
        lines += [f"  {path:<{width}}{text}" for path, _, of, text in COMMANDS if of == group]
        lines.append(f"  {'run':<{width}}{RUN}" if group == "What may it do?" else "")
        if group == "What may it do?":
            lines.append("")
    return "\n".join([*lines, EPILOGUE, "Tab completion: `remit --install-completion`."])


def main() -> None:
    """Entry point: runs the command, and turns an error into a sentence, a next step and an exit code."""
    argv = sys.argv[1:]
    if argv[:1] == ["run"] and "--help" not in argv[: argv.index("--") if "--" in argv else None]:
        from remit.surface.cli.run import main as run_main

        raise SystemExit(run_main(argv[1:]))
    from remit.kernel.errors import RemitError

    try:
        if argv in ([], ["--help"], ["-h"]):
            print(overview(color=sys.stdout.isatty() and not os.environ.get("NO_COLOR")), flush=True)
            return
        build()(argv)
    except RemitError as error:
        from remit.surface.cli.output import say_error
        from remit.surface.problem import exit_code_of

        say_error(error)
        raise SystemExit(exit_code_of(error)) from None
    except BrokenPipeError:
        # Whoever read us has enough; nothing more may be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        raise SystemExit(_say_unusable(error)) from None


def _say_unusable(error: OSError) -> int:
    """A file that the command line named; anything else is a bug, and raised again."""
    if error.filename is None:
        raise error
    from remit.kernel.errors import Rejected
    from remit.surface.cli.output import say_error

    what = f"`{error.filename}` cannot be used: {error.strerror}"
    say_error(Rejected("surface.file.unusable", what, next_step="name another file, or change who may use it"))
    return 2
