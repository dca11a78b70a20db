"""What a Redis server tells of its users, their connections and its refusals, with rights to look and no others.

Spec: Redis documentation, "ACL", "ACL LIST", "ACL LOG", "CLIENT LIST", "INFO".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.redis.client import Address, Server

T = TypeVar("T")
_HASH: Final = re.compile(r"#[0-9a-f]{64}")
_FIELD: Final = re.compile(r"(?:^| )([a-z-]+)=(\S*)")
_LONGEST: Final = 100_000
"""Characters of one user's rules that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One set of rights: the user's own, or one of its selectors."""

    commands: tuple[str, ...]
    """`+@read`, `-acl` …, in order."""
    keys: tuple[str, ...]
    """`~pattern`, `%R~pattern` …"""
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as `ACL LIST` shows it."""

    name: str
    enabled: bool
    no_password: bool
    hashes: tuple[str, ...] = field(repr=False)
    """SHA-256 of each password, unsalted: as good as a weak password itself."""
    rules: Rules
    selectors: tuple[Rules, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A connection."""

    user: str
    name: str
    address: str
    library: str
    replica: bool
    number: int = 0
    """Of the connection, growing since the server began."""
    age: int = 0
    """Seconds since it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that was refused, as `ACL LOG` keeps it."""

    user: str
    reason: str
    """`auth`, `command`, `key` or `channel`."""
    object: str
    count: int
    age: float
    """Seconds since the last time."""
    client: Client | None = None
    """Who tried it."""


class Reader:
    """One server, read from a thread that has no event loop."""

    def __init__(self, address: Address, secret: str) -> None:
        self._runner = asyncio.Runner()
        try:
            self._server = self._run(_opened(address, secret))
        except BaseException:
            self._runner.close()
            raise

    def close(self) -> None:
        self._run(self._server.close())
        self._runner.close()

    def info(self) -> dict[str, str]:
        """The sections `server`, `replication` and `cluster`."""
        found: dict[str, str] = {}
        for section in ("server", "replication", "cluster"):
            found |= self._run(self._server.info(section))
        return found

    def users(self) -> list[User | str]:
        """Every user; the first word of a line that cannot be read instead of one. `Rejected` before Redis 6."""
        return [parse_user(str(line)) for line in self._run(self._server.run("ACL", "LIST"))]

    def commands(self) -> dict[str, Any]:
        """The server's table of commands: what belongs to which category, and what is done to keys."""
        said = self._run(self._server.run("COMMAND"))
        return {str(key): value for key, value in said.items()} if isinstance(said, dict) else {}

    def clients(self) -> list[Client]:
        """Every connection but our own."""
        said = self._run(self._server.run("CLIENT", "LIST"))
        rows = [dict(_FIELD.findall(line)) for line in str(said).splitlines() if line]
        return [_client(row) for row in rows if row.get("cmd") != "client|list"]

    def refusals(self) -> list[Refusal]:
        """What `ACL LOG` keeps: at most `acllog-max-len` of them."""
        rows = self._run(self._server.run("ACL", "LOG"))
        found = []
        for row in rows if isinstance(rows, list) else ():
            said = _pairs(row)
            found.append(
                Refusal(
                    user=str(said.get("username", "")), reason=str(said.get("reason", "")),
                    object=str(said.get("object", "")), count=int(said.get("count", 1)),
                    age=float(said.get("age-seconds", 0)),
                    client=_client(dict(_FIELD.findall(str(said.get("client-info", ""))))),
                )
            )  # fmt: skip
        return found

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def _client(row: dict[str, str]) -> Client:
    return Client(
        user=row.get("user", ""), name=row.get("name", ""), address=row.get("addr", "").rpartition(":")[0],
        library=" ".join(filter(None, (row.get("lib-name", ""), row.get("lib-ver", "")))),
        replica="S" in row.get("flags", ""), number=_whole(row.get("id", "")), age=_whole(row.get("age", "")),
    )  # fmt: skip


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


async def _opened(address: Address, secret: str) -> Server:
    server = Server(address, secret)
    try:
        await server.run("INFO", "server")
    except Misconfigured as error:
        await server.close()
        raise Misconfigured(
            "inventory.redis.login",
            f"`{address}` refuses `{address.user[:80] or 'default'}`",
            next_step="see the user and its password; it needs `+info`, and what `remit connectors redis` prints",
        ) from error
    except BaseException:
        await server.close()
        raise
    return server


def permitted(error: Exception) -> str:
    """Why a command gave nothing: `not-permitted`, or `not-supported` by the server."""
    return "not-permitted" if isinstance(error, Misconfigured) else "not-supported"


REFUSED: Final = (Misconfigured, Rejected)
"""What a command that one may not give, or that the server does not know, raises."""


def parse_user(line: str) -> User | str:
    """A line of `ACL LIST`; the first word of one that cannot be read."""
    words = line.split(" ")
    if len(words) < 3 or words[0] != "user" or len(line) > _LONGEST:
        return words[1][:100] if len(words) > 1 else ""
    head, *selectors = re.split(r" \((?=[^()]*\)(?: \(|$))", " ".join(words[2:]))
    own = head.split(" ")
    return User(
        name=words[1],
        enabled="on" in own,
        no_password="nopass" in own,
        hashes=tuple(each[1:] for each in own if _HASH.fullmatch(each)),
        rules=_rules(own),
        selectors=tuple(_rules(each.removesuffix(")").split(" ")) for each in selectors),
    )


def words_of(user: User) -> list[str]:
    """The rules of a user without its passwords, in the order in which they hold."""
    words = ["on" if user.enabled else "off", *(["nopass"] if user.no_password else [])]
    words += [*user.rules.keys, *user.rules.channels, *user.rules.commands]
    return words + [f"({' '.join((*each.keys, *each.channels, *each.commands))})" for each in user.selectors]


def _rules(words: Sequence[str]) -> Rules:
    return Rules(
        commands=tuple(each for each in words if each[:1] in "+-" and len(each) > 1),
        keys=tuple(each for each in words if each.startswith(("~", "%"))),
        channels=tuple(each for each in words if each.startswith("&")),
    )


def _pairs(row: Any) -> dict[str, Any]:
    if isinstance(row, dict):
        return {str(key): value for key, value in row.items()}
    return {str(key): value for key, value in zip(row[::2], row[1::2], strict=False)}
