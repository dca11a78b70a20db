"""What a Redis user may do: its ACL rules evaluated as the server evaluates them, pure and in bounded time.

A user has its own set of rights and any number of selectors; one of them must allow the whole call (command, every
key with what is done to it, every channel). `may` answers as `ACL DRYRUN` does, and is tested against it.

Spec: Redis documentation, "ACL" (rules, selectors, key permissions), "ACL DRYRUN", "COMMAND".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

READS: Final = frozenset({"access"})
WRITES: Final = frozenset({"insert", "delete", "update"})
"""Flags of a key, as `COMMAND GETKEYSANDFLAGS` says them, that need the right to read, and to write."""
_MOST_RULES: Final = 20_000


class Verdict(IntEnum):
    """Why a call is refused; of several sets of rights that refuse, the greatest counts."""

    ALLOWED = 0
    COMMAND = 1
    KEY = 2
    CHANNEL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command or subcommand (`config|set`) of the server's own table."""

    name: str
    categories: frozenset[str] = frozenset()
    """Without the `@`."""
    always: bool = False
    """Everybody may give it, logged in or not: `auth`, `hello`, `quit`."""
    keys: tuple[frozenset[str], ...] = ()
    """What it does to each of its keys, by flags; empty where it touches none."""
    optional: tuple[frozenset[str], ...] = ()
    """The same of keys that only some of its options name (`STORE`)."""
    channels: bool = False
    """The server looks at the channels that it names."""
    below: tuple[str, ...] = ()
    """Full names of its subcommands."""


@dataclass(frozen=True, slots=True, eq=False)
class Commands:
    """A server's table of commands."""

    by_name: Mapping[str, Command]

    def find(self, name: str) -> Command | None:
        return self.by_name.get(name.lower())

    def __iter__(self) -> Any:
        return iter(self.by_name.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `arguments` are what follows the command's (and subcommand's) name."""

    command: str
    arguments: tuple[str, ...] = ()
    keys: tuple[tuple[str, frozenset[str]], ...] = ()
    """Each key with its flags, as `COMMAND GETKEYSANDFLAGS` says them."""
    channels: tuple[tuple[str, bool], ...] = ()
    """Each channel, and whether it is a pattern."""


@dataclass(slots=True)
class Rights:
    """One set of rights: a user's own, or a selector."""

    every_command: bool = False
    allowed: set[str] = field(default_factory=set)
    first: dict[str, set[str]] = field(default_factory=dict)
    """Command → first arguments that are allowed though the command is not (`+select|0`)."""
    every_key: bool = False
    keys: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    """Pattern → whether it lets read, and write; the same pattern given twice has what both give."""
    every_channel: bool = False
    channels: list[str] = field(default_factory=list)

    def gives(self, command: Command) -> bool:
        """Whether the command may be given at all, with some keys and channels."""
        return self.every_command or command.always or command.name in self.allowed

    def verdict(self, call: Call, command: Command) -> Verdict:
        """What these rights alone say to a call."""
        if not self.gives(command):
            argument = call.arguments[0].lower() if call.arguments else None
            if argument is None or argument not in self.first.get(command.name, ()):
                return Verdict.COMMAND
        if not self.every_key and not all(self._reaches(key, flags) for key, flags in call.keys):
            return Verdict.KEY
        if not self.every_channel and not all(self._speaks(text, pattern) for text, pattern in call.channels):
            return Verdict.CHANNEL
        return Verdict.ALLOWED

    def _reaches(self, key: str, flags: frozenset[str]) -> bool:
        reads, writes = bool(flags & READS), bool(flags & WRITES)
        return any(
            (read or not reads) and (write or not writes) and matches(text, key)
            for text, (read, write) in self.keys.items()
        )

    def _speaks(self, channel: str, pattern: bool) -> bool:
        # A subscription to a pattern is held against the rules letter by letter: it may not be wider than one.
        return any(text == channel if pattern else matches(text, channel) for text in self.channels)


@dataclass(slots=True)
class Acl:
    """A user."""

    enabled: bool = False
    no_password: bool = False
    rights: list[Rights] = field(default_factory=lambda: [Rights()])
    """Its own first, then each selector."""
    strange: list[str] = field(default_factory=list)
    """Rules that name no command or category of the server, and such as were left out beyond the bound."""

    def may(self, call: Call, commands: Commands) -> Verdict:
        """Whether the user may make a call; a command that the server does not have is refused."""
        command = commands.find(call.command)
        if command is None:
            return Verdict.COMMAND
        worst = Verdict.COMMAND
        for each in self.rights:
            said = each.verdict(call, command)
            if said is Verdict.ALLOWED:
                return said
            worst = max(worst, said)
        return worst


def read_acl(words: Sequence[str], commands: Commands) -> Acl:
    """Carry out rules in order, as `ACL SETUSER` takes them and `ACL LIST` shows them, on a new user.

    Passwords are not kept. A selector is one word in parentheses, or the words between them.
    """
    acl = Acl()
    for word in _whole(words, acl):
        if word.startswith("("):
            inner = Rights()
            for each in word.strip("()").split():
                _rule(inner, each, commands, acl)
            acl.rights.append(inner)
            continue
        match word.lower():
            case "on" | "off":
                acl.enabled = word.lower() == "on"
            case "nopass":
                acl.no_password = True
            case "resetpass":
                acl.no_password = False
            case "clearselectors":
                del acl.rights[1:]
            case "reset":
                acl.enabled, acl.no_password, acl.rights = False, False, [Rights()]
            case _:
                _rule(acl.rights[0], word, commands, acl)
    return acl


def _whole(words: Sequence[str], acl: Acl) -> Iterable[str]:
    """The words, with each selector as one of them."""
    open_: list[str] = []
    for word in words[:_MOST_RULES]:
        if open_ or (word.startswith("(") and not word.endswith(")")):
            open_.append(word)
            if word.endswith(")"):
                yield " ".join(open_)
                open_ = []
        else:
            yield word
    if len(words) > _MOST_RULES:
        acl.strange.append(f"{len(words) - _MOST_RULES} rules beyond the bound")


def _rule(rights: Rights, word: str, commands: Commands, acl: Acl) -> None:
    match word.lower():
        case "allkeys" | "~*" | "%rw~*" | "%wr~*":
            rights.every_key, rights.keys = True, {}
        case "resetkeys":
            rights.every_key, rights.keys = False, {}
        case "allchannels" | "&*":
            rights.every_channel, rights.channels = True, []
        case "resetchannels":
            rights.every_channel, rights.channels = False, []
        case "allcommands" | "+@all":
            rights.every_command, rights.allowed, rights.first = True, set(commands.by_name), {}
        case "nocommands" | "-@all":
            rights.every_command, rights.allowed, rights.first = False, set(), {}
        case _ if word.startswith(("~", "%")):
            mode, _, pattern = word.partition("~")
            read, write = ("R" in mode.upper(), "W" in mode.upper()) if mode else (True, True)
            known = rights.keys.get(pattern, (False, False))
            rights.keys[pattern] = (read or known[0], write or known[1])
        case _ if word.startswith("&"):
            rights.channels.append(word[1:])
        case _ if word[:1] in ("+", "-") and len(word) > 1:
            _command_rule(rights, word, commands, acl)
        case _:
            pass  # passwords, sanitize-payload: nothing that says what it may do


def _command_rule(rights: Rights, word: str, commands: Commands, acl: Acl) -> None:
    allow, name = word[0] == "+", word[1:].lower()
    if name.startswith("@"):
        meant = [each for each in commands if name[1:] in each.categories]
        if not meant:
            acl.strange.append(word)
        for each in meant:
            _change(rights, each, allow)
        return
    command = commands.find(name)
    if command is not None:
        _change(rights, command, allow)
        return
    above, _, argument = name.partition("|")
    parent = commands.find(above)
    if allow and argument and parent is not None and not parent.below:
        rights.first.setdefault(parent.name, set()).add(argument)
    else:
        acl.strange.append(word)


def _change(rights: Rights, command: Command, allow: bool) -> None:
    """A command with its subcommands; what was taken away leaves its mark on `+@all`."""
    for name in (command.name, *command.below):
        if allow:
            rights.allowed.add(name)
        else:
            rights.allowed.discard(name)
            rights.every_command = False
    rights.first.pop(command.name, None)


def table_of(rows: Mapping[str, Any]) -> Commands:
    """The table of `COMMAND`, as redis-py gives it: by name, with subcommands as bare rows."""
    found: dict[str, Command] = {}
    for row in rows.values():
        if not isinstance(row, Mapping):
            continue
        inner = [each for each in row.get("subcommands") or () if isinstance(each, (list, tuple)) and len(each) > 6]
        for each in inner:
            made = _command(str(each[0]), each[2], each[6], each[8] if len(each) > 8 else (), each[3])
            found[made.name] = made
        made = _command(
            str(row.get("name", "")), row.get("flags") or (), row.get("acl_categories") or (),
            row.get("key_specifications") or (), row.get("first_key_pos") or 0,
            tuple(str(each[0]).lower() for each in inner),
        )  # fmt: skip
        found[made.name] = made
    return Commands(found)


def _command(
    name: str, flags: Iterable[Any], categories: Iterable[Any], specs: Iterable[Any], first: Any,
    below: tuple[str, ...] = (),
) -> Command:  # fmt: skip
    keys, optional = _specifications(specs)
    words = {str(each).lower() for each in flags}
    if not keys and first:
        # Before Redis 7 nothing says what is done to the keys: what may write is taken to do both.
        keys = (frozenset({"access", "update"} if "write" in words else {"access"}),)
    return Command(
        name=name.lower(), categories=frozenset(str(each).lower().lstrip("@") for each in categories),
        always="no_auth" in words, keys=keys, optional=optional, channels=name.lower() in CHANNELS, below=below,
    )  # fmt: skip


def _specifications(specs: Iterable[Any]) -> tuple[tuple[frozenset[str], ...], tuple[frozenset[str], ...]]:
    """What is done to the keys that a call must have, and to those that its options add."""
    keys: list[frozenset[str]] = []
    optional: list[frozenset[str]] = []
    for each in specs:
        spec = _said(each)
        flags = frozenset(str(flag).lower() for flag in spec.get("flags") or ())
        if "not_key" in flags:
            continue
        found_by = _said(spec.get("begin_search") or ()).get("type")
        (optional if keys and found_by != "index" else keys).append(flags & (READS | WRITES))
    return tuple(keys), tuple(optional)


CHANNELS: Final = frozenset({"publish", "spublish", "subscribe", "ssubscribe", "psubscribe"})


def _said(spec: Any) -> Mapping[str, Any]:
    if isinstance(spec, Mapping):
        return spec
    return dict(zip(spec[::2], spec[1::2], strict=False)) if isinstance(spec, (list, tuple)) else {}


# Patterns


def matches(pattern: str, text: str) -> bool:
    """Whether a glob of Redis matches: `*`, `?`, `[a-z]`, `[^a]`, and the backslash before what is meant as it is.

    Takes time of the product of the lengths at most, where the server's own search may take far more.
    """
    tokens = _tokens(pattern)
    given = text.encode("utf-8", "surrogateescape")
    if not given:
        return not tokens  # the server never looks at a pattern for what is empty
    at = token = 0
    star, mark = -1, 0
    while at < len(given):
        if token < len(tokens) and tokens[token] is None:
            star, mark = token, at
            token += 1
        elif token < len(tokens) and given[at] in (tokens[token] or ()):
            at, token = at + 1, token + 1
        elif star >= 0:
            mark += 1
            at, token = mark, star + 1
        else:
            return False
    return all(each is None for each in tokens[token:])


@lru_cache(maxsize=4096)
def _tokens(pattern: str) -> tuple[frozenset[int] | None, ...]:
    """Each token is the set of bytes that it admits; `None` is a star."""
    given = pattern.encode("utf-8", "surrogateescape")[:10_000]
    found: list[frozenset[int] | None] = []
    at = 0
    while at < len(given):
        mark = given[at]
        if mark == ord("*"):
            if not found or found[-1] is not None:
                found.append(None)
            at += 1
        elif mark == ord("?"):
            found.append(_ANY)
            at += 1
        elif mark == ord("["):
            admitted, at = _class(given, at + 1)
            found.append(admitted)
        else:
            at += mark == ord("\\") and at + 1 < len(given)
            found.append(frozenset({given[at]}))
            at += 1
    return tuple(found)


_ANY: Final = frozenset(range(256))


def _class(given: bytes, at: int) -> tuple[frozenset[int], int]:
    negated = given[at : at + 1] == b"^"
    at += negated
    admitted: set[int] = set()
    while at < len(given) and given[at] != ord("]"):
        if given[at] == ord("\\") and at + 1 < len(given):
            admitted.add(given[at + 1])
            at += 2
        elif at + 2 < len(given) and given[at + 1] == ord("-"):
            low, high = sorted((given[at], given[at + 2]))
            admitted.update(range(low, high + 1))
            at += 3
        else:
            admitted.add(given[at])
            at += 1
    return (_ANY - admitted if negated else frozenset(admitted)), at + 1
