"""Clients: which key, or which SPIFFE ID, is which identity at the token service.

A registration carries authority, so it is signed when it is made and counts only while the signature verifies. A client
without one is known by its SPIFFE ID alone, from the SVID that it proves; what it may, its grants say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from remit.inventory.model import Sensitivity
from remit.kernel.canonical import Json
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.ids import is_id
from remit.kernel.unit import Attester
from remit.trust.jose import Key, jwk_of, key_of_jwk, thumbprint
from remit.trust.spiffe import SpiffeId
from remit.trust.tokens.form import parse_resources
from remit.trust.tokens.model import Client
from remit.trust.tokens.ports import TokenUnit

SIGNED_AS = "trust.client"
MAX_KEYS: Final = 8
MAX_SERVED: Final = 16
MAX_CLIENTS: Final = 100_000
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """What an administrator asks to register, checked: see `request_client`."""

    name: str
    identity: str
    spiffe_id: str
    keys: tuple[Mapping[str, Json], ...]
    resources: tuple[str, ...]
    sensitivity: str
    may_act: str


def request_client(
    *,
    name: str,
    identity: str,
    spiffe_id: str = "",
    keys: Sequence[Mapping[str, Json]] = (),
    resources: Sequence[str] = (),
    sensitivity: str = Sensitivity.RESTRICTED.value,
    may_act: str = "",
) -> ClientRequest:
    """Check a registration as it was typed: an identity, and a SPIFFE ID or 1 to 8 public keys that prove it.

    A key without `kid` gets its thumbprint for one. Raises `Rejected`: `trust.client.name`, `.identity`, `.proof`,
    `.key`, `.resource`, `trust.spiffe_id.malformed`, `trust.token.resource`.
    """
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise Rejected("trust.client.name", f"a client's name has 1 to {_LONGEST_NAME} printable characters")
    if not is_id("id", identity):
        raise Rejected(
            "trust.client.identity",
            f"`{identity[:80]}` is no identity's id",
            next_step="use the `id_…` of `remit ls`",
        )
    if bool(spiffe_id) == bool(keys) or len(keys) > MAX_KEYS:
        raise Rejected(
            "trust.client.proof",
            f"a client proves itself by its SPIFFE ID, or by 1 to {MAX_KEYS} keys",
            next_step="give `--spiffe-id` or `--keys`, not both",
        )
    if len(resources) > MAX_SERVED:
        raise Rejected("trust.client.resource", f"a client serves at most {MAX_SERVED} resources")
    if sensitivity not in {each.value for each in Sensitivity}:
        raise Rejected(
            "trust.client.sensitivity",
            f"`{sensitivity[:80]}` is no sensitivity",
            next_step="use one of: " + ", ".join(each.value for each in Sensitivity),
        )
    if spiffe_id:
        SpiffeId.parse(spiffe_id)
    if may_act and not is_id("id", may_act):
        SpiffeId.parse(may_act)
    return ClientRequest(
        name=name,
        identity=identity,
        spiffe_id=spiffe_id,
        keys=_public_keys(keys),
        resources=tuple(one for each in resources for one in parse_resources((each,))),
        sensitivity=sensitivity,
        may_act=may_act,
    )


def register_client(unit: TokenUnit, request: ClientRequest, *, actor: str, attester: Attester) -> Client:
    """Keep it, signed and in the ledger. `Conflict` (`trust.client.exists`) for a name, SPIFFE ID, key or resource
    that another one has."""
    known = [one for one in unit.tokens.clients() if is_genuine(one, attester)]
    for other in known:
        _require_distinct(request, other)
    if len(known) >= MAX_CLIENTS:
        raise Conflict("trust.client.many", f"there are {MAX_CLIENTS} clients already")
    client = Client(
        id=unit.new_id("cl"),
        name=request.name,
        identity=request.identity,
        spiffe_id=request.spiffe_id,
        keys=request.keys,
        resources=request.resources,
        sensitivity=request.sensitivity,
        may_act=request.may_act,
        created=unit.now,
        created_by=actor,
    )
    client = replace(client, signature=attester.sign(SIGNED_AS, client.as_json()))
    unit.tokens.put_client(client)
    data: dict[str, Json] = {**client.as_json(), "digest": client.digest}
    unit.record("trust.client.registered", actor=actor, subject=client.identity, data=data)
    return client


def remove_client(unit: TokenUnit, client_id: str, *, actor: str) -> Client:
    """Forget it: it can prove nothing from now on. `NotFound` (`trust.client.unknown`)."""
    client = next((one for one in unit.tokens.clients() if client_id in (one.id, one.name)), None)
    if client is None:
        raise NotFound(
            "trust.client.unknown",
            f"no client is called `{client_id[:80]}`",
            next_step="list them by `remit client ls`",
        )
    unit.tokens.remove_client(client.id)
    unit.record("trust.client.removed", actor=actor, subject=client.identity, data={"id": client.id})
    return client


def is_genuine(client: Client, attester: Attester) -> bool:
    """Tell whether the client was registered here, as it stands."""
    return attester.verify(SIGNED_AS, client.as_json(), client.signature)


class ClientIndex:
    """The clients that count, with their keys parsed once."""

    def __init__(self, clients: Iterable[Client] = ()) -> None:
        self._clients = {one.id: one for one in clients}
        self._by_spiffe = {one.spiffe_id: one for one in self._clients.values() if one.spiffe_id}
        self._keys: dict[str, Mapping[str, Key]] = {}

    def all(self) -> tuple[Client, ...]:
        """Every client, oldest first."""
        return tuple(self._clients.values())

    def get(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def of_spiffe_id(self, spiffe_id: str) -> Client | None:
        return self._by_spiffe.get(spiffe_id)

    def keys(self, client: Client) -> Mapping[str, Key]:
        """Its public keys by `kid`."""
        found = self._keys.get(client.id)
        if found is None:
            found = {str(each["kid"]): key_of_jwk(each) for each in client.keys}
            self._keys[client.id] = found
        return found


def _public_keys(keys: Sequence[Mapping[str, Json]]) -> tuple[Mapping[str, Json], ...]:
    found: dict[str, Mapping[str, Json]] = {}
    for each in keys:
        try:
            key = key_of_jwk(each)
        except Rejected as why:
            raise Rejected("trust.client.key", why.message, next_step="give public keys: a JWK, or a JWK set") from None
        kid = each.get("kid", "") or thumbprint(key)
        if not isinstance(kid, str) or len(kid) > 200 or kid in found:
            raise Rejected("trust.client.key", "a `kid` stands twice, is longer than 200 characters, or is no text")
        found[kid] = {**jwk_of(key), "kid": kid}
    return tuple(found.values())


def _require_distinct(request: ClientRequest, other: Client) -> None:
    same = [
        what
        for what, shared in (
            ("name", request.name == other.name),
            ("SPIFFE ID", bool(request.spiffe_id) and request.spiffe_id == other.spiffe_id),
            ("key", bool(_points(request.keys) & _points(other.keys))),
            ("resource", bool(set(request.resources) & set(other.resources)) and request.identity != other.identity),
        )
        if shared
    ]
    if same:
        raise Conflict(
            "trust.client.exists",
            f"the client `{other.name}` has this {same[0]} already",
            next_step=f"remove it first: `remit client rm {other.id}`",
        )


def _points(keys: Sequence[Mapping[str, Json]]) -> set[tuple[str, ...]]:
    return {tuple(str(key.get(name, "")) for name in ("kty", "crv", "x", "y", "n")) for key in keys}
