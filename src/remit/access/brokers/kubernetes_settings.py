"""What a Kubernetes target can be told, and the least RBAC with which its broker does its work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from remit.access.brokers.options import require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured
from remit.providers.kubernetes.api import Access

RBAC = "rbac.authorization.k8s.io"
HOME = "remit-leases"
"""The namespace of the leases' service accounts and tokens, where nothing else may live."""
BROKER_HOME = "remit-system"
"""The namespace of the broker's own service account: in `HOME` it could make tokens for itself."""
BROKER = "remit-broker"

_OPTIONS = frozenset({"ca", "home", "namespaces"})
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ROLE = re.compile(r"(role|clusterrole)/([A-Za-z0-9](?:[A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?)")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{16,16384}")
_MAX_KUBECONFIG = 64 * 1024
_BROAD = frozenset({"cluster-admin", "admin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a lease is bound to; it exists, and the broker does not change it."""

    kind: str
    """`Role` or `ClusterRole`."""
    name: str

    @property
    def resource(self) -> str:
        return f"{self.kind.lower()}s"

    def path(self, namespace: str) -> str:
        where = f"namespaces/{namespace}/" if self.kind == "Role" else ""
        return f"/apis/{RBAC}/v1/{where}{self.resource}/{self.name}"

    def reading(self, namespace: str) -> Access:
        where = namespace if self.kind == "Role" else ""
        return Access(verb="get", resource=self.resource, group=RBAC, namespace=where, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options and roles, decoded: whatever is not known is an error."""

    url: str
    ca: str
    home: str
    namespaces: tuple[str, ...]
    """Where leases may be bound; the first is that of a need that names none."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """By what the target's roles stand for."""


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured`: `access.target.option`, `access.kubernetes.role`, `….namespace`."""
    require_known(target.options, _OPTIONS)
    home = target.options.get("home", HOME)
    named = [target.database, *target.options.get("namespaces", "").split(",")]
    namespaces = tuple(dict.fromkeys(name.strip() for name in named if name.strip()))
    if not namespaces:
        raise _bad_namespace("", "write the URL as kubernetes://HOST:PORT/NAMESPACE")
    if wrong := [name for name in (*namespaces, home) if not _NAMESPACE.fullmatch(name)]:
        raise _bad_namespace(wrong[0], "a namespace is 1 to 63 of a-z, 0-9 and `-`")
    if taken := {home, BROKER_HOME} & set(namespaces) or {home} & {BROKER_HOME}:
        raise _bad_namespace(
            taken.pop(), "there a lease could make itself new tokens: keep leases, broker and applications apart"
        )
    host = f"[{target.host}]" if ":" in target.host else target.host
    return Settings(
        url=f"https://{host}:{target.port}",
        ca=target.options.get("ca", ""),
        home=home,
        namespaces=namespaces,
        roles={text: decode_role(text) for text in target.roles.values()},
    )


def decode_role(text: str) -> Role:
    """Read `role/NAME` or `clusterrole/NAME`; `Misconfigured`: `access.kubernetes.role`."""
    match = _ROLE.fullmatch(text)
    if match is None:
        raise _bad_role(text, "write role/NAME or clusterrole/NAME, of a role that exists")
    if match[2] in _BROAD:
        raise _bad_role(text, "it could bind others to roles, who outlive the lease: name what tasks in this role need")
    return Role(kind="Role" if match[1] == "role" else "ClusterRole", name=match[2])


def decode_secret(secret: str) -> str:
    """The broker's token, alone or in a kubeconfig; `Misconfigured` (`access.kubernetes.secret`), never with it."""
    text = secret.strip()
    if _TOKEN.fullmatch(text):
        return text
    import yaml

    token: object = None
    try:
        [user] = yaml.safe_load(text[:_MAX_KUBECONFIG])["users"]
        token = user["user"]["token"]
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        pass
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise Misconfigured(
            "access.kubernetes.secret",
            "the secret of the target is no token of a service account",
            next_step=f"give what `kubectl create token {BROKER} -n {BROKER_HOME} --duration …` prints",
        )
    return token


def needed(settings: Settings) -> Sequence[Access]:
    """What the broker must be allowed."""
    found = [
        Access(verb=verb, resource=resource, namespace=settings.home) for resource, verbs in _IN_HOME for verb in verbs
    ]
    for space in settings.namespaces:
        found += [Access(verb=verb, resource="rolebindings", group=RBAC, namespace=space) for verb in _ON_BINDINGS]
        for role in settings.roles.values():
            bind = Access(verb="bind", resource=role.resource, group=RBAC, namespace=space, name=role.name)
            found += [bind, role.reading(space)]
    return list(dict.fromkeys(found))


def excessive(settings: Settings) -> Sequence[Access]:
    """What the broker must not be allowed: with any of it, it could become somebody else."""
    found = [
        Access(verb="create", resource="clusterrolebindings", group=RBAC),
        Access(verb="escalate", resource="clusterroles", group=RBAC),
        Access(verb="impersonate", resource="users"),
    ]
    for space in settings.namespaces:
        found += [
            Access(verb="bind", resource="clusterroles", group=RBAC, namespace=space, name="cluster-admin"),
            Access(verb="escalate", resource="roles", group=RBAC, namespace=space),
            Access(verb="create", resource="serviceaccounts/token", namespace=space),
            Access(verb="get", resource="secrets", namespace=space),
            Access(verb="create", resource="pods", namespace=space),
            Access(verb="impersonate", resource="serviceaccounts", namespace=space),
        ]
    found += [
        Access(verb="create", resource="pods", namespace=settings.home),
        Access(verb="create", resource="serviceaccounts/token", namespace=BROKER_HOME),
    ]
    return found


_IN_HOME: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("serviceaccounts", ("create", "get", "list", "delete")),
    ("serviceaccounts/token", ("create",)),
    ("secrets", ("create", "get", "list", "patch", "delete")),
)
_ON_BINDINGS = ("create", "get", "list", "delete")


def outliving(rules: Sequence[object]) -> set[str]:
    """What of a role's rules lets a lease act on when it is gone, as `create serviceaccounts/token`."""
    found: set[str] = set()
    for rule in rules:
        if isinstance(rule, Mapping):
            groups, resources, verbs = (set(rule.get(key) or ()) for key in ("apiGroups", "resources", "verbs"))
            for group, resource, verb in _OUTLIVING:
                if groups & {group, "*"} and resources & {resource, "*"} and verbs & {verb, "*"}:
                    found.add(f"{verb} {resource}")
    return found


_OUTLIVING = (
    *(("", "serviceaccounts/token", "create"), ("", "secrets", "create"), ("", "secrets", "get")),
    *(("", "secrets", "list"), ("", "pods", "create"), ("", "serviceaccounts", "impersonate")),
    *((RBAC, kind, verb) for kind in ("rolebindings", "roles") for verb in ("create", "update", "patch")),
)


def rbac_yaml(home: str, namespaces: Sequence[str], roles: Sequence[Role], broker: str = BROKER) -> str:
    """The least rights of the broker: what an administrator applies."""
    whole = sorted({role.name for role in roles if role.kind == "ClusterRole"})
    parts = [_namespace(BROKER_HOME), _namespace(home), _account(broker)]
    parts += _granted("Role", broker, home, [_rule("", resource, verbs) for resource, verbs in _IN_HOME])
    for space in namespaces:
        rules = [_rule(RBAC, "rolebindings", _ON_BINDINGS)]
        if whole:
            rules.append(_rule(RBAC, "clusterroles", ("bind",), whole))
        if own := sorted({role.name for role in roles if role.kind == "Role"}):
            rules.append(_rule(RBAC, "roles", ("bind", "get"), own))
        parts += _granted("Role", broker, space, rules)
    if whole:
        parts += _granted("ClusterRole", broker, "", [_rule(RBAC, "clusterroles", ("get",), whole)])
    return "---\n".join(parts)


def _granted(kind: str, broker: str, namespace: str, rules: Sequence[str]) -> list[str]:
    """A role of these rules, and its binding to the broker."""
    where = f", namespace: {namespace}" if namespace else ""
    head = f"apiVersion: {RBAC}/v1\nkind: {{kind}}\nmetadata: {{{{name: {broker}{where}}}}}\n"
    reference = f"roleRef: {{apiGroup: {RBAC}, kind: {kind}, name: {broker}}}\n"
    subject = f"subjects: [{{kind: ServiceAccount, name: {broker}, namespace: {BROKER_HOME}}}]\n"
    return [
        head.format(kind=kind) + "rules:\n" + "".join(rules),
        head.format(kind=f"{kind}Binding") + reference + subject,
    ]


def _rule(group: str, resource: str, verbs: Sequence[str], names: Sequence[str] = ()) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    only = f", resourceNames: [{quoted}]" if names else ""
    return f'- {{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{", ".join(verbs)}]{only}}}\n'


def _namespace(name: str) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"


def _account(name: str) -> str:
    return f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {BROKER_HOME}}}\n"


def _bad_role(text: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.kubernetes.role", f"a role cannot be `{text[:64]}`", next_step=next_step)


def _bad_namespace(name: str, next_step: str) -> Misconfigured:
    return Misconfigured(
        "access.kubernetes.namespace", f"a lease cannot be bound in the namespace `{name[:64]}`", next_step=next_step
    )


MANIFEST = BrokerManifest(
    id="kubernetes",
    title="Kubernetes 1.28 and later",
    needs=(rbac_yaml(HOME, ["NAMESPACE"], [Role(kind="ClusterRole", name="view")]),),
    fail_safe=False,
    native_expiry=False,
    counts_sessions=False,
    hazards=(
        "a token names the end of its grant as its expiry, but never less than 10 minutes, and the API server may make "
        "it longer or shorter; renewals do not move it, so a dead Remit leaves a lease until then",
        "a stream that is open (watch, exec, attach, port-forward) outlives its token and its binding, and the API can "
        "neither show nor end it: a watch ends within the API server's `--min-request-timeout` (30 to 60 minutes "
        "unless it is lowered), an exec when its pod is deleted, all of them when the API server is restarted",
        "an API server remembers a token that it admitted for 10 seconds; it is refused when its binding is gone, and "
        "the proof waits until the token itself is. With several API servers the proof is of the one that answered",
        "RBAC cannot limit deletion to names that begin with ours: in its namespaces the broker can delete every role "
        "binding, and in the namespace of leases make tokens of every service account. Let nothing else live there",
        "what a lease made in its namespace stays; with a role that can make tokens, bindings or pods, or impersonate, "
        "something of it can act on when it is gone: `remit doctor` names such roles",
        "a role that is changed while leases are bound to it changes what they may",
    ),
)
