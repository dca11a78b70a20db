"""What an OpenBao's records mean: identities, credentials, edges, resources and findings."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias, assert_never

from remit.inventory.connectors.endpoint import named, shown
from remit.inventory.connectors.files.dsn import find_dsns
from remit.inventory.connectors.openbao_acl import taken_away
from remit.inventory.connectors.openbao_powers import Power
from remit.inventory.connectors.openbao_powers import cut as cut_of
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
    Sensitivity,
    Severity,
)
from remit.kernel.clock import rfc3339
from remit.kernel.ids import Name
from remit.providers.openbao.inventory import PathRule

_MOST: Final = 500
_POWERFUL: Final = re.compile(r"\*|sys/\*|sys/policies/acl/.*|sys/policy/.*|auth/\*|identity/\*|sys/auth/.*")
_PLUGINS: Final = {"postgresql": "postgres", "mysql": "mysql", "redis": "redis", "valkey": "redis"}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The cluster itself."""

    audit: tuple[str, ...] | None
    """Its audit devices; `None` where they may not be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy, by path."""

    name: str
    rules: Mapping[str, tuple[str, ...]]
    limited: frozenset[str] = frozenset()
    """Paths at which it limits what may be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What the holders of a policy can become."""

    policy: str
    found: tuple[Power, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What somebody signs in as: a role, a user, a certificate of an auth method."""

    method: str
    mount: str
    name: str
    described: Mapping[str, Any]
    config: Mapping[str, Any]
    secret_ids: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    described: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    described: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A live token, by its accessor."""

    described: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A mount, a connection of a database engine, or one of its roles."""

    mount: str
    kind: str
    connection: str = ""
    role: str = ""
    path: str = ""
    described: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    leases: int = 0
    policies: tuple[str, ...] = ()
    """Those whose holders may read `path`."""


Raw: TypeAlias = About | Policy | Powers | Role | Entity | Group | Token | Engine


class Translation:
    """Turns records of one namespace into facts; pure but for the moment and the fingerprinter of `scan`."""

    def __init__(
        self, instance: str, scan: Scan, policies: Mapping[str, Sequence[PathRule]] | None = None
    ) -> None:  # fmt: skip
        self._instance = instance
        self._scan = scan
        self._policies = policies or {}

    def facts(self, raw: Raw) -> Iterator[Fact]:
        """The facts of one record."""
        match raw:
            case About():
                yield from self._about(raw)
            case Powers():
                yield from self._powers(raw)
            case Policy():
                yield from self._policy(raw)
            case Role():
                yield from self._role(raw)
            case Entity():
                yield from self._entity(raw.described)
            case Group():
                yield from self._group(raw.described)
            case Token():
                yield from self._token(raw.described)
            case Engine():
                yield from self._engine(raw)
            case _:
                assert_never(raw)

    def _about(self, about: About) -> Iterator[Fact]:
        server, place = self._name("server", self._instance), self._place("sys")
        yield ResourceFact(name=server, kind="server", title=f"OpenBao {self._instance[:60]}", place=place)
        yield ResourceFact(
            name=self._name("policies", "*"), kind="openbao-policies", title="any policy but root", place=place,
            sensitivity=Sensitivity.PUBLIC,
        )  # fmt: skip
        if about.audit == ():
            yield FindingFact(
                rule="openbao.no-audit", severity=Severity.HIGH, title="nothing that is read or issued is recorded",
                detail="no audit device is enabled", next_step="bao audit enable file file_path=/var/log/openbao.log",
                place=place, subject=server,
            )  # fmt: skip

    def _policy(self, policy: Policy) -> Iterator[Fact]:
        me, place = self._name("policy", policy.name), self._place(f"sys/policies/acl/{policy.name}")
        grave = [path for path, words in policy.rules.items() if _POWERFUL.fullmatch(path) and _writes(words)]
        yield IdentityFact(
            name=me, kind=IdentityKind.GROUP, title=shown(policy.name), place=place,
            attributes={"can_login": False, "privileged": bool(grave), "paths": len(policy.rules)},
        )  # fmt: skip
        for path, words in list(policy.rules.items())[:_MOST]:
            if not words or "deny" in words:
                continue
            target = self._name("path", path)
            yield ResourceFact(name=target, kind="path", title=shown(path), place=self._place(path))
            conditions = ["the path is templated"] * ("{{" in path)
            conditions += ["the policy limits what may be written"] * (path in policy.limited)
            yield self._edge(
                me, Relation.CAN_REACH, target, shown(f"policy {policy.name}"), words, tuple(conditions),
                shown(cut_of(policy.name, [path]), 400),
            )  # fmt: skip
        any_policy = self._name("policies", "*")
        if policy.name == "root":
            why = "root passes every policy"
            yield self._edge(me, Relation.ASSUME, any_policy, why, ("sudo",), (), "")
        else:
            why = "one of the policies"
            yield self._edge(any_policy, Relation.MEMBER_OF, me, why, (), (), f"bao policy delete {_word(policy.name)}")
        if policy.name == "root" or "*" in grave:
            yield self._edge(
                me, Relation.CAN_REACH, self._name("server", self._instance), "every path", ("sudo",), (), ""
            )
        if grave and policy.name != "root":
            yield FindingFact(
                rule="openbao.powerful-policy", severity=Severity.HIGH,
                title=f"the policy {shown(policy.name)} gives every other one: {shown(', '.join(grave[:5]))}",
                detail="who may write policies, auth methods or everything makes itself root",
                next_step=f"bao policy write {_word(policy.name)} with the paths that its holders need",
                place=place, subject=me,
            )  # fmt: skip

    def _powers(self, raw: Powers) -> Iterator[Fact]:
        """Whom the holders of a policy can become, whether or not a path of it says so by its name."""
        me = self._name("policy", raw.policy)
        for power in raw.found:
            match power.target:
                case "root":
                    target, relation = self._name("policy", "root"), Relation.ASSUME
                case "policies":
                    target, relation = self._name("policies", "*"), Relation.ASSUME
                case "role":
                    target, relation = self._name("role", power.name), Relation.ASSUME
                case _:
                    target, relation = self._name("mount", power.name), Relation.CAN_REACH
            yield self._edge(
                me, relation, target, shown(power.evidence, 400), power.actions, power.conditions,
                shown(cut_of(raw.policy, power.rules), 600),
            )  # fmt: skip

    def _has(
        self, me: Name, policies: Sequence[str], evidence: str, cut: str, unless: tuple[str, ...] = ()
    ) -> Iterator[Fact]:  # fmt: skip
        """The policies of somebody; where one takes away what another gives, the other is conditional."""
        for policy in policies:
            mine = self._policies.get(policy, ())
            conditions = unless
            others = [rule for each in policies if each != policy for rule in self._policies.get(each, ())]
            if mine and others and (lost := taken_away(mine, others)):
                conditions = (
                    *unless,
                    shown(f"another of its policies takes away {', '.join(lost[:5])}", 300),
                )
            yield self._edge(me, Relation.MEMBER_OF, self._name("policy", policy), evidence, (), conditions, cut)

    def _role(self, role: Role) -> Iterator[Fact]:
        below = {"cert": "certs", "userpass": "users", "token": "roles"}.get(role.method, "role")
        path = f"auth/{role.mount}/{below}/{role.name}"
        me, place, said = self._name("role", f"{role.mount}/{role.name}"), self._place(path), role.described
        policies = _texts(said.get("token_policies") or said.get("allowed_policies"))
        attributes: dict[str, Attribute] = {
            "method": role.method, "can_login": role.method != "token",
            "privileged": "root" in policies, "ttl_seconds": _number(said.get("token_ttl")),
            "max_ttl_seconds": _number(said.get("token_max_ttl")), "policies": shown(", ".join(policies), 500) or None,
            "bound_addresses": shown(", ".join(_texts(said.get("token_bound_cidrs"))), 300) or None,
        }  # fmt: skip
        if role.method == "approle":
            attributes |= {"secret_ids": len(role.secret_ids), "needs_secret_id": said.get("bind_secret_id") is True}
        yield IdentityFact(
            name=me, kind=IdentityKind.SERVICE_ACCOUNT, title=shown(f"{role.name} ({role.mount})"), place=place,
            attributes=attributes,
        )  # fmt: skip
        cut = f"bao delete {_word(path)}"
        yield from self._has(me, policies, f"{role.method} role", cut)
        for secret_id in role.secret_ids:
            yield self._secret_id(role, me, secret_id)
        yield from self._bound(role, me, cut)
        yield from self._role_findings(role, me, place)

    def _secret_id(self, role: Role, me: Name, said: Mapping[str, Any]) -> CredentialFact:
        accessor = str(said.get("secret_id_accessor", ""))
        return CredentialFact(
            fingerprint=_public(f"openbao secret id {self._instance} {accessor}"), kind=CredentialKind.SECRET,
            title=shown(f"secret id of {role.name}"),
            place=self._place(f"auth/{role.mount}/role/{role.name}/secret-id"),
            identity=me, issued=_moment(said.get("creation_time")), expires=_moment(said.get("expiration_time")),
            manager="openbao", attributes={"accessor": shown(accessor)},
        )  # fmt: skip

    def _bound(self, role: Role, me: Name, cut: str) -> Iterator[Fact]:
        """Whom the outside identity provider lets be this role."""
        said = role.described
        if role.method == "kubernetes":
            issuer = str(role.config.get("issuer") or "")
            for space in _texts(said.get("bound_service_account_namespaces"))[:_MOST]:
                for account in _texts(said.get("bound_service_account_names"))[:_MOST]:
                    yield from self._subject(me, issuer, f"system:serviceaccount:{space}:{account}", cut)
        elif role.method in ("jwt", "oidc"):
            issuer = str(role.config.get("bound_issuer") or role.config.get("oidc_discovery_url") or "")
            claims = said.get("bound_claims")
            subjects = _texts(said.get("bound_subject"))
            subjects += _texts(claims.get("sub")) if isinstance(claims, Mapping) else []
            globs = said.get("bound_claims_type") == "glob"
            others = tuple(
                shown(f"the token's {key} is {', '.join(_texts(value))}")
                for key, value in (claims.items() if isinstance(claims, Mapping) else ()) if key != "sub"
            )  # fmt: skip
            for subject in subjects[:_MOST]:
                yield from self._subject(me, issuer, subject, cut, others, globs=globs)

    def _subject(
        self, me: Name, issuer: str, subject: str, cut: str, others: tuple[str, ...] = (), *, globs: bool = True
    ) -> Iterator[Fact]:  # fmt: skip
        """The subject that signs in; one with `*` is a form, to which what it covers is joined."""
        if not subject or not issuer:
            return
        literal = () if globs or "*" not in subject else ("the subject has this star in it",)
        # Others name an issuer by its host alone: there the same subject is another node.
        named_as = (issuer, issuer.removeprefix("https://").rstrip("/"))
        for each in dict.fromkeys(named_as):
            source = named("oidc", each, "subject", subject)
            yield self._edge(source, Relation.ASSUME, me, "its token signs in", ("login",), (*others, *literal), cut)

    def _role_findings(self, role: Role, me: Name, place: Place) -> Iterator[FindingFact]:
        said, who = role.described, shown(f"{role.name} ({role.mount})")

        def finding(what: str, severity: Severity, title: str, detail: str, next_step: str) -> FindingFact:
            return FindingFact(
                rule=f"openbao.{what}", severity=severity, title=title, detail=detail, next_step=next_step,
                place=place, subject=me,
            )  # fmt: skip

        path = _word(place.path)
        if role.method == "approle" and said.get("bind_secret_id") is False:
            yield finding(
                "no-secret-id", Severity.HIGH, f"{who} signs in with its role id alone",
                "a role id is no secret: it lies in configurations", f"bao write {path} bind_secret_id=true",
            )  # fmt: skip
        endless = [each for each in role.secret_ids if _moment(each.get("expiration_time")) is None]
        if endless:
            yield finding(
                "secret-id-never-expires", Severity.MEDIUM, f"{len(endless)} secret ids of {who} never expire",
                "each is a password that nobody changes", f"bao write {path} secret_id_ttl=24h secret_id_num_uses=1",
            )  # fmt: skip
        everyone = (
            role.method in ("jwt", "oidc")
            and not said.get("bound_subject") and not said.get("bound_claims") and role.method != "oidc"
        )  # fmt: skip
        if role.method == "kubernetes" and "*" in _texts(said.get("bound_service_account_names")):
            everyone = "*" in _texts(said.get("bound_service_account_namespaces"))
        if everyone:
            yield finding(
                "role-for-anyone", Severity.HIGH, f"{who} is everybody's whom the issuer knows",
                "no subject and no claim is bound: another repository or pod gets it too",
                f"bao write {path} bound_subject=… (or bound_claims, bound_service_account_names)",
            )  # fmt: skip

    def _entity(self, said: Mapping[str, Any]) -> Iterator[Fact]:
        entity = str(said.get("id", ""))
        me, place = self._name("entity", entity), self._place(f"identity/entity/id/{entity}")
        yield IdentityFact(
            name=me, kind=IdentityKind.SERVICE_ACCOUNT, title=shown(said.get("name") or entity), place=place,
            attributes={
                "created": str(said.get("creation_time") or "") or None, "disabled": said.get("disabled") is True,
                "can_login": said.get("disabled") is not True,
            },
        )  # fmt: skip
        cut = f"bao delete identity/entity/id/{_word(entity)}"
        off = ("somebody enables the entity: it is disabled",) if said.get("disabled") is True else ()
        yield from self._has(me, _texts(said.get("policies")), "entity", cut, off)
        aliases = said.get("aliases")
        for alias in aliases[:_MOST] if isinstance(aliases, list) else ():
            if not isinstance(alias, Mapping):
                continue
            mount = str(alias.get("mount_path", "")).removeprefix("auth/").strip("/")
            metadata = alias.get("metadata") or {}
            role = metadata.get("role_name") or metadata.get("role") if isinstance(metadata, Mapping) else ""
            name = alias.get("name") if alias.get("mount_type") == "userpass" else role
            if name:
                source = self._name("role", f"{mount}/{name}")
                yield self._edge(source, Relation.ASSUME, me, "signs in as this entity", ("login",), (), cut)

    def _group(self, said: Mapping[str, Any]) -> Iterator[Fact]:
        group = str(said.get("id", ""))
        me, place = self._name("group", group), self._place(f"identity/group/id/{group}")
        yield IdentityFact(
            name=me, kind=IdentityKind.GROUP, title=shown(said.get("name") or group), place=place,
            attributes={"can_login": False},
        )  # fmt: skip
        cut = f"bao write identity/group/id/{_word(group)} member_entity_ids=…"
        held = f"bao write identity/group/id/{_word(group)} policies=…"
        yield from self._has(me, _texts(said.get("policies")), "group", held)
        for kind, key in (("entity", "member_entity_ids"), ("group", "member_group_ids")):
            for member in _texts(said.get(key))[:10_000]:
                yield self._edge(self._name(kind, member), Relation.MEMBER_OF, me, "member of the group", (), (), cut)

    def _token(self, said: Mapping[str, Any]) -> Iterator[Fact]:
        accessor, policies = str(said.get("accessor", "")), _texts(said.get("policies"))
        place, who = self._place(f"auth/token/{accessor}"), shown(said.get("display_name") or "token")
        expires, root = _moment(said.get("expire_time")), "root" in policies
        if entity := str(said.get("entity_id") or ""):
            me = self._name("entity", entity)
        else:
            me = self._name("token", accessor)
            yield IdentityFact(
                name=me, kind=IdentityKind.SERVICE_ACCOUNT, title=who, place=place,
                attributes={"privileged": root, "can_login": True, "created": _text(said.get("issue_time"))},
            )  # fmt: skip
        cut = f"bao token revoke -accessor {_word(accessor)}"
        yield from self._has(me, policies, "live token", cut)
        yield CredentialFact(
            fingerprint=_public(f"openbao token {self._instance} {accessor}"), kind=CredentialKind.TOKEN,
            title=f"token {who}", place=place, identity=me, issued=_moment(said.get("issue_time")), expires=expires,
            manager="openbao",
            attributes={
                "accessor": shown(accessor), "path": shown(said.get("path") or ""),
                "orphan": said.get("orphan") is True,
                "renewable": said.get("renewable") is True, "type": shown(said.get("type") or ""),
            },
        )  # fmt: skip
        if root or expires is None:
            yield FindingFact(
                rule="openbao.root-token" if root else "openbao.token-never-expires",
                severity=Severity.CRITICAL if root else Severity.HIGH,
                title=f"a root token lives ({who})" if root else f"the token {who} never ends",
                detail="it passes every policy, and nothing it does can be denied" if root else "it has no expiry",
                next_step=f"{cut}; make another with `bao operator generate-root` when it is needed" if root else cut,
                place=place, subject=me,
            )  # fmt: skip

    def _engine(self, engine: Engine) -> Iterator[Fact]:
        mount = self._name("mount", engine.mount)
        if not engine.connection and not engine.role:
            yield ResourceFact(
                name=mount, kind="secret-engine", title=shown(engine.mount), place=self._place(engine.mount),
                attributes={"type": shown(engine.kind)},
            )  # fmt: skip
            return
        plugin = str(engine.server.get("plugin_name") or "").partition("-")[0]
        system, address = _PLUGINS.get(plugin, ""), _address(engine.server)
        kind = "role" if system == "postgres" else "user"
        if engine.connection:
            user = _username(engine.server)
            if system and address and user:
                yield from self._login(system, address, kind, user, f"{engine.mount}/config/{engine.connection}")
                yield self._edge(
                    mount, Relation.RUNS_AS, named(system, address, kind, user), "makes logins as it", (), (), ""
                )  # fmt: skip
            return
        path = self._name("path", engine.path)
        place = self._place(engine.path)
        yield ResourceFact(name=path, kind="path", title=shown(engine.path), place=place)
        static = str(engine.described.get("username") or "")
        if static and system and address:
            minted = named(system, address, kind, static)
            yield from self._login(system, address, kind, static, engine.path)
        else:
            minted = self._name("database-role", f"{engine.mount}/{engine.role}")
            yield IdentityFact(
                name=minted, kind=IdentityKind.TASK, title=shown(f"logins of {engine.path}"), place=place,
                attributes={
                    "leases": engine.leases, "on": shown(f"{system or plugin} {address}"),
                    "ttl_seconds": _number(engine.described.get("default_ttl")),
                    "max_ttl_seconds": _number(engine.described.get("max_ttl")),
                    "last_used": rfc3339(self._scan.now) if engine.leases else None,
                },
            )  # fmt: skip
            if system and address:
                target = named(system, address, "server", address)
                yield ResourceFact(name=target, kind="server", title=shown(f"{system} at {address}"), place=place)
                yield self._edge(minted, Relation.CAN_REACH, target, "its creation statements", ("login",), (), "")
        for policy in engine.policies:
            yield self._edge(
                self._name("policy", policy), Relation.ASSUME, minted, shown(f"reads {engine.path}"), ("read",), (),
                shown(cut_of(policy, [engine.path]), 400),
            )  # fmt: skip

    def _login(self, system: str, address: str, kind: str, user: str, path: str) -> Iterator[Fact]:
        yield IdentityFact(
            name=named(system, address, kind, user), kind=IdentityKind.DATABASE_ROLE,
            title=shown(f"{user} at {address}"), place=self._place(path),
        )  # fmt: skip

    def _name(self, kind: str, local: str) -> Name:
        return named("openbao", self._instance, kind, local)

    def _place(self, path: str) -> Place:
        return Place(system=f"openbao/{shown(self._instance)}", path=shown(path, 600))

    def _edge(
        self, source: Name, relation: Relation, target: Name, evidence: str, actions: tuple[str, ...],
        conditions: tuple[str, ...], cut: str,
    ) -> EdgeFact:  # fmt: skip
        return EdgeFact(
            source=source, relation=relation, target=target, evidence=evidence, actions=actions, conditions=conditions,
            place=self._place("sys"), cut=cut,
        )  # fmt: skip


def _writes(words: Sequence[str]) -> bool:
    return bool({"create", "update", "sudo", "patch"}.intersection(words))


def _texts(said: object) -> list[str]:
    if isinstance(said, str):
        return [each.strip() for each in said.split(",") if each.strip()]
    return [str(each) for each in said] if isinstance(said, (list, tuple)) else []


def _text(said: object) -> str | None:
    return shown(said) if isinstance(said, str) and said else None


def _number(said: object) -> int | None:
    return said if isinstance(said, int) and said else None


def _moment(said: object) -> datetime | None:
    """A time of OpenBao's; its zero time is none."""
    if not isinstance(said, str) or said.startswith("0001-"):
        return None
    try:
        found = datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", said))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _public(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _url(server: Mapping[str, Any]) -> str:
    details = server.get("connection_details")
    found = details.get("connection_url") if isinstance(details, Mapping) else ""
    return str(found or "")[:2000]


def _address(server: Mapping[str, Any]) -> str:
    """`host:port` of a connection, as files name it; the credentials in its URL are templates."""
    url = re.sub(r"\{\{[^}]*\}\}", "x", _url(server))
    go = re.search(r"@tcp\(([^)]+)\)", url)
    for dsn in find_dsns(f"mysql://x:x@{go[1]}/" if go else url):
        return dsn.endpoint
    return ""


def _username(server: Mapping[str, Any]) -> str:
    details = server.get("connection_details")
    return str(details.get("username") or "") if isinstance(details, Mapping) else ""


def _word(text: str) -> str:
    return shlex.quote(text.replace("\0", ""))
