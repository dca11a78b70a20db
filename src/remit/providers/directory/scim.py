"""A directory over SCIM 2.0: all users and groups, page by page, with a bearer token.

A reading is whole or it is none: an answer that breaks off, a page that is missing or a count that does not come
together raises, because whoever is not shown is taken to have left.

Spec: RFC 7644 section 3.4.2.4 (pagination), 3.12 (errors); RFC 7643 section 4.1, 4.2, 4.3 (manager).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from remit.kernel.errors import Unavailable
from remit.providers.directory.records import MOST_PEOPLE, Human, Shown, address_of, clean
from remit.providers.rest import Rest

_PAGE: Final = 200
_ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


async def read_scim(address: str, token: str, *, ca_file: str | None = None) -> Shown:
    """Everybody who is active. Raises `Unavailable` (`providers.directory.partial`, `providers.rest.…`), `Rejected`."""
    rest = Rest(address, ca_file=ca_file)
    emails: dict[str, str] = {}
    leads: dict[str, str] = {}
    names: dict[str, str] = {}
    without = 0
    async for user in _all(rest, token, "/Users"):
        if str(user.get("active", True)).strip().lower() == "false":
            continue
        email = _address(user)
        if not email:
            without += 1
            continue
        identifier = str(user["id"])
        emails[identifier] = email
        names[identifier] = clean(user.get("displayName") or user.get("userName") or email, 200)
        enterprise = user.get(_ENTERPRISE)
        manager = enterprise.get("manager") if isinstance(enterprise, dict) else None
        if isinstance(manager, dict) and manager.get("value"):
            leads[identifier] = str(manager["value"])
    teams: dict[str, tuple[str, ...]] = {}
    async for group in _all(rest, token, "/Groups"):
        found = tuple(
            emails[str(each.get("value"))] for each in _objects(group, "members") if str(each.get("value")) in emails
        )
        if name := clean(group.get("displayName") or "", 128):
            teams[name] = found
    people = tuple(
        Human(email=email, display=names[identifier], manager=emails.get(leads.get(identifier, ""), ""))
        for identifier, email in emails.items()
    )
    return Shown(people=people, teams=teams, without_address=without)


async def _all(rest: Rest, token: str, path: str) -> AsyncIterator[Mapping[str, Any]]:
    """Every resource of one kind; raises when a page is missing or the list changes its length on the way."""
    start, expected = 1, -1
    seen: set[str] = set()
    while True:
        answer = await rest.ask(
            "GET",
            f"{path}?startIndex={start}&count={_PAGE}",
            headers={"authorization": f"Bearer {token}", "accept": "application/scim+json"},
        )
        total, found = answer.get("totalResults"), answer.get("Resources") or []
        if not isinstance(total, int) or not isinstance(found, list) or not 0 <= total <= MOST_PEOPLE:
            raise _partial(path, "its answer is no list")
        if expected >= 0 and total != expected:
            raise _partial(path, "it changed while it was read")
        expected = total
        for each in found:
            # One that comes twice stands where another should: that one would be taken to have left.
            identifier = str(each.get("id") or "") if isinstance(each, dict) else ""
            if not identifier or identifier in seen:
                raise _partial(path, "an entry has no id, or comes twice")
            seen.add(identifier)
            yield each
        start += len(found)
        if start > total:
            return
        if not found:
            raise _partial(path, f"only {start - 1} of {total} came")


def _address(user: Mapping[str, Any]) -> str:
    """The primary address, else the first, else the user name if it is one."""
    emails = _objects(user, "emails")
    primary = [each for each in emails if each.get("primary") is True]
    for each in (*primary, *emails):
        if found := address_of(each.get("value")):
            return found
    return address_of(user.get("userName"))


def _objects(of: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = of.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _partial(path: str, why: str) -> Unavailable:
    return Unavailable(
        "providers.directory.partial",
        f"the directory's `{path}` was not read whole: {why}",
        next_step="nothing was changed; it is read again later",
    )
