"""LDAP as a source: service accounts, groups and rights of OpenLDAP, and of directories like Active Directory."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast
from urllib.parse import unquote, urlsplit

from remit.inventory.connectors.endpoint import LOOPBACK
from remit.inventory.connectors.files.sheet import clean
from remit.inventory.connectors.ldap_access import Dn, Groups, dn_of
from remit.inventory.connectors.ldap_facts import (
    AccessRead,
    AccountRead,
    Directory,
    GroupRead,
    Record,
    facts_of,
    is_machine,
)
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.ldap.client import SUCCESS, Address, Link, Protection, RawEntry
from remit.providers.ldap.names import parse_name

ACCOUNT_ATTRIBUTES = (
    "objectClass",
    "cn",
    "uid",
    "uidNumber",
    "loginShell",
    "description",
    "info",
    "displayName",
    "owner",
    "manager",
    "managedBy",
    "memberOf",
    "createTimestamp",
    "modifyTimestamp",
    "pwdChangedTime",
    "pwdAccountLockedTime",
    "pwdPolicySubentry",
    "pwdReset",
    "authTimestamp",
    "pwdLastSuccess",
    "sshPublicKey",
    "userCertificate;binary",
    "userCertificate",
    "sAMAccountName",
    "userPrincipalName",
    "userAccountControl",
    "servicePrincipalName",
    "adminCount",
    "lastLogonTimestamp",
    "pwdLastSet",
    "accountExpires",
    "whenCreated",
    "objectSid",
    "primaryGroupID",
    "msDS-AllowedToDelegateTo",
    "msDS-AllowedToActOnBehalfOfOtherIdentity",
    "msDS-SupportedEncryptionTypes",
    "msDS-ManagedPasswordInterval",
)
"""All that is asked for; never `userPassword`, `unicodePwd` or a managed password."""
GROUP_ATTRIBUTES = ("objectClass", "cn", "description", "member", "uniqueMember", "memberUid", "memberOf", "owner",
                    "managedBy", "sAMAccountName", "objectSid", "adminCount")  # fmt: skip
_CORE = "objectClass,cn,uid,description,info,displayName,owner,manager,member,uniqueMember,createTimestamp,modifyTimestamp,entryUUID,userCertificate"  # noqa: E501
_OVERLAYS = "memberOf,pwdChangedTime,pwdAccountLockedTime,pwdPolicySubentry,pwdReset"
_SCHEMAS = "uidNumber,loginShell,memberUid,sshPublicKey"
_TO = 'olcAccess: to dn.subtree="BASE" attrs='
_READ = ' by dn.exact="READER" read by * break'
MANIFEST = ConnectorManifest(
    id="ldap",
    record_of=("ldap",),
    title="LDAP: OpenLDAP, and directories shaped like Active Directory",
    source="the name of a target, or ldaps://HOST:PORT/BASE-DN (ldap:// starts TLS, ldapi:// is a socket)",
    observes=(
        "accounts of machines: simpleSecurityObject, organizationalRole, applicationProcess, computers, managed "
        "service accounts; and users with evidence of one: a service principal, delegation, a password without end, "
        "a name or unit of services, no person's class, no shell",
        "password state and age (ppolicy, userAccountControl, pwdLastSet), last logon, SSH keys and certificates",
        "service principals, delegation (unconstrained, constrained, resource-based), legacy Kerberos settings",
        "groups, nested and by memberOf; owners (owner, managedBy, manager)",
        "access rules of OpenLDAP (olcAccess) where cn=config can be read: who reaches what, whose password may be set",
        "secrets in descriptions",
    ),
    needs=(
        Permission(
            grant=f"{_TO}entry,children,{_CORE}{_READ}", why="the entries; not one attribute that holds a password"
        ),
        Permission(grant=f"{_TO}{_OVERLAYS}{_READ}", why="with the overlays memberof and ppolicy: groups, age, locks"),
        Permission(grant=f"{_TO}{_SCHEMAS}{_READ}", why="with the schemas nis and openssh-lpk: shells and keys"),
        Permission(
            grant='olcAccess: to dn.subtree="BASE" attrs=userPassword by dn.exact="READER" =s by * break',
            why="to find who has a password: `=s` lets its presence be searched for, and no value be read",
        ),
        Permission(
            grant="New-ADUser remit_reader (Active Directory: no group and no right beyond a user's own)",
            why="every user of a domain may read what is asked for",
        ),
        Permission(grant='olcLimits: dn.exact="READER" size.prtotal=unlimited', why="answers of more than 500 entries"),
        Permission(
            grant='olcAccess: to dn.subtree="cn=config" attrs=entry,olcAccess,olcSuffix,olcRootDN,olcDatabase '
            'by dn.exact="READER" read (on the config database)',
            why="only for access rules; without it they are reported as not seen",
        ),
    ),
    blind_to=(
        Blind(what="persons", why="accounts without evidence of a machine are counted, not kept"),
        Blind(what="passwords and their hashes", why="they are never asked for"),
        Blind(what="other servers that this one refers to", why="a referral followed would carry the login along"),
        Blind(what="rights in Active Directory (nTSecurityDescriptor)", why="only resource-based delegation is read"),
        Blind(
            what="rules by sets, patterns, addresses, filters, values and strength of protection",
            why="what depends on them is marked as conditional",
        ),
    ),
    options=(
        Option(name="bind", help="the distinguished name that binds; nobody without one"),
        Option(name="ca", help="file of the authorities of the server's certificate"),
        Option(name="tls", help="`ldaps`, `starttls` or `ldapi`; by the URL's scheme or the port otherwise"),
    ),
    hazards=("a bind as an administrator reads more than it needs: give it the rules above",),
)
_CLASSES = (
    "posixAccount", "simpleSecurityObject", "organizationalRole", "applicationProcess", "account", "person",
    "user", "computer", "msDS-GroupManagedServiceAccount", "msDS-ManagedServiceAccount",
)  # fmt: skip
_ACCOUNTS = "(|" + "".join(f"(objectClass={one})" for one in _CLASSES) + "(servicePrincipalName=*))"
_GROUPS = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup)(objectClass=group))"
_MOST_ENTRIES = 1_000_000
_MOST_NAMES = 500_000
_GROUP_PAGE = 50
_MOST_ACCOUNTS = 100_000


class _Groups:
    """Remembers who is in which group, to judge rules that name groups."""

    def __init__(self) -> None:
        self._members: dict[Dn, frozenset[Dn]] = {}
        self._room = _MOST_NAMES

    def add(self, found: RawEntry | Skipped) -> None:
        dn = None if isinstance(found, Skipped) else dn_of(found.name)
        if isinstance(found, Skipped) or dn is None or "groupofnames" not in map(str.lower, found.texts("objectClass")):
            return
        members = [each for text in found.texts("member") if (each := dn_of(text)) is not None]
        self._room -= len(members)
        if self._room >= 0:
            self._members[dn] = frozenset(members)

    def known(self) -> Groups:
        """What was seen. A group that is not among it may be there, closed to us: nothing is said of its members."""
        return Groups(members=self._members, complete=False)


class LdapConnector:
    """Reads one server below one base; blocks."""

    manifest = MANIFEST

    def __init__(self, address: Address, base: str, secret: str) -> None:
        self._address = address
        self._base = base
        self._secret = secret
        self._link: Link | None = None
        self._directory: Directory | None = None
        self.people = 0
        """Accounts of the last run that nothing showed to be machines."""

    def __repr__(self) -> str:
        return f"LdapConnector({self._address})"

    @property
    def instance(self) -> str:
        """The directory's fingerprint: of its root's permanent id, so that each replica says the same."""
        assert self._directory is not None, "open comes first"
        return self._directory.instance

    @property
    def scope(self) -> str:
        assert self._directory is not None, "open comes first"
        return clean(self._directory.base, 400)

    def open(self) -> None:
        """Connect and bind; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self.close()
        link = Link(self._address, self._secret)
        try:
            if link.bound.code != SUCCESS:
                raise Misconfigured(
                    "inventory.ldap.login", f"`{self._address}` refuses the login: {link.bound.words}",
                    next_step="see the name after `--set bind=` and the password",
                )  # fmt: skip
            self._directory = self._describe(link)
        except BaseException:
            link.close()
            raise
        self._link = link

    def fetch(self, scan: Scan) -> Iterator[Record | Skipped]:
        """Accounts of machines, groups, access rules: page by page; what may not be seen is `Skipped`."""
        assert self._directory is not None, "open comes first"
        self.people = 0
        accounts: list[str] = []
        groups = _Groups()
        base = self._directory.base
        holders: set[str] | None = set()
        for found in self._all(base, "(userPassword=*)", ("1.1",), scan, "passwords"):
            if isinstance(found, Skipped):
                yield found
            elif holders is not None:
                holders.add(found.name.casefold())
        holders = holders or None
        for found in self._all(base, _ACCOUNTS, ACCOUNT_ATTRIBUTES, scan, "accounts"):
            if isinstance(found, Skipped):
                yield found
            elif why := is_machine(found):
                has = None if holders is None else found.name.casefold() in holders
                accounts += [found.name] if len(accounts) < _MOST_ACCOUNTS else []
                yield AccountRead(entry=found, why=why, has_password=has)
            else:
                self.people += 1
        if self.people:
            detail = "nothing shows them to be machines: see what the connector observes"
            yield Skipped(what=f"{self.people} accounts of persons", reason="pruned", detail=detail)
        for found in self._all(base, _GROUPS, GROUP_ATTRIBUTES, scan, "groups", size=_GROUP_PAGE):
            groups.add(found)
            yield found if isinstance(found, Skipped) else GroupRead(entry=found)
        yield from self._access(scan, accounts, groups.known())

    def _access(self, scan: Scan, accounts: Sequence[str], groups: Groups) -> Iterator[Record | Skipped]:
        """The rules are the server's configuration: mostly closed, which is said and harms nothing."""
        read: list[RawEntry] = []
        wanted = ("olcAccess", "olcSuffix", "olcRootDN", "olcDatabase")
        try:
            for found in self._all("cn=config", "(olcDatabase=*)", wanted, scan, "access rules"):
                if isinstance(found, Skipped):
                    yield found
                else:
                    read.append(found)
        except RemitError as error:
            if isinstance(error, Unavailable):
                raise
        # A database without a rule lets everybody read; one whose rules we may not see looks the same.
        if not any(each.texts("olcAccess") for each in read):
            if self._directory is not None and not self._directory.is_ad:
                yield Skipped(
                    what="access rules of cn=config", reason="not-permitted", detail="olcAccess cannot be read"
                )
            return
        front = next((each for each in read if each.text("olcDatabase").endswith("frontend")), None)
        for each in read:
            if each.text("olcSuffix"):
                yield AccessRead(
                    entry=each, after=front.texts("olcAccess") if front else (), frontend=front.name if front else "",
                    groups=groups, accounts=tuple(accounts),
                )  # fmt: skip

    def translate(self, raw: Record, scan: Scan) -> Iterable[Fact]:
        """The facts of one record; pure."""
        assert self._directory is not None, "open comes first"
        return facts_of(raw, self._directory, scan)

    def close(self) -> None:
        """Hang up; works twice, and after a failed `open`."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _all(
        self, base: str, condition: str, attributes: Sequence[str], scan: Scan, what: str, *, size: int = 500
    ) -> Iterator[RawEntry | Skipped]:
        assert self._link is not None, "open comes first"
        cookie: bytes | None = None
        done = referrals = 0
        while True:
            page = self._link.page(base, condition, attributes=attributes, cookie=cookie, size=size)
            yield from page.entries
            done += len(page.entries)
            referrals += page.referrals
            scan.progress(done, f"{what} of {self._address}")
            if page.cut_short or done >= _MOST_ENTRIES or (what == "passwords" and done >= _MOST_NAMES):
                yield Skipped(what=f"rest of {what} after {done}", reason="too-large", detail=page.outcome.words)
                break
            cookie = page.cookie
            if not cookie:
                break
            if scan.stopped():
                yield Skipped(what=f"rest of {what}", reason="not-supported", detail="the run was stopped")
                break
        if referrals:
            detail = "other servers are not asked: the login would go along"
            yield Skipped(what=f"{referrals} referrals of {what}", reason="not-supported", detail=detail)

    def _describe(self, link: Link) -> Directory:
        wanted = ("namingContexts", "defaultNamingContext", "supportedCapabilities", "vendorName")
        roots = link.page("", "(objectClass=*)", attributes=wanted, scope="BASE").entries
        root = roots[0] if roots else RawEntry(name="", attributes={})
        contexts = [each for each in root.texts("namingContexts") if each]
        base = self._base or root.text("defaultNamingContext") or (contexts[0] if contexts else "")
        if not base:
            raise Misconfigured(
                "inventory.ldap.base", f"`{self._address}` names no base",
                next_step="write it into the URL: ldaps://HOST/dc=example,dc=org",
            )  # fmt: skip
        context = next((one for one in contexts if base.casefold().endswith(one.casefold())), base)
        found = link.page(context, "(objectClass=*)", attributes=("entryUUID", "objectGUID", "objectSid"), scope="BASE")
        values = found.entries[0].attributes if found.entries else {}
        own = next(
            (values[key][0] for key in ("objectguid", "entryuuid") if values.get(key)), context.casefold().encode()
        )
        return Directory(
            instance=hashlib.sha256(b"remit: ldap connector\0" + own).hexdigest()[:16], base=base,
            is_ad=bool(root.texts("supportedCapabilities")) or bool(values.get("objectguid")),
            addresses=_called(self._address),
        )  # fmt: skip


def _called(address: Address) -> tuple[str, ...]:
    """`host:port` by which clients call the server, in clear and protected."""
    if address.protection == "ldapi":
        return tuple(f"{host}:389" for host in LOOPBACK)
    ports = dict.fromkeys((address.port, *((389, 636) if address.port in {389, 636} else ())))
    hosts = LOOPBACK if address.host in LOOPBACK else (address.host,)
    return tuple(f"{host}:{port}" for host in hosts for port in ports)


def make(source: str, options: Mapping[str, str], secret: str) -> LdapConnector:
    """A connector on a URL, or on the target whose address the options have; `Rejected` for another source."""
    if "host" in options:
        port = int(options["port"])
        usual = "ldapi" if options["host"].startswith("/") else "ldaps" if port == 636 else "starttls"
        address = _address(options["host"], port, options.get("user", ""), options.get("tls", usual), options)
        return LdapConnector(address, "", secret)
    try:
        url = urlsplit(source)
        port = url.port or {"ldaps": 636, "ldap": 389}.get(url.scheme, 1)
        base = unquote(url.path.strip("/"))
        if base:
            parse_name(base)
    except (ValueError, Rejected):
        raise _strange(source) from None
    if url.scheme not in {"ldaps", "ldap", "ldapi"} or url.username or not url.netloc or url.query or url.fragment:
        raise _strange(source)
    usual = {"ldaps": "ldaps", "ldap": "starttls", "ldapi": "ldapi"}[url.scheme]
    host = unquote(url.netloc) if url.scheme == "ldapi" else url.hostname or ""
    return LdapConnector(
        _address(host, port, options.get("bind", ""), options.get("tls", usual), options), base, secret
    )


def _address(host: str, port: int, user: str, protection: str, options: Mapping[str, str]) -> Address:
    if protection not in {"ldaps", "starttls", "ldapi"} and not (protection == "none" and _is_loopback(host)):
        raise Rejected(
            "inventory.ldap.protection", f"`{protection[:20]}` protects nothing",
            next_step="use `ldaps` or `starttls`; a password never goes in clear",
        )  # fmt: skip
    return Address(
        host=host, port=port, user=options.get("bind", "") or user, protection=cast("Protection", protection),
        ca=options.get("ca", ""),
    )  # fmt: skip


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _strange(source: str) -> Rejected:
    return Rejected(
        "inventory.ldap.source", f"`{source[:100]}` is no source of LDAP",
        next_step="write ldaps://HOST:PORT/BASE-DN, and the name that binds as `--set bind=DN`",
    )  # fmt: skip
