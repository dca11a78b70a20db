"""What `remit convert` writes for a person to read: policy, role, commands, the workload's change, the order of steps.

Pure. Names come from servers and files, and each is quoted for the language into which it is written.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from remit.access.policy.check import check, errors_of
from remit.governance.standing.conversion import Conversion
from remit.kernel.errors import Rejected

PROBE: Final = ".probe"
"""What the probe's task has after the task's own name."""
_COMMAND: Final = re.compile(r"^(\s*(?:ExecStart=|command:\s+|(?:- )?run:\s+))(?![|>\[])(\S.*)$")
_SLUG: Final = re.compile(r"[^a-z0-9]+")
_MASK: Final = "********"


def policy_id(conversion: Conversion) -> str:
    """The id of its policy."""
    return f"convert-{_SLUG.sub('-', conversion.task.lower()).strip('-')}-{conversion.target}"


def policy_text(conversion: Conversion) -> str:
    """The Cedar policy that lets the identity lease this role for its task, and for nothing else.

    Raises `Rejected` (`governance.conversion.policy`) when the policy checker finds it wrong.
    """
    tasks = f"[{cedar_text(conversion.task)}, {cedar_text(conversion.task + PROBE)}].contains(context.task)"
    text = (
        f"@id({cedar_text(policy_id(conversion))})\n"
        f"@reason({cedar_text('what ' + conversion.login + ' held at all times, for the life of a task')})\n"
        f"permit (\n  principal == Remit::Identity::{cedar_text(conversion.identity)},\n"
        '  action in Remit::Action::"lease",\n  resource\n)\nwhen\n{\n'
        f"  context.attested &&\n  context has task &&\n  {tasks} &&\n"
        f"  context has target &&\n  context.target == {cedar_text(conversion.target)} &&\n"
        f"  context has role &&\n  context.role == {cedar_text(conversion.role)}\n}};\n"
    )
    wrong = errors_of(check(text))
    if wrong:
        raise Rejected("governance.conversion.policy", f"its policy would not hold: {wrong[0].message}"[:400])
    return text


def cedar_text(text: str) -> str:
    """A string of Cedar, whatever it holds."""
    escaped = "".join(
        char if char.isprintable() and char not in '"\\' else f"\\u{{{ord(char):x}}}" for char in text
    )  # fmt: skip
    return f'"{escaped}"'


def commands_text(conversion: Conversion, command: Sequence[str]) -> str:
    """The commands that do the same by hand, for a shell."""
    shown = shlex.join(command) if command else "CMD…"
    lines = [
        "remit policy show > all.cedar && cat policy.cedar >> all.cedar && remit policy apply all.cedar",
        f"remit task add {shlex.quote(conversion.task)} --identity {shlex.quote(conversion.identity)} -- {shown}",
        f"{run_prefix(conversion)} {shown}",
    ]
    return "\n".join(lines) + "\n"


def run_prefix(conversion: Conversion) -> str:
    """How the workload begins from now on."""
    words = ["remit", "run", "--task", conversion.task, "--need", conversion.need, "--env", "--"]
    return shlex.join(words)


def workload_change(text: str, path: str, secrets: Sequence[str], lines: Sequence[int], conversion: Conversion) -> str:
    """A unified diff of the file in which the credential lies; the secret itself is masked.

    The lines that hold it go, and the command that is nearest below or above runs by `remit run`.
    """
    before = [_masked(line, secrets) for line in text.splitlines()]
    gone = {number - 1 for number in lines if 0 < number <= len(before)}
    gone |= {at for at, line in enumerate(text.splitlines()) if any(one and one in line for one in secrets)}
    after: list[str] = []
    for at, line in enumerate(before):
        if at in gone:
            continue
        match = _COMMAND.match(line)
        if match and "remit run" not in line:
            line = f"{match[1]}{run_prefix(conversion)} {match[2]}"
        after.append(line)
    shown = "".join(char if char.isprintable() else "?" for char in path)
    return "".join(
        line + "\n" for line in difflib.unified_diff(before, after, f"a{shown}", f"b{shown}", lineterm="")
    )  # fmt: skip


def probe_text(conversion: Conversion, paths: Sequence[str]) -> str:
    """A program that logs in by its lease, and says whether it is a member of the group and not the old login."""
    return f"""#!/usr/bin/env python3
\"\"\"Logs in with what `remit run` handed over, and tries that the role serves.\"\"\"
import asyncio
import sys

sys.path[:0] = {json.dumps(list(paths))}
import asyncpg

LOGIN, GROUP = {json.dumps(conversion.login)}, {json.dumps(conversion.group)}


async def main() -> int:
    session = await asyncpg.connect(timeout=20)
    row = await session.fetchrow("SELECT session_user::text, pg_has_role(session_user, $1::name, 'MEMBER')", GROUP)
    await session.close()
    return 0 if row[1] and row[0] != LOGIN else 1


sys.exit(asyncio.run(main()))
"""


def readme_text(conversion: Conversion, notes: Sequence[str], files: Mapping[str, str]) -> str:
    """The order of the steps."""
    listed = "\n".join(f"- `{name}`" for name in sorted(files))
    said = "".join(f"- {note}\n" for note in notes) or "- nothing stands against it\n"
    return f"""# From a standing login to a grant

Nothing was changed yet. Files:

{listed}

1. `role.sql`: the group role on the target, with exactly what the login holds, without the right to pass it on.
2. `policy.cedar`: its tasks may lease that role, and nothing else.
3. `commands.sh`: the task, and how the workload runs.
4. `workload.diff`: the credential leaves the file (secrets are masked: make the change by hand).
5. `remit convert {shlex.quote(conversion.identity)} --apply` does 1 and 2 and a run under a lease, and only then ends
   the login and shows that it is refused. Change the workload before you confirm.
6. `remit convert {shlex.quote(conversion.identity)} --undo` gives the login back, with its password and its groups.

What to know:

{said}"""


def _masked(line: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if secret:
            line = line.replace(secret, _MASK)
    return line
