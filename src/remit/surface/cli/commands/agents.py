"""Commands on agents far from the control plane: run one, let one join, look after all of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from remit.kernel.errors import Conflict, Misconfigured, Unavailable
from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import ago, emit, plain, say, show_table

if TYPE_CHECKING:
    from remit.trust.attestors.provers import Prover

_COLUMNS = [
    ("name", "agent"),
    ("state", "state"),
    ("connected", "connected"),
    ("seen", "last seen"),
    ("expires", "certificate ends"),
    ("id", "id"),
]
_TOKENS = [("name", "for"), ("id", "id"), ("created", "made"), ("expires", "joins until"), ("spent", "spent")]


def run(
    *,
    server: Annotated[str, Parameter(help="HOST:PORT of the control plane's listener for agents.")],
    bundle: Annotated[Path | None, Parameter(help="Its trust bundle: what it serves at /bundle, or PEM.")] = None,
    trust_domain: Annotated[str, Parameter(help="SPIFFE trust domain.")] = "remit.local",
    join_token_file: Annotated[Path | None, Parameter(help="File with a join token (good once).")] = None,
    attest: Annotated[
        list[str] | None,
        Parameter(help="Prove the node: KIND or KIND:OPTION=VALUE,…; several must all hold.", negative=()),
    ] = None,
    where: Where | None = None,
) -> None:
    """Run the agent of a machine far from the control plane, until SIGTERM or Ctrl-C.

    `remit agent --server …` is the same. Prints `ready unix:///…` when it serves. Its state is kept under --data. It
    goes on serving while the control plane is away, until what it holds expires, and ends when it is evicted or banned.
    """
    from remit import __version__
    from remit.storage.datadir import DataDir
    from remit.surface.agent.remote.agent import AgentOptions
    from remit.surface.agent.remote.run import run_agent
    from remit.trust.spiffe import TrustDomain

    where = where or Where()
    host, port = _address(server)
    data = DataDir.at(where.data, where.socket_dir)
    options = AgentOptions(
        data=data.root,
        host=host,
        port=port,
        trust_domain=TrustDomain.parse(trust_domain),
        bundle=bundle.absolute() if bundle else None,
        provers=_provers(join_token_file, attest or [], trust_domain),
        software=f"remit {__version__}",
        socket=data.agent_socket,
    )
    run_agent(data, options, announce=lambda url: print(f"ready {url}", flush=True))


def status(*, where: Listing | None = None) -> None:
    """Say how the agent on this machine stands: in step, cut off and until when it serves, or ended.

    Exits 1 when it is not in step, 3 when no agent runs.
    """
    from remit.surface.agent.remote.status import read_status

    where = where or Listing()
    found = read_status(where.data)
    if found is None or not _runs(found.pid):
        raise Unavailable(
            "agent.process.missing", f"no agent runs on `{where.data}`", next_step="start it: `remit agent --server …`"
        )
    if where.format != "table":
        emit(found, where.format)
    else:
        print(f"{found.state} since {ago(found.since.isoformat())}" + (f": {found.reason}" if found.reason else ""))
        print(f"agent      {found.name or '–'} ({found.agent or 'not joined'}) of {found.server}")
        print(f"serves     {found.svids} SVIDs for {found.entries} entries at {found.socket}")
        if found.serves_until is not None:
            print(f"until      {ago(found.serves_until.isoformat())}, should the control plane stay away")
        if found.unreported or found.lost_reports:
            print(f"unreported {found.unreported} SVIDs that were handed out, {found.lost_reports} lost")
    if found.state != "connected":
        sys.exit(1)


def token(
    *,
    name: Annotated[str, Parameter(help="The machine that may join by it.")],
    label: Annotated[list[str] | None, Parameter(help="Becomes a selector `join_token:label:…`.", negative=())] = None,
    ttl: Annotated[int, Parameter(help="Seconds for which it joins, 30 to 604800.")] = 600,
    out: Annotated[Path | None, Parameter(help="Write it to this new file (0600) instead of printing it.")] = None,
    bundle: Annotated[Path | None, Parameter(help="Write the trust bundle to this file as well.")] = None,
    where: Listing | None = None,
) -> None:
    """Make a join token: a secret that lets one machine join, once. A machine that joins again needs another."""
    where = where or Listing()
    if out is not None and out.exists():
        raise Conflict("surface.file.exists", f"`{out}` exists", next_step="name a file that is not there yet")
    made = where.admin.post("/api/v1/join-tokens", {"name": name, "labels": label or [], "ttl_seconds": ttl})
    secret = made.pop("secret")
    if bundle is not None:
        bundle.write_text(where.admin.text("/bundle"), encoding="utf-8")
    if out is not None:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secret + "\n")
        made["file"] = str(out)
    if where.format != "table":
        emit(made if out is not None else {**made, "secret": secret}, where.format)
        return
    if out is None:
        print(secret)
    shown = plain(out) if out is not None else "FILE"
    say(
        f"[dim]on {plain(name)}, within {ttl} s:[/dim] remit agent --server {made['server'] or 'HOST:PORT'} "
        f"--bundle {plain(bundle) if bundle else 'BUNDLE'} --join-token-file {shown}"
    )


def tokens(*, where: Listing | None = None) -> None:
    """List join tokens, without their secrets."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/join-tokens")
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(rows, _TOKENS, empty="no join tokens: `remit agent token --name MACHINE`")


def untoken(token: str, /, *, where: Where | None = None) -> None:
    """Withdraw a join token that was not used."""
    (where or Where()).admin.delete(f"/api/v1/join-tokens/{token}")
    say(f"withdrew {plain(token)}")


def ls(*, where: Listing | None = None) -> None:
    """List the agents that joined: how each stands, and when it was last seen."""
    where = where or Listing()
    _print(where, where.admin.get("/api/v1/agents"))


def show(agent: str, /, *, where: Listing | None = None) -> None:
    """Everything known of one agent: its proof, the selectors of its node, and the entries that reach it."""
    where = where or Listing()
    found = where.admin.get(f"/api/v1/agents/{agent}")
    if where.format != "table":
        emit(found, where.format)
        return
    for key, value in found.items():
        if isinstance(value, list):
            texts = [f"{each['spiffe_id']} ({each['id']})" if isinstance(each, dict) else str(each) for each in value]
            print(f"{key:<16}" + ("\n" + " " * 16).join(texts or ["–"]))
        else:
            print(f"{key:<16}{'–' if value in (None, '') else value}")


def evict(agent: str, /, *, where: Listing | None = None) -> None:
    """End an agent's service now. Its machine may join again."""
    where = where or Listing()
    _print(where, [where.admin.post(f"/api/v1/agents/{agent}/evict")])


def ban(agent: str, /, *, where: Listing | None = None) -> None:
    """End an agent's service now, and never admit its machine by this name again."""
    where = where or Listing()
    _print(where, [where.admin.post(f"/api/v1/agents/{agent}/ban")])


def _print(where: Listing, rows: list[dict[str, Any]]) -> None:
    if where.format != "table":
        emit(rows, where.format)
    else:
        show_table(rows, _COLUMNS, empty="no agents: `remit agent token --name MACHINE` lets one join")


def _provers(token_file: Path | None, specs: list[str], trust_domain: str) -> list[Prover]:
    from remit.trust.attestors.provers import KINDS, prover

    found = [prover("join_token", {"file": str(token_file.absolute())})] if token_file is not None else []
    for spec in specs:
        kind, _, rest = spec.partition(":")
        options = dict(_option(part) for part in rest.split(",") if part)
        if "trust_domain" in KINDS.get(kind, ()):
            options.setdefault("trust_domain", trust_domain)
        found.append(prover(kind, options))
    return found


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Misconfigured(
            "agent.proof.option", f"`{text[:80]}` is no OPTION=VALUE", next_step="e.g. x509pop:certificate=F,key=F"
        )
    return name.replace("-", "_"), value


def _address(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) <= 65535 or not host:
        raise Misconfigured("agent.server.address", f"`{server}` is no HOST:PORT", next_step="e.g. remit.example:8421")
    return host.strip("[]"), int(port)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
