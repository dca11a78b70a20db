"""A Redis user's rights → edges: keys and channels that it reaches, powers over the server, whom it can become.

`redis_acl` evaluates the rules; here stands what each command gives beyond the keys that it names. Scripts and
functions run under the rules of who calls them: `EVAL` opens nothing, but who replaces a function acts for its next
caller.

Spec: Redis documentation, "ACL", "Security", "CONFIG SET" (protected configurations, since 7), "Functions".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from remit.inventory.connectors.redis_acl import READS, WRITES, Acl, Command, Commands, Rights, read_acl
from remit.inventory.connectors.redis_commands import CARRIED
from remit.providers.redis.inventory import Rules, User, words_of

_MOST: Final = 200
"""Patterns of one user that become edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Something that a user reaches. `target` is `keys`, `channels`, `server`, `users` (any of them) or `default`."""

    target: str
    pattern: str = ""
    actions: tuple[str, ...]
    evidence: str
    conditions: tuple[str, ...] = ()
    cut: str = ""
    """The whole command that takes it away."""
    without: frozenset[tuple[int, str]] = frozenset()
    """What the cut takes out: patterns by the set of rights that they stand in (0: the user's own)."""
    remove: tuple[str, ...] = ()
    """And commands, out of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Power:
    target: str
    action: str
    condition: str = ""
    since_7: str = ""
    """A condition that Redis 7 brought; before it the power has none."""


_FILES: Final = "it may change where the server saves (enable-protected-configs), and the host runs the file"
_POWERS: Final[Mapping[str, tuple[_Power, ...]]] = {
    "acl|setuser": (_Power(target="users", action="change any user"),),
    "acl|load": (_Power(target="users", action="load users", condition="it can write the file of users"),),
    "acl|list": (_Power(target="users", action="read hashes", condition="a password can be guessed from SHA-256"),),
    "acl|getuser": (
        _Power(target="users", action="read hashes", condition="a password can be guessed from SHA-256"),
    ),
    "config|set": (
        _Power(target="default", action="change its password"),
        _Power(target="users", action="write files", condition=_FILES),
    ),
    "config|get": (_Power(target="default", action="read its password", condition="its password is `requirepass`"),),
    "module|load": (_Power(target="users", action="run code", condition="a module's file is on the server's host",
                           since_7="the server allows MODULE (enable-module-command)"),),
    "module|loadex": (_Power(target="users", action="run code", condition="a module's file is on the server's host",
                             since_7="the server allows MODULE (enable-module-command)"),),
    "function|load": (_Power(target="users", action="replace functions",
                             condition="another user calls a function that it replaced"),),
    "function|restore": (_Power(target="users", action="replace functions",
                                condition="another user calls a function that it replaced"),),
    "sync": (_Power(target="keys", action="read"),),
    "psync": (_Power(target="keys", action="read"),),
    "flushall": (_Power(target="keys", action="write"),),
    "flushdb": (_Power(target="keys", action="write"),),
    "swapdb": (_Power(target="keys", action="write"),),
    "keys": (_Power(target="keys", action="names"),),
    "scan": (_Power(target="keys", action="names"),),
    "randomkey": (_Power(target="keys", action="names"),),
    "monitor": (_Power(target="keys", action="read", condition="others send or ask for it while it listens"),),
    "slowlog|get": (_Power(target="keys", action="read", condition="others send it in a slow command"),),
    "replicaof": (_Power(target="keys", action="write", condition="the server can call a primary of its choice"),),
    "slaveof": (_Power(target="keys", action="write", condition="the server can call a primary of its choice"),),
    "debug": (_Power(target="keys", action="write", since_7="the server allows DEBUG (enable-debug-command)"),),
}  # fmt: skip
GRAVE: Final = frozenset({
    "acl|setuser", "acl|deluser", "acl|load", "acl|save", "config|set", "config|rewrite", "module|load",
    "module|loadex", "debug", "shutdown", "replicaof", "slaveof", "migrate", "failover", "psync", "sync",
    "monitor", "flushall", "flushdb", "function|load", "function|restore", "function|flush", "function|delete",
    "cluster|reset", "cluster|failover", "client|kill", "swapdb", "save",
})  # fmt: skip
"""Commands that end in every right, in all of the data, or in the end of the service."""
_ENDS: Final = GRAVE - {"client|kill", "save"}
_LEAST: Final[Mapping[str, frozenset[str]]] = {
    "set": frozenset({"update"}), "bitfield": frozenset({"access"}),
}  # fmt: skip
"""What a command needs of its key when its options ask for no more."""
_SCRIPTS: Final = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"})
"""They do to keys what the commands that they give may do, and nothing by themselves."""


@lru_cache(maxsize=1024)
def evaluated(rules: tuple[str, ...], commands: Commands) -> Acl:
    """The user of these rules, evaluated once for all who have the same; not to be changed."""
    return read_acl(rules, commands)


def acl_of(user: User, commands: Commands | None) -> Acl:
    """What a user's rules mean by the server's own table of commands, or by the one that we carry."""
    return evaluated(tuple(words_of(user)), commands or CARRIED)


def grave(user: User, commands: Commands | None) -> tuple[str, ...]:
    """The commands that give more than data which the user may give."""
    table, acl = commands or CARRIED, acl_of(user, commands)
    found = (command for name in sorted(_ENDS) if (command := table.find(name)) is not None)
    return tuple(each.name for each in found if any(rights.gives(each) for rights in acl.rights))


def reaches(user: User, commands: Commands | None, *, version: int, default_on: bool) -> Iterator[Reach]:
    """Everything that a user reaches, one entry for each thing.

    `version` is the server's major one, `default_on` tells that somebody may log in as `default`.
    """
    table, acl = commands or CARRIED, acl_of(user, commands)
    sets = (user.rules, *user.selectors)
    found: dict[tuple[str, str], Reach] = {}
    for number, (rules, rights) in enumerate(zip(sets, acl.rights, strict=False)):
        for reach in (*_keys(rules, rights, table, number), *_channels(rules, rights, table, number)):
            _merge(found, reach)
    for reach in _powers(user, acl, table, version, default_on):
        _merge(found, reach)
    for reach in found.values():
        yield replace(reach, cut=cut(user, without=reach.without, remove=reach.remove))


def _merge(found: dict[tuple[str, str], Reach], new: Reach) -> None:
    """One way without conditions is enough; of several each action is kept, and cutting means to cut them all."""
    key = (new.target, new.pattern)
    old = found.get(key)
    if old is None:
        found[key] = new
        return
    certain = [each for each in (old, new) if not each.conditions] or [old, new]
    found[key] = replace(
        certain[0],
        actions=tuple(dict.fromkeys(action for each in certain for action in each.actions)),
        evidence="; ".join(dict.fromkeys(each.evidence for each in certain)),
        conditions=() if not certain[0].conditions else (" or ".join(
            dict.fromkeys(" and ".join(each.conditions) for each in certain)),),
        without=old.without | new.without,
        remove=tuple(dict.fromkeys((*old.remove, *new.remove))),
    )  # fmt: skip


# Keys and channels


def _keys(rules: Rules, rights: Rights, table: Commands, number: int) -> Iterator[Reach]:
    patterns = {"*": (True, True)} if rights.every_key else dict(list(rights.keys.items())[:_MOST])
    if not patterns:
        return
    given = [each for each in table if each.keys and each.name not in _SCRIPTS and rights.gives(each)]
    words = tuple(each for each in rules.commands if each != "-@all")[:100]
    for pattern, mode in patterns.items():
        done = {what for command in given for what in _done(command, mode, rights)}
        if not done:
            continue
        actions = tuple(each for each in ("read", "write") if each in done) or ("metadata",)
        texts = [each for each in rules.keys if each.partition("~")[2] == pattern]
        yield Reach(
            target="keys", pattern=pattern, actions=(*actions, *words), evidence=f"ACL rule {' '.join(texts) or '~*'}",
            without=frozenset((number, text) for text in texts),
        )  # fmt: skip


def _done(command: Command, mode: tuple[bool, bool], rights: Rights) -> Iterator[str]:
    """What a command does to keys of a pattern that lets `mode`; its other keys must be allowed by some pattern."""
    least = _LEAST.get(command.name)
    needed = (least,) if least is not None else command.keys
    modes = [(True, True)] if rights.every_key else list(rights.keys.values())
    for spec in (*needed, *command.keys, *command.optional):
        others = [each for each in needed if each is not spec]
        if _fits(spec, mode) and all(any(_fits(each, other) for other in modes) for each in others):
            if spec & READS:
                yield "read"
            if spec & WRITES:
                yield "write"
            if not spec & (READS | WRITES):
                yield "metadata"


def _fits(spec: frozenset[str], mode: tuple[bool, bool]) -> bool:
    return (mode[0] or not spec & READS) and (mode[1] or not spec & WRITES)


def _channels(rules: Rules, rights: Rights, table: Commands, number: int) -> Iterator[Reach]:
    names = sorted(command.name for command in table if command.channels and rights.gives(command))
    does = tuple(word for word, said in (("publish", "publish"), ("subscribe", "subscribe"))
                 if any(said in name for name in names))  # fmt: skip
    if not does:
        return
    words = tuple(each for each in rules.commands if each != "-@all")[:100]
    for pattern in ["*"] if rights.every_channel else rights.channels[:_MOST]:
        yield Reach(
            target="channels", pattern=pattern, actions=(*does, *words), evidence=f"ACL rule &{pattern}",
            without=frozenset({(number, f"&{pattern}")}),
        )  # fmt: skip


# Powers


def _powers(user: User, acl: Acl, table: Commands, version: int, default_on: bool) -> Iterator[Reach]:
    def given(name: str) -> bool:
        command = table.find(name)
        return command is not None and any(rights.gives(command) for rights in acl.rights)

    by_target: dict[str, list[tuple[str, _Power, tuple[str, ...]]]] = {}
    for name, powers in _POWERS.items():
        if not given(name):
            continue
        for power in powers:
            later = power.since_7 if version >= 7 else ""
            off = "somebody switches `default` on" if power.target == "default" and not default_on else ""
            conditions = tuple(filter(None, (power.condition, later, off)))
            by_target.setdefault(power.target, []).append((name, power, conditions))
    for target, several in by_target.items():
        if target == "default" and user.name == "default":
            continue
        certain = [each for each in several if not each[2]]
        chosen = certain or several
        yield Reach(
            target=target, pattern="*" if target == "keys" else "",
            actions=tuple(dict.fromkeys(power.action for _, power, _ in chosen)),
            evidence=f"it may give {', '.join(name for name, _, _ in chosen)}",
            conditions=() if certain else (" or ".join(dict.fromkeys(" and ".join(each[2]) for each in chosen)),),
            remove=tuple(name for name, _, _ in several),
        )  # fmt: skip
    if names := tuple(name for name in sorted(GRAVE) if given(name)):
        yield Reach(
            target="server", actions=names, evidence=f"it may give {', '.join(names)}",
            remove=names,
        )  # fmt: skip


def cut(user: User, *, without: frozenset[tuple[int, str]], remove: Sequence[str]) -> str:
    """The `ACL SETUSER` that takes patterns out of sets of rights, and commands out of all of them."""
    words: list[str] = []
    own = {text for number, text in without if number == 0}
    taken = [f"-{each}" for each in remove]
    if any(each.startswith(("~", "%")) for each in own):
        words += ["resetkeys", *(each for each in user.rules.keys if each not in own)]
    if any(each.startswith("&") for each in own):
        words += ["resetchannels", *(each for each in user.rules.channels if each not in own)]
    words += taken
    if user.selectors and (remove or len(own) < len(without)):
        words.append("clearselectors")
        for number, each in enumerate(user.selectors, 1):
            keep = [text for text in (*each.keys, *each.channels) if (number, text) not in without]
            words.append(f"({' '.join((*keep, *each.commands, *taken))})")
    return " ".join(("ACL SETUSER", *map(word, (user.name, *words))))


def word(text: str) -> str:
    """A word as redis-cli takes it."""
    if re.fullmatch(r"[A-Za-z0-9_.:~%&*@|+-]+", text):
        return text
    return '"' + "".join(f"\\{each}" if each in '"\\' else each for each in text if each.isprintable()) + '"'


# Keyspaces within keyspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyspaces:
    """Every pattern of keys that some user has."""

    patterns: tuple[str, ...]


_PREFIX: Final = re.compile(r"([^*?\[\]\\]*)\*")


def inside(patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of a pattern and the next narrower ones: what is reached by `a:*` is `a:b:*` too.

    Only what is certain by its form: `prefix*` holds whatever begins with the prefix.
    """
    known = sorted(set(patterns))
    prefixes = {found[1] for each in known if (found := _PREFIX.fullmatch(each))}
    for each in known:
        start = re.split(r"[*?\[\\]", each, maxsplit=1)[0]
        own = _PREFIX.fullmatch(each)
        for length in range(len(start) - (own is not None), -1, -1):
            if start[:length] in prefixes:
                yield f"{start[:length]}*", each
                break
