"""What federation needs of others: its rows, and somebody who fetches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from remit.kernel.unit import Unit
from remit.providers.bundles import SpiffeServer
from remit.trust.federation.model import HeldBundle, Relation


class FederationRows(Protocol):
    """The rows of one unit of work, by the name of the trust domain. What is listed comes in the order of names."""

    def relations(self) -> Sequence[Relation]: ...
    def relation(self, trust_domain: str) -> Relation | None: ...

    def put_relation(self, relation: Relation) -> None:
        """Insert it, or replace the one with the same trust domain."""
        ...

    def remove_relation(self, trust_domain: str) -> bool:
        """Delete it with the bundle; tells whether it was there."""
        ...

    def bundles(self) -> Sequence[HeldBundle]: ...
    def bundle(self, trust_domain: str) -> HeldBundle | None: ...
    def put_bundle(self, held: HeldBundle) -> None: ...
    def remove_bundle(self, trust_domain: str) -> None: ...


class FederationUnit(Unit, Protocol):
    """A unit of work with federation's rows."""

    @property
    def federation(self) -> FederationRows: ...


class BundleFetcher(Protocol):
    """Gets the document at an endpoint; `providers.bundles.BundleClient` over HTTPS."""

    async def fetch(self, url: str, *, server: SpiffeServer | None = None) -> bytes:
        """GET it from whom `server` says, or from the host of the URL by the Web PKI where there is none.

        Raises `Unavailable` or `Rejected` (`providers.bundle.…`).
        """
        ...
