"""Use, joined: which rows of logs belong to an identity, what they say of it, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from remit.inventory.model import FindingFact, Place
from remit.inventory.records import IdentityRecord
from remit.inventory.use.judge import Terms, Watched, judge, together, window_of
from remit.inventory.use.model import ANY, UseRow, Window
from remit.inventory.use.readers.sshd import key_name
from remit.kernel.ids import credential_name, parse_name
from remit.wiring.settings import UseSettings

CONNECTOR: Final = "use"
LIVE: Final = frozenset({"postgres", "mariadb", "redis", "rabbitmq"})
"""Connectors that see who is connected."""
_CHUNK: Final = 1_000
_SPARK: Final = 90


def names_watched(unit: Any, identity: str) -> list[str]:
    """Every name under which a log may tell of an identity: its own, and those of its credentials."""
    return _watched(unit.inventory.names_of(identity), unit.inventory.credentials_of([identity]))


def _watched(names: Iterable[str], credentials: Iterable[Any]) -> list[str]:
    found = list(names)
    for each in credentials:
        found.append(credential_name(each.fingerprint))
        shown = each.attributes.get("ssh_fingerprint")
        found += [key_name(shown)] if isinstance(shown, str) and shown else []
    return found


def use_of(unit: Any, identity: str) -> dict[str, Any]:
    """What logs tell of one identity; `measured` is false where none was read that would have told."""
    names = names_watched(unit, identity)
    rows = list(unit.use.of(names).values())
    window, whole = window_of(names, unit.use.windows()), together(rows)
    return {
        "identity": identity,
        "measured": window is not None or bool(rows),
        "window": None if window is None else _window(window),
        "last": whole.last if whole else None,
        "first": whole.first if whole else None,
        "count": whole.count if whole else 0,
        "failures": whole.failures if whole else 0,
        "days": _days(whole, unit.now),
        "consumers": [{"consumer": each, "count": times} for each, times in _heaviest(whole)],
        "environments": list(whole.environments) if whole else [],
        "people": list(whole.people) if whole else [],
        "by_name": [{"name": row.name, "last": row.last, "count": row.count} for row in rows],
    }


def _window(window: Window) -> dict[str, Any]:
    return {"system": window.system, "instance": window.instance, "since": window.since, "until": window.until}


def _days(row: UseRow | None, now: datetime) -> list[dict[str, Any]]:
    """The last days, the oldest first."""
    days = [(now - timedelta(days=back)).date().isoformat() for back in reversed(range(_SPARK))]
    return [{"day": day, "count": row.days.get(day, 0) if row else 0} for day in days]


def _heaviest(row: UseRow | None) -> list[tuple[str, int]]:
    return sorted(row.consumers.items(), key=lambda pair: (-pair[1], pair[0])) if row else []


def counted_until(unit: Any, instance: str) -> dict[str, str]:
    """How far the logs of a run's system were counted already, by log: for the connector that goes on from there.

    The rows of logs say so, not the marks of the last run: what an interrupted run, another source or a run of long
    ago counted never counts again.
    """
    system, _, place = instance.partition(" ")
    return {log: str(end) for log, end in unit.use.logs(system, place).items()}


def terms_of(settings: UseSettings) -> Terms:
    """The terms of an installation."""
    days = (settings.tier0_days, settings.tier1_days, settings.tier2_days, settings.tier3_days)
    return Terms(
        days={**dict(enumerate(max(1, each) for each in days)), None: max(1, settings.tier2_days)},
        fresh=timedelta(days=max(1, settings.fresh_days)),
        share=max(0, min(100, settings.share_percent)) / 100,
    )


def judge_run(unit: Any, run: Any, settings: UseSettings) -> int:
    """Write the findings of a run, for all whose use it would have shown; returns how many.

    A run that read a log judges all that the log tells of; one that saw live sessions those of the server that no log
    tells of.
    """
    windows, terms = unit.use.windows(), terms_of(settings)
    if run.connector == CONNECTOR:
        system, _, instance = run.instance.partition(" ")
        here = [(each.system, each.instance) for each in windows if each.system == system]
        here = [each for each in here if instance in (ANY, each[1])]
    elif run.connector in LIVE:
        system, here = run.connector, [(run.connector, run.instance)]
    else:
        return 0
    place = Place(system=system, path=run.scope)
    facts: list[FindingFact] = []
    for of, instance in here:
        after = ""
        while part := unit.use.identities_of(of, instance, after, _CHUNK):
            after = part[-1][0]
            identities = {identity for _, identity in part}
            facts += _judged(unit, identities, windows, place, terms, live=run.connector in LIVE)
    unique = {(fact.rule, fact.subject): fact for fact in facts}
    rows = [(unit.new_id("fd"), fact) for fact in unique.values()]
    unit.inventory.put_findings(run.source, run.run, unit.now, rows)
    return len(rows)


def _judged(
    unit: Any, identities: set[str], windows: list[Window], place: Place, terms: Terms, *, live: bool
) -> list[FindingFact]:
    records: dict[str, IdentityRecord] = unit.inventory.identities(identities)
    names: dict[str, list[str]] = unit.inventory.names_of_all(identities)
    held: dict[str, list[Any]] = {}
    for credential in unit.inventory.credentials_of(identities):
        held.setdefault(credential.identity, []).append(credential)
    watched = {each: _watched(names.get(each, ()), held.get(each, ())) for each in records}
    rows = unit.use.of(name for each in watched.values() for name in each)
    owners = {record.owner for record in records.values()}
    departed = {owner: left(unit, owner) for owner in owners if owner}
    found: list[FindingFact] = []
    for each, kept in records.items():
        record = replace(kept, tier=unit.tier_of(each, kept.tier))
        if live and window_of(watched[each], windows) is not None:
            continue
        one = Watched(
            record=record,
            names=watched[each],
            uses=[rows[name] for name in watched[each] if name in rows],
            departed=departed.get(record.owner or ""),
        )
        found += judge(one, windows, unit.now, place, terms)
    return found


def left(unit: Any, owner: str) -> datetime | None:
    """When the owner left, as the directory or the register of persons says; a team leaves never."""
    kind, mark, name = owner.partition(":")
    if mark and kind != "person":
        return None
    who = name if mark else owner
    person = unit.governance.person(who) or unit.governance.person_by_email(who)
    member = unit.directory.member(who) or (unit.directory.member(person.email) if person else None)
    ends = [member.left if member else None, person.deactivated if person and not person.active else None]
    return min((each for each in ends if each is not None), default=None)


def strangers(unit: Any, limit: int) -> list[dict[str, Any]]:
    """Names in logs that no connector knows."""
    return [
        {"name": row.name, "system": (parse_name(row.name) or ("",))[0], "last": row.last, "count": row.count}
        for row in unit.use.strangers(limit)
    ]
