"""What the holders of one policy can become, beyond the paths that it names: OpenBao's own escalations, evaluated.

Every answer rests on concrete paths put to `openbao_acl`, so that a deny, a more specific rule or a missing `sudo`
stops it. What needs the holder to be somebody (an entity, an issuer's subject) is a condition.

Spec: OpenBao documentation, "Policies" (root-protected endpoints), HTTP API of `sys/policies`, tokens, "Identity".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.inventory.connectors.openbao_acl import PROBE, Allowed, Rights, instance_of
from remit.providers.openbao.inventory import PathRule

WRITE: Final = ("create", "update", "patch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """One thing that the policy's holders can get: `root`, `policies` (any but root), `role` or `mount` by its name."""

    target: str
    name: str = ""
    actions: tuple[str, ...]
    evidence: str
    conditions: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    """Paths of the policy that give it: without them it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the namespace has: methods and roles by mount, engines by mount."""

    methods: Mapping[str, str]
    roles: Sequence[tuple[str, str, str]]
    """Method, mount and name."""
    engines: Mapping[str, str]


_ENGINES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "transit": {"decrypt": WRITE, "sign": WRITE, "export": ("read",), "rewrap": WRITE},
    "pki": {"sign-verbatim": WRITE, "issue": WRITE, "sign": WRITE, "root/sign-intermediate": WRITE},
    "ssh": {"sign": WRITE, "issue": WRITE, "creds": WRITE},
    "aws": {"creds": ("read",), "sts": ("read", *WRITE)},
    "kubernetes": {"creds": WRITE},
    "rabbitmq": {"creds": ("read",)},
    "ldap": {"creds": ("read",), "static-cred": ("read",)},
    "kv": {"data": ("read",), "": ("read",)},
    "totp": {"code": ("read",)},
}
"""Engine → path below its mount → capabilities of which one suffices to be given something by it."""


def powers(policy: str, rules: Sequence[PathRule], house: House) -> Iterator[Power]:
    """Everything that the holders of a policy alone can get; nothing for `root`, which is every path anyway."""
    rights = Rights(rules)
    yield from _policies(policy, rights)
    yield from _tokens(rights, house)
    for mount, method in house.methods.items():
        yield from _roles(rights, mount, method)
    for method, mount, name in house.roles:
        yield from _signs_in(rights, method, mount, name)
    for mount, kind in house.engines.items():
        yield from _engine(rights, rules, mount, kind)


def _policies(policy: str, rights: Rights) -> Iterator[Power]:
    for path in (f"sys/policies/acl/{policy}", f"sys/policy/{policy}"):
        if (own := rights.at(path)).has(*WRITE):
            yield _power("root", "rewrite its own policy", own)
    for path in (f"sys/policies/acl/{PROBE}", f"sys/policy/{PROBE}"):
        if (other := rights.at(path)).has(*WRITE):
            yield _power("root", "write policies", other, f"it also holds a policy that {other.rule} covers")
    raw = rights.at(f"sys/raw/{PROBE}")
    if raw.has("read", *WRITE) and raw.has("sudo"):
        yield _power("root", "read storage", raw, "the server serves sys/raw (raw_storage_endpoint)")


def _tokens(rights: Rights, house: House) -> Iterator[Power]:
    for path in ("auth/token/create", "auth/token/create-orphan"):
        made = rights.at(path)
        if made.has(*WRITE) and made.has("sudo"):
            yield _power("policies", "make tokens of any policy", made)
    kept, made = rights.at(f"auth/token/roles/{PROBE}"), rights.at(f"auth/token/create/{PROBE}")
    if kept.has(*WRITE) and made.has(*WRITE):
        yield _power("policies", "write a token role and use it", kept, also=made)
    for path in ("identity/entity", f"identity/entity/id/{PROBE}", f"identity/entity/name/{PROBE}"):
        if (found := rights.at(path)).has(*WRITE):
            yield _power("policies", "give entities policies", found, "its token is an entity's")
    for path in ("identity/group", f"identity/group/id/{PROBE}", f"identity/group/name/{PROBE}"):
        if (found := rights.at(path)).has(*WRITE):
            yield _power("policies", "make groups with policies", found, "its token is an entity's")
    method, login = rights.at(f"sys/auth/{PROBE}"), rights.at(f"auth/{PROBE}/users/{PROBE}")
    if method.has(*WRITE) and method.has("sudo") and login.has(*WRITE):
        yield _power("policies", "enable a method and sign in by it", method, also=login)


def _roles(rights: Rights, mount: str, method: str) -> Iterator[Power]:
    """Who may write a role says which policies it has; whether one can sign in as it depends on the method."""
    below = {"userpass": "users", "cert": "certs"}.get(method, "role")
    role = rights.at(f"auth/{mount}/{below}/{PROBE}")
    if method not in ("approle", "userpass", "cert", "jwt", "oidc", "kubernetes") or not role.has(*WRITE):
        return
    if method == "approle":
        secret = rights.at(f"auth/{mount}/role/{PROBE}/secret-id")
        known = rights.at(f"auth/{mount}/role/{PROBE}/role-id")
        if known.has("read", *WRITE) and (secret.has(*WRITE) or not role.limits):
            yield _power("policies", f"write a role of {mount} and sign in", role, also=known)
    elif method in ("userpass", "cert"):
        yield _power("policies", f"write a login of {mount} and sign in", role)
    else:
        yield _power("policies", f"write a role of {mount}", role, "it can prove a subject of the method's issuer")


def _signs_in(rights: Rights, method: str, mount: str, name: str) -> Iterator[Power]:
    local = f"{mount}/{name}"
    if method == "approle":
        secret = rights.at(f"auth/{mount}/role/{name}/secret-id")
        known = rights.at(f"auth/{mount}/role/{name}/role-id")
        if secret.has(*WRITE):
            unknown = "" if known.has("read") else "it knows the role id"
            also = known if known.has("read") else None
            yield _power("role", "make a secret id", secret, unknown, name=local, also=also)
    elif method == "userpass":
        for path in (f"auth/{mount}/users/{name}/password", f"auth/{mount}/users/{name}"):
            if (found := rights.at(path)).has(*WRITE):
                yield _power("role", "change its password", found, name=local)
    elif method == "token" and (made := rights.at(f"auth/token/create/{name}")).has(*WRITE):
        yield _power("role", "make a token of the role", made, name=local)


def _engine(rights: Rights, rules: Sequence[PathRule], mount: str, kind: str) -> Iterator[Power]:
    found: dict[str, Allowed] = {}
    for verb, needed in _ENGINES.get(kind, {}).items():
        base = f"{mount}/{verb}".rstrip("/") + "/"
        named = (instance_of(rule.path) for rule in rules if "{{" not in rule.path)
        for path in (f"{base}{PROBE}", *(path for path in named if path.startswith(base) and path != base)):
            if (allowed := rights.at(path)).has(*needed) and verb not in found:
                found[verb] = allowed
    if found:
        limits = tuple(dict.fromkeys(limit for each in found.values() for limit in each.limits))
        yield Power(
            target="mount", name=mount, actions=tuple(each or "read" for each in found),
            evidence=f"{', '.join(sorted({each.rule for each in found.values()}))} of a {kind} engine",
            conditions=limits if all(each.limits for each in found.values()) else (),
            rules=tuple(dict.fromkeys(each.rule for each in found.values())),
        )  # fmt: skip


def _power(
    target: str, action: str, by: Allowed, condition: str = "", *, name: str = "", also: Allowed | None = None
) -> Power:
    both = [by, *([also] if also is not None else [])]
    rules = tuple(dict.fromkeys(each.rule for each in both))
    limits = dict.fromkeys(limit for each in both for limit in each.limits)
    return Power(
        target=target, name=name, actions=(action,), evidence=f"it may {action}: {', '.join(rules)}",
        conditions=tuple(filter(None, (condition, *limits))), rules=rules,
    )  # fmt: skip


def merged(found: Iterable[Power]) -> list[Power]:
    """One power for each target: a way without conditions is enough, and cutting takes every rule away."""
    by_target: dict[tuple[str, str], list[Power]] = {}
    for each in found:
        by_target.setdefault((each.target, each.name), []).append(each)
    made = []
    for (target, name), several in by_target.items():
        certain = [each for each in several if not each.conditions]
        chosen = certain or several
        ways = dict.fromkeys(" and ".join(each.conditions) for each in chosen)
        made.append(Power(
            target=target, name=name, conditions=() if certain else (" or ".join(ways),),
            actions=tuple(dict.fromkeys(action for each in chosen for action in each.actions)),
            evidence="; ".join(dict.fromkeys(each.evidence for each in chosen)),
            rules=tuple(dict.fromkeys(rule for each in several for rule in each.rules)),
        ))  # fmt: skip
    return made


def cut(policy: str, paths: Sequence[str]) -> str:
    """How to take paths out of a policy: in words, for OpenBao has no command that changes a part of one."""
    listed = ", ".join(f'path "{each}"' for each in paths)
    quoted = policy if re.fullmatch(r"[\w./-]+", policy) else f"'{policy}'"
    return f"bao policy read {quoted}, take out {listed}, then bao policy write {quoted} -"
