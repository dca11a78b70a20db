"""JWT-SVIDs that were verified before: a signature is checked once, whether the token still counts each time.

What is remembered of a token is that its signature holds, by the keys of then, for one audience. It is forgotten when
keys, bundles or entries change and when anything is revoked; its expiry is compared with the clock for each request. A
token of another trust domain is not remembered: what its relation allows hangs on the moment.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from remit.trust.model import SvidClaims
from remit.trust.spiffe import TrustDomain

MOST: Final = 2048


class RememberedTokens:
    """At most `most` of them, those that were used last. Belongs to the event loop."""

    def __init__(
        self,
        verify: Callable[[str, str], SvidClaims],
        stamp: Callable[[], object],
        *,
        own: TrustDomain,
        most: int = MOST,
    ) -> None:
        """`verify` a token for an audience; `stamp` differs whenever an answer of `verify` could."""
        self._verify = verify
        self._stamp = stamp
        self._own = own
        self._most = most
        self._known: OrderedDict[tuple[bytes, str], SvidClaims] = OrderedDict()
        self._known_at: object = None

    def __len__(self) -> int:
        return len(self._known)

    def find(self, token: str, audience: str, now: datetime) -> SvidClaims:
        """What the token says. Raises what `verify` raises."""
        stamp = self._stamp()
        if stamp != self._known_at:
            self._known.clear()
            self._known_at = stamp
        key = (hashlib.sha256(token.encode()).digest(), audience)
        known = self._known.get(key)
        if known is not None and now < known.expires:
            self._known.move_to_end(key)
            return known
        self._known.pop(key, None)
        found = self._verify(token, audience)
        if found.spiffe_id.trust_domain == self._own and now < found.expires:
            self._known[key] = found
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return found
