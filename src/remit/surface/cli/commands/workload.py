"""Commands for a workload: its own identity from the agent, as documents, as files, as what kubectl asks for."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.surface.cli.output import Format, emit, plain, say, show_table

if TYPE_CHECKING:
    from remit.client.tokens import Token, TokenClient
    from remit.client.workload import X509Context, X509Identity

_COLUMNS = [
    ("spiffe_id", "SPIFFE ID"),
    ("kind", "kind"),
    ("expires", "expires"),
    ("serial", "serial"),
    ("hint", "hint"),
]
_COMMON = Group("Everywhere", sort_key=99)


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, kw_only=True)
class Agent:
    """Which agent: SPIFFE_ENDPOINT_SOCKET, else that of the data directory."""

    data: Annotated[Path, Parameter(env_var="REMIT_DATA", help="Data directory of the installation.")] = Path(".remit")
    socket: Annotated[str, Parameter(env_var="SPIFFE_ENDPOINT_SOCKET", help="The agent, as unix:///PATH.")] = ""
    format: Annotated[Format, Parameter(name=["--format", "-o"], help="How to print the result.")] = "table"

    @property
    def endpoint(self) -> str:
        return self.socket or f"unix://{(self.data / 'agent.sock').absolute()}"


def svid_fetch(
    *,
    audience: Annotated[list[str] | None, Parameter(help="Fetch JWT-SVIDs for these audiences.", negative=())] = None,
    spiffe_id: Annotated[str, Parameter(help="Only this identity, where there are several.")] = "",
    show_token: Annotated[bool, Parameter(help="Print the JWT-SVID itself: a secret.", negative=())] = False,
    where: Agent | None = None,
) -> None:
    """Fetch the SVIDs of this very process from the agent, and show them without their keys.

    It is this program that the agent looks at: an entry that asks for another path or digest does not match it.
    """
    where = where or Agent()
    from remit.client.workload import WorkloadApi

    api = WorkloadApi(where.endpoint)
    if audience:
        rows = _tokens(asyncio.run(api.jwts(audience, spiffe_id=spiffe_id)), show_token)
    else:
        rows = [_row(one) for one in asyncio.run(api.x509()).svids if spiffe_id in ("", str(one.spiffe_id))]
    if show_token and where.format == "table":
        sys.stdout.write("".join(f"{row['token']}\n" for row in rows))
    elif where.format == "table":
        show_table(rows, _COLUMNS, empty="no SVID of that name")
    else:
        emit(rows, where.format)


def svid_watch(*, where: Agent | None = None) -> None:
    """Follow the X.509-SVIDs of this process: a line for each set that the agent pushes, until Ctrl-C."""
    where = where or Agent()
    from remit.client.workload import WorkloadApi

    async def follow() -> None:
        async for context in WorkloadApi(where.endpoint).watch_x509():
            _tell(context, where.format)

    asyncio.run(follow())


def x509_write(
    *,
    dir: Annotated[Path, Parameter(help="Directory for svid.pem, key.pem and bundle.pem.")],
    spiffe_id: Annotated[str, Parameter(help="Which identity, where there are several (or its hint).")] = "",
    once: Annotated[bool, Parameter(help="Write once and end; otherwise at every rotation.", negative=())] = False,
    pid_file: Annotated[Path | None, Parameter(help="Signal the process in this file after each rotation.")] = None,
    signal: Annotated[str, Parameter(help="Which signal.")] = "HUP",
    group: Annotated[str, Parameter(help="Group that may read the key (it is 0600, or 0640 with a group).")] = "",
    where: Agent | None = None,
) -> None:
    """Write the X.509-SVID for a program that reads files, and write it anew before it expires.

    The three files change together: whoever opens one sees it and its fellows of the same moment.
    """
    where = where or Agent()
    from remit.client.files import SvidFolder, Target
    from remit.client.workload import WorkloadApi

    target = Target(pid_file=pid_file, signal=_signal(signal)) if pid_file is not None else None
    folder = SvidFolder(dir, group=group or None, target=target)
    api = WorkloadApi(where.endpoint)

    def write(context: X509Context) -> None:
        svid = context.named(spiffe_id) if spiffe_id else context.default
        told = folder.write(context, svid)
        say(f"wrote {plain(str(svid.spiffe_id))}, good until {rfc3339(svid.expires)}{told}")

    async def follow() -> None:
        async for context in api.watch_x509():
            write(context)

    if once:
        write(asyncio.run(api.x509()))
    else:
        asyncio.run(follow())


_SERVER = Annotated[
    str, Parameter(env_var="REMIT_SERVER", help="Listener for workloads (mutual TLS) of the control plane.")
]
_HERE = "https://127.0.0.1:8421"
_NAMED = Annotated[str, Parameter(help="As which identity, where there are several (or its hint).")]
_SVID_DIR = Annotated[
    Path | None,
    Parameter(
        help="Speak as the X.509-SVID of this directory, as `remit x509 write` keeps it, and bind the token to it."
    ),
]


def token_fetch(
    resource: Annotated[str, Parameter(help="What the token is for: the URI of a resource server.")],
    /,
    *,
    scope: Annotated[list[str] | None, Parameter(help="What is wanted there; the grant decides.", negative=())] = None,
    grant: Annotated[str, Parameter(help="An approved grant (gr_…) to act under.")] = "",
    spiffe_id: _NAMED = "",
    svid_dir: _SVID_DIR = None,
    server: _SERVER = _HERE,
    where: Agent | None = None,
) -> None:
    """Fetch an access token for one resource, bound to an X.509-SVID. It is printed: a secret.

    What it may do is what policy or the grant says, whatever is asked. No grant, no token. Without `--svid-dir` it is
    bound to a key that ends with this command: good to look at, and for nobody to use.
    """
    where = where or Agent()
    with _client(where, server, spiffe_id, svid_dir) as client:
        _print_token(client.fetch(resource, scope=scope or (), grant=grant), where, kept=svid_dir is not None)


def token_exchange(
    resource: Annotated[str, Parameter(help="What the new token is for.")],
    /,
    *,
    subject_token_file: Annotated[Path, Parameter(help="File with the token that we were shown; `-` for stdin.")],
    scope: Annotated[
        list[str] | None, Parameter(help="What is wanted there, never more than it had.", negative=())
    ] = None,
    transaction: Annotated[bool, Parameter(help="Ask for a transaction token (minutes).", negative=())] = False,
    spiffe_id: _NAMED = "",
    svid_dir: _SVID_DIR = None,
    server: _SERVER = _HERE,
    where: Agent | None = None,
) -> None:
    """Exchange a token that somebody showed us for one of our own on their behalf, never wider. It is printed."""
    where = where or Agent()
    from remit.client.tokens import ACCESS_TOKEN, TRANSACTION_TOKEN

    shown = (sys.stdin.read() if str(subject_token_file) == "-" else subject_token_file.read_text()).strip()
    wanted = TRANSACTION_TOKEN if transaction else ACCESS_TOKEN
    with _client(where, server, spiffe_id, svid_dir) as client:
        token = client.exchange(resource, subject_token=shown, scope=scope or (), wanted=wanted)
    _print_token(token, where, kept=transaction or svid_dir is not None)


def token_introspect(
    token_file: Annotated[Path, Parameter(help="File with the token; `-` for stdin.")],
    /,
    *,
    spiffe_id: _NAMED = "",
    server: _SERVER = _HERE,
    where: Agent | None = None,
) -> None:
    """Ask whether a token that somebody showed us is in force, and what it allows. Exit code 1 when it is not."""
    where = where or Agent()
    shown = (sys.stdin.read() if str(token_file) == "-" else token_file.read_text()).strip()
    with _client(where, server, spiffe_id) as client:
        found = client.introspect(shown)
    emit(found, "yaml" if where.format == "table" else where.format)
    if not found.get("active"):
        raise SystemExit(1)


def ssh_cert(
    *,
    principal: Annotated[list[str], Parameter(help="Login name that it shall be good for.", negative=())],
    out: Annotated[Path, Parameter(help="Where to put the new key; the certificate goes beside it.")],
    extension: Annotated[list[str] | None, Parameter(help="permit-pty, permit-port-forwarding, …", negative=())] = None,
    seconds: Annotated[int, Parameter(help="How long; 300 when left out, at most 3600.")] = 0,
    spiffe_id: _NAMED = "",
    server: _SERVER = _HERE,
    where: Agent | None = None,
) -> None:
    """Get an SSH user certificate for this process's SVID: a new key, for minutes, for the logins that policy allows.

    Servers trust `GET /ssh-ca.pub` of the control plane by `TrustedUserCAKeys`. Then: `ssh -i OUT LOGIN@HOST`.
    """
    where = where or Agent()
    from remit.client.identity import Identity
    from remit.client.ssh import fetch_certificate, write_pair

    with Identity(where.endpoint, spiffe_id=spiffe_id) as identity:
        private, certificate, expires = fetch_certificate(
            identity, server, principals=principal, extensions=extension or (), seconds=seconds
        )
    write_pair(out, private, certificate)
    if where.format == "table":
        say(f"wrote {plain(str(out))} and {plain(str(out))}-cert.pub, good until {expires}")
    else:
        emit({"key": str(out), "certificate": f"{out}-cert.pub", "expires": expires}, where.format)


@contextmanager
def _client(where: Agent, server: str, spiffe_id: str, svid_dir: Path | None = None) -> Iterator[TokenClient]:
    from remit.client.folder import FolderIdentity
    from remit.client.identity import Identity
    from remit.client.tokens import TokenClient

    if svid_dir is not None:
        yield TokenClient(FolderIdentity(svid_dir, spiffe_id=spiffe_id), server)
        return
    with Identity(where.endpoint, spiffe_id=spiffe_id) as identity:
        yield TokenClient(identity, server)


def _print_token(token: Token, where: Agent, *, kept: bool) -> None:
    if not kept:
        say(
            "bound to a key that ends with this command; `--svid-dir DIR` binds it to one that `remit x509 write` keeps"
        )
    if where.format == "table":
        print(token.value)
    else:
        emit(
            {"access_token": token.value, "token_type": token.kind, "scope": token.scope, "expires": token.expires},
            where.format,
        )


def kube_credential(
    *,
    audience: Annotated[str, Parameter(help="Audience of the JWT-SVID; without one, the X.509-SVID is given.")] = "",
    spiffe_id: Annotated[str, Parameter(help="Which identity, where there are several.")] = "",
    where: Agent | None = None,
) -> None:
    """Print an ExecCredential for kubectl (client-go credential plug-in): a JWT-SVID, or the X.509-SVID.

    Name it in a kubeconfig as `users[].user.exec` with command `remit` and `interactiveMode: Never`.
    """
    where = where or Agent()
    from remit.client.workload import WorkloadApi

    api = WorkloadApi(where.endpoint)
    version = _exec_version()
    if audience:
        found = asyncio.run(api.jwt(audience, spiffe_id=spiffe_id))
        status: dict[str, Any] = {"token": found.token, "expirationTimestamp": rfc3339(_expiry_of(found.token))}
    else:
        held = asyncio.run(api.x509())
        svid = held.named(spiffe_id) if spiffe_id else held.default
        status = {
            "clientCertificateData": svid.chain_pem.decode(),
            "clientKeyData": svid.key_pem().decode(),
            "expirationTimestamp": rfc3339(svid.expires),
        }
    emit({"apiVersion": version, "kind": "ExecCredential", "status": status}, "json")


def _exec_version() -> str:
    """The version that kubectl speaks, as it says in KUBERNETES_EXEC_INFO."""
    import msgspec

    try:
        asked = msgspec.json.decode(os.environ.get("KUBERNETES_EXEC_INFO", "{}").encode()).get("apiVersion")
    except (msgspec.DecodeError, AttributeError):
        asked = None
    return asked if asked in _EXEC_VERSIONS else _EXEC_VERSIONS[0]


_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


def _expiry_of(token: str) -> datetime:
    """When our own token ends, by its own word: it was just handed to us by the agent."""
    import base64

    import msgspec

    body = token.split(".")[1]
    claims = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return datetime.fromtimestamp(claims["exp"], UTC)


def _row(svid: X509Identity) -> dict[str, Any]:
    from cryptography import x509

    leaf = x509.load_der_x509_certificate(svid.chain[0])
    return {
        "spiffe_id": str(svid.spiffe_id),
        "kind": "x509-svid",
        "expires": svid.expires,
        "serial": f"{leaf.serial_number:x}",
        "hint": svid.hint,
    }


def _tokens(found: Any, show: bool) -> list[dict[str, Any]]:
    return [
        {
            "spiffe_id": str(one.spiffe_id),
            "kind": "jwt-svid",
            "expires": _expiry_of(one.token),
            "hint": one.hint,
            **({"token": one.token} if show else {}),
        }
        for one in found
    ]


def _tell(context: X509Context, format: Format) -> None:
    rows = [_row(one) for one in context.svids]
    if format == "table":
        names = ", ".join(f"{row['spiffe_id']} until {rfc3339(row['expires'])}" for row in rows)
        print(f"{rfc3339(datetime.now(UTC))}  {names}; trusts {', '.join(sorted(context.roots))}", flush=True)
    else:
        import msgspec

        moment = {"time": datetime.now(UTC), "svids": rows, "trusts": sorted(context.roots)}
        print(msgspec.json.encode(moment).decode(), flush=True)


def _signal(name: str) -> int:
    import signal

    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise Rejected(
            "surface.signal.unknown", f"no signal is called `{name[:20]}`", next_step="e.g. HUP, USR1, USR2"
        ) from None
