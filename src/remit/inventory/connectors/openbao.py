"""OpenBao as a source: ways to sign in, roles, entities, tokens, policies, and the logins that its engines make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from remit.inventory.connectors.openbao_acl import Rights
from remit.inventory.connectors.openbao_facts import (
    About,
    Engine,
    Entity,
    Group,
    Policy,
    Powers,
    Raw,
    Role,
    Token,
    Translation,
)
from remit.inventory.connectors.openbao_powers import House, merged, powers
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Rejected
from remit.providers.openbao.inventory import Hidden, PathRule, Reader, rules_of, statements_of

HCL: Final = """
path "sys/auth" { capabilities = ["read"] }
path "sys/mounts" { capabilities = ["read"] }
path "sys/audit" { capabilities = ["read", "sudo"] }
path "sys/policies/acl" { capabilities = ["list"] }
path "sys/policies/acl/+" { capabilities = ["read"] }
path "auth/+/role/" { capabilities = ["list"] }
path "auth/+/role/+" { capabilities = ["read"] }
path "auth/+/role/+/secret-id/" { capabilities = ["list"] }
path "auth/+/role/+/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/+/users/" { capabilities = ["list"] }
path "auth/+/users/+" { capabilities = ["read"] }
path "auth/+/certs/" { capabilities = ["list"] }
path "auth/+/certs/+" { capabilities = ["read"] }
path "auth/+/config" { capabilities = ["read"] }
path "auth/token/roles" { capabilities = ["list"] }
path "auth/token/roles/+" { capabilities = ["read"] }
path "auth/token/accessors" { capabilities = ["list", "sudo"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "identity/entity/id" { capabilities = ["list"] }
path "identity/entity/id/+" { capabilities = ["read"] }
path "identity/group/id" { capabilities = ["list"] }
path "identity/group/id/+" { capabilities = ["read"] }
path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }
""".strip()
ENGINE_HCL: Final = """
path "database/roles" { capabilities = ["list"] }
path "database/roles/+" { capabilities = ["read"] }
path "database/static-roles" { capabilities = ["list"] }
path "database/static-roles/+" { capabilities = ["read"] }
path "database/config" { capabilities = ["list"] }
path "database/config/+" { capabilities = ["read"] }
""".strip()
MANIFEST = ConnectorManifest(
    id="openbao",
    record_of=("openbao",),
    title="OpenBao 2.0 and later",
    source="the name of a target, or https://HOST:PORT with a token in BAO_TOKEN; https://ROLE_ID@… for AppRole",
    observes=(
        "auth methods; roles of AppRole, JWT and OIDC, Kubernetes, certificates; userpass users; token roles",
        "secret ids: how many, until when; live tokens by accessor: root, without end, orphans",
        "entities, their aliases, and groups",
        "policies: which paths with which capabilities, and who has them",
        "database engines: the logins that their roles make or rotate, on which server, and live leases",
        "audit devices",
    ),
    needs=(
        Permission(
            grant=f"bao policy write remit-reader - <<'HCL'\n{HCL}\nHCL",
            why="names, settings and accessors; no secret of a key-value engine can be read with it",
        ),
        Permission(
            grant=f"bao policy write remit-reader-database - <<'HCL'\n{ENGINE_HCL}\nHCL",
            why="for each database engine, with its own mount: what its roles make; without it that is said as unseen",
        ),
    ),
    blind_to=(
        Blind(what="secrets and their names in key-value engines", why="the policy does not read them, on purpose"),
        Blind(what="last use of tokens and roles", why="OpenBao keeps none: read its audit log"),
        Blind(what="batch tokens", why="they have no accessor"),
        Blind(what="other namespaces", why="one run reads one: `--set namespace=…`"),
        Blind(
            what="roles of other engines (PKI, SSH, AWS …)", why="only database engines are opened; mounts are shown"
        ),
    ),
    options=(
        Option(name="namespace", help="the namespace to read; the root one if not given"),
        Option(name="auth_mount", help="where AppRole is mounted; `approle` if not given"),
        Option(name="tls", help="`false` speaks plain HTTP to a target on this machine"),
        Option(name="ca", help="a file of CA certificates for TLS; empty means those of the machine"),
    ),
    hazards=("who may look up accessors learns which tokens are worth stealing: let the reader's token be short",),
)
_SECRET_IDS: Final = 1000
_METHODS: Final = {
    "approle": "role", "jwt": "role", "oidc": "role", "kubernetes": "role", "cert": "certs", "userpass": "users",
}  # fmt: skip


def make(source: str, options: Mapping[str, str], secret: str) -> OpenBaoConnector:
    """A connector on a URL, or on the target whose address the options have."""
    user = options.get("user", "")
    if "host" in options:
        scheme = "http" if options.get("tls") == "false" else "https"
        host = f"[{options['host']}]" if ":" in options["host"] else options["host"]
        address = f"{scheme}://{host}:{options.get('port') or '8200'}"
    else:
        try:
            parts = urlsplit(source)
            fit = parts.scheme in ("http", "https") and parts.password is None and bool(parts.hostname)
            netloc, user = parts.netloc.rpartition("@")[2], unquote(parts.username or "")
        except ValueError:
            fit = False
        if not fit or parts.path not in ("", "/") or parts.query:
            raise Rejected(
                "inventory.source.unfit", "the source is no address of an OpenBao",
                next_step="write https://HOST:PORT; the token comes by --secret-stdin or BAO_TOKEN",
            )  # fmt: skip
        address = f"{parts.scheme}://{netloc}"
    return OpenBaoConnector(address, secret, user=user, options=options)


class OpenBaoConnector:
    """Reads one namespace of one cluster; for one thread."""

    manifest = MANIFEST

    def __init__(self, address: str, secret: str, *, user: str, options: Mapping[str, str]) -> None:
        self._address = address
        self._secret = secret
        self._user = user
        self._options = dict(options)
        self._reader: Reader | None = None
        self._instance = ""
        self._policies: Mapping[str, list[PathRule]] = {}

    def __repr__(self) -> str:
        return f"OpenBaoConnector({self._address!r})"

    @property
    def instance(self) -> str:
        """The cluster's id, known after `open`."""
        return self._instance

    @property
    def scope(self) -> str:
        """The namespace."""
        return self._options.get("namespace", "").strip("/") or "root"

    def open(self) -> None:
        """Connect; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self.close()
        options = self._options
        token = "" if self._user else self._secret
        reader = Reader(self._address, token, namespace=options.get("namespace", ""), ca=options.get("ca", ""))
        try:
            if self._user:
                reader.log_in(options.get("auth_mount") or "approle", self._user, self._secret)
            self._instance = reader.instance()
        except BaseException:
            reader.close()
            raise
        self._reader = reader

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Every record of the namespace; a path that may not be read is `Skipped`, once."""
        assert self._reader is not None, "open comes first"
        walk = _Walk(self._reader, scan)
        self._policies = walk.policies
        yield from walk.everything()

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """Turn one record into facts; pure but for the moment and the fingerprinter of `scan`."""
        instance = self._instance if self.scope == "root" else f"{self._instance}/{self.scope}"
        return Translation(instance, scan, self._policies).facts(raw)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`. The token is left to end by itself."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


class _Walk:
    """One run over what a reader can see."""

    def __init__(self, reader: Reader, scan: Scan) -> None:
        self._reader = reader
        self._scan = scan
        self.policies: dict[str, list[PathRule]] = {}
        self._methods_of: dict[str, str] = {}
        self._roles_of: list[tuple[str, str, str]] = []
        self._engines_of: dict[str, str] = {}
        self._count = 0

    def everything(self) -> Iterator[Raw | Skipped]:
        audit = self._reader.read("sys/audit")
        if isinstance(audit, Hidden):
            yield _skipped(audit)
        yield About(audit=None if isinstance(audit, Hidden) else tuple(sorted(audit or {})))
        for part in (self._policies, self._methods, self._identities, self._tokens, self._engines, self._powers):
            yield from part()
            if self._scan.stopped():
                yield Skipped(what="rest of the namespace", reason="not-supported", detail="the run was stopped")
                return

    def _policies(self) -> Iterator[Raw | Skipped]:
        for name in self._names("sys/policies/acl"):
            if isinstance(name, Skipped):
                yield name
            elif name == "root":
                yield Policy(name=name, rules={"*": ("sudo",)})
            elif (found := self._reader.read("sys/policies/acl", name)) is None:
                continue  # it went
            elif isinstance(found, Hidden):
                yield _skipped(found)
            else:
                text = str(found.get("policy") or "")[: 1 << 20]
                self.policies[name] = statements_of(text)
                limited = frozenset(each.path for each in self.policies[name] if each.limits)
                yield Policy(name=name, rules=rules_of(text), limited=limited)

    def _powers(self) -> Iterator[Raw | Skipped]:
        """Last of all: what a policy gives depends on the methods, roles and engines that there are."""
        house = House(methods=self._methods_of, roles=self._roles_of, engines=self._engines_of)
        for name, rules in sorted(self.policies.items()):
            if found := merged(powers(name, rules, house)):
                yield Powers(policy=name, found=tuple(found))

    def _methods(self) -> Iterator[Raw | Skipped]:
        mounts = self._reader.read("sys/auth")
        if isinstance(mounts, Hidden):
            yield _skipped(mounts)
            return
        for mount, said in sorted((mounts or {}).items()):
            kind = str(said.get("type", "")) if isinstance(said, dict) else ""
            self._methods_of[mount.strip("/")] = kind
            if kind == "token":
                yield from self._roles("token", mount, "roles", {})
            elif kind in _METHODS:
                config = self._reader.read("auth", mount, "config") if kind in ("jwt", "oidc", "kubernetes") else None
                known = config if isinstance(config, Mapping) else {}
                yield from self._roles(kind, mount, _METHODS[kind], known)
            else:
                yield Skipped(what=f"auth/{mount}", reason="not-supported", detail=f"the method {kind[:40]}")

    def _roles(self, kind: str, mount: str, below: str, config: Mapping[str, Any]) -> Iterator[Raw | Skipped]:
        for name in self._names("auth", mount, below):
            if isinstance(name, Skipped):
                yield name
                continue
            found = self._reader.read("auth", mount, below, name)
            if isinstance(found, Hidden):
                yield _skipped(found)
            elif found is not None:
                self._roles_of.append((kind, mount.strip("/"), name))
                secret_ids: list[Mapping[str, Any]] = []
                if kind == "approle":
                    yield from self._secret_ids(mount, name, secret_ids)
                yield Role(
                    method=kind, mount=mount.strip("/"), name=name, described=found, config=config,
                    secret_ids=tuple(secret_ids),
                )  # fmt: skip

    def _secret_ids(self, mount: str, role: str, found: list[Mapping[str, Any]]) -> Iterator[Skipped]:
        for accessor in self._names("auth", mount, "role", role, "secret-id"):
            if isinstance(accessor, Skipped):
                yield accessor
            elif len(found) >= _SECRET_IDS:
                yield Skipped(what=f"rest of the secret ids of {role[:80]}", reason="too-large")
                return
            else:
                said = self._reader.secret_id(mount, role, accessor)
                if said is not None:
                    found.append({"secret_id_accessor": accessor, **({} if isinstance(said, Hidden) else said)})

    def _identities(self) -> Iterator[Raw | Skipped]:
        for kind, record in (("entity", Entity), ("group", Group)):
            for name in self._names(f"identity/{kind}/id"):
                if isinstance(name, Skipped):
                    yield name
                elif isinstance(found := self._reader.read(f"identity/{kind}/id", name), Hidden):
                    yield _skipped(found)
                elif found is not None:
                    yield record(described=found)

    def _tokens(self) -> Iterator[Raw | Skipped]:
        for accessor in self._names("auth/token/accessors"):
            if isinstance(accessor, Skipped):
                yield accessor
            elif isinstance(found := self._reader.look_up(accessor), Hidden):
                yield Skipped(what="tokens behind accessors", reason="not-permitted", detail=found.what)
                return
            elif found is not None:
                yield Token(described={**found, "accessor": accessor})

    def _engines(self) -> Iterator[Raw | Skipped]:
        mounts = self._reader.read("sys/mounts")
        if isinstance(mounts, Hidden):
            yield _skipped(mounts)
            return
        for mount, said in sorted((mounts or {}).items()):
            kind = str(said.get("type", "")) if isinstance(said, dict) else ""
            self._engines_of[mount.strip("/")] = kind
            yield Engine(mount=mount.strip("/"), kind=kind)
            if kind == "database":
                yield from self._database(mount)

    def _database(self, mount: str) -> Iterator[Raw | Skipped]:
        servers: dict[str, Mapping[str, Any]] = {}
        for name in self._names(mount, "config"):
            if isinstance(name, Skipped):
                yield name
            elif isinstance(found := self._reader.read(mount, "config", name), Hidden):
                yield _skipped(found)
            elif found is not None:
                servers[name] = found
                yield Engine(mount=mount.strip("/"), kind="database", connection=name, server=found)
        for below, creds in (("roles", "creds"), ("static-roles", "static-creds")):
            for name in self._names(mount, below):
                if isinstance(name, Skipped):
                    yield name
                elif isinstance(found := self._reader.read(mount, below, name), Hidden):
                    yield _skipped(found)
                elif found is not None:
                    path = f"{mount.strip('/')}/{creds}/{name}"
                    leases = 0
                    for each in self._names("sys/leases/lookup", mount, creds, name):
                        leases += isinstance(each, str)
                    yield Engine(
                        mount=mount.strip("/"), kind="database", role=name, path=path, described=found,
                        server=servers.get(str(found.get("db_name", "")), {}), leases=leases,
                        policies=tuple(sorted(each for each, rules in self.policies.items() if _gives(rules, path))),
                    )  # fmt: skip

    def _names(self, *path: str) -> Iterator[str | Skipped]:
        for name in self._reader.names(*path):
            self._count += 1
            if self._count % 200 == 0:
                self._scan.progress(self._count, "/".join(each.strip("/") for each in path))
                if self._scan.stopped():
                    return
            yield _skipped(name) if isinstance(name, Hidden) else name


def _gives(rules: Sequence[PathRule], path: str) -> bool:
    allowed = Rights(rules).at(path)
    # Limits of parameters say what may be written: they do not hold back who reads.
    return allowed.has("read") and all("parameters" in each for each in allowed.limits)


def _skipped(hidden: Hidden) -> Skipped:
    return Skipped(what=hidden.what[:300], reason=hidden.why, detail="by the policies of our token")
