"""What a Redis server's records mean: identities, credentials, edges, resources and findings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, assert_never

from remit.inventory.connectors.endpoint import named, shown
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.redis_acl import Commands
from remit.inventory.connectors.redis_rights import Keyspaces, Reach, grave, inside, reaches
from remit.inventory.connectors.redis_rights import word as _word
from remit.inventory.model import (
    Attribute,
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
    Severity,
)
from remit.inventory.use.live import live_list
from remit.inventory.use.model import Session, Use
from remit.inventory.use.readers.words import address_of, environment_in, person_of
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name
from remit.providers.redis.inventory import Client, Refusal, User

_LEASE: Final = re.compile(r"remit_[a-z0-9]{8}_[0-9a-hjkmnp-tv-z]{26}")


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The server itself, as INFO says it."""

    info: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user with what else is known of it."""

    user: User
    live: tuple[Client, ...]
    same_as: str
    """Another user with the same password; empty: none."""
    alone: bool
    """The server's only user."""
    default_on: bool = False
    """Somebody may log in as `default`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was refused to a user for one reason; an empty name: to somebody whom the server does not know."""

    user: str
    reason: str
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Clients that are connected, or that were refused; `life` is the server's, in which their numbers grow."""

    life: str
    clients: tuple[Client, ...]
    admitted: bool = True


class Translation:
    """Turns records of one server into facts; pure but for the moment and the fingerprinter of `scan`."""

    def __init__(
        self, instance: str, scan: Scan, addresses: Sequence[str], commands: Commands | None = None, version: int = 7
    ) -> None:
        self._instance = instance
        self._scan = scan
        self._addresses = tuple(addresses)
        self._commands = commands
        self._version = version

    def facts(self, raw: About | Login | Refused | Present | Keyspaces) -> Iterator[Fact]:
        """The facts of one record."""
        match raw:
            case About():
                yield from self._about(raw)
            case Keyspaces():
                yield from self._keyspaces(raw)
            case Login():
                yield from self._login(raw)
            case Refused():
                yield self._refused(raw)
            case Present():
                yield from self._present(raw)
            case _:
                assert_never(raw)

    def _present(self, raw: Present) -> Iterator[Fact]:
        now = self._scan.now
        sessions = (
            Session(
                use=Use(
                    name=self._who(each.user), moment=now - timedelta(seconds=each.age),
                    address=address_of(each.address), program=each.name or each.library,
                    environment=environment_in(each.name), admitted=raw.admitted,
                    person=person_of(each.name or each.library),
                ),
                number=each.number,
            )
            for each in raw.clients
        )  # fmt: skip
        life = raw.life if raw.admitted else f"{raw.life} refused"
        return iter(live_list("redis", self._instance, sessions, now, life=life))

    def _login(self, login: Login) -> Iterator[Fact]:
        user = login.user
        me, place = self._who(user.name), self._path(f"user/{user.name}")
        called = [named("redis", address, "user", user.name) for address in self._addresses]
        yield IdentityFact(
            name=me,
            kind=IdentityKind.TASK if _LEASE.fullmatch(user.name) else IdentityKind.DATABASE_ROLE,
            title=shown(user.name),
            place=place,
            aliases=tuple(each for each in called if each != me),
            attributes=self._attributes(login),
        )  # fmt: skip
        for number, each in enumerate(user.hashes, 1):
            # The user is part of it: one password of two users is two credentials, and a finding.
            yield CredentialFact(
                fingerprint=self._scan.fingerprint(f"redis password\0{me}\0{each}".encode()),
                kind=CredentialKind.PASSWORD,
                title=shown(f"password {number} of {user.name}"),
                place=place,
                identity=me,
                last_used=self._scan.now if login.live and len(user.hashes) == 1 else None,
                manager="remit" if _LEASE.fullmatch(user.name) else None,
                attributes={"stored": "sha256", "same_value": self._scan.fingerprint(each.encode())},
            )
        yield from self._rights(login, me)
        if not _LEASE.fullmatch(user.name):
            yield from self._findings(login, me, place)

    def _attributes(self, login: Login) -> dict[str, Attribute]:
        user = login.user
        consumers = sorted({
            " ".join(filter(None, (each.name, each.library, each.address))) for each in login.live
        })  # fmt: skip
        attributes: dict[str, Attribute] = {
            "can_login": user.enabled,
            "privileged": user.enabled and bool(grave(user, self._commands)),
            "no_password": user.no_password,
            "passwords": len(user.hashes),
            "selectors": len(user.selectors),
            "sessions": len(login.live),
        }
        if any(each.replica for each in login.live):
            attributes["purpose"] = "replication"
        if login.live:
            attributes["last_used"] = rfc3339(self._scan.now)
            attributes["consumers"] = shown(", ".join(consumers[:20]), 1000)
        return attributes

    def _rights(self, login: Login, me: Name) -> Iterator[Fact]:
        """What the user reaches, and who reaches the user: whom it stands for is its rules, evaluated."""
        user = login.user
        for reach in reaches(user, self._commands, version=self._version, default_on=login.default_on):
            if not user.enabled:
                reach = replace(reach, conditions=(*reach.conditions, "somebody switches the user on: it is off"))
            match reach.target:
                case "keys" | "channels":
                    yield self._space(reach.target, reach.pattern)
                    yield self._edge(me, named("redis", self._instance, reach.target, reach.pattern or "*"), reach)
                case "users":
                    yield self._edge(me, self._everybody(), reach, Relation.IMPERSONATE)
                case "default":
                    yield self._edge(me, self._who("default"), reach, Relation.IMPERSONATE)
                case _:
                    yield self._edge(me, self._server(), reach)
        everybody = Reach(
            target="users", actions=("change any user",), evidence="one of the server's users",
            cut="take ACL SETUSER, MODULE LOAD and CONFIG SET from those who have them",
        )  # fmt: skip
        yield self._edge(self._everybody(), me, everybody, Relation.IMPERSONATE)
        if user.enabled and user.no_password:
            guarded = ("protected-mode is off, or the call comes from the server's own host",)
            anybody = Reach(
                target="user", actions=("login",), evidence="nopass: any password admits",
                conditions=guarded if user.name == "default" else (),
                cut=f"ACL SETUSER {_word(user.name)} resetpass",
            )  # fmt: skip
            yield self._edge(self._endpoint(), me, anybody, Relation.ASSUME)

    def _space(self, kind: str, pattern: str) -> ResourceFact:
        target = named("redis", self._instance, kind, pattern or "*")
        return ResourceFact(
            name=target, kind=kind, title=shown(f"{kind} {pattern or '*'}"), place=self._path(f"{kind}/{pattern}")
        )

    def _keyspaces(self, raw: Keyspaces) -> Iterator[Fact]:
        for outer, inner in inside(raw.patterns):
            holds = Reach(target="keys", actions=(), evidence=f"{inner} lies within {outer}", cut="")
            for each in (outer, inner):
                yield self._space("keys", each)
            source, target = (named("redis", self._instance, "keys", each) for each in (outer, inner))
            yield self._edge(source, target, holds)

    def _findings(self, login: Login, me: Name, place: Place) -> Iterator[FindingFact]:
        user, who, word = login.user, shown(login.user.name), _word(login.user.name)
        everything = "+@all" in user.rules.commands and "~*" in user.rules.keys

        def finding(what: str, severity: Severity, title: str, detail: str, next_step: str) -> FindingFact:
            return FindingFact(
                rule=f"redis.{what}", severity=severity, title=title, detail=detail, next_step=next_step,
                place=place, subject=me,
            )  # fmt: skip

        if login.same_as:
            yield finding(
                "shared-password", Severity.HIGH, f"{who} and {shown(login.same_as)} have the same password",
                "who has one of them is both", f"ACL SETUSER {word} resetpass >…, with a password of its own",
            )  # fmt: skip
        if not user.enabled:
            return
        if user.no_password and everything:
            yield finding(
                "open", Severity.CRITICAL, f"{who} has every right, and no password",
                "whoever reaches the server reads, changes and deletes everything, and can run code on its host",
                f"make users with rights of their own, then ACL SETUSER {word} off",
            )  # fmt: skip
        elif user.no_password:
            yield finding(
                "no-password", Severity.HIGH, f"{who} logs in with any password", "nopass is set",
                f"ACL SETUSER {word} resetpass >…",
            )  # fmt: skip
        elif user.name == "default" and login.alone and user.hashes:
            yield finding(
                "one-password", Severity.MEDIUM, "one password is everybody's (requirepass)",
                "nobody can tell who did what, and a leak means a change everywhere at once",
                "give each service a user with ACL SETUSER, then ACL SETUSER default off",
            )  # fmt: skip
        elif everything:
            yield finding(
                "every-right", Severity.HIGH, f"{who} has every command on every key", "+@all ~*",
                f"ACL SETUSER {word} resetkeys -@all, then the commands and keys that it needs",
            )  # fmt: skip
        if not everything and (powers := grave(user, self._commands)):
            yield finding(
                "dangerous-commands", Severity.MEDIUM, f"{who} may give {', '.join(powers[:10])}",
                "each of them ends in every right, or in all of the data",
                f"ACL SETUSER {word} " + " ".join(f"-{each}" for each in powers),
            )  # fmt: skip
        if len(user.hashes) > 1:
            yield finding(
                "many-passwords", Severity.LOW, f"{who} has {len(user.hashes)} passwords that all work",
                "an older one may be known to who should not have it any more",
                f"ACL SETUSER {word} <the old password, after its last consumer changed",
            )  # fmt: skip

    def _refused(self, refused: Refused) -> FindingFact:
        count = sum(each.count for each in refused.refusals)
        who = shown(refused.user) if refused.user else "somebody whom the server does not know"
        login = refused.reason == "auth"
        # What was asked for may be a secret that was put in the wrong place: only commands are named.
        what = sorted({shown(each.object, 40) for each in refused.refusals if refused.reason == "command"})
        return FindingFact(
            rule="redis.failed-logins" if login else "redis.refused",
            severity=Severity.MEDIUM if login and count > 10 else Severity.LOW,
            title=f"{count} logins of {who} failed" if login else f"{who} was refused a {refused.reason}",
            detail=f"ACL LOG: {count} times" + (f", {', '.join(what[:10])}" if what else ""),
            next_step="find who uses an old password, or guesses; ACL LOG shows the client"
            if login
            else "give it what it needs, or find out why it asks; ACL LOG shows the client",
            place=self._path(f"log/{refused.reason}/{refused.user}"),
            subject=self._who(refused.user) if refused.user else None,
        )

    def _about(self, about: About) -> Iterator[Fact]:
        """The server, the port at which anybody may knock, and the hub that stands for any of its users."""
        keys = ("redis_version", "redis_mode", "role", "connected_slaves", "master_host", "cluster_enabled", "os")
        for name, kind, title in (
            (self._endpoint(), "endpoint", f"the port of Redis at {self._instance}"),
            (self._everybody(), "redis-users", f"any user of Redis at {self._instance}"),
        ):
            yield ResourceFact(
                name=name, kind=kind, title=shown(title), place=self._path(kind), sensitivity=Sensitivity.PUBLIC
            )
        everything = Reach(target="keys", actions=("read", "write"), evidence="a user that one makes has every key")
        yield self._space("keys", "*")
        yield self._edge(self._everybody(), named("redis", self._instance, "keys", "*"), everything)
        yield self._edge(self._everybody(), self._server(), replace(everything, evidence="and every command"))
        yield ResourceFact(
            name=self._server(),
            kind="server",
            title=shown(f"Redis {about.info.get('redis_version', '')} at {self._instance}"),
            place=self._path("server"),
            attributes={key: shown(about.info[key]) for key in keys if key in about.info},
        )

    def _who(self, user: str) -> Name:
        return named("redis", self._instance, "user", user)

    def _server(self) -> Name:
        return named("redis", self._instance, "server", self._instance)

    def _path(self, path: str) -> Place:
        return Place(system=f"redis/{self._instance}", path=shown(path, 600))

    def _everybody(self) -> Name:
        return named("redis", self._instance, "users", "*")

    def _endpoint(self) -> Name:
        return named("redis", self._instance, "endpoint", self._instance)

    def _edge(self, me: Name, target: Name, reach: Reach, relation: Relation = Relation.CAN_REACH) -> EdgeFact:
        return EdgeFact(
            source=me, relation=relation, target=target, evidence=shown(reach.evidence, 400), actions=reach.actions,
            conditions=reach.conditions, place=self._path("acl"), cut=reach.cut,
        )  # fmt: skip
