"""How leases end on a directory that ends no connection.

The order of a revocation: the entry gets another secret, ours (no new login with the old one) → we log in with it, as a
witness whose rights are those of the lease's own connections → out of every group (in force at once, on open
connections too) → what is below the entry is removed, what it made is reported → the entry is deleted → what the
witness still sees is compared with what nobody's login sees → no operation is under way that began with the rights of
then → the lease's own secret is refused.

A connection that is left has no rights then, or the revocation says that it is not contained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from remit.access.brokers.ldap_entries import Connection, Entries, Sight, beyond, sight
from remit.access.model import LeftBehind, Proof, Proved, Revocation, RevokeOrder, Unproved
from remit.kernel.errors import RemitError, Unavailable
from remit.providers.ldap.client import INVALID_CREDENTIALS, SUCCESS, Address, Directory, Link, Outcome
from remit.providers.ldap.names import same_name

_WITNESS_LIVES = timedelta(minutes=2)
_AT_ONCE = 6
_REPLICATES_WITHIN = 10.0
_OPERATIONS_WITHIN = 2.0
_LOOK_AGAIN = 0.1


@dataclass(slots=True, kw_only=True)
class _Work:
    """What the revocation of one credential has found and done so far."""

    order: RevokeOrder
    name: str
    secret: str = field(repr=False)
    """Of the witness."""
    existed: bool = False
    gone: bool = False
    had_rights: bool = False
    saw: Sight = field(default_factory=dict)
    """What the witness saw beyond what everybody sees, before it left its groups."""
    still: list[str] = field(default_factory=list)
    """What it sees beyond that at the end."""
    witnessed: bool = False
    busy: list[str] = field(default_factory=list)
    """Connections with an operation that began with the rights of then."""
    trouble: str = ""
    connections: list[Connection] = field(default_factory=list)
    left: list[LeftBehind] = field(default_factory=list)


class Revoker:
    """Ends leases on one directory."""

    def __init__(self, directory: Directory, entries: Entries, *, broker: str) -> None:
        self._directory = directory
        self._entries = entries
        self._broker = broker

    async def revoke(self, orders: Sequence[RevokeOrder]) -> Sequence[Revocation]:
        """End all of them, and prove each. Raises `Unavailable` when the directory cannot be reached."""
        started = asyncio.get_running_loop().time()
        randomness, entries = self._entries.randomness, self._entries
        works = [
            _Work(order=order, name=entries.name_of(order.principal), secret=randomness(32).hex()) for order in orders
        ]
        gate = asyncio.Semaphore(_AT_ONCE)
        address = self._entries.settings.address

        async def closed(work: _Work) -> None:
            async with gate:
                until = entries.clock.now() + _WITNESS_LIVES
                work.existed = await self._directory.run(
                    lambda link: entries.close_door(link, work.order.principal, work.secret, until=until)
                )

        async def ended(work: _Work) -> None:
            async with gate:
                await self._end(work, branches, public, watched=live is not None)

        await _all(*(closed(work) for work in works))
        live = await self._directory.run(entries.connections)
        for work in works:
            work.connections = _of(work.name, live)
        branches = await self._directory.run(entries.branches)
        public = await self._directory.apart(replace(address, user=""), "", lambda link: _public(link, branches))
        await _all(*(ended(work) for work in works))
        await self._settle(works, watched=live is not None)
        proofs = await self._prove(works, watched=live is not None)
        duration = timedelta(seconds=asyncio.get_running_loop().time() - started)
        return [
            Revocation(
                principal=work.order.principal,
                gone=work.gone and not (work.connections and work.trouble),
                sessions_ended=0 if work.trouble else len(work.connections),
                proof=proof,
                left_behind=tuple(work.left),
                duration=duration,
            )
            for work, proof in zip(works, proofs, strict=True)
        ]

    async def _end(self, work: _Work, branches: Sequence[str], public: Sight, *, watched: bool) -> None:
        """Everything from the witness to the entry's end, in one thread."""
        entries, address = self._entries, self._entries.settings.address

        def with_witness(witness: Link) -> None:
            admitted = witness.bound.code == SUCCESS
            if admitted:
                seen = sight(witness, branches)
                work.saw = {name: seen[name] for name in beyond(seen, public, [work.name])}
            self._directory.on_link(lambda link: _destroy(link, entries, work))
            if admitted:
                work.still = beyond(sight(witness, branches), public)
                work.witnessed = True

        if work.existed or not watched or work.connections:
            if not work.existed:
                # Gone, but maybe with connections alive: whether they have rights is asked under the same name.
                await self._directory.run(
                    lambda link: entries.put(
                        link,
                        work.order.principal,
                        work.secret,
                        label="witness of a revocation",
                        expires=entries.clock.now() + _WITNESS_LIVES,
                    )
                )
            await self._directory.apart(replace(address, user=work.name), work.secret, with_witness)
        else:
            await self._directory.run(lambda link: _destroy(link, entries, work))

    async def _settle(self, works: Sequence[_Work], *, watched: bool) -> None:
        """Wait a while for operations that began with the rights of then; say of each connection what became of it."""
        clock = asyncio.get_running_loop().time
        until = clock() + _OPERATIONS_WITHIN
        open_still = [work for work in works if work.connections]
        while open_still:
            live = await self._directory.run(self._entries.connections)
            for work in open_still:
                work.busy = [one.number for one in _of(work.name, live) if one.busy]
            if clock() > until or not any(work.busy for work in open_still):
                break
            await asyncio.sleep(_LOOK_AGAIN)
        for work in works:
            work.trouble = _trouble(work, watched=watched, follows=self._entries.layout.replicates)
            for connection in work.connections:
                what = f"connection {connection.number} from {connection.peer[:80]}"
                fate = "open, and not contained" if work.trouble else "open, without rights"
                work.left.append(LeftBehind(what=what, fate=fate))

    async def _prove(self, works: Sequence[_Work], *, watched: bool) -> list[Proof]:
        """Be refused with each secret on each server, where the broker's own login works in the same run."""
        settings = self._entries.settings
        servers = (settings.address, *settings.replicas)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def tried(work: _Work, server: Address) -> Outcome:
            async with gate:
                return await self._refusal(replace(server, user=work.name), work.order.secret, server)

        try:
            controls = [await self._login(server, self._directory.secret) for server in servers]
            answers = [await asyncio.gather(*(tried(work, server) for server in servers)) for work in works]
        except RemitError as error:
            if settings.replicas:
                return [Unproved(why=f"not every server could be asked: {error.message}"[:400]) for _ in works]
            raise
        return [
            _judge(work, answer, controls, self._broker, watched=watched)
            for work, answer in zip(works, answers, strict=True)
        ]

    async def _refusal(self, address: Address, secret: str, server: Address) -> Outcome:
        """What a login gets; a replica has a while to hear that the entry is gone."""
        clock = asyncio.get_running_loop().time
        until = clock() + (_REPLICATES_WITHIN if server in self._entries.settings.replicas else 0)
        while True:
            answer = await self._login(address, secret)
            if answer.code != SUCCESS or clock() >= until:
                return answer
            await asyncio.sleep(_LOOK_AGAIN)

    async def _login(self, address: Address, secret: str) -> Outcome:
        return await self._directory.apart(address, secret, lambda link: link.bound)


def _destroy(link: Link, entries: Entries, work: _Work) -> None:
    principal = work.order.principal
    groups = entries.memberships(link, principal)
    work.had_rights = bool(groups)
    for group in entries.leave(link, principal, groups):
        work.left.append(LeftBehind(what=f"group {group[:160]} had no other member", fate="kept"))
    for name in entries.destroy(link, principal):
        work.left.append(LeftBehind(what=f"entry {name[:160]}", fate="removed"))
    made, changed = entries.made_by(link, principal)
    for name in made:
        removed = entries.settings.delete_made and entries.remove_made(link, name)
        work.left.append(LeftBehind(what=f"entry {name[:160]}", fate="removed" if removed else "kept"))
    work.left += [LeftBehind(what=f"changes to {name[:160]}", fate="kept") for name in changed]
    # Nothing may have put it back meanwhile.
    work.had_rights |= bool(entries.leave(link, principal, late := entries.memberships(link, principal)) or late)
    work.gone = not entries.exists(link, principal) and not entries.memberships(link, principal)


def _trouble(work: _Work, *, watched: bool, follows: bool) -> str:
    """Why connections of the lease may still have rights, or nothing."""
    if watched and not work.connections:
        return ""
    if not work.witnessed:
        return "what an open connection may still do could not be tried" if work.existed or work.connections else ""
    if work.still:
        return (
            f"an open connection keeps rights that no group gave: it sees `{work.still[0][:120]}`"
            + (f" and {len(work.still) - 1} more" if len(work.still) > 1 else "")
            + "; give rights by groups alone, or end it at the server"
        )
    if work.busy:
        return f"connection {work.busy[0]} has an operation under way, with the groups of when it began"
    if not watched and follows:
        return "a search that follows changes may be open, with the groups of when it began"
    if work.had_rights and not work.saw:
        return "nothing that the role may read was found to try: name it in the option `probe`"
    return ""


def _judge(work: _Work, tried: Sequence[Outcome], controls: Sequence[Outcome], broker: str, *, watched: bool) -> Proof:
    if not work.gone:
        return Unproved(why="the entry or a membership would not go")
    if any(one.code == SUCCESS for one in tried):
        return Unproved(why="the server still admits the credential")
    if refused := [one.words for one in controls if one.code != SUCCESS]:
        return Unproved(why=f"the control was refused too: {refused[0]}")
    if other := [one.words for one in tried if one.code != INVALID_CREDENTIALS]:
        return Unproved(why=f"the refusal is not of the credential: {other[0]}")
    if work.trouble:
        return Unproved(why=work.trouble if watched else f"{work.trouble} (cn=Monitor does not show connections to us)")
    control = f"login as {broker}"
    if work.saw:
        control += f"; a connection of the lease saw {len(work.saw)} entries before and none after"
    return Proved(refusal=tried[0].words, control=control)


def _public(link: Link, branches: Sequence[str]) -> Sight:
    """What is seen without any login; nothing where that is refused."""
    return sight(link, branches) if link.bound.code == SUCCESS else {}


def _of(name: str, live: Sequence[Connection] | None) -> list[Connection]:
    wanted = same_name(name)
    return [one for one in live or () if one.name and same_name(one.name) == wanted]


async def _all(*steps: object) -> None:
    """Every step to its end, then the first error: what could be ended is, though one could not."""
    done = await asyncio.gather(*steps, return_exceptions=True)  # type: ignore[call-overload]
    errors = [one for one in done if isinstance(one, BaseException)]
    for error in sorted(errors, key=lambda one: isinstance(one, Unavailable)):
        raise error
