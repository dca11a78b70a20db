"""The inventory in the forms that others read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from remit.surface.cli.options import Where
from remit.surface.cli.output import plain, say


def export(
    form: Annotated[
        Literal["csv", "credentials-csv", "ocsf", "opengraph"],
        Parameter(help="csv (identities), credentials-csv, ocsf (JSON lines, class 5003), opengraph (BloodHound)."),
    ],
    /,
    *,
    to: Annotated[Path | None, Parameter(help="Write it to this new file instead of printing it.")] = None,
    where: Where | None = None,
) -> None:
    """Write the whole inventory in a form that other tools read."""
    body = (where or Where()).admin.text(f"/api/v1/exports/{form}")
    if to is None:
        sys.stdout.write(body)
        return
    # Only its owner may read where the weak places are; a link that lies there already is not followed.
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(body)
    say(plain(f"written: {to}"))
