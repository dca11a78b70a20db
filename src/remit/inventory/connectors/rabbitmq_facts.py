"""What a RabbitMQ cluster's records mean: identities, credentials, edges, resources and findings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, assert_never

from remit.inventory.connectors.endpoint import LOOPBACK, named, shown
from remit.inventory.connectors.files.dsn import find_dsns
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.rabbitmq_rights import Permission
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
from remit.kernel.ids import Name, credential_name
from remit.providers.rabbitmq.inventory import User

_EVERYTHING: Final = frozenset({".*", "^.*", ".*$", "^.*$", ".+", "^.+$"})
_NOTHING: Final = frozenset({"", "^$"})
_POWERS: Final = ("administrator", "policymaker")
_MOST: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The cluster itself."""

    overview: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user with what else is known of it."""

    name: str
    user: User | None
    """`None` where our tags do not show it."""
    limits: Mapping[str, int]
    live: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vhost:
    """A virtual host."""

    name: str
    described: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What a user may do in a virtual host, as regular expressions on names; on an exchange's topics if it has one."""

    user: str
    vhost: str
    exchange: str | None
    configure: str
    write: str
    read: str
    policymaker: bool = False
    """The user's tags let it read and set the parameters of its virtual hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter, with the URIs in it."""

    component: str
    vhost: str
    name: str
    uris: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Every connection of a user."""

    connections: tuple[Mapping[str, Any], ...]


Raw: TypeAlias = Present | About | Login | Vhost | Right | Parameter


def uris(value: object) -> Iterator[str]:
    """Every URI of a parameter's value, wherever it stands."""
    if isinstance(value, str):
        if "://" in value:
            yield value[:4000]
    elif isinstance(value, dict):
        for each in list(value.values())[:_MOST]:
            yield from uris(each) if isinstance(each, (str, list)) else ()
    elif isinstance(value, list):
        for each in value[:_MOST]:
            yield from uris(each) if isinstance(each, str) else ()


class Translation:
    """Turns records of one cluster into facts; pure but for the moment and the fingerprinter of `scan`."""

    def __init__(self, instance: str, scan: Scan, addresses: Sequence[str]) -> None:
        self._instance = instance
        self._scan = scan
        self._addresses = tuple(addresses)

    def facts(self, raw: Raw) -> Iterator[Fact]:
        """The facts of one record."""
        match raw:
            case About():
                yield from self._about(raw)
            case Present():
                now = self._scan.now
                sessions = (_session(row, self._who(str(row.get("user"))), now) for row in raw.connections)
                yield from live_list("rabbitmq", self._instance, sessions, now)
            case Login():
                yield from self._login(raw)
            case Vhost():
                yield ResourceFact(
                    name=self._vhost(raw.name),
                    kind="vhost",
                    title=shown(raw.name),
                    place=self._path(f"vhost/{raw.name}"),
                    attributes={"tracing": bool(raw.described.get("tracing"))},
                )
                yield self._of_administrators(self._vhost(raw.name), "an administrator gives itself permissions there")
            case Right():
                yield from self._right(raw)
            case Parameter():
                yield from self._parameter(raw)
            case _:
                assert_never(raw)

    def _login(self, login: Login) -> Iterator[Fact]:
        me, place = self._who(login.name), self._path(f"user/{login.name}")
        yield IdentityFact(
            name=me,
            kind=IdentityKind.SERVICE_ACCOUNT,
            title=shown(login.name),
            place=place,
            aliases=tuple(named("rabbitmq", each, "user", login.name) for each in self._addresses),
            attributes=self._attributes(login),
        )
        yield self._of_administrators(me, "an administrator sets its password", Relation.IMPERSONATE)
        user = login.user
        if user is None:
            return
        if user.stored:
            yield CredentialFact(
                fingerprint=self._scan.fingerprint(f"rabbitmq password\0{me}\0{user.stored}".encode()),
                kind=CredentialKind.PASSWORD,
                title=shown(f"password of {login.name}"),
                place=place,
                identity=me,
                last_used=self._scan.now if login.live else None,
                attributes={"stored": user.algorithm},
            )
        if "administrator" in user.tags:
            yield self._edge(
                me, Relation.CAN_REACH, self._server(), "tag administrator", ("administrator",),
                f"rabbitmqctl set_user_tags {_word(login.name)}",
            )  # fmt: skip
            yield self._edge(
                me, Relation.IMPERSONATE, self._administrator(), "tag administrator", ("administrator",),
                f"rabbitmqctl set_user_tags {_word(login.name)}",
            )  # fmt: skip
        elif "monitoring" in user.tags:
            yield self._edge(
                me, Relation.CAN_REACH, self._server(), "tag monitoring: it sees every connection and queue",
                ("monitoring",), f"rabbitmqctl set_user_tags {_word(login.name)}",
            )  # fmt: skip
        yield from self._findings(login, user, me, place)

    def _attributes(self, login: Login) -> dict[str, Attribute]:
        attributes: dict[str, Attribute] = {"sessions": len(login.live)}
        if (user := login.user) is not None:
            attributes |= {
                "can_login": bool(user.stored),
                "privileged": any(each in _POWERS for each in user.tags),
                "tags": shown(", ".join(user.tags)) or None,
                "password": user.algorithm if user.stored else "none",
            }
        for key, value in list(login.limits.items())[:10]:
            attributes[f"limit_{shown(key, 40)}"] = value if isinstance(value, int) else shown(value)
        if login.live:
            attributes["last_used"] = rfc3339(self._scan.now)
            attributes["consumers"] = shown(", ".join(sorted({_client(each) for each in login.live})[:20]), 1000)
        return attributes

    def _findings(self, login: Login, user: User, me: Name, place: Place) -> Iterator[FindingFact]:
        who, word = shown(login.name), _word(login.name)

        def finding(what: str, severity: Severity, title: str, detail: str, next_step: str) -> FindingFact:
            return FindingFact(
                rule=f"rabbitmq.{what}", severity=severity, title=title, detail=detail, next_step=next_step,
                place=place, subject=me,
            )  # fmt: skip

        if user.has_password(user.name):
            yield finding(
                "guest" if user.name == "guest" else "password-is-name", Severity.CRITICAL,
                f"the password of {who} is its name",
                "the server admits `guest` from its own machine alone, unless loopback_users says otherwise"
                if user.name == "guest" else "it is the first thing that anybody tries",
                f"rabbitmqctl delete_user {word}" if user.name == "guest" else f"rabbitmqctl change_password {word}",
            )  # fmt: skip
        if user.stored and user.algorithm not in ("sha256", "sha512"):
            yield finding(
                "old-hashing", Severity.HIGH,
                f"the password of {who} is stored by {shown(user.algorithm or 'md5', 40)}",
                "what is stored is guessed quickly", f"rabbitmqctl change_password {word}",
            )  # fmt: skip
        if "administrator" in user.tags and login.live:
            yield finding(
                "administrator-in-use", Severity.HIGH, f"{who} is an administrator, and clients are connected as it",
                "who takes one of those clients makes users, and reads every queue",
                f"give the clients a user of their own, then rabbitmqctl set_user_tags {word}",
            )  # fmt: skip

    def _right(self, right: Right) -> Iterator[Fact]:
        me, target = self._who(right.user), self._vhost(right.vhost)
        rights = (("configure", right.configure), ("write", right.write), ("read", right.read))
        actions = tuple(shown(f"{key}:{text}", 300) for key, text in rights if text not in _NOTHING)
        word, vhost = _word(right.user), _word(right.vhost)
        if right.exchange is not None:
            # Topic permissions narrow what the permissions of the virtual host give: they open nothing.
            exchange = named("rabbitmq", self._instance, "exchange", f"{right.vhost}/{right.exchange}")
            yield ResourceFact(
                name=exchange,
                kind="exchange",
                title=shown(f"{right.exchange} in {right.vhost}"),
                place=self._path(f"vhost/{right.vhost}/exchange/{right.exchange}"),
            )
            yield self._edge(
                me, Relation.CAN_REACH, exchange, "topic permission", actions,
                f"rabbitmqctl clear_topic_permissions -p {vhost} {word}",
                ("routing keys match, and the permission on the exchange is there",),
            )  # fmt: skip
            return
        cut = f"rabbitmqctl clear_permissions -p {vhost} {word}"
        if right.policymaker:
            # The tag and any permission there suffice, even one that admits no name.
            yield self._edge(
                me, Relation.CAN_REACH, self._parameters(right.vhost), "tag policymaker, and a permission there",
                ("policymaker",), f"rabbitmqctl set_user_tags {word}",
            )  # fmt: skip
        permission = Permission(configure=right.configure, write=right.write, read=right.read)
        if not permission.is_nothing:
            any_queue = permission.publishes("") and "permission: it publishes to any queue by the default exchange"
            yield self._edge(me, Relation.CAN_REACH, target, any_queue or "permission", actions, cut)
        if all(text in _EVERYTHING for _, text in rights):
            yield FindingFact(
                rule="rabbitmq.every-right",
                severity=Severity.MEDIUM,
                title=f"{shown(right.user)} may do everything in the virtual host {shown(right.vhost)}",
                detail="configure, write and read are `.*`: it can read every queue, and delete it",
                next_step=f"rabbitmqctl set_permissions -p {vhost} {word} '^mine[.]' '^mine[.]' '^mine[.]'",
                place=self._path(f"user/{right.user}"),
                subject=me,
            )

    def _parameter(self, parameter: Parameter) -> Iterator[Fact]:
        path = f"{parameter.component}/{parameter.vhost}/{parameter.name}"
        me, place = named("rabbitmq", self._instance, "parameter", path), self._path(f"parameter/{path}")
        yield ResourceFact(name=me, kind="parameter", title=shown(path), place=place)
        of = self._parameters(parameter.vhost)
        yield ResourceFact(
            name=of, kind="parameters", title=shown(f"parameters of {parameter.vhost}"), place=place,
            sensitivity=Sensitivity.PUBLIC,
        )  # fmt: skip
        words = " ".join(map(_word, (parameter.vhost, parameter.component, parameter.name)))
        cut = f"rabbitmqctl clear_parameter -p {words}"
        yield self._edge(of, Relation.CAN_REACH, me, "who reads one of them reads all", (), cut)
        yield self._of_administrators(me, "an administrator reads it", cut=cut)
        for dsn in (each for uri in parameter.uris for each in find_dsns(uri)):
            whom = named(dsn.system, dsn.endpoint, "user", dsn.user) if dsn.user else None
            if whom is not None:
                yield IdentityFact(
                    name=whom,
                    kind=IdentityKind.SERVICE_ACCOUNT,
                    title=shown(f"{dsn.user} at {dsn.endpoint}"),
                    place=place,
                    attributes={"host": shown(dsn.host), "port": dsn.port, "user": shown(dsn.user)},
                )
            if not dsn.password:
                continue
            fingerprint = self._scan.fingerprint(dsn.password.encode("utf-8", "replace"))
            yield CredentialFact(
                fingerprint=fingerprint,
                kind=CredentialKind.PASSWORD,
                title=shown(f"{dsn.system} password of {dsn.user or 'nobody'} at {dsn.endpoint}"),
                place=place,
                identity=whom,
                exposed=True,
            )
            yield self._edge(
                me, Relation.HOLDS, credential_name(fingerprint), f"in clear to administrators: {shown(path, 200)}", (),
                f"rabbitmqctl clear_parameter -p {_word(parameter.vhost)} {_word(parameter.component)} "
                f"{_word(parameter.name)}",
            )  # fmt: skip
            yield FindingFact(
                rule="rabbitmq.password-in-parameter",
                severity=Severity.MEDIUM,
                title=f"the parameter {shown(path)} holds a password of {shown(dsn.endpoint)}",
                detail="every administrator, policymaker of the virtual host and export of definitions shows it",
                next_step="use a client certificate (EXTERNAL) in the URI, or a user that may do nothing else",
                place=place,
                subject=credential_name(fingerprint),
            )

    def _about(self, about: About) -> Iterator[Fact]:
        yield ResourceFact(
            name=self._server(),
            kind="server",
            title=shown(f"RabbitMQ {about.overview.get('rabbitmq_version', '')} ({self._instance})"),
            place=self._path("server"),
            attributes={"version": shown(about.overview.get("rabbitmq_version", ""))},
        )
        yield ResourceFact(
            name=self._administrator(), kind="rabbitmq-administrator", place=self._path("server"),
            title=shown(f"administrator of RabbitMQ ({self._instance})"), sensitivity=Sensitivity.PUBLIC,
        )  # fmt: skip
        listeners = about.overview.get("listeners")
        for each in listeners if isinstance(listeners, list) else ():
            if isinstance(each, dict) and each.get("protocol") == "amqp" and each.get("ip_address") not in LOOPBACK:
                yield FindingFact(
                    rule="rabbitmq.plain-listener",
                    severity=Severity.MEDIUM,
                    title=f"AMQP is spoken without TLS on port {shown(each.get('port', ''), 10)} of every address",
                    detail=f"listener at {shown(each.get('ip_address', ''), 60)}: passwords cross the network in clear",
                    next_step="set listeners.ssl.default, and listeners.tcp = none",
                    place=self._path("server"),
                    subject=self._server(),
                )

    def _who(self, user: str) -> Name:
        return named("rabbitmq", self._instance, "user", user)

    def _vhost(self, vhost: str) -> Name:
        return named("rabbitmq", self._instance, "vhost", vhost)

    def _administrator(self) -> Name:
        return named("rabbitmq", self._instance, "administrator", self._instance)

    def _parameters(self, vhost: str) -> Name:
        return named("rabbitmq", self._instance, "parameters", vhost)

    def _of_administrators(
        self, target: Name, why: str, relation: Relation = Relation.CAN_REACH, cut: str = ""
    ) -> EdgeFact:  # fmt: skip
        return self._edge(self._administrator(), relation, target, why, ("administrator",), cut)

    def _server(self) -> Name:
        return named("rabbitmq", self._instance, "server", self._instance)

    def _path(self, path: str) -> Place:
        return Place(system=f"rabbitmq/{shown(self._instance)}", path=shown(path, 600))

    def _edge(
        self, source: Name, relation: Relation, target: Name, evidence: str, actions: tuple[str, ...], cut: str,
        conditions: tuple[str, ...] = (),
    ) -> EdgeFact:  # fmt: skip
        return EdgeFact(
            source=source, relation=relation, target=target, evidence=evidence, actions=actions, conditions=conditions,
            place=self._path("permissions"), cut=cut,
        )  # fmt: skip


def _client(row: Mapping[str, Any]) -> str:
    said = row.get("client_properties")
    properties = said if isinstance(said, dict) else {}
    name = row.get("user_provided_name") or properties.get("connection_name")
    parts = (name, properties.get("product"), row.get("peer_host"))
    return " ".join(shown(each, 80) for each in parts if each)


def _session(row: Mapping[str, Any], name: Name, now: datetime) -> Session:
    said = row.get("client_properties")
    properties = said if isinstance(said, dict) else {}
    program = row.get("user_provided_name") or properties.get("connection_name") or properties.get("product") or ""
    since = row.get("connected_at")
    millis = since if isinstance(since, int) and 0 < since < 1 << 45 else 0
    use = Use(
        name=name, moment=datetime.fromtimestamp(millis / 1000, UTC) if millis else now,
        address=address_of(str(row.get("peer_host") or "")), program=shown(program, 80),
        environment=environment_in(str(row.get("vhost") or "")), person=person_of(str(program)),
    )  # fmt: skip
    return Session(use=use, number=millis)


def _word(text: str) -> str:
    return shlex.quote(text.replace("\0", ""))
