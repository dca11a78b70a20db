"""The roots of an upstream as authorities of ours: published, without a key, never signing.

They are rows like the others, so that they are signed, in the ledger, retired at their end, and can be revoked by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from remit.kernel.ids import is_id, new_id
from remit.trust.authority.lifecycle import is_published
from remit.trust.model import Authority, AuthorityKind, AuthorityState

PREFIX: Final = "ur"
MAX_LEARNED: Final = 16


def is_learned(authority: Authority) -> bool:
    """Whether it is a root of an upstream that we only publish."""
    return is_id(PREFIX, authority.id)


def learned_changes(
    authorities: Sequence[Authority], published: Sequence[bytes], now: datetime
) -> tuple[Authority, ...]:
    """The rows to write so that we publish what the upstream does: new roots learned, withdrawn ones revoked.

    A root that we publish already by an authority of ours is not learned again; nor is one that was revoked here, or
    one that is no CA or not valid. At most 16 are kept.
    """
    ours = [one for one in authorities if one.kind is AuthorityKind.X509]
    held = [one for one in ours if is_learned(one) and is_published(one)]
    known = {root for one in ours if is_published(one) or is_learned(one) for root in one.roots}
    fresh = [_learned(root, now) for root in dict.fromkeys(published) if root not in known]
    gone = [one for one in held if one.public not in published]
    withdrawn = [replace(one, state=AuthorityState.REVOKED, ended=now) for one in gone]
    room = max(0, MAX_LEARNED - len(held) + len(gone))
    return (*withdrawn, *[one for one in fresh if one is not None][:room])


def _learned(root: bytes, now: datetime) -> Authority | None:
    try:
        certificate = x509.load_der_x509_certificate(root)
        key = certificate.public_key()
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    usable = is_ca and isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    if not usable or not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        return None
    return Authority(
        id=new_id(PREFIX, now),
        kind=AuthorityKind.X509,
        state=AuthorityState.OLD,
        public=root,
        created=now,
        expires=certificate.not_valid_after_utc,
    )
