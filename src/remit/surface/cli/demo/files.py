"""What the demo writes to disk: a repository with a leaked password, a policy, a job, and an agent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

POLICY = """\
// Who may lease what in the shop. Everything else is denied.

@id("owner-required")
@reason("nothing runs without somebody who answers for it")
forbid (principal, action, resource)
unless { principal.owner_active };

@id("shop-tasks")
@reason("an attested program of a registered task may lease a role on the shop's database")
permit (principal, action in Remit::Action::"lease", resource)
when { context.attested && context has task };
"""
_CODEOWNERS = "*                 @acme/platform\n/.env             @acme/data-team\n/jobs/            @acme/data-team\n"
_COMPOSE = """\
services:
  nightly-report:
    image: acme/report:1.4
    environment:
      DATABASE_URL: "{dsn}"
"""
_WORKFLOW = """\
name: nightly
on:
  schedule: [{{cron: "0 3 * * *"}}]
jobs:
  report:
    runs-on: ubuntu-latest
    env:
      DATABASE_URL: "{dsn}"
    steps:
      - run: jobs/nightly-report
"""
_REPORT = "SELECT format('%s orders, read as %s under %s', count(*), session_user, current_user) FROM app.orders"
_JOB_BY_PSQL = """\
#!/bin/sh
# owner: data-team
exec psql --no-psqlrc --no-align --tuples-only --command "{query}" "${{DATABASE_URL:-}}"
"""
_JOB_BY_PYTHON = """\
#!{python}
# owner: data-team
import asyncio, os, asyncpg

async def main():
    connection = await asyncpg.connect(os.environ.get("DATABASE_URL"), timeout=15)
    print(await connection.fetchval("{query}"))
    await connection.close()

asyncio.run(main())
"""
ROGUE_SCRIPT = (
    "SET ROLE NONE; BEGIN; CREATE TABLE scratch.loot (person text, salary int); COMMIT; "
    "SET ROLE payroll_ro; SELECT person, salary, pg_sleep(0.02) FROM payroll.salaries"
)
_AGENT = """\
#!{python}
# An agent that reads a ticket, and does what the ticket says.
import asyncio, json, time, asyncpg

def tell(**what):
    print(json.dumps({{"at": time.time(), **what}}), flush=True)

async def main():
    connection = await asyncpg.connect(timeout=15)
    orders = await connection.fetchval("SELECT count(*) FROM app.orders")
    tell(did="its task", orders=orders, user=await connection.fetchval("SELECT session_user::text"))
    await asyncio.sleep(0.3)
    tell(did="went rogue")
    try:
        await connection.execute("{script}")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        tell(did="was stopped", sqlstate=getattr(error, "sqlstate", None), why=str(error))
    else:
        tell(did="dumped everything")

asyncio.run(main())
"""


def write_tree(tree: Path, dsn: str) -> None:
    """A small repository: the same connection string in an environment file, a compose file and a workflow."""
    _put(tree / ".env", f"# the nightly report\nDATABASE_URL={dsn}\nLOG_LEVEL=info\n")
    _put(tree / ".github/CODEOWNERS", _CODEOWNERS)
    _put(tree / "docker-compose.yml", _COMPOSE.format(dsn=dsn))
    _put(tree / ".github/workflows/nightly.yml", _WORKFLOW.format(dsn=dsn))
    _put(tree / "jobs/nightly-report", _job(), executable=True)
    write_policy(tree / "policy/shop.cedar")
    _put(tree / "README.md", "# shop\n\nThe nightly report runs from here.\n")
    _commit(tree)


def write_policy(path: Path) -> None:
    """A small policy for the shop."""
    _put(path, POLICY)


def write_agent(path: Path) -> None:
    """The agent's program."""
    _put(path, _AGENT.format(python=sys.executable, script=ROGUE_SCRIPT), executable=True)


def connection_string(host: str, port: int, user: str, password: str, database: str) -> str:
    """A DSN as it is found in environment files, password and all."""
    return f"postgres://{user}:{quote(password, safe='')}@{host}:{port}/{database}"


def _job() -> str:
    if shutil.which("psql"):
        return _JOB_BY_PSQL.format(query=_REPORT)
    return _JOB_BY_PYTHON.format(python=sys.executable, query=_REPORT)


def _put(path: Path, text: str, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if executable else 0o644)


def _commit(tree: Path) -> None:
    """Give the tree a history, from which an author can be read; without git it has none."""
    git = shutil.which("git")
    if git is None:
        return
    who = ["-c", "user.name=Mara Lind", "-c", "user.email=mara@acme.example", "-c", "commit.gpgsign=false"]
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*who, "commit", "--quiet", "--message", "nightly report"],
    ):
        subprocess.run([git, *arguments], cwd=tree, capture_output=True, check=False, timeout=30)
