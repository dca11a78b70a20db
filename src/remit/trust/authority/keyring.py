"""What signs now and what is published: swapped as a whole, never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.errors import Misconfigured
from remit.kernel.unit import Sealer
from remit.trust.authority.jwt import TokenSigner
from remit.trust.authority.x509 import LeafSigner, load_private
from remit.trust.bundle import Bundle, public_key
from remit.trust.model import Authority, AuthorityKind, AuthorityState
from remit.trust.spiffe import TrustDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The authorities that count, those that sign with their keys, and the bundle of those that are published."""

    authorities: tuple[Authority, ...]
    bundle: Bundle
    x509: LeafSigner = field(repr=False)
    x509_authority: Authority
    x509_key: ec.EllipticCurvePrivateKey = field(repr=False)
    """Signs what is no leaf: intermediates of downstreams, revocation lists."""
    jwt: TokenSigner = field(repr=False)
    jwt_authority: Authority
    token_key: ec.EllipticCurvePrivateKey = field(repr=False)
    """Signs access tokens and transaction tokens; its `kid` is the id of `token_authority`."""
    token_authority: Authority
    refused: tuple[str, ...]
    """Ids of rows that were not signed here, or were put back to an earlier state."""

    def state(self, authority_id: str) -> AuthorityState | None:
        """The state of an authority; `None` when there is none of that id."""
        return next((one.state for one in self.authorities if one.id == authority_id), None)


def assemble(
    rows: Sequence[Authority],
    genuine: Sequence[Authority],
    sealed: Mapping[str, bytes | None],
    *,
    before: Keyring | None,
    sealer: Sealer,
    trust_domain: TrustDomain,
    sequence: int,
    refresh_hint: timedelta,
) -> Keyring:
    """The key ring of these rows; `sealed` has the key of each active one. What `before` holds already is not unsealed.

    Raises `Misconfigured` (`trust.authority.forged`, `.unusable`).
    """
    leaf, jwt, token = (_active(genuine, kind) for kind in (AuthorityKind.X509, AuthorityKind.JWT, AuthorityKind.TOKEN))
    if before is not None and before.x509_authority.id == leaf.id:
        leaf_key, leaf_signer = before.x509_key, before.x509
    else:
        leaf_key = unseal(leaf, sealed[leaf.id], sealer)
        leaf_signer = LeafSigner(x509.load_der_x509_certificate(leaf.public), leaf_key)
    if before is not None and before.jwt_authority.id == jwt.id:
        jwt_signer = before.jwt
    else:
        jwt_signer = TokenSigner(jwt.id, unseal(jwt, sealed[jwt.id], sealer))
    if before is not None and before.token_authority.id == token.id:
        token_key = before.token_key
    else:
        token_key = unseal(token, sealed[token.id], sealer)
    return Keyring(
        authorities=tuple(genuine),
        bundle=Bundle.of(trust_domain, genuine, sequence=sequence, refresh_hint=refresh_hint),
        x509=leaf_signer,
        x509_authority=leaf,
        x509_key=leaf_key,
        jwt=jwt_signer,
        jwt_authority=jwt,
        token_key=token_key,
        token_authority=token,
        refused=tuple(one.id for one in rows if one not in genuine),
    )


def _active(authorities: Sequence[Authority], kind: AuthorityKind) -> Authority:
    for one in authorities:
        if one.kind is kind and one.state is AuthorityState.ACTIVE:
            return one
    raise forged(kind, authorities)


def unseal(authority: Authority, sealed: bytes | None, sealer: Sealer) -> ec.EllipticCurvePrivateKey:
    """The private key of an authority. `Misconfigured` (`trust.authority.unusable`, `storage.seal.broken`)."""
    if sealed is None:
        raise _unusable(authority, "has no key")
    key = load_private(sealer.unseal(sealed, context=seal_context(authority)))
    if key.public_key() != public_key(authority):
        raise _unusable(authority, "has the key of another")
    return key


def seal_context(authority: Authority) -> str:
    """What its sealed key is bound to."""
    return f"trust_authority/{authority.id}/key"


def forged(kind: AuthorityKind, rows: Sequence[Authority]) -> Misconfigured:
    """Rows are there, and none of them counts."""
    return Misconfigured(
        "trust.authority.forged",
        f"{len(rows)} {kind.value} authorities are stored, and none that could sign was signed by this installation",
        next_step="restore the database together with the keys of its own installation",
    )


def _unusable(authority: Authority, why: str) -> Misconfigured:
    return Misconfigured(
        "trust.authority.unusable",
        f"the active {authority.kind.value} authority `{authority.id}` {why}",
        next_step="restore the database from a backup of this installation",
    )
