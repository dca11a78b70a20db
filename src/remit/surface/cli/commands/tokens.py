"""Commands on the clients of the token service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from remit.surface.cli.options import Listing, Where
from remit.surface.cli.output import emit, plain, say, show_table

_COLUMNS = [
    ("name", "name"),
    ("proof", "proves itself by"),
    ("serves", "serves"),
    ("identity", "identity"),
    ("id", "id"),
]


def client_add(
    name: str,
    /,
    *,
    identity: Annotated[str, Parameter(help="The identity that it is: an id or any name of it.")],
    spiffe_id: Annotated[str, Parameter(help="The SPIFFE ID that proves it.")] = "",
    keys: Annotated[Path | None, Parameter(help="File with its public keys: a JWK or a JWK set.")] = None,
    resource: Annotated[
        list[str] | None, Parameter(help="A resource that it serves: it may introspect tokens for it.", negative=())
    ] = None,
    sensitivity: Annotated[
        str, Parameter(help="Of what it serves: public, internal, confidential, restricted.")
    ] = "restricted",
    may_act: Annotated[str, Parameter(help="The only one who may act for its tokens: a SPIFFE ID.")] = "",
    where: Listing | None = None,
) -> None:
    """Register a client of the token service. A workload with an SVID needs no registration to be one."""
    where = where or Listing()
    body = {
        "name": name,
        "identity": identity,
        "spiffe_id": spiffe_id,
        "keys": _keys(keys) if keys is not None else [],
        "resources": resource or [],
        "sensitivity": sensitivity,
        "may_act": may_act,
    }
    client = where.admin.post("/api/v1/clients", body)
    if where.format != "table":
        emit(client, where.format)
    else:
        _print([client])


def client_ls(*, where: Listing | None = None) -> None:
    """List registered clients."""
    where = where or Listing()
    rows = where.admin.get("/api/v1/clients")
    if where.format != "table":
        emit(rows, where.format)
    else:
        _print(rows)


def client_rm(client: str, /, *, where: Where | None = None) -> None:
    """Forget a client: it can prove nothing from now on."""
    (where or Where()).admin.delete(f"/api/v1/clients/{client}")
    say(f"removed {plain(client)}")


def _print(rows: list[dict[str, Any]]) -> None:
    shown = [
        {
            **row,
            "proof": row["spiffe_id"] or f"{len(row['keys'])} key" + ("s" if len(row["keys"]) != 1 else ""),
            "serves": ", ".join(row["resources"]),
        }
        for row in rows
    ]
    show_table(shown, _COLUMNS, empty="no clients: `remit client add NAME --identity ID --keys jwks.json`")


def _keys(path: Path) -> list[Any]:
    """The keys of a file; what they are worth, the control plane says."""
    import msgspec

    from remit.kernel.errors import Rejected

    try:
        found = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Rejected("surface.keys.malformed", f"`{path}` is no JWK and no JWK set", next_step="name another file")
    listed = found.get("keys", [found])
    return listed if isinstance(listed, list) else [found]
