"""The steps on a directory that LDAP leases are made of; each blocks, on a connection that is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from remit.access.brokers.ldap_settings import Settings
from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured, Rejected, RemitError
from remit.providers.ldap.client import (
    ENTRY_EXISTS,
    NO_ACCESS,
    NO_SUCH_ATTRIBUTE,
    NO_SUCH_OBJECT,
    NOT_ON_NON_LEAF,
    OBJECT_CLASS_VIOLATION,
    VALUE_EXISTS,
    Entry,
    Link,
)
from remit.providers.ldap.hashing import hashed
from remit.providers.ldap.names import child, escape_filter, is_below, parse_name, same_name

_PPOLICY = "1.3.6.1.4.1.42.2.27.8.5.1"
_ACTIVE_DIRECTORY = "1.2.840.113556.1.4.800"
_ANY = "(objectClass=*)"
_BRANCHES = 20
_SEEN_AT_EACH = 25
_MADE = 50
_UNDER_WAY = ("OpsExecuting", "OpsPending")
_MEMBERS = {"groupofnames": "member", "groupofmembers": "member", "groupofuniquenames": "uniqueMember"}

Sight = Mapping[str, frozenset[str]]
"""Entry → the attributes of it that somebody sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a directory says of itself, read when it is opened."""

    contexts: tuple[str, ...]
    monitored: bool
    """Whether it shows its connections at all; to us is another question."""
    expiry: bool
    """Whether `pwdEndTime` can be written; whether it is looked at takes a policy that holds."""
    replicates: bool
    other: str
    """What it is, if it is known to be another directory than OpenLDAP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection to the server, as cn=Monitor shows it."""

    number: str
    name: str
    peer: str
    busy: bool
    """It has an operation under way: a search that runs, or one that follows changes and never ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The entries of leases below one base."""

    settings: Settings
    layout: Layout
    randomness: Callable[[int], bytes] = field(repr=False)
    clock: Clock = field(repr=False)

    def name_of(self, principal: str) -> str:
        return child("cn", principal, self.settings.base)

    def groups(self, link: Link, role: str) -> Mapping[str, str]:
        """Group → the attribute of its members. Raises `Rejected` (`access.ldap.group`) for one that we cannot see."""
        found: dict[str, str] = {}
        for group in self.settings.roles[role]:
            rows = link.search(group, _ANY, scope="BASE", attributes=["objectClass"])
            if not rows:
                raise Rejected(
                    "access.ldap.group",
                    f"there is no group `{group[:100]}`",
                    next_step="make it, with one member of its own, and let the broker read it",
                )
            classes = {one.lower() for one in rows[0].attributes.get("objectclass", ())}
            kinds = [member for kind, member in _MEMBERS.items() if kind in classes]
            if not kinds:
                raise Misconfigured(
                    "access.ldap.role",
                    f"`{group[:100]}` is no group of names",
                    next_step=f"use a group of one of the classes {', '.join(_MEMBERS)}",
                )
            found[group] = kinds[0]
        return found

    def put(self, link: Link, principal: str, secret: str, *, label: str, expires: datetime) -> None:
        """Make the entry, or make it as asked where it is there already. It has no rights yet."""
        values = self._login(secret, expires) | {"description": [label[:1000]]}
        fixed = {"objectClass": ["organizationalRole", "simpleSecurityObject"], "cn": [principal]}
        policy = {"pwdPolicySubentry": [self.settings.policy]} if self.settings.policy else {}
        done = link.add(self.name_of(principal), {**fixed, **values, **policy}, tolerate=[ENTRY_EXISTS])
        if done.code == ENTRY_EXISTS:
            self._replace(link, principal, values)

    def close_door(self, link: Link, principal: str, secret: str, *, until: datetime) -> bool:
        """Give an entry another secret, that of a witness; whether there was an entry."""
        # A new password also unlocks what guesses had locked: the witness is not refused.
        return self._replace(link, principal, self._login(secret, until))

    def move_end(self, link: Link, principal: str, expires: datetime) -> bool:
        """Set the native expiry, where there is one; whether the entry exists."""
        if not self.layout.expiry:
            return bool(link.search(self.name_of(principal), _ANY, scope="BASE"))
        return self._replace(link, principal, {"pwdEndTime": [_time(expires)]})

    def join(self, link: Link, principal: str, groups: Mapping[str, str]) -> None:
        name = self.name_of(principal)
        for group, member in groups.items():
            link.modify(group, {member: [("MODIFY_ADD", [name])]}, tolerate=[VALUE_EXISTS])

    def memberships(self, link: Link, principal: str) -> Mapping[str, str]:
        """Every group that we see with this member, whoever put it there."""
        name = escape_filter(self.name_of(principal))
        found: dict[str, str] = {}
        for context in self.layout.contexts:
            for member in ("member", "uniqueMember"):
                for row in link.search(context, f"({member}={name})"):
                    found[row.name] = member
        return found

    def leave(self, link: Link, principal: str, groups: Mapping[str, str]) -> list[str]:
        """Take a principal out of groups; returns those that had no other member and are their own member now."""
        name, alone = self.name_of(principal), []
        for group, member in groups.items():
            gone = [("MODIFY_DELETE", [name])]
            done = link.modify(
                group, {member: gone}, tolerate=[NO_SUCH_ATTRIBUTE, NO_SUCH_OBJECT, OBJECT_CLASS_VIOLATION]
            )
            if done.code == OBJECT_CLASS_VIOLATION:
                # A group of names cannot be empty. Itself is a member that cannot log in.
                link.modify(group, {member: [("MODIFY_ADD", [group]), *gone]}, tolerate=[NO_SUCH_ATTRIBUTE])
                alone.append(group)
        return alone

    def destroy(self, link: Link, principal: str) -> list[str]:
        """Delete the entry with everything below it; returns what was below."""
        name = self.name_of(principal)
        if link.delete(name, tolerate=[NO_SUCH_OBJECT, NOT_ON_NON_LEAF]).code != NOT_ON_NON_LEAF:
            return []
        below = sorted((row.name for row in link.search(name, _ANY)), key=lambda row: -len(parse_name(row)))
        for row in below:
            link.delete(row, tolerate=[NO_SUCH_OBJECT])
        return [row for row in below if same_name(row) != same_name(name)]

    def exists(self, link: Link, principal: str) -> bool:
        return bool(link.search(self.name_of(principal), _ANY, scope="BASE"))

    def made_by(self, link: Link, principal: str) -> tuple[list[str], list[str]]:
        """Entries that a principal made, and others that it was the last to change; 50 each at most."""
        name, own = escape_filter(self.name_of(principal)), self.name_of(principal)
        made: list[str] = []
        changed: list[str] = []
        for context in self.layout.contexts:
            made += [row.name for row in link.search(context, f"(creatorsName={name})", limit=_MADE)]
            changed += [
                row.name
                for row in link.search(context, f"(&(modifiersName={name})(!(creatorsName={name})))", limit=_MADE)
            ]
        return [one for one in made if not is_below(one, own)], [one for one in changed if not is_below(one, own)]

    def remove_made(self, link: Link, name: str) -> bool:
        return link.delete(name, tolerate=[NO_SUCH_OBJECT, NO_ACCESS, NOT_ON_NON_LEAF]).code in (0, NO_SUCH_OBJECT)

    def all(self, link: Link, prefix: str) -> list[str]:
        """Principals directly below the base."""
        rows = link.search(self.settings.base, f"(cn={escape_filter(prefix)}*)", scope="LEVEL")
        return [parse_name(row.name)[0][0][1] for row in rows]

    def members(self, link: Link) -> list[str]:
        """Principals in the groups of roles, also without an entry: a connection of theirs has rights still."""
        found: list[str] = []
        for group in {group for groups in self.settings.roles.values() for group in groups}:
            for row in link.search(group, _ANY, scope="BASE", attributes=["member", "uniqueMember"]):
                for name in (*row.attributes.get("member", ()), *row.attributes.get("uniquemember", ())):
                    if is_below(name, self.settings.base):
                        found.append(parse_name(name)[0][0][1])
        return found

    def branches(self, link: Link) -> list[str]:
        """Where it is tried what somebody sees."""
        if self.settings.probe:
            return list(self.settings.probe)
        found = list(self.layout.contexts)
        for context in self.layout.contexts:
            found += [row.name for row in link.search(context, _ANY, scope="LEVEL", limit=_BRANCHES)]
        return found[:_BRANCHES]

    def connections(self, link: Link) -> list[Connection] | None:
        """Who is connected; `None` where the server does not show it to us."""
        wanted = [f"monitorConnection{what}" for what in ("Number", "AuthzDN", "PeerAddress", *_UNDER_WAY)]
        try:
            rows = link.search(
                "cn=Connections,cn=Monitor", "(objectClass=monitorConnection)", scope="LEVEL", attributes=wanted
            )
        except RemitError as error:
            if error.code in ("access.ldap.refused", "access.ldap.limit"):
                return None
            raise
        # Our own is among them wherever we may look.
        return [
            Connection(
                number=row.first("monitorConnectionNumber"),
                name=row.first("monitorConnectionAuthzDN"),
                peer=row.first("monitorConnectionPeerAddress"),
                busy=any(row.first(f"monitorConnection{what}") not in ("", "0") for what in _UNDER_WAY),
            )
            for row in rows
        ] or None

    def _login(self, secret: str, expires: datetime) -> dict[str, Sequence[str]]:
        values: dict[str, Sequence[str]] = {"userPassword": [hashed(self.settings.scheme, secret, self.randomness)]}
        return values | ({"pwdEndTime": [_time(expires)]} if self.layout.expiry else {})

    def _replace(self, link: Link, principal: str, values: Mapping[str, Sequence[str]]) -> bool:
        changes = {key: [("MODIFY_REPLACE", value)] for key, value in values.items()}
        return link.modify(self.name_of(principal), changes, tolerate=[NO_SUCH_OBJECT]).code != NO_SUCH_OBJECT


def read_layout(link: Link) -> Layout:
    """What the directory says of itself."""
    root = link.root()
    controls = root.attributes.get("supportedcontrol", ())
    return Layout(
        contexts=tuple(root.attributes.get("namingcontexts", ())),
        monitored=bool(root.first("monitorContext")),
        expiry=_PPOLICY in controls,
        replicates="1.3.6.1.4.1.4203.1.9.1.1" in controls,
        other=_other(root),
    )


def _other(root: Entry) -> str:
    if _ACTIVE_DIRECTORY in root.attributes.get("supportedcapabilities", ()):
        return "Active Directory"
    return root.first("vendorName")[:60] if "openldap" not in root.first("vendorName").lower() else ""


def sight(link: Link, branches: Sequence[str]) -> Sight:
    """What a login sees of a directory: the first entries below each branch, by the names of their attributes."""
    seen: dict[str, frozenset[str]] = {}
    for branch in branches:
        for row in link.search(branch, _ANY, attributes=["*"], names_only=True, limit=_SEEN_AT_EACH):
            seen[row.name] = seen.get(row.name, frozenset()) | frozenset(row.attributes)
    return seen


def beyond(seen: Sight, public: Sight, but: Collection[str] = ()) -> list[str]:
    """The entries of which somebody sees more than everybody does."""
    own = {same_name(name) for name in but}
    return sorted(
        name
        for name, attributes in seen.items()
        if (name not in public or attributes - public[name]) and same_name(name) not in own
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
