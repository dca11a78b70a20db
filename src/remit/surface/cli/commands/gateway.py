"""`remit gateway`: enforcement in front of what cannot enforce by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

if TYPE_CHECKING:
    from remit.surface.gateways.mcp.desk import Poster

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""Of our environment a server gets these, and what `--env` names: our own credentials are not its business."""
_TOOLS = "/api/v1/tools"
Sensitive = Literal["public", "internal", "confidential", "restricted"]
Command = Annotated[str, Parameter(allow_leading_hyphen=True)]
Env = Annotated[list[str] | None, Parameter(help="Names of our environment that the server gets.", negative=())]
BearerFile = Annotated[
    Path | None, Parameter(help="File, or /dev/fd/N, with the upstream's bearer token; read anew when it changes.")
]
BearerEnv = Annotated[str, Parameter(help="Name of our environment that holds the upstream's bearer token.")]


def mcp(
    *command: Command,
    intent: Annotated[str, Parameter(help="The approved intent, by its id.")] = "",
    task: Annotated[str, Parameter(help="Its task instead: the newest approved intent of it.")] = "",
    server: Annotated[str, Parameter(help="What intents call this server: the part before `/` of its tools.")],
    upstream: Annotated[str, Parameter(help="URL of a streamable-HTTP server, instead of a command.")] = "",
    upstream_bearer_env: BearerEnv = "",
    upstream_bearer_file: BearerFile = None,
    control: Annotated[
        str, Parameter(help="https://HOST:8421: ask there by an SVID of our own, as a registered point; no admin.sock.")
    ] = "",
    spiffe_id: Annotated[str, Parameter(help="Which of our SVIDs to show there, where there are several.")] = "",
    listen: Annotated[
        str, Parameter(help="HOST:PORT for agents over HTTP; without it, standard input and output.")
    ] = "",
    token_file: Annotated[
        Path | None, Parameter(help="Agents over HTTP show the secret in this file (made anew), no JWT-SVID.")
    ] = None,
    env: Env = None,
    where: Where | None = None,
) -> None:
    """Serve an MCP server to an agent, each call decided by policy and intent: `remit gateway mcp … -- CMD`."""
    from remit.kernel.errors import Rejected

    if bool(intent) == bool(task) or bool(command) == bool(upstream):
        raise Rejected(
            "surface.gateway.usage", "give one of --intent and --task, and one of a command and --upstream",
            next_step="e.g. `remit gateway mcp --task answer-mail --server mail -- python mail_server.py`",
        )  # fmt: skip
    from remit.surface.gateways.mcp.run import Options, run

    options = Options(
        wanted=intent or task, server=server, command=tuple(command), environment=_environment(env), url=upstream,
        bearer=_bearer(upstream_bearer_env, upstream_bearer_file), listen=listen, token_file=token_file,
    )  # fmt: skip
    with _poster(where or Where(), control, spiffe_id) as poster:
        why = asyncio.run(run(poster, options))
    if why:
        from remit.kernel.errors import Denied

        raise Denied("surface.gateway.ended", f"the session has ended: {why}")


def tools_show(
    server: str,
    /,
    *command: Command,
    upstream: Annotated[str, Parameter(help="URL of a streamable-HTTP server, instead of a command.")] = "",
    upstream_bearer_env: BearerEnv = "",
    upstream_bearer_file: BearerFile = None,
    env: Env = None,
    where: Listing | None = None,
) -> None:
    """Ask a server for its tools, and say of each whether this very definition is approved."""
    where = where or Listing()
    shown = _definitions(command, upstream, _bearer(upstream_bearer_env, upstream_bearer_file), env)
    approved = {row["name"]: row["definition"] for row in where.admin.get(_TOOLS)}
    rows: list[dict[str, Any]] = [
        {
            "name": f"{server}/{name}", "digest": digest, "definition": tool,
            "state": _state(approved.get(f"{server}/{name}"), digest),
        }
        for name, (digest, tool) in shown.items()
    ]  # fmt: skip
    if where.format != "table":
        emit(rows, where.format)
        return
    shown_rows = [{**row, "description": str(row["definition"].get("description", ""))} for row in rows]
    show_table(
        shown_rows, [("name", "tool"), ("state", "state"), ("description", "description"), ("digest", "definition")],
        empty="the server has no tools",
    )  # fmt: skip


def tools_approve(
    tool: str,
    /,
    *command: Command,
    kind: Annotated[Literal["read", "write", "external"], Parameter(name="--class", help="What it does.")],
    label: Annotated[Sensitive, Parameter(help="How sensitive what it answers is.")],
    clearance: Annotated[
        Sensitive | None, Parameter(help="The most sensitive data that may flow into it. Default: internal, or public.")
    ] = None,
    trusted: Annotated[bool, Parameter(help="What it answers is written by people you trust.", negative=())] = False,
    upstream: Annotated[str, Parameter(help="URL of a streamable-HTTP server, instead of a command.")] = "",
    upstream_bearer_env: BearerEnv = "",
    upstream_bearer_file: BearerFile = None,
    env: Env = None,
    where: Listing | None = None,
) -> None:
    """Approve the definition that a server shows of SERVER/TOOL now, signed by you: `… -- CMD`."""
    from remit.kernel.errors import NotFound
    from remit.surface.gateways.mcp.definitions import OWN_DEFINITIONS

    where = where or Listing()
    name = tool.partition("/")[2]
    shown: Mapping[str, tuple[str, Any]] = {own: (digest, {"name": own}) for own, digest in OWN_DEFINITIONS.items()}
    if name not in shown:
        shown = _definitions(command, upstream, _bearer(upstream_bearer_env, upstream_bearer_file), env)
    if name not in shown:
        raise NotFound("surface.gateway.tool", f"the server shows no tool `{name[:80]}`", next_step="look at its tools")
    digest, definition = shown[name]
    body = {
        "name": tool, "definition": digest, "kind": kind, "label": label, "clearance": clearance, "trusted": trusted,
    }  # fmt: skip
    found = where.admin.post(_TOOLS, body, signed=True)
    if where.format != "table":
        emit(found, where.format)
        return
    emit(definition, "yaml")
    say(f"approved {plain(found['name'])}: {found['kind']}, answers {found['label']}, cleared for {found['clearance']}")


def tools_ls(*, where: Listing | None = None) -> None:
    """List approved tools."""
    where = where or Listing()
    rows = where.admin.get(_TOOLS)
    if where.format != "table":
        emit(rows, where.format)
        return
    columns = [("name", "tool"), ("kind", "class"), ("label", "answers"), ("clearance", "cleared for"),
               ("approved_by", "approved by"), ("definition", "definition")]  # fmt: skip
    show_table(rows, columns, empty="no tools: `remit gateway tools approve SERVER/TOOL -- CMD`")


def tools_rm(tool: str, /, *, where: Where | None = None) -> None:
    """Believe a tool no more: it is refused at once."""
    (where or Where()).admin.delete(f"{_TOOLS}/{quote(tool)}")
    say(f"removed {plain(tool)}")


def _definitions(
    command: Sequence[str], url: str, bearer: str | Callable[[], str], env: list[str] | None
) -> Mapping[str, tuple[str, dict[str, Any]]]:
    from remit.surface.gateways.mcp.run import read_tools

    return asyncio.run(read_tools(tuple(command), _environment(env), url=url, bearer=bearer))


def _bearer(name: str, file: Path | None) -> str | Callable[[], str]:
    if file is None:
        return os.environ.get(name, "") if name else ""
    from remit.surface.gateways.mcp.bearer import bearer_from

    return bearer_from(file)


@contextmanager
def _poster(where: Where, control: str, spiffe_id: str) -> Iterator[Poster]:
    """How the control plane is asked: over `admin.sock`, or as a registered workload by its own SVID."""
    if not control:
        yield where.admin
        return
    from remit.client.control import Control
    from remit.client.identity import Identity

    endpoint = os.environ.get("SPIFFE_ENDPOINT_SOCKET") or f"unix://{(where.data / 'agent.sock').absolute()}"
    with Identity(endpoint, spiffe_id=spiffe_id) as identity:
        yield Control(identity, control)


def _environment(names: list[str] | None) -> dict[str, str]:
    wanted = {*_KEPT, *(part.strip() for each in names or () for part in each.split(","))}
    return {name: value for name, value in os.environ.items() if name in wanted}


def _state(approved: str | None, digest: str) -> str:
    return "new" if approved is None else "approved" if approved == digest else "changed"
