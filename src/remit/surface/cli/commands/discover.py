"""Commands that read other systems."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.inventory.connectors.catalog import CATALOG
from remit.kernel.errors import Rejected
from remit.surface.cli.options import Listing, Reading
from remit.surface.cli.output import console, emit, plain, say, show_table


def files(
    source: Path,
    /,
    *,
    secrets: Annotated[bool, Parameter(help="Look for secrets in every file.")] = True,
    history: Annotated[bool, Parameter(help="Look for secrets in the history of git repositories.")] = True,
    min_confidence: Annotated[int, Parameter(help="How sure to be of a secret: 0 to 100.")] = 50,
    where: Reading | None = None,
) -> None:
    """Scan a directory tree: keys, certificates, credentials, CI definitions, MCP configurations, and every secret."""
    options = {
        "secrets": "" if secrets else "no",
        "history": "" if history else "no",
        "min_confidence": "" if min_confidence == 50 else str(min_confidence),
    }
    _discover(where or Reading(), "files", str(source.absolute()), options)


def kubernetes(
    source: str,
    /,
    *,
    cluster: Annotated[str, Parameter(help="Name of the cluster: manifests and API of one get the same.")] = "",
    issuer: Annotated[str, Parameter(help="OIDC issuer of the cluster: joins service accounts with cloud roles.")] = "",
    set_: Annotated[
        tuple[str, ...],
        Parameter(name="--set", help="NAME=VALUE of an option; `remit connectors kubernetes` lists them.", negative=()),
    ] = (),
    secret_stdin: Annotated[
        bool,
        Parameter(name=["--secret-stdin"], help="Read the token from standard input, else KUBE_TOKEN.", negative=()),
    ] = False,
    where: Reading | None = None,
) -> None:
    """Read Kubernetes: `api`, a kubeconfig, an https address, a target's name; or a directory or file of manifests."""
    usual = Path(os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0] or Path.home() / ".kube" / "config")
    there = usual if source == "api" and usual.is_file() else Path(source)
    secret = sys.stdin.readline().rstrip("\n") if secret_stdin else os.environ.get("KUBE_TOKEN", "")
    options = {**dict(_pair(each) for each in set_), "cluster": cluster, "issuer": issuer}
    named = str(there.absolute()) if there.exists() else source
    _discover(where or Reading(), "kubernetes", named, options, secret)


def aws(
    source: str,
    /,
    *,
    profile: Annotated[str, Parameter(help="AWS profile for `live`.")] = "",
    region: Annotated[str, Parameter(help="AWS region for `live`.")] = "",
    where: Reading | None = None,
) -> None:
    """Read an AWS account: a file of `aws iam get-account-authorization-details`, or `live` for the API."""
    name = source if source == "live" else str(Path(source).absolute())
    _discover(where or Reading(), "aws", name, {"profile": profile, "region": region})


def __getattr__(name: str) -> Callable[..., None]:
    """The command of every other connector of the catalogue: its source, options and secret."""
    connector = name.replace("_", "-")
    if connector not in CATALOG:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _reader(connector)


def _reader(connector: str) -> Callable[..., None]:
    listed = CATALOG[connector]

    def read(
        source: str,
        /,
        *,
        set_: Annotated[
            tuple[str, ...],
            Parameter(
                name="--set", help="NAME=VALUE of an option; `remit connectors CONNECTOR` lists them.", negative=()
            ),
        ] = (),
        secret_stdin: Annotated[
            bool,
            Parameter(
                name=["--password-stdin", "--secret-stdin"],
                help="Read the password or token from standard input, else from the system's usual variable.",
                negative=(),
            ),
        ] = False,
        where: Reading | None = None,
    ) -> None:
        options = dict(_pair(each) for each in set_)
        if connector == "postgres":
            options.setdefault("passfile", os.environ.get("PGPASSFILE", ""))
        given = next((os.environ[each] for each in listed.variables if os.environ.get(each)), "")
        secret = sys.stdin.readline().rstrip("\n") if secret_stdin else given
        there = Path(source)
        _discover(where or Reading(), connector, str(there.absolute()) if there.exists() else source, options, secret)

    read.__doc__ = listed.help
    read.__name__ = connector
    return read


def _pair(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise Rejected(
            "surface.option.malformed", "an option is not written as NAME=VALUE", next_step="write `--set NAME=VALUE`"
        )
    return key, value


def all_(*, where: Reading | None = None) -> None:
    """Read every known source again, one after the other. Exits 1 when one of them could not be read."""
    from remit.surface.cli.reading import read_all, watched

    where = where or Reading()
    watched(where, lambda: read_all(where))


def _discover(
    where: Reading, connector: str, source: str, options: dict[str, str] | None = None, secret: str = ""
) -> None:
    from remit.surface.cli.reading import read_source, say_sarif, watched

    given = {key: value for key, value in (options or {}).items() if value}
    body = {"connector": connector, "source": source, "options": given, "secret": secret, "dry_run": where.dry_run}

    def once() -> None:
        done = read_source(where, "/api/v1/discover", body, source)
        if where.format == "sarif" and not where.dry_run and not where.watch:
            say_sarif(where, done, Path(source) if connector == "files" else None)

    watched(where, once)


def connectors(name: str = "", /, where: Listing | None = None) -> None:
    """What each connector sees, which rights it needs, and what it cannot see; of one, everything."""
    where = where or Listing()
    rows = [row for row in where.admin.get("/api/v1/connectors") if name in ("", row["id"])]
    if where.format != "table":
        emit(rows, where.format)
        return
    if name:
        _say_connector(rows[0]) if rows else say(f"no connector is called {plain(name)}; `remit connectors` lists them")
        return
    for row in rows:
        row["sees"] = ", ".join(row["observes"])
        row["blind"] = "; ".join(each["what"] for each in row["blind_to"])
    show_table(rows, [("id", "connector"), ("source", "source"), ("sees", "sees"), ("blind", "cannot see")])


def _say_connector(row: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]{plain(row['title'])}[/bold]  [dim]remit discover {plain(row['id'])} SOURCE[/dim]")
    out.print(f"SOURCE is {plain(row['source'])}", highlight=False)
    parts = (
        ("sees", [(each, "") for each in row["observes"]]),
        ("needs", [(each["grant"], each["why"]) for each in row["needs"]]),
        ("cannot see", [(each["what"], each["why"]) for each in row["blind_to"]]),
        ("hazards", [(each, "") for each in row["hazards"]]),
        ("options (--set NAME=VALUE)", [(each["name"], each["help"]) for each in row["options"]]),
    )
    for title, lines in parts:
        if lines:
            out.print(f"\n[bold]{title}[/bold]")
        for what, why in lines:
            out.print(f"  {plain(what)}" + (f"  [dim]{plain(why)}[/dim]" if why else ""), highlight=False)
