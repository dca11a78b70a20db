"""What a MariaDB server's records mean: identities, credentials, edges, resources and findings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias, assert_never

from remit.inventory.connectors.endpoint import named, shown
from remit.inventory.connectors.port import Scan
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
    Severity,
)
from remit.inventory.use.live import live_list
from remit.inventory.use.model import Session, Use
from remit.inventory.use.readers.words import address_of, person_of
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name
from remit.providers.mariadb import inventory as server
from remit.providers.mariadb.catalogue import name as quoted

POWERS: Final = frozenset({
    "SUPER", "GRANT OPTION", "FILE", "CREATE USER", "SET USER", "INSERT", "UPDATE", "DELETE", "DROP", "ALTER",
    "SHUTDOWN", "BINLOG REPLAY", "REPLICATION SLAVE", "CONNECTION ADMIN",
})  # fmt: skip
"""Global privileges that give the server, or all of its data, sooner or later."""
_GRAVE: Final = ("SUPER", "GRANT OPTION", "FILE", "CREATE USER", "SET USER")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LEASE: Final = re.compile(r"remit_[a-z0-9]{6,40}_[a-z0-9_]{1,40}")
_WILD: Final = re.compile(r"(?<!\\)[%_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """An account with what else is known of it."""

    account: server.Account
    alone: bool
    """The only login of its user's name, so that a client that says the name gets this one or none."""
    live: tuple[server.Live, ...]
    same_as: str
    """Another user's account with the same password; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Sessions of accounts (user, host); `life` is the server's, in which their numbers grow."""

    life: str
    sessions: tuple[tuple[str, str, server.Live], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A right, and the definers in whose name it lets code run: definer, example, what it takes."""

    grant: server.Grant
    definers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An account is in PUBLIC."""

    account: str


Raw: TypeAlias = Present | server.About | Login | Granted | Member | server.Proxy | server.Mapping | server.Code


def pick(address: str, accounts: Sequence[server.Account]) -> server.Account | None:
    """The account that MariaDB takes for a client at `address`: the most specific host that matches."""
    fitting = [each for each in accounts if _fits(each.host, address)]
    return min(fitting, key=lambda each: _breadth(each.host), default=None)


def reached(grant: server.Grant, code: Mapping[str, Sequence[server.Code]]) -> Iterator[tuple[str, str, str]]:
    """Definers in whose name `grant` lets code run, each once, with one piece of that code and what it takes."""
    found: dict[str, tuple[str, str, str]] = {}
    schemas = [grant.database.replace("\\", "")] if not _wild(grant) else [each for each in code if _like(grant, each)]
    for schema in schemas:
        for one in code.get(schema, ()):
            takes = {"view": "SELECT", "trigger": "INSERT", "event": ""}.get(one.kind, "EXECUTE")
            of = one.table if one.kind == "trigger" else one.name
            if takes in grant.actions and (
                grant.level == "database" or (grant.thing == of and grant.level != "column")
            ):
                found.setdefault(one.definer, (one.definer, f"{one.kind} {one.schema}.{one.name}", takes))
    return iter(found.values())


class Translation:
    """Turns records of one server into facts; pure but for the moment and the fingerprinter of `scan`."""

    def __init__(self, about: server.About, scan: Scan, addresses: Sequence[str]) -> None:
        self._about = about
        self._scan = scan
        self._addresses = tuple(addresses)

    def facts(self, raw: Raw) -> Iterator[Fact]:
        """The facts of one record."""
        match raw:
            case server.About():
                yield self._server(raw)
            case Present():
                yield from self._present(raw)
            case Login():
                yield from self._login(raw)
            case Granted():
                yield from self._granted(raw)
            case Member():
                user, _, host = raw.account.rpartition("@")
                yield self._edge(
                    self._who(user, host), Relation.MEMBER_OF, self._who("PUBLIC", ""), "every login is in PUBLIC"
                )
            case server.Proxy():
                yield from self._proxy(raw)
            case server.Mapping():
                yield from self._mapping(raw)
            case server.Code():
                yield from self._code(raw)
            case _:
                assert_never(raw)

    # Accounts

    def _present(self, raw: Present) -> Iterator[Fact]:
        """The server does not tell when a session began: that it is there now is what counts."""
        now = self._scan.now
        sessions = (
            Session(
                use=Use(
                    name=self._who(user, host), moment=now, address=address_of(each.address), program=each.program,
                    person=person_of(each.program),
                ),
                number=each.number,
            )
            for user, host, each in raw.sessions
        )  # fmt: skip
        return iter(live_list("mariadb", self._about.instance, sessions, now, life=raw.life))

    def _login(self, login: Login) -> Iterator[Fact]:
        account = login.account
        me, place = self._who(account.user, account.host), self._place(account.user, account.host)
        logins = () if account.role or not login.alone else self._called(account.user)
        yield IdentityFact(
            name=me,
            kind=_kind(account),
            title=shown(_shown(account.user, account.host)),
            place=place,
            aliases=logins,
            attributes=self._attributes(login),
        )
        if not account.role and not login.alone:
            yield from self._ambiguous(account, me, place)
        if account.privileges:
            yield self._edge(
                me,
                Relation.CAN_REACH,
                self._instance(),
                "GRANT ON *.*",
                actions=account.privileges,
                cut=f"REVOKE {_listed(account.privileges)} ON *.* FROM {_quoted(account.user, account.host)}",
            )
        if account.default_role:
            yield self._edge(
                me, Relation.MEMBER_OF, self._who(account.default_role, ""), "default role",
                cut=f"SET DEFAULT ROLE NONE FOR {_quoted(account.user, account.host)}",
            )  # fmt: skip
        if not account.role:
            yield from self._passwords(login, me, place)
            if not _LEASE.fullmatch(account.user):
                yield from self._login_findings(login, me, place)

    def _ambiguous(self, account: server.Account, me: Name, place: Place) -> Iterator[Fact]:
        # Which of them a client gets depends on where it comes from: the name that it says is none of them.
        called, *others = self._called(account.user)
        yield IdentityFact(
            name=called,
            kind=IdentityKind.DATABASE_ROLE,
            title=shown(f"{account.user} of several hosts"),
            place=place,
            aliases=tuple(others),
        )
        yield self._edge(
            called, Relation.ASSUME, me, f"a login of this name from `{shown(account.host)}`",
            conditions=(f"the client comes from `{shown(account.host)}`",),
        )  # fmt: skip

    def _attributes(self, login: Login) -> dict[str, Attribute]:
        account = login.account
        attributes: dict[str, Attribute] = {
            "can_login": not account.role and not account.locked and not _sealed(account),
            "privileged": bool(POWERS.intersection(account.privileges)),
            "role": account.role,
        }
        if account.role:
            return attributes
        attributes |= {
            "from_host": shown(account.host),
            "methods": ", ".join(each.plugin for each in account.methods),
            "password": ", ".join(each.stored for each in account.methods),
            "locked": account.locked,
            "password_expired": account.expired,
            "tls_required": account.tls or None,
            "connection_limit": account.most_connections or None,
            "default_role": account.default_role or None,
            "sessions": len(login.live),
        }
        if login.live:
            attributes["last_used"] = rfc3339(self._scan.now)
            consumers = sorted({" ".join(filter(None, (each.program, each.address))) for each in login.live})
            attributes["consumers"] = shown(", ".join(consumers[:20]), 1000)
        return attributes

    def _passwords(self, login: Login, me: Name, place: Place) -> Iterator[CredentialFact]:
        account = login.account
        for method in account.methods:
            if method.stored not in ("set", "old", "unknown"):
                continue
            # The account is part of it: one password of two accounts is two credentials, and a finding.
            seed = f"mariadb password\0{me}\0{method.plugin}\0{method.digest}"
            lifetime = account.lifetime if account.lifetime is not None else self._default_lifetime()
            yield CredentialFact(
                fingerprint=self._scan.fingerprint(seed.encode()),
                kind=CredentialKind.PASSWORD,
                title=shown(f"password of {_shown(account.user, account.host)}"),
                place=place,
                identity=me,
                issued=account.changed,
                expires=account.changed + timedelta(days=lifetime) if account.changed and lifetime > 0 else None,
                last_used=self._scan.now if login.live else None,
                manager="remit" if _LEASE.fullmatch(account.user) else None,
                attributes={"method": method.plugin, "stored": method.stored},
            )

    def _login_findings(self, login: Login, me: Name, place: Place) -> Iterator[FindingFact]:
        account = login.account
        who, sql = shown(_shown(account.user, account.host)), _quoted(account.user, account.host)
        barred = bool(account.locked) or _sealed(account)

        def finding(what: str, severity: Severity, title: str, detail: str, next_step: str) -> FindingFact:
            return FindingFact(
                rule=f"mariadb.{what}", severity=severity, title=title, detail=detail, next_step=next_step,
                place=place, subject=me,
            )  # fmt: skip

        far = account.host not in _LOCAL
        if not barred and any(each.stored == "none" for each in account.methods):
            yield finding(
                "no-password", Severity.CRITICAL if far else Severity.HIGH, f"{who} logs in without a password",
                "whoever reaches the server from there is in",
                f"ALTER USER {sql} IDENTIFIED BY '…', or DROP USER {sql}",
            )  # fmt: skip
        if not account.user:
            yield finding(
                "anonymous", Severity.HIGH, f"an account without a name admits any user from {who[3:]}",
                "a mistyped login is let in as nobody", f"DROP USER {sql}",
            )  # fmt: skip
        if any(each.stored == "old" for each in account.methods):
            yield finding(
                "old-hash", Severity.HIGH, f"the password of {who} is stored as before MySQL 4.1",
                "16 hexadecimal digits that are broken in seconds",
                f"SET PASSWORD FOR {sql} = PASSWORD('…') with old_passwords = 0",
            )  # fmt: skip
        elif any(each.stored == "set" and each.plugin == "mysql_native_password" for each in account.methods):
            yield finding(
                "native-password", Severity.LOW, f"the password of {who} is stored as SHA-1 without salt",
                "what is stored is enough to log in for whoever saw one login, and guessed quickly",
                f"INSTALL SONAME 'auth_ed25519'; ALTER USER {sql} IDENTIFIED VIA ed25519 USING PASSWORD('…')",
            )  # fmt: skip
        if login.same_as:
            yield finding(
                "shared-password", Severity.HIGH, f"{who} and {shown(login.same_as)} have the same password",
                "who has one of them is both", f"ALTER USER {sql} IDENTIFIED BY '…', with a password of its own",
            )  # fmt: skip
        if not barred and "%" in account.host:
            plain = "" if account.tls else ", encrypted or not"
            yield finding(
                "any-host", Severity.LOW if account.tls else Severity.MEDIUM, f"{who} logs in from any such address",
                f"the host is a pattern{plain}", f"RENAME USER {sql} TO {quoted(account.user)}@'10.0.0.0/255.0.0.0'",
            )  # fmt: skip
        grave = [each for each in _GRAVE if each in account.privileges]
        if grave and not barred:
            yield finding(
                "privileged-login", Severity.HIGH, f"{who} has {', '.join(grave)} on the whole server",
                "each of them ends in every right, or on the host",
                f"REVOKE {_listed(grave)} ON *.* FROM {sql}",
            )  # fmt: skip
        if not barred and any(each.stored == "set" for each in account.methods) and self._never(account):
            yield finding(
                "password-never-expires", Severity.LOW, f"the password of {who} never expires",
                "no lifetime is set", f"use leases instead, or ALTER USER {sql} PASSWORD EXPIRE INTERVAL 90 DAY",
            )  # fmt: skip

    def _default_lifetime(self) -> int:
        said = dict(self._about.settings).get("default_password_lifetime", "0")
        return int(said) if said.isascii() and said.isdecimal() else 0

    def _never(self, account: server.Account) -> bool:
        if account.locked is None:
            return False
        return (account.lifetime if account.lifetime is not None else self._default_lifetime()) <= 0

    # Rights

    def _granted(self, granted: Granted) -> Iterator[Fact]:
        grant = granted.grant
        me = self._who(grant.user, grant.host)
        resource, title, kind = self._thing(grant)
        place = self._place(grant.user, grant.host)
        sql = _quoted(grant.user, grant.host)
        yield ResourceFact(name=resource, kind=kind, title=shown(title), place=self._path(f"{kind}/{title}"))
        cut = f"REVOKE {_revoked(grant)} ON {_on(grant)} FROM {sql}"
        yield self._edge(
            me, Relation.CAN_REACH, resource, shown(f"GRANT ON {title}", 400), actions=grant.actions, cut=cut
        )
        for definer, example, takes in granted.definers:
            user, host = _definer(definer)
            if (user, host) != (grant.user, grant.host):
                yield self._edge(
                    me, Relation.IMPERSONATE, self._who(user, host),
                    shown(f"{takes} makes {example} run in its definer's name", 400), actions=(takes,),
                    conditions=("only what the code's body does",), cut=cut,
                )  # fmt: skip
        if grant.level == "database" and _wild(grant) and grant.host != "":
            yield FindingFact(
                rule="mariadb.wildcard-database",
                severity=Severity.MEDIUM if "%" in grant.database else Severity.LOW,
                title=f"the right of {shown(_shown(grant.user, grant.host))} on `{shown(title)}` is a pattern",
                detail="databases that are made later are covered too; `_` and `%` match anything unless escaped",
                next_step=f"{cut}; then grant it on each database by its name",
                place=place,
                subject=me,
            )
        if grant.database.replace("\\", "") == "mysql" and {"INSERT", "UPDATE", "DELETE"}.intersection(grant.actions):
            yield FindingFact(
                rule="mariadb.grant-tables",
                severity=Severity.INFO if grant.user == "mariadb.sys" else Severity.CRITICAL,
                title=f"{shown(_shown(grant.user, grant.host))} may write to {shown(title)}",
                detail="who writes the grant tables has every right",
                next_step=cut,
                place=place,
                subject=me,
            )

    def _proxy(self, proxy: server.Proxy) -> Iterator[Fact]:
        me = self._who(proxy.user, proxy.host)
        whom = _quoted(proxy.proxied_user, proxy.proxied_host)
        cut = f"REVOKE PROXY ON {whom} FROM {_quoted(proxy.user, proxy.host)}"
        if proxy.proxied_user:
            yield self._edge(
                me, Relation.ASSUME, self._who(proxy.proxied_user, proxy.proxied_host), "GRANT PROXY",
                actions=("PROXY",), conditions=("the method of authentication names it",), cut=cut,
            )  # fmt: skip
        elif proxy.host not in _LOCAL:
            yield FindingFact(
                rule="mariadb.proxy-anyone",
                severity=Severity.MEDIUM,
                title=f"{shown(_shown(proxy.user, proxy.host))} may let itself become any account",
                detail="GRANT PROXY ON ''@''",
                next_step=cut,
                place=self._place(proxy.user, proxy.host),
                subject=me,
            )

    def _mapping(self, mapping: server.Mapping) -> Iterator[Fact]:
        me, role = self._who(mapping.user, mapping.host), self._who(mapping.role, "")
        who = _quoted(mapping.user, mapping.host)
        cut = f"REVOKE {quoted(mapping.role)} FROM {who}"
        if mapping.host:
            yield self._edge(me, Relation.ASSUME, role, "has the role", actions=("SET ROLE",), cut=cut)
        else:
            yield self._edge(me, Relation.MEMBER_OF, role, "the role has this role", cut=cut)
        if mapping.admin:
            yield self._edge(
                me, Relation.ASSUME, role, "WITH ADMIN OPTION: may give it to itself and others", actions=("GRANT",),
                cut=f"REVOKE ADMIN OPTION FOR {quoted(mapping.role)} FROM {who}",
            )  # fmt: skip

    def _code(self, code: server.Code) -> Iterator[Fact]:
        path = f"{code.schema}.{code.name}"
        me, place = self._resource(code.kind, path), self._path(f"{code.kind}/{path}")
        user, host = _definer(code.definer)
        yield ResourceFact(
            name=me, kind=code.kind, title=shown(path), place=place, attributes={"definer": shown(code.definer)}
        )
        yield self._edge(
            me, Relation.RUNS_AS, self._who(user, host), shown(f"DEFINER of {code.kind} {path}", 400),
            conditions=("only what its body does",),
        )  # fmt: skip
        if code.orphan:
            yield FindingFact(
                rule="mariadb.orphan-definer",
                severity=Severity.MEDIUM,
                title=f"{code.kind} {shown(path)} runs as {shown(code.definer)}, which no account is",
                detail="it fails, until somebody makes an account of that name, who then owns what it does",
                next_step=f"make it again with a DEFINER that exists, or DROP {code.kind.upper()} {_dotted(path)}",
                place=place,
                subject=me,
            )

    def _server(self, about: server.About) -> Fact:
        return ResourceFact(
            name=self._instance(),
            kind="server",
            title=shown(f"MariaDB {about.version}"),
            place=self._path("server"),
            attributes={key: shown(value) for key, value in about.settings},
        )

    # Names

    def _thing(self, grant: server.Grant) -> tuple[Name, str, str]:
        database = grant.database.replace("\\_", "_").replace("\\%", "%")
        if grant.level == "database":
            return self._resource("database", database), database, "database"
        path = f"{database}.{grant.thing}" + (f"({grant.column})" if grant.column else "")
        kind = "column" if grant.column else grant.level
        return self._resource(kind, path), path, kind

    def _called(self, user: str) -> tuple[Name, ...]:
        return tuple(named("mysql", address, "user", user) for address in self._addresses)

    def _who(self, user: str, host: str) -> Name:
        if host:
            return named("mariadb", self._about.instance, "user", f"{user}@{host}")
        return named("mariadb", self._about.instance, "role", user)

    def _resource(self, kind: str, path: str) -> Name:
        return named("mariadb", self._about.instance, kind, path)

    def _instance(self) -> Name:
        return named("mariadb", self._about.instance, "server", self._about.instance)

    def _path(self, path: str) -> Place:
        return Place(system=f"mariadb/{self._about.instance}", path=shown(path, 600))

    def _place(self, user: str, host: str) -> Place:
        return self._path(f"user/{user}@{host}" if host else f"role/{user}")

    def _edge(
        self, source: Name, relation: Relation, target: Name, evidence: str, *,
        actions: tuple[str, ...] = (), conditions: tuple[str, ...] = (), cut: str = "",
    ) -> EdgeFact:  # fmt: skip
        return EdgeFact(
            source=source, relation=relation, target=target, evidence=evidence, place=self._path("grants"),
            actions=actions, conditions=conditions, cut=cut,
        )  # fmt: skip


def _kind(account: server.Account) -> IdentityKind:
    if account.role:
        return IdentityKind.GROUP
    return IdentityKind.TASK if _LEASE.fullmatch(account.user) else IdentityKind.DATABASE_ROLE


def _sealed(account: server.Account) -> bool:
    """Nothing that is shown opens it."""
    return all(each.stored == "invalid" for each in account.methods)


def _shown(user: str, host: str) -> str:
    return f"'{user}'@'{host}'" if not user else (f"{user}@{host}" if host else user)


def _quoted(user: str, host: str) -> str:
    user, host = user.replace("\0", ""), host.replace("\0", "")
    return f"{quoted(user)}@{quoted(host)}" if host else quoted(user)


def _dotted(path: str) -> str:
    schema, _, thing = path.replace("\0", "").partition(".")
    return f"{quoted(schema)}.{quoted(thing)}"


def _definer(said: str) -> tuple[str, str]:
    user, mark, host = said.rpartition("@")
    return (user, host) if mark else (said, "")


def _listed(privileges: Sequence[str]) -> str:
    return ", ".join(privileges)


def _revoked(grant: server.Grant) -> str:
    if grant.column:
        return ", ".join(f"{each} ({quoted(grant.column)})" for each in grant.actions)
    return ", ".join(grant.actions) or "ALL PRIVILEGES"


def _on(grant: server.Grant) -> str:
    if grant.level == "database":
        return f"{quoted(grant.database)}.*"
    kind = {"table": "", "column": ""}.get(grant.level, grant.level.replace("-", " ").upper() + " ")
    return f"{kind}{quoted(grant.database)}.{quoted(grant.thing)}"


def _wild(grant: server.Grant) -> bool:
    return grant.level == "database" and _WILD.search(grant.database) is not None


def _like(grant: server.Grant, schema: str) -> bool:
    return _matches(grant.database, schema)


def _fits(pattern: str, address: str) -> bool:
    if pattern in _LOCAL and address in _LOCAL:
        return True
    base, mark, mask = pattern.partition("/")
    if mark:
        import ipaddress

        try:
            return ipaddress.ip_address(address) in ipaddress.ip_network(f"{base}/{mask}", strict=False)
        except ValueError:
            return False
    return _matches(pattern.lower(), address.lower())


def _matches(pattern: str, text: str) -> bool:
    """LIKE of SQL, as the grant tables use it; in time that no pattern makes long."""
    marks = re.findall(r"\\.|.", pattern, re.S)
    at = place = 0
    star, resume = -1, 0
    while place < len(text):
        mark = marks[at] if at < len(marks) else ""
        if mark == "%":
            star, resume, at = at, place, at + 1
        elif mark and (mark == "_" or mark[-1] == text[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            at, place, resume = star + 1, resume + 1, resume + 1
        else:
            return False
    return all(mark == "%" for mark in marks[at:])


def _breadth(pattern: str) -> tuple[int, int]:
    first = re.search(r"[%_/]", pattern)
    return (0, 0) if first is None else (1, -first.start())
