"""What a Redis target can be told: options, and roles in Redis' own language of rights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remit.access.brokers.options import bad_option, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured

MANIFEST = BrokerManifest(
    id="redis",
    title="Redis 7 and later, Valkey",
    needs=(
        "ACL SETUSER remit_broker on >… resetkeys resetchannels -@all +ping +role +info +config|get +cluster|nodes "
        "+acl|whoami +acl|users +acl|getuser +acl|setuser +acl|deluser +acl|save +client|list +client|kill",
        "-- the same user with the same password on every replica and node",
        "ACL SETUSER default off",
    ),
    fail_safe=False,
    native_expiry=False,
    hazards=(
        "users of Redis know no expiry: with a dead Remit a lease goes on until the next start of Remit",
        "a right to set users is as much as every right: guard the broker's password as an administrator's",
        "keys that a lease wrote are data of its role and stay; nobody can tell who wrote them",
        "a connection that logs in again as somebody else is that one's: it is closed where it was seen before as the "
        "lease's (option `census`), and not where both logins fell between two looks",
        "rights hold in every numbered database: SELECT is confined to the need's, but a connection begins in 0",
        "users are neither replicated nor in dumps: they are set on every node that can be found, and a node that was "
        "away at the mint does not know the lease",
        "users that somebody wrote into redis.conf or an aclfile while they lived come back with a restart: the sweep "
        "ends them",
    ),
)

_OPTIONS = frozenset({"ca", "tls", "nodes", "allow", "census"})
_COMMAND = r"[a-z][a-z0-9_.-]{0,40}(?:\|[a-z0-9_-]{1,40})?"
_RULE = re.compile(rf"(?:~|%R~|%W~|%RW~|&)\S{{1,200}}|[+-](?:@[a-z]{{2,20}}|{_COMMAND})")
_BROAD = frozenset({"+@all", "+@admin", "+@dangerous", "+@scripting", "~*", "%RW~*", "allkeys", "allcommands"})
_NEVER = re.compile(
    r"acl|config|function|fcall|debug|module|shutdown|replicaof|slaveof|sync|psync|replconf|monitor|failover|save|bgsave"
    r"|bgrewriteaof|script|client|cluster|flushall|migrate|restore|swapdb|latency|slowlog|pfdebug"
)
DENIED = (
    *("-@admin", "-@dangerous", "-@scripting", "-function", "-acl", "-config", "-client|kill", "-client|list"),
    # They show names of keys, or of how many, that the patterns do not cover.
    *("-scan", "-randomkey", "-dbsize", "-keys"),
    # They reach other numbered databases.
    *("-select", "-move", "-swapdb"),
)
"""Appended to the rules of every role; only `allow` brings some of it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options and roles, decoded: whatever is not known is an error."""

    tls: bool
    ca: str
    nodes: tuple[tuple[str, int], ...]
    """Servers beside the first and beside those of which it tells."""
    allow: tuple[str, ...]
    """Rules that a role gets back though they are denied to all, as `+scan`."""
    census: float
    """Seconds between two looks at who is connected, while leases live; 0: none but at renewals."""


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured` (`access.target.option`, `access.redis.role`) names what is wrong."""
    options: Mapping[str, str] = target.options
    require_known(options, _OPTIONS)
    if options.get("tls", "false") not in ("true", "false"):
        raise bad_option("tls", "use `true` or `false`")
    if target.database and not re.fullmatch(r"[0-9]{1,4}", target.database):
        raise bad_option("database", "databases of Redis are numbers")
    for rules in target.roles.values():
        check_role(rules)
    census = options.get("census", "5")
    if not re.fullmatch(r"[0-9]{1,4}", census):
        raise bad_option("census", "use a number of seconds, or 0")
    return Settings(
        tls=options.get("tls") == "true",
        ca=options.get("ca", ""),
        nodes=tuple(_node(part) for part in _words(options.get("nodes", ""))),
        allow=tuple(_allowed(word) for word in _words(options.get("allow", ""))),
        census=float(census),
    )


def check_role(rules: str) -> None:
    """Refuse what is no rule of rights, and rights over everything."""
    words = rules.split()
    for word in words:
        if word.lower() in _BROAD:
            raise _bad_role(word, "name the keys, channels and commands that tasks in this role need")
        if not _RULE.fullmatch(word):
            raise _bad_role(word, "use ~KEYS, %R~KEYS, %W~KEYS, &CHANNELS, +COMMAND, -COMMAND, +@CATEGORY, -@CATEGORY")
    if not any(word.startswith("+") for word in words):
        raise _bad_role(rules[:60], "a role needs at least one +COMMAND or +@CATEGORY")


def rules_of(role: str, settings: Settings, database: str) -> Sequence[str]:
    """What a lease may: its role, then what nobody may, then what this target allows all the same."""
    return (*role.split(), *DENIED, f"+select|{database or '0'}", *settings.allow)


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _node(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise bad_option("nodes", "write HOST:PORT,HOST:PORT")
    return host.strip("[]"), int(port)


def _allowed(word: str) -> str:
    command = word.removeprefix("+").lower()
    if not re.fullmatch(_COMMAND, command) or _NEVER.fullmatch(command.partition("|")[0]):
        raise bad_option("allow", "name single commands; those that administer the server are never allowed")
    return f"+{command}"


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.redis.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
