"""Exports of chats and of tickets: what each author wrote in each channel, so that a place says who wrote where.

Known by their shape, whatever tool wrote them: Slack (a list of messages a day), Discord (`messages` with `author`),
Teams (`value` with `from`), Jira (`issues` with comments), and issues with their comments as forges export them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from remit.inventory.secrets.sources.budget import Malformed, TooLarge

MOST_BYTES: Final = 32 * 1024 * 1024
MOST_AUTHORS: Final = 5_000
_MOST_DEPTH: Final = 20
_BEGINNING: Final = re.compile(rb"\s*[\[{]")
_SHAPES: Final = (
    re.compile(rb'"type"\s*:\s*"message"'),
    re.compile(rb'"author"\s*:\s*[{"]'),
    re.compile(rb'"from"\s*:\s*\{'),
    re.compile(rb'"(?:reporter|creator|requester|submitter)"\s*:\s*[{"]'),
)
_TEXT: Final = ("text", "content", "body", "description", "message", "html_body", "plain_body", "summary", "note")
_WHEN: Final = ("ts", "timestamp", "createdDateTime", "created", "created_at", "createdAt", "date", "sent_at")
_WHO: Final = ("author", "from", "user", "reporter", "creator", "sender", "requester", "submitter", "username")
_NAMED: Final = ("emailAddress", "email", "mail", "name", "username", "login", "displayName", "display_name", "id")
_WHERE: Final = ("channel", "channelIdentity", "room", "conversation", "project")


def is_conversation(head: bytes, data: bytes) -> bool:
    """Whether a document may be one: cheap, and sure only once `conversation` has read it."""
    return _BEGINNING.match(head) is not None and any(shape.search(data, 0, 65536) for shape in _SHAPES)


def conversation(data: bytes) -> Iterator[tuple[str, bytes]]:
    """`#channel @author` or `KEY @author`, and all that they wrote there. Raises `Malformed`, `TooLarge`."""
    if len(data) > MOST_BYTES:
        raise TooLarge(f"an export larger than {MOST_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("no JSON") from None
    said: dict[str, list[str]] = {}
    rest: list[str] = []
    _walk(document, "", "", said, rest, 0)
    if not said:
        raise Malformed("no conversation")
    for place, texts in said.items():
        yield place, "\n".join(texts).encode("utf-8", "replace")
    if rest:
        yield "", "\n".join(rest).encode("utf-8", "replace")


def _walk(value: Any, channel: str, author: str, said: dict[str, list[str]], rest: list[str], depth: int) -> None:
    """Give every text to the nearest author above it; what nobody wrote is kept too."""
    if depth > _MOST_DEPTH:
        raise Malformed("nested too deeply")
    if isinstance(value, list):
        for each in value:
            _walk(each, channel, author, said, rest, depth + 1)
    elif isinstance(value, dict):
        channel = _channel(value) or channel
        fields = value.get("fields")
        mine = _author(fields if isinstance(fields, dict) and "key" in value else value)
        author = mine if mine else author
        for key, each in value.items():
            if isinstance(each, str):
                _say(f"{key} = {each}" if key not in _TEXT else each, channel, author, said, rest)
            else:
                _walk(each, channel, author, said, rest, depth + 1)
    elif isinstance(value, str):
        _say(value, channel, author, said, rest)


def _say(text: str, channel: str, author: str, said: dict[str, list[str]], rest: list[str]) -> None:
    place = " ".join(filter(None, (channel, f"@{author}" if author else "")))
    if author and (place in said or len(said) < MOST_AUTHORS):
        said.setdefault(place, []).append(text)
    else:
        rest.append(text)


def _author(value: Mapping[str, Any]) -> str:
    """Who wrote this object, if it is one that somebody wrote at some time: a package has an author as well."""
    if not any(value.get(key) for key in _WHEN) or not any(isinstance(value.get(key), str | dict) for key in _TEXT):
        return ""
    profile = value.get("user_profile")
    if isinstance(profile, dict) and (named := _name(profile)):
        return named
    for key in _WHO:
        if named := _name(value.get(key)):
            return named
    return ""


def _name(who: object) -> str:
    """`alice`, or an address; of Teams one level further down."""
    if isinstance(who, str):
        return _short(who)
    if isinstance(who, dict):
        for key in _NAMED:
            if isinstance(who.get(key), str) and who[key]:
                return _short(who[key])
        return _name(who.get("user") or who.get("application"))
    return ""


def _channel(value: Mapping[str, Any]) -> str:
    if isinstance(value.get("key"), str) and isinstance(value.get("fields"), dict):
        return _short(value["key"])  # an issue of Jira
    for key in _WHERE:
        where = value.get(key)
        if isinstance(where, dict):
            named = next((where[each] for each in ("name", "channelId", "id") if isinstance(where.get(each), str)), "")
            if named:
                return f"#{_short(named)}"
        elif isinstance(where, str) and where and key == "channel":
            return f"#{_short(where)}"
    return ""


def _short(text: str) -> str:
    return "".join(mark if mark.isprintable() and mark not in "!/" else "_" for mark in text)[:80]
