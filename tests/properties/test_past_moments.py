"""Any past moment against what was true then: random deeds through the services' own verbs, on a real store."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from past_house import PastHouse, past_house
from remit.inventory import joins

DEEDS = (
    "ask", "approve", "withdraw", "lease", "spare", "assign", "ending", "ended", "token", "return", "revoke grant",
    "revoke identity", "restore", "join", "wait", "token grant",
)  # fmt: skip
Deed = tuple[str, int]


class Truth:
    """What holds, kept beside the store by hand: things by kind, each with what is true of it now."""

    def __init__(self, house: PastHouse) -> None:
        self.house = house
        self.ids: list[str] = []
        self.joined: dict[str, str] = {}
        self.grants: list[dict[str, Any]] = []
        self.leases: list[dict[str, Any]] = []
        self.spares: list[Any] = []
        self.tokens: list[dict[str, Any]] = []
        self.given: list[dict[str, Any]] = []
        self.revoked: list[tuple[str, Any]] = []
        self.seen: list[tuple[datetime, dict[str, bool], dict[str, tuple[Any, ...]]]] = []

    def of(self, identity: str) -> str:
        return self.joined.get(identity, identity)

    async def do(self, what: str, which: int) -> None:
        await getattr(self, "_" + what.replace(" ", "_"))(which)
        self.seen.append((self.house.now, self.held(), self.state()))

    def blocked(self, subject: str) -> bool:
        return any(name == subject for name, _ in self.revoked)

    def holds(self, grant: dict[str, Any]) -> bool:
        stands = grant["approved"] and not grant["over"] and self.house.now < grant["until"]
        return stands and not self.blocked(f"grant:{grant['id']}") and not self.blocked(self.of(grant["identity"]))

    def held(self) -> dict[str, bool]:
        now = self.house.now
        found = {each["id"]: self.holds(each) for each in self.grants}
        found |= {each["held"].id: each["live"] for each in self.leases}
        found |= {each.id: False for each in self.spares}
        found |= {each["id"]: each["live"] and now < each["until"] for each in self.tokens}
        return found | {
            each["id"]: now < each["until"] and not self.blocked(self.of(each["identity"])) for each in self.given
        }

    def state(self) -> dict[str, tuple[Any, ...]]:
        now = self.house.now
        found = {}
        for identity in self.ids:
            if self.of(identity) != identity:
                continue
            grants = {
                each["id"]: (each["id"] in (name[6:] for name, _ in self.revoked) or self.blocked(identity), each["by"])
                for each in self.grants
                if self.of(each["identity"]) == identity
                and each["approved"]
                and not each["over"]
                and now < each["until"]
            }
            leases = {each["held"].id for each in self.leases if each["live"] and self.of(each["identity"]) == identity}
            tokens = {
                each["id"] for each in self.tokens
                if each["live"] and now < each["until"] and self.of(each["identity"]) == identity
            }  # fmt: skip
            found[identity] = (grants, leases, tokens)
        return found

    # -- deeds: each does nothing where there is nothing to do it to

    def _pick(self, among: list[Any], which: int) -> Any:
        return among[which % len(among)] if among else None

    async def _ask(self, which: int) -> None:
        open_ = [each for each in self.grants if not each["over"]]
        if len(open_) < 6:
            identity = self._pick(self.ids, which)
            grant = await self.house.asked(identity, timedelta(minutes=30))
            self.grants.append({"id": grant.id, "grant": grant, "identity": identity, "approved": False, "over": False,
                                "until": grant.expires, "by": []})  # fmt: skip

    async def _approve(self, which: int) -> None:
        now = self.house.now + timedelta(minutes=1)
        if found := self._pick([each for each in self.grants if not (each["approved"] or each["over"])], which):
            if now < found["grant"].expires:
                await self.house.approved(found["grant"])
                found |= {"approved": True, "until": now + timedelta(minutes=30), "by": ["person:ben"]}

    async def _withdraw(self, which: int) -> None:
        now = self.house.now + timedelta(minutes=1)
        if found := self._pick([each for each in self.grants if not each["over"] and now < each["until"]], which):
            await self.house.withdrawn(found["grant"])
            found["over"] = True

    async def _lease(self, which: int) -> None:
        identity, grant = self._pick(self.ids, which), self._pick(self.grants, which)
        held = await self.house.leased(grant["id"] if grant else "gr_none", identity)
        self.leases.append({"held": held, "identity": identity, "live": True})

    async def _spare(self, which: int) -> None:
        self.spares.append(await self.house.spare())

    async def _assign(self, which: int) -> None:
        if self.spares:
            identity = self._pick(self.ids, which)
            held = await self.house.assigned(self.spares.pop(), "gr_none", identity)
            self.leases.append({"held": held, "identity": identity, "live": True})

    async def _ending(self, which: int) -> None:
        if found := self._pick([each for each in self.leases if each["held"].state.value == "active"], which):
            found["held"] = await self.house.ending(found["held"])

    async def _ended(self, which: int) -> None:
        if found := self._pick(
            [each for each in self.leases if each["live"] and each["held"].state == "revoking"], which
        ):
            await self.house.ended(found["held"])
            found["live"] = False

    async def _token(self, which: int) -> None:
        identity = self._pick(self.ids, which)
        token = await self.house.token(identity, minutes=30)
        self.tokens.append({"id": token, "identity": identity, "live": True,
                            "until": self.house.now + timedelta(minutes=30)})  # fmt: skip

    async def _token_grant(self, which: int) -> None:
        identity = self._pick(self.ids, which)
        grant = await self.house.token_grant(identity)
        self.given.append({"id": grant, "identity": identity, "until": self.house.now + timedelta(minutes=59)})

    async def _return(self, which: int) -> None:
        now = self.house.now + timedelta(minutes=1)
        if found := self._pick([each for each in self.tokens if each["live"] and now < each["until"]], which):
            await self.house.revoked(f"jti:{found['id']}", returned=True)
            found["live"] = False

    async def _revoke_grant(self, which: int) -> None:
        if (found := self._pick(self.grants, which)) and not self.blocked(f"grant:{found['id']}"):
            self.revoked.append((f"grant:{found['id']}", await self.house.revoked(f"grant:{found['id']}")))

    async def _revoke_identity(self, which: int) -> None:
        identity = self.of(self._pick(self.ids, which))
        if not self.blocked(identity):
            self.revoked.append((identity, await self.house.revoked(identity)))
            for each in self.tokens:
                if each["identity"] == identity:  # who was joined to it kept an id of its own in what was issued
                    each["live"] = False

    async def _restore(self, which: int) -> None:
        if found := self._pick(self.revoked, which):
            self.revoked.remove(found)
            await self.house.restored(found[1])
            for each in self.tokens:
                each["live"] = each["live"] and each["identity"] != found[0]

    async def _join(self, which: int) -> None:
        if not self.joined and not self.revoked:
            older, younger = sorted(self.ids)[:2]
            await self.house.write(lambda unit: joins.join(unit, older, younger, by="person:ana", reason="same"))
            self.joined[younger] = older

    async def _wait(self, which: int) -> None:
        self.house.clock.advance(timedelta(minutes=(1, 7, 31)[which % 3]))


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 5)), min_size=3, max_size=24))
def test_every_past_moment_is_what_was_true_then(deeds: list[Deed]) -> None:
    async def run(folder: str) -> None:
        async with past_house(f"sqlite:///{Path(folder) / 'remit.db'}") as house:
            truth = Truth(house)
            truth.ids = [await house.identity(title) for title in ("one", "two", "three")]
            for what, which in deeds:
                await truth.do(what, which)
            for moment, held, state in truth.seen[::2] + truth.seen[-1:]:
                for thing, holds in held.items():
                    assert await house.held(thing, moment) is holds, (thing, moment)
                for identity, (grants, leases, tokens) in state.items():
                    found = await house.past(identity, moment)
                    shown = {
                        each["id"]: (each["revoked"] is not None, [word["by"] for word in each["approved"]])
                        for each in found["grants"]
                    }
                    assert shown == grants
                    assert {each["id"] for each in found["leases"]} == leases
                    assert {each["id"] for each in found["issued"]} == tokens

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))
