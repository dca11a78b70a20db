"""Write the next migration: what the declared tables have and the migrations do not make yet.

    python tools/new_migration.py add_risk      a new file, and HEAD in migrate.py
    python tools/new_migration.py --first       write 0001 anew, for as long as nothing was released

Read the result before it is committed: alembic sees columns and indexes, not what a change means for the rows.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event

from remit.storage import migrate
from remit.storage.schema import everything
from remit.storage.schema.types import JsonText, Moment

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"
FIRST = "first schema"


def render(kind: str, thing: Any, context: Any) -> str | bool:
    """Name our own column types by what they are in the database: a migration must not change with our code."""
    if kind == "type" and isinstance(thing, Moment):
        return "sa.BigInteger()"
    if kind == "type" and isinstance(thing, JsonText):
        return "sa.Text()"
    return False


def operations(*, first: bool) -> str:
    """The body of `upgrade`; empty when there is nothing to do."""
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    with engine.connect() as conn:
        if not first:
            migrate.upgrade(conn)
        context = MigrationContext.configure(conn, opts={"compare_type": True, "render_item": render})
        found = produce_migrations(context, everything())
        assert found.upgrade_ops is not None
        if found.upgrade_ops.is_empty():
            return ""
        code = render_python_code(found.upgrade_ops, render_item=render, migration_context=context)
        return "    " + re.sub(r"^ *# .*\n?", "", code, flags=re.MULTILINE).strip()


def write(revision: str, down: str | None, title: str, body: str) -> Path:
    """Put the file there, formatted."""
    before = "None" if down is None else f'"{down}"'
    text = f'''"""{title}"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before}
branch_labels = None
depends_on = None


def upgrade() -> None:
{body}
'''
    path = VERSIONS / f"{revision}_{re.sub(r'[^a-z0-9]+', '_', title.lower())}.py"
    path.write_text(text, encoding="utf-8")
    for command in (["format", "--quiet"], ["check", "--fix", "--quiet"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, str(path)], check=True)
    return path


def main(arguments: list[str]) -> int:
    """Write one migration."""
    if arguments == ["--first"]:
        path = write("0001", None, FIRST, operations(first=True))
    elif len(arguments) == 1:
        body = operations(first=False)
        if not body:
            print("nothing to migrate")
            return 1
        revision = f"{int(migrate.HEAD) + 1:04}"
        path = write(revision, migrate.HEAD, arguments[0].replace("_", " "), body)
        source = Path(migrate.__file__)
        text = source.read_text(encoding="utf-8").replace(f'HEAD = "{migrate.HEAD}"', f'HEAD = "{revision}"')
        source.write_text(text, encoding="utf-8")
    else:
        print(__doc__)
        return 2
    print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
