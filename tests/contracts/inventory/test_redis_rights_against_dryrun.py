"""Our evaluation of Redis ACL rules against the server's own, on generated users and calls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from redis_stage import RedisServer, redis_server
from remit.inventory.connectors.redis_acl import (
    READS,
    WRITES,
    Call,
    Command,
    Commands,
    Verdict,
    matches,
    read_acl,
    table_of,
)
from remit.inventory.connectors.redis_commands import CARRIED
from remit.providers.redis.inventory import parse_user, words_of

SEED = 20_261
USERS = 400
CALLS = 80
WORDS = ("a", "ab", "a:b", "user:1", "user:22", "order:x", "*", "a*", "[", "é", "user:[1]", "")
PATTERNS = (
    "a*", "user:*", "user:?", "user:[0-9]", "user:[^2]*", "*:x", "a[b-a:]*", r"\*", "order:[a-z]", "a*b*", "[", "[^a",
    "us*:*2", "?", "**", r"user:\[1]", "[a-", "é*",
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as made:
        yield made


@pytest.fixture(scope="module")
def commands(server: RedisServer) -> Commands:
    with server.client() as admin:
        return table_of(admin.execute_command("COMMAND"))


def calls(key: str, other: str) -> list[tuple[str, ...]]:
    """Calls of every sort: keys that are read, written, counted, named by a keyword; subcommands; channels."""
    return [
        ("get", key), ("set", key, "1"), ("set", key, "1", "GET"), ("getex", key), ("getdel", key), ("del", key, other),
        ("exists", key, other), ("type", key), ("rename", key, other), ("copy", key, other), ("mset", key, "1", other, "2"),
        ("sort", key, "STORE", other), ("bitfield", key, "GET", "u8", "0"), ("bitfield", key, "SET", "u8", "0", "1"),
        ("eval", "return 1", "2", key, other), ("fcall", "f", "1", key), ("xread", "STREAMS", key, other, "0", "0"),
        ("xgroup", "create", key, "g", "0"), ("xinfo", "stream", key), ("object", "encoding", key), ("lmove", key, other,
        "LEFT", "RIGHT"), ("zunionstore", key, "2", other, key), ("sinterstore", key, other), ("lmpop", "1", key, "LEFT"),
        ("georadius", key, "1", "1", "1", "m", "STORE", other), ("memory", "usage", key), ("watch", key),
        ("migrate", "127.0.0.1", "1", "", "0", "10", "KEYS", key, other), ("migrate", "h", "1", key, "0", "10"),
        ("publish", key, "m"), ("spublish", key, "m"), ("subscribe", key, other), ("psubscribe", key),
        ("ssubscribe", key), ("unsubscribe", key), ("ping",), ("auth", "x"), ("select", "0"), ("select", "1"),
        ("config", "get", "dir"), ("config", "set", "dir", "/"), ("acl", "setuser", "x"), ("acl", "whoami"),
        ("client", "list"), ("client", "kill", "1.2.3.4:5"), ("flushall",), ("keys", "*"), ("scan", "0"),
        ("debug", "sleep", "0"), ("module", "list"), ("replicaof", "no", "one"), ("monitor",), ("script", "flush"),
        ("function", "list"), ("cluster", "info"), ("shutdown",), ("save",), ("psync", "a", "1"), ("swapdb", "0", "1"),
        ("hello", "3"), ("quit",), ("restore", key, "0", "x"), ("append", key, "x"), ("incr", key), ("pfcount", key),
    ]  # fmt: skip


def user(dice: random.Random, commands: Commands) -> list[str]:
    """A user's rules in no particular order, with and without selectors."""
    names = sorted(commands.by_name)
    categories = sorted({each for command in commands for each in command.categories})

    def rules(most: int) -> Iterator[str]:
        for _ in range(dice.randint(0, most)):
            match dice.randrange(12):
                case 0 | 1 | 2:
                    yield dice.choice("+-") + dice.choice(names)
                case 3 | 4 | 5:
                    yield dice.choice("+-") + "@" + dice.choice(categories)
                case 6 | 7 | 8:
                    yield dice.choice(("~", "%R~", "%W~", "%RW~")) + dice.choice(PATTERNS)
                case 9:
                    yield "&" + dice.choice(PATTERNS)
                case 10:
                    yield dice.choice(("+@all", "-@all", "allkeys", "resetkeys", "allchannels", "resetchannels", "~*"))
                case _:
                    yield dice.choice(("+select|0", "+config|get", "-config|set", "nocommands", "allcommands"))

    words = list(rules(14))
    if any(each in ("~*", "allkeys") for each in words):  # the server wants a reset before another pattern
        words = [each for each in words if not each.startswith(("~", "%"))] + ["~*"] * dice.randint(0, 1)
    if any(each in ("&*", "allchannels") for each in words):
        words = [each for each in words if not each.startswith("&")]
    for _ in range(dice.choice((0, 0, 0, 1, 2))):
        inner = [each for each in rules(6) if each not in ("~*", "allkeys", "allchannels")]
        words.append(f"({' '.join(inner)})")
    return words


def verdict(said: str) -> Verdict:
    if said == "OK":
        return Verdict.ALLOWED
    return {"run": Verdict.COMMAND, "key": Verdict.KEY, "channel": Verdict.CHANNEL}[
        "run" if "to run the" in said else said.rsplit(" ", 1)[1]
    ]


def answers(admin: Any, questions: list[tuple[str, ...]]) -> list[Any]:
    """The server's words to each question, errors among them, in one round trip."""
    connection = admin.connection_pool.get_connection()
    connection.send_packed_command(connection.pack_commands(questions))
    found = []
    for _ in questions:
        try:
            found.append(connection.read_response())
        except Exception as error:
            found.append(error)
    admin.connection_pool.release(connection)
    return found


def test_tens_of_thousands_of_answers_are_those_of_the_server(server: RedisServer, commands: Commands) -> None:
    dice = random.Random(SEED)
    differences: list[str] = []
    seen: Counter[Verdict] = Counter()
    with server.client() as admin:
        for number in range(USERS):
            words = user(dice, commands)
            name = f"u{number}"
            made = answers(admin, [("ACL", "SETUSER", name, *words)])[0]
            if made != "OK":
                continue
            line = next(each for each in admin.execute_command("ACL", "LIST") if each.startswith(f"user {name} "))
            parsed = parse_user(line)
            assert not isinstance(parsed, str), line
            both = read_acl(words, commands), read_acl(words_of(parsed), commands)
            asked = [dice.choice(calls(dice.choice(WORDS), dice.choice(WORDS))) for _ in range(CALLS)]
            dry = answers(admin, [("ACL", "DRYRUN", name, *each) for each in asked])
            keys = answers(admin, [("COMMAND", "GETKEYSANDFLAGS", *each) for each in asked])
            for call, said, touched in zip(asked, dry, keys, strict=True):
                if isinstance(said, Exception):
                    continue  # a call that the server takes from nobody
                question = _call(call, touched, commands)
                for acl in both:
                    ours, theirs = acl.may(question, commands), verdict(str(said))
                    seen[theirs] += 1
                    if ours is not theirs:
                        differences.append(f"{words} | {line} | {call} {touched}: {ours!r}, the server {said!r}")
    assert differences[:3] == []
    assert sum(seen.values()) >= 30_000 and min(seen[each] for each in Verdict) >= 300, seen


def _call(words: tuple[str, ...], touched: Any, commands: Commands) -> Call:
    two = f"{words[0]}|{words[1]}" if len(words) > 1 else ""
    deep = commands.find(two) is not None
    command = commands.find(two if deep else words[0])
    assert command is not None
    rest = words[2 if deep else 1 :]
    spoken = {"publish": rest[:1], "spublish": rest[:1]}.get(words[0], rest) if command.channels else ()
    keys = () if isinstance(touched, Exception) or not command.keys else touched
    return Call(
        command=command.name, arguments=rest,
        keys=tuple((key, frozenset(flag.lower() for flag in flags)) for key, flags in keys),
        channels=tuple((each, words[0] == "psubscribe") for each in spoken),
    )  # fmt: skip


def test_patterns_match_as_the_server_matches_them(server: RedisServer) -> None:
    with server.client() as admin:
        wrong = []
        for key in (each for each in WORDS if each):
            admin.flushall()
            admin.set(key, "1")
            wrong += [
                (text, key) for text in PATTERNS if bool(admin.keys(text)) is not matches(text, key) and text != "*"
            ]
    assert wrong == []


def test_a_pattern_made_to_be_slow_is_answered() -> None:
    assert matches("a*" * 2000 + "b", "a" * 4000) is False


def test_a_rule_that_the_server_does_not_know_is_said_and_gives_nothing(commands: Commands) -> None:
    acl = read_acl(["on", "~*", "+nosuch", "+@nosuch"], commands)
    assert acl.strange == ["+nosuch", "+@nosuch"]
    assert acl.may(Call(command="nosuch"), commands) is Verdict.COMMAND


def test_the_table_that_we_carry_is_the_servers(commands: Commands) -> None:
    theirs = {command.name: command for command in commands}
    shared = [command.name for command in CARRIED if command.name in theirs]
    wrong = [name for name in shared if meaning(CARRIED.by_name[name]) != meaning(theirs[name])]
    assert len(shared) > 300 and len(wrong) < 20, wrong


def meaning(command: Command) -> tuple[Any, ...]:
    """What the evaluation makes of a command; another version of the server may differ in a few."""
    keys = [[(bool(spec & READS), bool(spec & WRITES)) for spec in each] for each in (command.keys, command.optional)]
    return command.categories, command.always, command.channels, set(command.below), keys
