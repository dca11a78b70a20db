"""What an LDAP target can be told: options, and roles as the groups whose members have their rights."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import unquote, urlsplit

from remit.access.brokers.location import Location, read_location
from remit.access.brokers.options import bad_option, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.ldap.client import Address, Protection
from remit.providers.ldap.hashing import SCHEMES, Scheme
from remit.providers.ldap.names import is_below, parse_name, split_names

MANIFEST = BrokerManifest(
    id="ldap",
    title="OpenLDAP 2.5 and later",
    needs=(
        'to dn.subtree="ou=leases,SUFFIX" attrs=userPassword by dn.exact="cn=remit_broker,ou=admins,SUFFIX" =w '
        "by anonymous auth",
        'to dn.subtree="ou=leases,SUFFIX" by dn.exact="cn=remit_broker,ou=admins,SUFFIX" write',
        'to dn.subtree="ou=groups,SUFFIX" attrs=member,uniqueMember '
        'by dn.exact="cn=remit_broker,ou=admins,SUFFIX" write',
        'to dn.subtree="SUFFIX" attrs=entry,objectClass,creatorsName,modifiersName '
        'by dn.exact="cn=remit_broker,ou=admins,SUFFIX" read by * break',
        'olcLimits: dn.exact="cn=remit_broker,ou=admins,SUFFIX" size=unlimited',
        "-- in the database `monitor`:",
        'to dn.subtree="cn=Connections,cn=Monitor" by dn.exact="cn=remit_broker,ou=admins,SUFFIX" read',
        "-- ppolicy on the database, and a password policy that holds for leases: else nothing expires by itself",
        '-- rights for tasks by groups alone, as `by group.exact="cn=readers,ou=groups,SUFFIX" read`',
    ),
    fail_safe=False,
    hazards=(
        "the directory ends no connection: one that is bound stays bound, after the entry is gone, its password is "
        "changed or its end reached; what it loses is what its groups gave, so give rights by groups alone",
        "rights that rules give to `users`, to all entries below a branch, or by address stay with such a connection: "
        "`remit doctor` tries it, and a revocation with such a connection alive is not contained",
        "what a revoked connection may still do is tried on a connection of the broker's own as the same principal: "
        "rules by address, or by rights to write without rights to read, are not seen",
        "a search that follows changes (syncrepl, `refreshAndPersist`) keeps the groups of when it began, for ever: "
        "while cn=Monitor shows an operation under way on a connection of the lease, its revocation is not contained",
        "deep below the first branches the trial needs the option `probe`",
        "groups are those that the broker can see; nested and dynamic groups are not followed",
    ),
)

_OPTIONS = frozenset({"tls", "ca", "hash", "policy", "probe", "replicas", "made"})
_PROTECTIONS = ("ldaps", "starttls", "ldapi", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options and roles, decoded: whatever is not known is an error."""

    address: Address
    replicas: tuple[Address, ...]
    base: str
    """Where the entries of leases are made."""
    roles: Mapping[str, Sequence[str]]
    """What a role stands for → its groups."""
    scheme: Scheme
    policy: str
    """The password policy of leases' entries; empty: the directory's default."""
    probe: tuple[str, ...]
    """Where it is tried what a lease may see; empty: the first branches."""
    delete_made: bool


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured` (`access.target.option`, `access.ldap.role`) names what is wrong."""
    options = target.options
    require_known(options, _OPTIONS)
    if options.get("made", "keep") not in ("keep", "delete"):
        raise bad_option("made", "use `keep` or `delete`")
    if options.get("hash", "ssha") not in SCHEMES:
        raise bad_option("hash", f"use one of: {', '.join(SCHEMES)}")
    base, user = _name("base", target.database), _name("user", target.user)
    address = Address(
        host=target.host, port=target.port, user=user, protection=_protection(target), ca=options.get("ca", "")
    )
    return Settings(
        address=address,
        replicas=tuple(_replica(part, address) for part in options.get("replicas", "").split(",") if part.strip()),
        base=base,
        roles={groups: _groups(groups, base) for groups in target.roles.values()},
        scheme=cast(Scheme, options.get("hash", "ssha")),
        policy=_name("policy", options["policy"]) if "policy" in options else "",
        probe=_names("probe", options["probe"]) if "probe" in options else (),
        delete_made=options.get("made") == "delete",
    )


def locate(url: str) -> Location:
    """Read `ldaps://BIND-DN@HOST[:PORT]/BASE-DN`; `ldap://` is protected by StartTLS, `ldapi://` is a Unix socket."""
    where = read_location(
        url,
        schemes={"ldaps": 636, "ldap": 389, "ldapi": 1},
        parameters=frozenset({"ca", "tls"}),
        write_as="ldaps://cn=BROKER,dc=example,dc=org@HOST/ou=leases,dc=example,dc=org",
    )
    scheme = urlsplit(url).scheme
    protection = {"ldaps": "ldaps", "ldapi": "ldapi"}.get(scheme, where.options.get("tls", "starttls"))
    if scheme == "ldapi":
        # A host name has no case, a path has.
        where = replace(where, host=unquote(urlsplit(url).netloc.rpartition("@")[2]))
    if where.options.get("tls", protection) != protection:
        raise Rejected(
            "access.target.url", "the URL of the target is not understood: `tls` says something else than its scheme"
        )
    return replace(where, options={**where.options, "tls": protection})


def _protection(target: Target) -> Protection:
    usual = "ldapi" if target.host.startswith("/") else "ldaps" if target.port == 636 else "starttls"
    said = target.options.get("tls", usual)
    if said not in _PROTECTIONS or (said == "ldapi") != target.host.startswith("/"):
        raise bad_option("tls", "use `ldaps`, `starttls`, `ldapi` with the path of a socket, or on loopback `none`")
    if said == "none" and not _is_loopback(target.host):
        raise Misconfigured(
            "access.ldap.plain",
            f"secrets do not go to `{target.host[:80]}` without protection",
            next_step="use ldaps://, or ldap:// for StartTLS; `tls=none` is for this machine alone",
        )
    return cast(Protection, said)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _groups(text: str, base: str) -> tuple[str, ...]:
    try:
        groups = split_names(text)
    except Rejected:
        raise _bad_role(
            text, "name a group, as cn=readers,ou=groups,dc=example,dc=org; several with `;` between"
        ) from None
    if inside := [group for group in groups if is_below(group, base)]:
        raise _bad_role(inside[0], "groups do not live among leases")
    return groups


def _name(key: str, text: str) -> str:
    return _names(key, text)[0]


def _names(key: str, text: str) -> tuple[str, ...]:
    try:
        for name in (found := split_names(text)):
            parse_name(name)
    except Rejected as error:
        raise bad_option(key, error.next_step) from None
    return found


def _replica(text: str, first: Address) -> Address:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise bad_option("replicas", "write HOST:PORT,HOST:PORT")
    if first.protection == "none" and not _is_loopback(host.strip("[]")):
        raise bad_option("replicas", "without protection they are on this machine alone")
    protection = "ldaps" if first.protection == "ldapi" else first.protection
    return replace(first, host=host.strip("[]"), port=int(port), protection=protection)


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.ldap.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
