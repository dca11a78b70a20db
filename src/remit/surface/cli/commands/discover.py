"""Commands that read other systems."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.surface.cli.client import lost
from remit.surface.cli.options import Listing, Scanning
from remit.surface.cli.output import console, emit, plain, say, show_table, visible


def files(source: Path, /, *, where: Scanning | None = None) -> None:
    """Scan a directory tree: keys, certificates, cloud and database credentials, CI definitions, MCP configurations."""
    _discover(where or Scanning(), "files", str(source.absolute()))


def kubernetes(
    source: Path,
    /,
    *,
    cluster: Annotated[str, Parameter(help="Name of the cluster, if the manifests belong to a known one.")] = "",
    issuer: Annotated[str, Parameter(help="OIDC issuer of the cluster: joins service accounts with cloud roles.")] = "",
    where: Scanning | None = None,
) -> None:
    """Read a directory or file of Kubernetes manifests."""
    _discover(where or Scanning(), "kubernetes", str(source.absolute()), {"cluster": cluster, "issuer": issuer})


def aws(
    source: str,
    /,
    *,
    profile: Annotated[str, Parameter(help="AWS profile for `live`.")] = "",
    region: Annotated[str, Parameter(help="AWS region for `live`.")] = "",
    where: Scanning | None = None,
) -> None:
    """Read an AWS account: a file of `aws iam get-account-authorization-details`, or `live` for the API."""
    name = source if source == "live" else str(Path(source).absolute())
    _discover(where or Scanning(), "aws", name, {"profile": profile, "region": region})


def postgres(
    source: str,
    /,
    *,
    password_stdin: Annotated[bool, Parameter(help="Read the password from standard input.", negative=())] = False,
    where: Scanning | None = None,
) -> None:
    """Read a PostgreSQL server:
    the name of a target, or a URL without a password (PGPASSWORD, PGPASSFILE or --password-stdin).
    """
    options = {"passfile": os.environ.get("PGPASSFILE", "")}
    secret = sys.stdin.readline().rstrip("\n") if password_stdin else os.environ.get("PGPASSWORD", "")
    _discover(where or Scanning(), "postgres", source, options, secret)


def _discover(
    where: Scanning, connector: str, source: str, options: dict[str, str] | None = None, secret: str = ""
) -> None:
    given = {key: value for key, value in (options or {}).items() if value}
    body = {"connector": connector, "source": source, "options": given, "secret": secret}
    done: dict[str, Any] = {}
    with console(stderr=True).status(f"reading {plain(source)}") as status:
        for line in where.admin.stream("/api/v1/discover", body):
            if line["kind"] == "progress":
                status.update(f"read {line['done']:,} — {plain(line['where'][-70:])}")
            elif line["kind"] == "done":
                done = line
    if not done:
        raise lost()
    if where.format == "sarif":
        from remit.surface.cli.sarif import sarif

        found = where.admin.get("/api/v1/findings", source=done["source"], limit=10_000)
        emit(sarif(found["rows"], Path(source) if connector == "files" else None), "sarif")
        return
    if where.format != "table":
        emit({key: value for key, value in done.items() if key != "kind"}, where.format)
        return
    _say_summary(done)


def _say_summary(done: dict[str, Any]) -> None:
    facts = done.get("facts", {})
    out = console()
    out.print(
        f"[bold]{facts.get('identity', 0):,}[/bold] identities ({done['identities_new']:,} new, "
        f"{done['identities_joined']:,} joined), [bold]{facts.get('credential', 0):,}[/bold] credentials "
        f"({done['credentials_new']:,} new), {facts.get('resource', 0):,} resources, {facts.get('edge', 0):,} edges, "
        f"[bold]{facts.get('finding', 0):,}[/bold] findings ({done['findings_new']:,} new)"
    )
    if done["skipped"]:
        out.print(f"[yellow]{done['skipped']:,} could not be seen[/yellow]; the first:")
        for item in done["skipped_sample"][:5]:
            out.print(visible(f"  {item['reason']}: {item['what']}"), style="dim", markup=False)
        say("all of them: `remit sources --format json`")


def connectors(where: Listing | None = None) -> None:
    """What each connector sees, which rights it needs, and what it cannot see."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/connectors")
    if where.format != "table":
        emit(rows, where.format)
        return
    for row in rows:
        row["sees"] = ", ".join(row["observes"])
        row["blind"] = "; ".join(each["what"] for each in row["blind_to"])
    show_table(rows, [("id", "connector"), ("source", "source"), ("sees", "sees"), ("blind", "cannot see")])


def sources(where: Listing | None = None) -> None:
    """The sources that were read, when, and how much of each could not be seen."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/sources")
    if where.format != "table":
        emit(rows, where.format)
        return
    for row in rows:
        row["identities"] = row["counts"].get("identity", 0)
        row["unseen"] = row["counts"].get("skipped", 0)
    columns = [
        ("connector", "connector"),
        ("scope", "scope"),
        ("finished", "read"),
        ("identities", "identities"),
        ("unseen", "not seen"),
    ]
    show_table(rows, columns, empty="nothing was read yet: `remit discover files .`")
