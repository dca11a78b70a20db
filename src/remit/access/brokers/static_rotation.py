"""Rotates a static secret by the operator's own program, so that a kill at any instant leaves a value that is known.

    1. the next value is sealed and committed, beside the old one
    2. the program makes it count at the target
    3. the target admits it
    4. from here on the gateway uses it
    5. the target refuses the old one, which is forgotten then

Each step may be done again. Between 2 and 4 either value may be the one that counts: whoever resumes asks the target.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from remit.access.brokers.port import Check
from remit.access.brokers.static import Rotated
from remit.access.brokers.static_settings import Settings
from remit.access.secrets import Change, Secrets
from remit.kernel.errors import Rejected
from remit.providers.hook import run_hook
from remit.providers.http_probe import Probed, probe

_TRIES = 40
_AGAIN, _CLOSE = 0.25, 0.05
"""Seconds until the next look, after one that did not agree, and after one that did."""
_AGREED = 4


class HookRotation:
    """Implements `static.RotatesSecret` for one target."""

    def __init__(
        self, *, secrets: Secrets, settings: Settings, target: str, fresh: Callable[[], bytes], tries: int = _TRIES
    ) -> None:
        self._secrets = secrets
        self._settings = settings
        self._actor = f"system:rotation/{target}"
        self._fresh = fresh
        self._tries = tries
        self._lock = asyncio.Lock()

    async def rotate(self) -> Rotated:
        """Give it another value. Raises what the program, the target and the vault raise; `resume` goes on with it."""
        async with self._lock:
            change = await self._secrets.begin_change(self._settings.secret, self._fresh(), actor=self._actor)
            return await self._finish(change)

    async def resume(self) -> None:
        """End what was broken off."""
        async with self._lock:
            change = await self._secrets.pending(self._settings.secret)
            if change is not None:
                await self._finish(change)

    async def check(self) -> Check:
        return Check(ok=True, title="the secret is rotated after each use", detail=f"by `{self._settings.rotate[0]}`")

    async def _finish(self, change: Change) -> Rotated:
        if not (await self._probe(change.new)).admitted:
            given = {"old": change.old.decode("ascii"), "new": change.new.decode("ascii")}
            await run_hook(self._settings.rotate, json.dumps(given).encode() + b"\n")
            await self._await(change.new, admitted=True)
        await self._secrets.commit_change(self._settings.secret, change, actor=self._actor)
        seen = await self._await(change.old, admitted=False)
        refusal = f"{seen.status} to the old value"
        await self._secrets.end_change(self._settings.secret, actor=self._actor, refusal=refusal)
        return Rotated(done=True, words=f"the target refuses the old value ({seen.status})")

    async def _await(self, value: bytes, *, admitted: bool) -> Probed:
        """Look until the target says the same a few times on end: while it reloads, or is many, it says both."""
        agreed, left = 0, self._tries
        seen = await self._probe(value)
        while left:
            agreed = agreed + 1 if (seen.admitted if admitted else seen.refused) else 0
            if agreed >= _AGREED:
                return seen
            left -= not agreed
            await asyncio.sleep(_CLOSE if agreed else _AGAIN)
            seen = await self._probe(value)
        which = "does not admit the new value" if admitted else "still admits the old value"
        raise Rejected(
            "access.static.rotation",
            f"the target {which} ({seen.status})",
            next_step="look at what the program of `rotate` does; both values are kept until it is true",
        )

    async def _probe(self, value: bytes) -> Probed:
        name, text = self._settings.carry(value.decode("ascii"))
        return await probe(self._settings.upstream + self._settings.probe, {name: text}, ca=self._settings.ca)
