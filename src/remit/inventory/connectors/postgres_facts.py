"""What a PostgreSQL server's records mean: identities, credentials, edges, resources, owners and findings."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, assert_never

from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.postgres_grants import DatabaseAccess, Inside
from remit.inventory.connectors.postgres_nodes import PUBLIC_GROUP, SUPERUSERS, Nodes, noun
from remit.inventory.connectors.postgres_paths import Roles, Standing
from remit.inventory.model import (
    Attribute,
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Place,
    Relation,
    ResourceFact,
    Severity,
)
from remit.inventory.use.live import live_list
from remit.inventory.use.model import Session, Use
from remit.inventory.use.readers.words import address_of, environment_in, person_of
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name, name
from remit.providers.postgres.catalogue import (
    POWERS,
    DefaultPrivilege,
    HbaRule,
    Privilege,
    Record,
    Role,
    Sessions,
    Setting,
    Thing,
)
from remit.providers.postgres.client import Server
from remit.providers.postgres.script import PRINCIPAL, quote_identifier

_COMMENT = re.compile(r"(?:^|[\s;,])(owner|service|environment|env|purpose)\s*[=:]\s*([^\s;,]{1,200})", re.IGNORECASE)

Raw: TypeAlias = Record | Standing | Inside
"""What one read of a server yields."""


class Translation:
    """Turns records of one server into facts; pure but for the moment and the fingerprinter of `scan`."""

    def __init__(self, server: Server, scan: Scan, *, addresses: Sequence[str] = ()) -> None:
        self._server = server
        self._nodes = Nodes(server.instance)
        self._scan = scan
        self._addresses = tuple(addresses)
        """`host:port` by which clients call this server: a DSN in a file names its role so."""

    def facts(self, record: Raw) -> Iterator[Fact]:
        """The facts of one record."""
        match record:
            case Role():
                yield from self._role(record)
            case Sessions():
                yield from self._sessions(record)
            case Standing():
                yield from Roles(self._nodes, record.cluster).facts(record)
            case Inside():
                yield from DatabaseAccess(Roles(self._nodes, record.cluster), record.contents).facts()
            case Thing():
                yield from self._thing(record)
            case DefaultPrivilege():
                yield from self._default(record)
            case HbaRule():
                yield from self._hba(record)
            case Setting():
                yield from self._setting(record)
            case _:
                assert_never(record)

    # Roles

    def _sessions(self, record: Sessions) -> Iterator[Fact]:
        sessions = (
            Session(
                use=Use(
                    name=self._role_name(role), moment=since, address=address_of(address), program=program,
                    environment=environment_in(database), person=person_of(program),
                ),
                number=int(since.timestamp() * 1_000_000),
            )
            for role, database, program, address, since in record.live
        )  # fmt: skip
        return iter(live_list("postgres", self._server.instance, sessions, self._scan.now))

    def _role(self, role: Role) -> Iterator[Fact]:
        place = self._place(f"role/{role.name}")
        me = self._role_name(role.name)
        words = {key.lower(): value for key, value in _COMMENT.findall(role.comment)}
        yield IdentityFact(
            name=me,
            kind=_kind(role),
            title=role.name,
            place=place,
            aliases=tuple(name("postgres", address, "role", role.name) for address in self._addresses),
            attributes=self._attributes(role, words),
        )
        if owner := words.get("owner"):
            yield OwnerFact(
                identity=me,
                owner=owner,
                method="comment",
                evidence=f"COMMENT ON ROLE: owner={owner}",
                confidence=80,
                place=place,
            )
        yield self._edge(me, Relation.MEMBER_OF, self._group(PUBLIC_GROUP), "every role is in PUBLIC", place)
        if role.superuser:
            yield self._edge(
                me,
                Relation.MEMBER_OF,
                self._group(SUPERUSERS),
                "SUPERUSER",
                place,
                cut=f"ALTER ROLE {quote_identifier(role.name)} NOSUPERUSER",
            )
        if role.can_login and role.verifier != "":
            yield self._password(role, me, place)
        if PRINCIPAL.fullmatch(role.name) is None:
            yield from self._role_findings(role, me, place)

    def _attributes(self, role: Role, words: Mapping[str, str]) -> dict[str, Attribute]:
        privileged = role.superuser or role.create_role or role.bypass_rls or role.replication or bool(role.powers)
        attributes: dict[str, Attribute] = {
            "can_login": role.can_login,
            "privileged": privileged,
            "superuser": role.superuser,
            "createrole": role.create_role,
            "createdb": role.create_db,
            "bypassrls": role.bypass_rls,
            "replication": role.replication,
            "connection_limit": role.connection_limit if role.connection_limit >= 0 else None,
            "valid_until": rfc3339(role.valid_until) if role.valid_until else None,
            "password": _method(role.verifier),
            "sessions": role.sessions,
        }
        for key, attribute in (("service", "service"), ("purpose", "purpose"), ("environment", "environment")):
            if value := words.get(key) or (words.get("env") if key == "environment" else None):
                attributes[attribute] = value
        if role.sessions:
            attributes["last_used"] = rfc3339(self._scan.now)
            attributes["consumers"] = ", ".join(role.consumers)
        if role.comment:
            attributes["comment"] = role.comment[:500]
        return attributes

    def _password(self, role: Role, me: Name, place: Place) -> CredentialFact:
        # A verifier is nearly as good as the password to who can guess: only a keyed fingerprint of it leaves here.
        # Where it may not be read the place itself is the fingerprint, and a rotation is not seen.
        if role.verifier:
            fingerprint = self._scan.fingerprint(role.verifier.encode())
        else:
            fingerprint = "sha256:" + hashlib.sha256(f"postgres password {me}".encode()).hexdigest()
        return CredentialFact(
            fingerprint=fingerprint,
            kind=CredentialKind.PASSWORD,
            title=f"password of {role.name}",
            place=place,
            identity=me,
            expires=role.valid_until,
            last_used=self._scan.now if role.sessions else None,
            manager="remit" if PRINCIPAL.fullmatch(role.name) else None,
            attributes={"method": _method(role.verifier)},
        )

    def _role_findings(self, role: Role, me: Name, place: Place) -> Iterator[FindingFact]:
        quoted = quote_identifier(role.name)
        if role.verifier and role.verifier.startswith("md5"):
            yield FindingFact(
                rule="postgres.md5-password",
                severity=Severity.HIGH,
                title=f"the password of {role.name} is stored as md5",
                detail="the stored value itself logs in wherever md5 is admitted, and is cracked quickly",
                next_step=f"SET password_encryption = 'scram-sha-256', then \\password {role.name}",
                place=place,
                subject=me,
            )
        if role.can_login and role.valid_until is None and role.verifier != "":
            yield FindingFact(
                rule="postgres.password-never-expires",
                severity=Severity.MEDIUM,
                title=f"the password of {role.name} never expires",
                detail="VALID UNTIL is not set" if role.verifier else "VALID UNTIL is not set, if it has a password",
                next_step=f"use leases instead, or ALTER ROLE {quoted} VALID UNTIL '…'",
                place=place,
                subject=me,
            )
        if role.superuser and role.can_login and not role.bootstrap:
            yield FindingFact(
                rule="postgres.superuser-login",
                severity=Severity.HIGH,
                title=f"{role.name} logs in as a superuser",
                detail="it passes every check, and runs programs on the host",
                next_step=f"grant what it needs, then ALTER ROLE {quoted} NOSUPERUSER",
                place=place,
                subject=me,
            )
        if role.create_role and not role.superuser and self._server.major < 16:
            yield FindingFact(
                rule="postgres.createrole",
                severity=Severity.HIGH,
                title=f"{role.name} can grant itself any role",
                detail="before PostgreSQL 16 CREATEROLE may grant pg_execute_server_program and reset other passwords",
                next_step=f"ALTER ROLE {quoted} NOCREATEROLE, and let functions of a superuser make roles",
                place=place,
                subject=me,
            )
        for power in role.powers:
            if role.can_login:
                yield FindingFact(
                    rule="postgres.predefined-power",
                    severity=Severity.HIGH if "server" in power else Severity.MEDIUM,
                    title=f"{role.name} can {POWERS[power]}",
                    detail=f"member of {power}",
                    next_step=f"REVOKE {power} FROM {quoted}, or from the group that has it",
                    place=place,
                    subject=me,
                )

    # Things and the grants on them

    def _thing(self, thing: Thing) -> Iterator[Fact]:
        path = thing.name if thing.kind == "database" else f"{thing.database}.{thing.name}"
        place = self._place(f"{thing.kind}/{path}")
        me = self._resource(thing.kind, path)
        yield ResourceFact(
            name=me,
            kind=thing.kind,
            title=path,
            place=place,
            attributes={
                "owner": thing.owner,
                "row_security": thing.row_security,
                "comment": thing.comment[:500] or None,
            },
        )
        if thing.kind == "function" and not thing.fixed_search_path:
            yield self._unfixed(thing, me, path, place)
        yield from self._public_findings(thing, me, path, place)

    def _unfixed(self, thing: Thing, me: Name, path: str, place: Place) -> FindingFact:
        return FindingFact(
            rule="postgres.definer-search-path",
            severity=Severity.HIGH if thing.owner_is_superuser else Severity.MEDIUM,
            title=f"{path} runs as {thing.owner} with its caller's search path",
            detail="a caller can put its own functions in front of those that the body names",
            next_step=f"ALTER FUNCTION {thing.name} SET search_path = pg_catalog, pg_temp",
            place=place,
            subject=me,
        )

    def _public_findings(self, thing: Thing, me: Name, path: str, place: Place) -> Iterator[FindingFact]:
        for privilege in thing.privileges:
            if privilege.grantee or privilege.lacks_usage:
                continue
            risky = {
                "schema": {"CREATE"},
                "function": {"EXECUTE"} if thing.owner_is_superuser else set(),
                "database": {"CREATE"},
            }.get(thing.kind, set(privilege.actions))
            if actions := sorted(risky.intersection(privilege.actions)):
                yield FindingFact(
                    rule=f"postgres.public-{noun(thing.kind)}",
                    severity=Severity.MEDIUM,
                    title=f"every role has {', '.join(actions)} on {path}",
                    detail=f"granted to PUBLIC on {thing.kind} {path}",
                    next_step=_revoke(thing, privilege),
                    place=place,
                    subject=me,
                )

    def _default(self, default: DefaultPrivilege) -> Iterator[Fact]:
        schema = f" IN SCHEMA {quote_identifier(default.schema)}" if default.schema else ""
        who = quote_identifier(default.grantee) if default.grantee else "PUBLIC"
        cut = (
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {quote_identifier(default.role)}{schema}"
            f" REVOKE {', '.join(default.actions)} ON {default.objects.upper()} FROM {who}"
        )
        yield FindingFact(
            rule="postgres.default-privileges",
            severity=Severity.INFO if default.grantee else Severity.MEDIUM,
            title=f"{default.objects} that {default.role} makes are granted to {default.grantee or 'PUBLIC'} at birth",
            detail=f"{', '.join(default.actions)}{f' in schema {default.schema}' if default.schema else ''}",
            next_step=cut,
            place=self._place(f"database/{default.database}"),
            subject=self._role_name(default.role),
        )

    # How one gets in

    def _hba(self, rule: HbaRule) -> Iterator[Fact]:
        place = Place(system=self._system, path="pg_hba.conf", line=rule.line)
        who = f"{rule.type} {','.join(rule.databases)} {','.join(rule.users)} {rule.address}".strip()
        remote = rule.type != "local" and not _is_loopback(rule.address)
        weak = {
            "trust": (Severity.CRITICAL if remote else Severity.HIGH, "admits anyone as any of these roles"),
            "password": (Severity.HIGH, "takes the password in clear"),
            "md5": (Severity.MEDIUM, "admits md5, whose stored value is as good as the password"),
            "ident": (Severity.HIGH, "believes what the client's machine says"),
        }
        if rule.method in weak:
            severity, why = weak[rule.method]
            yield FindingFact(
                rule=f"postgres.hba-{rule.method}",
                severity=severity,
                title=f"line {rule.line} of pg_hba.conf {why}",
                detail=f"{who} {rule.method}",
                next_step="replace the method by scram-sha-256",
                place=place,
            )
        if rule.method != "reject" and rule.type != "local" and _is_everywhere(rule.address):
            plain = "" if rule.type == "hostssl" else ", encrypted or not"
            yield FindingFact(
                rule="postgres.hba-everywhere",
                severity=Severity.MEDIUM,
                title=f"line {rule.line} of pg_hba.conf admits every address{plain}",
                detail=f"{who} {rule.method}",
                next_step="name the networks from which it is used, with hostssl",
                place=place,
            )

    def _setting(self, setting: Setting) -> Iterator[Fact]:
        place = self._place("settings")
        if setting.name == "server_version":
            yield ResourceFact(
                name=self._host(),
                kind="server",
                title=f"PostgreSQL {setting.value}",
                place=place,
                attributes={"version": setting.value},
            )
            for local, title in ((PUBLIC_GROUP, "PUBLIC"), (SUPERUSERS, "superusers")):
                yield IdentityFact(
                    name=self._group(local),
                    kind=IdentityKind.GROUP,
                    title=f"{title} of PostgreSQL",
                    place=place,
                    attributes={"can_login": False, "privileged": local == SUPERUSERS},
                )
            yield self._edge(
                self._group(SUPERUSERS),
                Relation.CAN_REACH,
                self._host(),
                "superusers run programs and read files on the host",
                place,
                actions=("ALL",),
            )
        elif setting.name == "password_encryption" and setting.value == "md5":
            yield FindingFact(
                rule="postgres.password-encryption-md5",
                severity=Severity.MEDIUM,
                title="new passwords are stored as md5",
                detail="password_encryption = md5",
                next_step="ALTER SYSTEM SET password_encryption = 'scram-sha-256'",
                place=place,
            )

    # Names

    @property
    def _system(self) -> str:
        return f"postgres/{self._server.instance}"

    def _place(self, path: str) -> Place:
        return Place(system=self._system, path=path)

    def _role_name(self, role: str) -> Name:
        return name("postgres", self._server.instance, "role", role)

    def _group(self, local: str) -> Name:
        return name("postgres", self._server.instance, "group", local)

    def _resource(self, kind: str, path: str) -> Name:
        return name("postgres", self._server.instance, noun(kind), path)

    def _host(self) -> Name:
        return name("postgres", self._server.instance, "server", self._server.instance)

    def _edge(
        self,
        source: Name,
        relation: Relation,
        target: Name,
        evidence: str,
        place: Place,
        *,
        actions: tuple[str, ...] = (),
        conditions: tuple[str, ...] = (),
        cut: str = "",
    ) -> EdgeFact:
        return EdgeFact(
            source=source,
            relation=relation,
            target=target,
            evidence=evidence,
            place=place,
            actions=actions,
            conditions=conditions,
            cut=cut,
        )


def _kind(role: Role) -> IdentityKind:
    if PRINCIPAL.fullmatch(role.name):
        return IdentityKind.TASK
    return IdentityKind.DATABASE_ROLE if role.can_login else IdentityKind.GROUP


def _method(verifier: str | None) -> str | None:
    if verifier is None:
        return None
    if not verifier:
        return "none"
    return (
        "scram-sha-256" if verifier.startswith("SCRAM-SHA-256$") else "md5" if verifier.startswith("md5") else "other"
    )


def _revoke(thing: Thing, privilege: Privilege) -> str:
    who = quote_identifier(privilege.grantee) if privilege.grantee else "PUBLIC"
    kind = noun(thing.kind).upper()
    path = thing.name
    if kind in ("DATABASE", "SCHEMA"):
        path = quote_identifier(thing.name)
    elif kind == "TABLE":
        schema, _, table = thing.name.partition(".")
        path = f"{quote_identifier(schema)}.{quote_identifier(table)}"
    actions = ", ".join(action for action in privilege.actions if "(" not in action) or "ALL"
    return f"REVOKE {actions} ON {kind} {path} FROM {who}"


def _is_loopback(address: str) -> bool:
    if address in ("localhost", "samehost"):
        return True
    network = _network(address)
    return network is not None and network.is_loopback


def _is_everywhere(address: str) -> bool:
    network = _network(address)
    return address == "all" or (network is not None and network.prefixlen == 0)


def _network(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        host, _, mask = address.partition("/")
        if ":" in mask:
            mask = str(bin(int(ipaddress.IPv6Address(mask))).count("1"))
        return ipaddress.ip_network(f"{host}/{mask}" if mask else host, strict=False)
    except ValueError:
        return None
