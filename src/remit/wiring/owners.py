"""Owners: reads the directory, lets leavers go, asks for owners of what nobody owns, and says what a leaver saw."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remit.governance import directory, escalation, exposure
from remit.governance.directory import Change, Group, Member, Reading
from remit.governance.escalation import Ask, AskStatus
from remit.governance.owners import find_owner
from remit.kernel.errors import Misconfigured, NotFound, RemitError
from remit.providers.places import read_private

if TYPE_CHECKING:
    from remit.wiring.control import ControlPlane

_log = logging.getLogger("remit.owners")
_LOOK_SECONDS: Final = 60
_ASK_EVERY: Final = timedelta(minutes=15)
_ASK_MOST: Final = 2_000
"""Identities about which somebody begins to be asked in one round."""
_NAMED: Final = 10
_LEDGER_TYPES: Final = ("access.secret.", "access.target.added")
_LEDGER_MOST: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the directory stands."""

    source: str
    active: int
    left: int
    teams: int
    read: datetime | None
    trouble: str
    asked: int
    """Identities about whose owner somebody is being asked."""


class OwnerKeeper:
    """Keeps the directory fresh. A reading that fails changes nothing, and is told."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._settings = control.settings.directory
        self._read: datetime | None = None
        self._trouble = ""
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Read the directory when it is due, and ask the next one where a deadline passed."""
        due = ask = self._control.clock.now()
        while True:
            now = self._control.clock.now()
            try:
                if self._settings.source and now >= due:
                    due = now + timedelta(minutes=max(1, self._settings.minutes))
                    await self.sync()
                if self._settings.ask and now >= ask:
                    ask = now + _ASK_EVERY
                    await self.ask_about_unowned()
            except RemitError as error:
                _log.warning("the directory is read later: %s", error)
            except Exception as error:  # a supervisor: one odd answer of a directory ends nothing else
                self._trouble = f"a reading broke: {type(error).__name__}"
                _log.error("the directory is read later: %s", type(error).__name__)
            await asyncio.sleep(_LOOK_SECONDS)

    # The directory.

    async def sync(self, *, confirmed_by: str = "", dry_run: bool = False) -> Change:
        """Read the directory whole, and take it as the truth. Raises what the reading does, and `Conflict` (held)."""
        async with self._reading:
            try:
                new = await self._look()
                if dry_run:
                    return await self._control.store.read(lambda unit: directory.plan(unit, new))
                share = self._settings.most_leavers
                change: Change = await self._control.store.write(
                    lambda unit: directory.apply(unit, new, most_share=share, confirmed_by=confirmed_by)
                )
            except RemitError as error:
                self._trouble = error.message
                raise
            self._read, self._trouble = self._control.clock.now(), ""
        if change.left or change.joined:
            await self._control.changed()
        return change

    async def _look(self) -> Reading:
        source = self._settings.source
        if not source:
            raise Misconfigured(
                "governance.directory.none",
                "no directory is configured",
                next_step="set `source` in the section `[directory]` of remit.toml: a file, or the URL of SCIM",
            )
        if "://" in source:
            from remit.providers.directory.scim import read_scim

            token = await asyncio.to_thread(read_private, str(self._path(self._settings.token_file)))
            shown = await read_scim(source, token.strip(), ca_file=self._settings.ca or None)
        else:
            from remit.providers.directory.file import read_file

            shown = await asyncio.to_thread(read_file, self._path(source))
        return directory.reading(
            source,
            (Member(email=each.email, display=each.display, manager=each.manager) for each in shown.people),
            (Group(name=name, members=members) for name, members in shown.teams.items()),
        )

    def _path(self, given: str) -> Path:
        path = Path(given)
        return path if path.is_absolute() else self._control.settings.data.root / path

    async def status(self) -> Status:
        """How it stands."""

        def read(unit: Any) -> tuple[dict[str, int], int]:
            asks = [each for each in unit.directory.asks() if each.status is AskStatus.OPEN]
            return unit.directory.counts(), len(asks)

        counts, asked = await self._control.store.read(read)
        return Status(source=self._settings.source, read=self._read, trouble=self._trouble, asked=asked, **counts)

    # Whom to ask.

    async def chain(self, identity: str) -> tuple[escalation.Candidate, ...]:
        """Whom we would ask about it, in order."""
        fallback = self._settings.fallback
        return await self._control.store.read(lambda unit: escalation.chain(unit, identity, fallback=fallback))

    async def ask(self, identity: str) -> Ask:
        """Ask the next one now. Raises `NotFound` (`governance.owner.nobody`) when there is nobody to ask."""
        fallback = self._settings.fallback
        asked: Ask | None = await self._control.store.write(
            lambda unit: escalation.ask_next(unit, identity, fallback=fallback)
        )
        if asked is None:
            raise NotFound(
                "governance.owner.nobody",
                "it has an owner, or nothing says whom to ask about it",
                next_step="`remit own ID PERSON` assigns one; `directory.fallback` names whom to ask last",
            )
        self._tell([asked])
        return asked

    async def ask_about_unowned(self) -> Sequence[Ask]:
        """Ask about what nobody owns and nobody was asked about, and the next one where a deadline passed."""
        fallback = self._settings.fallback
        asked: list[Ask] = list(
            await self._control.store.write(lambda unit: escalation.escalate_due(unit, fallback=fallback))
        )
        after = ""
        while len(asked) < _ASK_MOST and (page := await self._control.store.read(_unowned(after))):
            after = page[-1].id
            fresh = [each.id for each in page if each.asked is None]
            if fresh:
                asked += await self._control.store.write(_ask_all(fresh, fallback))
        self._tell(asked)
        return asked

    def _tell(self, asked: Sequence[Ask]) -> None:
        """One message for each who is asked, however much it is about."""
        by_owner: dict[str, list[Ask]] = {}
        for ask in asked:
            if ask.status is AskStatus.OPEN:
                by_owner.setdefault(ask.asked, []).append(ask)
        for owner, theirs in by_owner.items():
            more = f"\n… and {len(theirs) - _NAMED} more: `remit own`" if len(theirs) > _NAMED else ""
            self._control.grant_keeper.say(
                f"Remit: does {owner} answer for {len(theirs)} identities?",
                "\n".join(
                    f"{ask.identity} until {ask.deadline:%Y-%m-%d %H:%M} UTC ({ask.why})" for ask in theirs[:_NAMED]
                )
                + f"{more}\n`remit claim ID` takes one; `remit own ID PERSON` gives it to another.",
            )

    async def asks(self) -> Sequence[Ask]:
        """Who is asked about what."""
        return await self._control.store.read(lambda unit: unit.directory.asks())

    # What a leaver saw.

    async def exposed_to(self, name: str) -> tuple[exposure.Exposure, ...]:
        """Secrets that a person can know, as a list to rotate. Raises `NotFound` (`governance.person.unknown`)."""
        return await self._control.store.read(lambda unit: _exposed_to(unit, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unowned:
    id: str
    asked: Ask | None


def _unowned(after: str) -> Callable[[Any], list[_Unowned]]:
    def read(unit: Any) -> list[_Unowned]:
        page = unit.identities.unowned(after=after)
        return [_Unowned(id=each.id, asked=unit.directory.ask(each.id)) for each in page]

    return read


def _ask_all(identities: Sequence[str], fallback: str) -> Callable[[Any], list[Ask]]:
    def work(unit: Any) -> list[Ask]:
        asked = (escalation.ask_next(unit, each, fallback=fallback) for each in identities)
        return [each for each in asked if each is not None]

    return work


def _exposed_to(unit: Any, name: str) -> tuple[exposure.Exposure, ...]:
    found = find_owner(unit, name)
    if found is None:
        raise NotFound(
            "governance.person.unknown",
            f"nobody is known as `{name[:100]}`",
            next_step="`remit people ls`, or `remit directory ls`",
        )
    email = getattr(found, "email", "")
    words = [word for word in (found.name, email, f"@{found.name}", found.actor) if word]
    proposals = unit.identities.proposed_to(words)
    ids = unit.inventory.resolve({each.identity for each in proposals})
    written = exposure.seen_in_files(proposals, ids, unit.inventory.credentials_of(set(ids.values())))
    owned = [each.id for actor in {found.actor, f"person:{email}"} for each in unit.identities.list_by_owner(actor)]
    owned += [each.identity for each in unit.governance.orphans() if each.owner in {found.actor, f"person:{email}"}]
    answered = exposure.answered_for(owned, unit.inventory.credentials_of(owned))
    events = [
        {"type": entry.type, "subject": entry.subject}
        for prefix in _LEDGER_TYPES
        for entry in unit.ledger.latest(_LEDGER_MOST, type_prefix=prefix)
        if entry.actor == found.actor
    ]
    merged = {(each.what, each.identity): each for each in (*exposure.handled(events), *answered, *written)}
    titles = unit.inventory.identities({each.identity for each in merged.values() if each.identity})
    return tuple(
        replace(each, title=f"{each.title} of {titles[each.identity].title}") if each.identity in titles else each
        for each in merged.values()
    )
