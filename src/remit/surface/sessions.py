"""Console sessions: a single-use code of 60 seconds becomes a cookie; nothing of either is stored in clear."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from remit.kernel.clock import Clock

CODE_LIFE = timedelta(seconds=60)
SESSION_LIFE = timedelta(hours=8)
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser of somebody who administrates this installation."""

    id: str
    uid: int
    expires: datetime


class Sessions:
    """Codes and sessions of this process: a restart signs everybody out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._codes: dict[bytes, tuple[datetime, int]] = {}
        self._sessions: dict[bytes, Session] = {}

    def mint_code(self, uid: int) -> str:
        """A code for the administrator with `uid`, good once and for 60 seconds."""
        self._forget()
        code = secrets.token_urlsafe(32)
        self._codes[_hash(code)] = (self._clock.now() + CODE_LIFE, uid)
        return code

    def exchange(self, code: str) -> tuple[str, Session] | None:
        """Spend `code`: the cookie's value and the session, or `None` when it is unknown, spent or late."""
        expires, uid = self._codes.pop(_hash(code), (None, 0))
        if expires is None or expires <= self._clock.now():
            return None
        token = secrets.token_urlsafe(32)
        session = Session(id=_hash(token).hex()[:12], uid=uid, expires=self._clock.now() + SESSION_LIFE)
        self._sessions[_hash(token)] = session
        return token, session

    def check(self, token: str) -> Session | None:
        """The session of a cookie, while it lasts."""
        session = self._sessions.get(_hash(token)) if token else None
        return session if session is not None and session.expires > self._clock.now() else None

    def end(self, token: str) -> None:
        """Sign out."""
        self._sessions.pop(_hash(token), None)

    def _forget(self) -> None:
        now = self._clock.now()
        self._codes = {key: value for key, value in self._codes.items() if value[0] > now}
        self._sessions = {key: value for key, value in self._sessions.items() if value.expires > now}
        for store in (self._codes, self._sessions):
            while len(store) >= _MOST:
                store.pop(next(iter(store)))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
