"""What an OpenBao target can be told: options, and roles as a path of an engine, or a token, under named policies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from remit.access.brokers.options import bad_option, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured
from remit.providers.openbao.client import require_address

LEASE_POLICY = "remit-lease"
"""The policy of every lease's token: it may look at itself, and keep what was read with it."""
CUBBYHOLE = "cubbyhole/remit"
LEASE_HCL = f'''path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "{CUBBYHOLE}" {{ capabilities = ["create", "update", "read"] }}'''

MANIFEST = BrokerManifest(
    id="openbao",
    title="OpenBao 2.0 and later: the dynamic secrets of its engines, or tokens",
    needs=(
        f"bao policy write {LEASE_POLICY} - <<'HCL'\n{LEASE_HCL}\nHCL",
        "bao policy write ROLE-POLICY -    # for each role, the path that it reads and nothing else, for example\n"
        'path "database/creds/read" { capabilities = ["read"] }',
        f"bao write auth/token/roles/remit allowed_policies={LEASE_POLICY},ROLE-POLICY orphan=true renewable=true"
        " token_no_default_policy=true token_type=service token_explicit_max_ttl=24h",
        "bao policy write remit-broker - <<'HCL'\n"
        'path "auth/token/create/remit" { capabilities = ["update", "sudo"] }\n'
        'path "auth/token/roles/remit" { capabilities = ["read"] }\n'
        'path "auth/token/accessors" { capabilities = ["list", "sudo"] }\n'
        'path "auth/token/lookup-accessor" { capabilities = ["update"] }\n'
        'path "auth/token/renew-accessor" { capabilities = ["update"] }\n'
        'path "auth/token/revoke-accessor" { capabilities = ["update"] }\n'
        'path "auth/token/lookup-self" { capabilities = ["read"] }\n'
        'path "sys/capabilities-self" { capabilities = ["update"] }\n'
        'path "sys/leases/lookup" { capabilities = ["update"] }\n'
        'path "sys/leases/renew" { capabilities = ["update"] }\n'
        "HCL",
        "# `sudo` on create/remit chooses a token's id and can leave that role's policies no more than others can",
    ),
    fail_safe=False,
    counts_sessions=False,
    hazards=(
        "OpenBao ends the account behind a dynamic credential, and for PostgreSQL not its live sessions: one that did "
        "SET ROLE before goes on reading and writing (measured). Name the database as a target of its own where that "
        "counts; a revocation says `not seen` of such sessions",
        "where OpenBao's own revocation fails, as for a PostgreSQL role that made a table, the login behind goes on: "
        "the lease stays *not contained* until OpenBao has carried it out",
        "a certificate of a PKI engine is on OpenBao's list then; whoever does not read that list goes on to admit it",
        "who may look up, renew and revoke by accessor can end every token: guard the broker's own as an "
        "administrator's",
        "an engine's lease is renewed while the Remit that read it runs; after a restart only its token is, and the "
        "credential then ends at the engine's own TTL: let that be as long as grants are",
        "OpenBao forgets the hard end of a lease's token at its first renewal: only Remit keeps to it, and "
        "`token_explicit_max_ttl` of the token role; let no role's policy have `auth/token/renew-self`",
        "an id that we choose for a token is kept by OpenBao as SHA-1; it has 256 bits of randomness",
    ),
)

_OPTIONS = frozenset({"tls", "ca", "token_role", "auth_mount"})
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TOO_MUCH = frozenset({"root", "default", LEASE_POLICY})
_ENGINES_ONLY = ("sys/", "auth/", "identity/", "cubbyhole/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded: unknown keys are errors."""

    address: str
    ca: str
    token_role: str
    auth_mount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """A role, decoded."""

    path: str
    """What is read with the lease's token; empty where the task gets the token itself."""
    policies: tuple[str, ...]
    body: Mapping[str, str]
    """Written to the path, where it takes parameters; empty: it is read."""


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured` (`access.target.option`, `access.openbao.role`) names what is wrong.

    Also `providers.openbao.address`: plain HTTP goes to this machine alone.
    """
    options = target.options
    require_known(options, _OPTIONS)
    if options.get("tls", "true") not in ("true", "false"):
        raise bad_option("tls", "use `true`, or `false` on this machine")
    for key, default in (("token_role", "remit"), ("auth_mount", "approle")):
        if not _NAME.fullmatch(options.get(key, default)):
            raise bad_option(key, "use a plain name")
    for role in target.roles.values():
        decode_role(role)
    host = f"[{target.host}]" if ":" in target.host else target.host
    scheme = "http" if options.get("tls") == "false" else "https"
    return Settings(
        address=require_address(f"{scheme}://{host}:{target.port}"),
        ca=options.get("ca", ""),
        token_role=options.get("token_role", "remit"),
        auth_mount=options.get("auth_mount", "approle"),
    )


def decode_role(role: str) -> Rights:
    """Read `PATH policy=NAME[,NAME] [KEY=VALUE …]`, or `token policy=NAME[,NAME]`."""
    path, *words = role.split() or [""]
    policies: tuple[str, ...] = ()
    body: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not _KEY.fullmatch(key) or not value or key in body:
            raise _bad_role(word, "write what follows the path as KEY=VALUE")
        if key == "policy":
            policies = tuple(value.split(","))
        else:
            body[key] = value
    if not policies or not all(_NAME.fullmatch(each) for each in policies) or set(policies) & _TOO_MUCH:
        raise _bad_role(role, "name the policy that reads this path and nothing else: `policy=NAME`")
    if path == "token":
        if body:
            raise _bad_role(role, "a token takes no parameters")
        return Rights(path="", policies=policies, body={})
    if not _PATH.fullmatch(path) or path.startswith(_ENGINES_ONLY):
        raise _bad_role(path, "begin with the path of an engine, as `database/creds/read`, or with `token`")
    return Rights(path=path, policies=policies, body=body)


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.openbao.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
