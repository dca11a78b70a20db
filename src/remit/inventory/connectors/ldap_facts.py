"""What a directory's entries mean: machines, groups, who becomes whom, owners, and what is wrong.

Spec: RFC 4512, RFC 4519; draft-behera-ldap-password-policy; [MS-ADTS] 2.2.16 (userAccountControl), [MS-DTYP] 2.4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, assert_never

from remit.inventory.connectors.files import values
from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keys import public_part, read_ssh_line
from remit.inventory.connectors.files.pem import load_certificate
from remit.inventory.connectors.files.sheet import clean
from remit.inventory.connectors.ldap_access import MOST_RULES, Groups, rules_of, spelt
from remit.inventory.connectors.ldap_rights import Database, DatabaseRights, Naming
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
    OwnerFact,
    Place,
    Relation,
    Severity,
    Skipped,
)
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name, credential_name, name
from remit.providers.ldap.client import RawEntry
from remit.providers.ldap.names import parse_name, same_name

DISABLED, NO_PASSWORD, REVERSIBLE, NEVER_EXPIRES = 0x2, 0x20, 0x80, 0x10000
CONTROLLER, DELEGATES_ALL, DES_ONLY, NO_PREAUTH, DELEGATES_ANY = 0x2000, 0x80000, 0x200000, 0x400000, 0x1000000
_AES = 0x18
_OLD = timedelta(days=365)
_MOST = 50
_MANAGED = frozenset({"msds-groupmanagedserviceaccount", "msds-managedserviceaccount"})
_MACHINE_CLASSES = frozenset({"applicationprocess", "computer", *_MANAGED})
_PERSON_CLASSES = frozenset({"person", "inetorgperson", "organizationalperson"})
_SERVICE_NAME = re.compile(
    r"(?:^|[-_. ])(?:svc|srv|service|services|app|bot|robot|daemon|system|batch|job|backup|monitor(?:ing)?|agent|api|"
    r"ci|deploy(?:er)?|sync|proxy|bind|reader|automation|machine|sql|scan(?:ner)?|ldap|jenkins|gitlab|oracle|postgres)"
    r"(?:$|[-_. \d])",
    re.IGNORECASE,
)
_SERVICE_UNIT = re.compile(
    r"ou=(?:[^,]*\b)?(?:services?|service ?accounts?|svc|applications?|apps|machines?|robots?|bots?|"
    r"system ?accounts?)\b",
    re.IGNORECASE,
)
_SECRET = re.compile(
    r"(?:pass(?:word|wd|phrase)?|pwd|pw|secret|kennwort|passwort|mot de passe|contraseña|senha|token)"
    r"\s*(?:is\b|ist\b|[:=])\s*[\"']?([^\s\"',;]{4,200})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The directory that is read."""

    instance: str
    base: str
    is_ad: bool
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRead:
    entry: RawEntry
    why: str
    """The evidence that it is a machine's."""
    has_password: bool | None
    """`None` where its presence may not be searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRead:
    entry: RawEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRead:
    """A database of cn=config with its access rules, and what they are judged on."""

    entry: RawEntry
    after: tuple[str, ...] = ()
    """The rules of the frontend: they come after those of each database."""
    frontend: str = ""
    groups: Groups = field(default_factory=Groups)
    accounts: tuple[str, ...] = ()


Record: TypeAlias = AccountRead | GroupRead | AccessRead


def is_machine(entry: RawEntry) -> str:
    """The evidence that an account is no person's; empty without any."""
    classes = {each.lower() for each in entry.texts("objectClass")}
    flags = _number(entry.text("userAccountControl"))
    called = entry.text("sAMAccountName") or entry.text("uid") or entry.text("cn")
    shell = entry.text("loginShell").rpartition("/")[2]
    if found := classes & _MACHINE_CLASSES:
        return f"class {min(found)}"
    if entry.texts("servicePrincipalName"):
        return "a service principal"
    if flags & (DELEGATES_ALL | DELEGATES_ANY) or entry.texts("msDS-AllowedToDelegateTo"):
        return "delegation"
    if _SERVICE_UNIT.search(entry.name):
        return "a unit of services"
    if _SERVICE_NAME.search(called):
        return "a name of services"
    if flags & NEVER_EXPIRES:
        return "a password that never expires"
    if shell in {"nologin", "false"}:
        return "no shell"
    if classes & {"posixaccount", "simplesecurityobject", "account"} and not classes & _PERSON_CLASSES:
        return "no person's class"
    return ""


def facts_of(raw: Record, directory: Directory, scan: Scan) -> Iterator[Fact]:
    """The facts of one record. An entry that cannot be understood is `Skipped`."""
    reader = _Reader(directory, scan, raw.entry)
    try:
        match raw:
            case AccountRead():
                found = list(reader.account(raw))
            case GroupRead():
                found = list(reader.group())
            case AccessRead():
                found = list(reader.access(raw))
            case _:
                assert_never(raw)
    except (ValueError, OverflowError) as error:
        yield Skipped(what=clean(raw.entry.name), reason="malformed", detail=type(error).__name__)
        return
    yield from found


def canonical(text: str) -> str:
    """A distinguished name as it is compared: without case, and without spaces that do not count."""
    try:
        parts = same_name(text)
    except Rejected:
        return clean(text.casefold(), 500)
    return clean(spelt(parts), 500)


def moment_of(text: str) -> datetime | None:
    """A generalized time, or a count of 100 ns since 1601 as Active Directory writes it; `None` for never."""
    if re.fullmatch(r"\d{17,19}", text):
        return (
            datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(text) // 10) if int(text) < 1 << 61 else None
        )
    if found := re.fullmatch(r"(\d{14})(?:[.,]\d+)?Z", text):
        try:
            return datetime.strptime(found.group(1), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None
    return None


def sid_text(raw: bytes) -> str:
    """A security identifier as people write it; empty for what is none."""
    if len(raw) < 8 or len(raw) != 8 + 4 * raw[1]:
        return ""
    parts = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, len(raw), 4)]
    return "-".join(["S", str(raw[0]), str(int.from_bytes(raw[2:8], "big")), *map(str, parts)])


def sids_allowed(descriptor: bytes) -> list[str]:
    """The identifiers to which a self-relative security descriptor allows something, at most 100."""
    if len(descriptor) < 20:
        return []
    at = int.from_bytes(descriptor[16:20], "little")
    count = int.from_bytes(descriptor[at + 4 : at + 6], "little") if 20 <= at <= len(descriptor) - 8 else 0
    found: list[str] = []
    at += 8
    for _ in range(min(count, 100)):
        size = int.from_bytes(descriptor[at + 2 : at + 4], "little")
        if size < 16 or at + size > len(descriptor):
            break
        if descriptor[at] == 0 and (sid := _sid_at(descriptor[at + 8 : at + size])):
            found.append(sid)
        at += size
    return found


def _sid_at(raw: bytes) -> str:
    return sid_text(raw[: 8 + 4 * raw[1]]) if len(raw) >= 8 else ""


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?\d{1,11}", text) else 0


class _Reader:
    """Writes the facts of one entry."""

    def __init__(self, directory: Directory, scan: Scan, entry: RawEntry) -> None:
        self._directory = directory
        self._scan = scan
        self._entry = entry
        self._me = self._node(entry.name)
        self._place = Place(system=f"ldap:{directory.instance}", path=clean(entry.name, 500))

    # Names

    def _named(self, kind: str, local: str) -> Name:
        return name("ldap", self._directory.instance, kind, clean(local, 500))

    def _node(self, dn: str) -> Name:
        return self._named("entry", canonical(dn))

    def _edge(
        self, source: Name, relation: Relation, target: Name, evidence: str, *, cut: str = "",
        conditions: Sequence[str] = (), actions: Sequence[str] = (),
    ) -> EdgeFact:  # fmt: skip
        return EdgeFact(
            source=source,
            relation=relation,
            target=target,
            evidence=clean(evidence),
            place=self._place,
            cut=clean(cut, 300),
            conditions=tuple(clean(each) for each in conditions),
            actions=tuple(actions),
        )

    def _finding(self, what: str, severity: Severity, title: str, detail: str, step: str) -> FindingFact:
        return FindingFact(
            rule=f"ldap.{what}", severity=severity, title=clean(title), detail=clean(detail, 500), subject=self._me,
            next_step=clean(step, 500), place=self._place,
        )  # fmt: skip

    # Accounts

    def account(self, raw: AccountRead) -> Iterator[Fact]:
        entry, flags = self._entry, _number(self._entry.text("userAccountControl"))
        classes = {each.lower() for each in entry.texts("objectClass")}
        title = clean(entry.text("sAMAccountName") or entry.text("uid") or entry.text("cn") or entry.name)
        hidden = {found for key in ("description", "info") for found in self._secrets(key)}
        yield IdentityFact(
            name=self._me, kind=IdentityKind.WORKLOAD if "computer" in classes else IdentityKind.SERVICE_ACCOUNT,
            title=title, place=self._place, aliases=tuple(self._aliases()),
            attributes=self._attributes(raw, flags, hidden),
        )  # fmt: skip
        yield from self._owners()
        yield from self._memberships()
        yield from self._password(raw, flags, title, managed=bool(classes & _MANAGED))
        yield from self._keys(title)
        for secret in sorted(hidden):
            yield from self._told(secret, title)
        if flags or entry.texts("servicePrincipalName"):
            yield from self._kerberos(flags, classes, title)
        yield from self._delegation(flags, title)

    def _aliases(self) -> Iterator[Name]:
        entry = self._entry
        for address in self._directory.addresses:
            for called in (entry.name, entry.text("userPrincipalName")):
                if called:
                    yield name("ldap", address, "user", clean(called, 500))
        for principal in entry.texts("servicePrincipalName")[:_MOST]:
            yield self._named("spn", principal.lower())
        for sid in entry.attributes.get("objectsid", ())[:1]:
            if text := sid_text(sid):
                yield self._named("sid", text)

    def _attributes(self, raw: AccountRead, flags: int, hidden: set[str]) -> dict[str, Attribute]:
        entry = self._entry
        about = entry.text("description")
        for secret in hidden:
            about = about.replace(secret, "redacted")
        locked = bool(entry.text("pwdAccountLockedTime"))
        last = self._last_used()
        created = moment_of(entry.text("createTimestamp") or entry.text("whenCreated"))
        found: dict[str, Attribute] = {
            "evidence": raw.why, "purpose": clean(about), "dn": clean(entry.name, 300),
            "login": clean(entry.text("sAMAccountName") or entry.text("uid")),
            "disabled": bool(flags & DISABLED) or locked, "can_login": not (flags & DISABLED or locked),
            "privileged": _number(entry.text("adminCount")) == 1, "has_password": raw.has_password,
            "password_never_expires": bool(flags & NEVER_EXPIRES), "policy": clean(entry.text("pwdPolicySubentry")),
            "principals": clean(", ".join(entry.texts("servicePrincipalName")[:10])),
            "shell": clean(entry.text("loginShell")), "uid_number": clean(entry.text("uidNumber")),
            "last_used": rfc3339(last) if last else "", "created": rfc3339(created) if created else "",
        }  # fmt: skip
        return {key: value for key, value in found.items() if value not in ("", None, False)} | {
            "can_login": found["can_login"]
        }

    def _last_used(self) -> datetime | None:
        keys = ("lastLogonTimestamp", "authTimestamp", "pwdLastSuccess")
        return max(filter(None, (moment_of(self._entry.text(key)) for key in keys)), default=None)

    def _owners(self) -> Iterator[Fact]:
        for key, confidence in (("managedBy", 80), ("owner", 80), ("manager", 60)):
            for dn in self._entry.texts(key)[:5]:
                try:
                    who = parse_name(dn)[0][0][1]
                except Rejected:
                    continue
                if canonical(dn) != canonical(self._entry.name):
                    yield OwnerFact(
                        identity=self._me, owner=clean(who, 100), method="annotation", evidence=clean(f"{key}: {dn}"),
                        confidence=confidence, place=self._place,
                    )  # fmt: skip

    def _memberships(self) -> Iterator[Fact]:
        for dn in self._entry.texts("memberOf")[:2_000]:
            yield self._member(self._me, dn, self._entry.name)
        primary = _number(self._entry.text("primaryGroupID"))
        sids = self._entry.attributes.get("objectsid", ())
        if primary and sids and (sid := sid_text(sids[0])):
            group = self._named("sid", f"{sid.rpartition('-')[0]}-{primary}")
            yield self._edge(self._me, Relation.MEMBER_OF, group, f"primaryGroupID {primary}")

    def _member(self, member: Name, group: str, dn: str) -> EdgeFact:
        cut = f"dn: {group}\nchangetype: modify\ndelete: member\nmember: {dn}"
        return self._edge(member, Relation.MEMBER_OF, self._node(group), "memberOf", cut=cut.replace("\n", " | "))

    def _password(self, raw: AccountRead, flags: int, title: str, *, managed: bool) -> Iterator[Fact]:
        changed = moment_of(self._entry.text("pwdLastSet") or self._entry.text("pwdChangedTime"))
        if raw.has_password is False and not changed and not self._directory.is_ad:
            return
        if raw.has_password is None and not changed:
            return
        mark = hashlib.sha256(f"ldap password {self._me}".encode()).hexdigest()
        expires = moment_of(self._entry.text("accountExpires"))
        yield CredentialFact(
            fingerprint=f"sha256:{mark}", kind=CredentialKind.PASSWORD, title=f"password of {title}", place=self._place,
            identity=self._me, issued=changed, expires=expires, last_used=self._last_used(),
            manager="directory" if managed else None,
        )  # fmt: skip
        if changed and not managed and self._scan.now - changed > _OLD and not flags & DISABLED:
            yield self._finding(
                "old-password", Severity.LOW, f"the password of {title} is from {changed:%Y-%m-%d}",
                "whoever had it since has it still", "rotate it: `remit rotate`, or make it a managed service account",
            )  # fmt: skip

    def _keys(self, title: str) -> Iterator[Fact]:
        for line in self._entry.texts("sshPublicKey")[:_MOST]:
            words = line.split()
            try:
                public = read_ssh_line(next((word for word in words if word.startswith("AAAA")), ""))
            except Malformed:
                continue
            yield CredentialFact(
                fingerprint=public.fingerprint, kind=CredentialKind.SSH_KEY, title=f"{public.algorithm} key of {title}",
                place=self._place, identity=self._me, attributes={"ssh_fingerprint": public.ssh_fingerprint},
            )  # fmt: skip
        for key in ("usercertificate;binary", "usercertificate"):
            for der in self._entry.attributes.get(key, ())[:_MOST]:
                try:
                    certificate = load_certificate(der, pem=False)
                    public = public_part(certificate.public_key())
                except (Malformed, ValueError, TypeError):
                    continue
                yield CredentialFact(
                    fingerprint=public.fingerprint, kind=CredentialKind.CERTIFICATE, title=f"certificate of {title}",
                    place=self._place, identity=self._me, issued=certificate.not_valid_before_utc,
                    expires=certificate.not_valid_after_utc, attributes={"algorithm": public.algorithm},
                )  # fmt: skip

    def _secrets(self, attribute: str) -> Iterator[str]:
        for text in self._entry.texts(attribute)[:5]:
            for value in _SECRET.findall(text[:4000])[:5]:
                if not values.is_placeholder(value):
                    yield value

    def _told(self, secret: str, title: str) -> Iterator[Fact]:
        fingerprint = self._scan.fingerprint(secret.encode("utf-8", "replace"))
        yield CredentialFact(
            fingerprint=fingerprint, kind=CredentialKind.PASSWORD, title=f"secret in the description of {title}",
            place=self._place, identity=self._me, exposed=True,
        )  # fmt: skip
        finding = self._finding(
            "secret-in-description",
            Severity.HIGH,
            f"the description of {title} holds a secret",
            "every account of a directory can usually read descriptions",
            "change the password, then empty the description",
        )
        yield FindingFact(
            rule=finding.rule, severity=finding.severity, title=finding.title, detail=finding.detail,
            next_step=finding.next_step, place=finding.place, subject=credential_name(fingerprint),
        )  # fmt: skip

    # Kerberos

    def _kerberos(self, flags: int, classes: set[str], title: str) -> Iterator[Fact]:
        if flags & DISABLED:
            return
        managed = bool(classes & (_MANAGED | {"computer"}))
        privileged = _number(self._entry.text("adminCount")) == 1
        said = (
            (NO_PASSWORD, "password-not-required", Severity.HIGH, "may have an empty password", "PASSWD_NOTREQD"),
            (
                REVERSIBLE,
                "reversible-password",
                Severity.HIGH,
                "keeps its password reversibly",
                "ENCRYPTED_TEXT_PASSWORD_ALLOWED",
            ),
            (DES_ONLY, "des-only", Severity.HIGH, "uses DES alone", "USE_DES_KEY_ONLY"),
            (NO_PREAUTH, "no-preauthentication", Severity.HIGH, "gives anybody a ticket to crack", "DONT_REQ_PREAUTH"),
        )
        for bit, what, severity, words, flag in said:
            if flags & bit:
                yield self._finding(what, severity, f"{title} {words}", f"userAccountControl has {flag}",
                                    f"Set-ADAccountControl -Identity '{title}', and take {flag} away")  # fmt: skip
        if flags & NEVER_EXPIRES and not managed:
            yield self._finding("password-never-expires", Severity.MEDIUM, f"the password of {title} never expires",
                                "userAccountControl has DONT_EXPIRE_PASSWORD",
                                "make it a group managed service account: its password changes by itself")  # fmt: skip
        kinds = self._entry.text("msDS-SupportedEncryptionTypes")
        if self._entry.texts("servicePrincipalName") and not managed:
            weak = not _number(kinds) & _AES
            yield self._finding(
                "crackable-service", Severity.HIGH if privileged else Severity.MEDIUM,
                f"every account of the domain may ask for a ticket of {title}, and try passwords on it"
                + (", by RC4" if weak else ""),
                "a user with a service principal has a person's kind of password",
                "make it a group managed service account, or set a password of 25 random characters and AES alone",
            )  # fmt: skip

    def _delegation(self, flags: int, title: str) -> Iterator[Fact]:
        entry = self._entry
        if flags & DELEGATES_ALL and not flags & CONTROLLER:
            domain = self._named("group", "everybody of the directory")
            yield IdentityFact(
                name=domain, kind=IdentityKind.GROUP, title="everybody of the directory", place=self._place
            )
            yield self._edge(
                self._me, Relation.IMPERSONATE, domain, "TRUSTED_FOR_DELEGATION", conditions=["whoever logs in to it"],
                cut=f"Set-ADAccountControl -Identity '{title}' -TrustedForDelegation $false",
            )  # fmt: skip
            yield self._finding(
                "unconstrained-delegation",
                Severity.HIGH,
                f"{title} may act as whoever logs in to it, everywhere",
                "it keeps the tickets of its callers, an administrator's too",
                "name the services: constrained delegation",
            )
        any_way = bool(flags & DELEGATES_ANY)
        for principal in entry.texts("msDS-AllowedToDelegateTo")[:500]:
            yield self._edge(
                self._me,
                Relation.IMPERSONATE,
                self._named("spn", principal.lower()),
                f"msDS-AllowedToDelegateTo {principal}",
                conditions=[] if any_way else ["whoever logged in to it by Kerberos"],
                actions=["as anybody" if any_way else "as its caller"],
                cut=f"Set-ADObject '{entry.name}' -Remove @{{'msDS-AllowedToDelegateTo'='{principal}'}}",
            )
        for descriptor in entry.attributes.get("msds-allowedtoactonbehalfofotheridentity", ())[:1]:
            for sid in sids_allowed(descriptor):
                yield self._edge(
                    self._named("sid", sid), Relation.IMPERSONATE, self._me,
                    "msDS-AllowedToActOnBehalfOfOtherIdentity", actions=["as anybody, on it"],
                    cut=f"Set-ADComputer '{title}' -PrincipalsAllowedToDelegateToAccount $null",
                )  # fmt: skip

    # Groups

    def group(self) -> Iterator[Fact]:
        entry = self._entry
        title = clean(entry.text("sAMAccountName") or entry.text("cn") or entry.name)
        sids = [
            self._named("sid", text) for sid in entry.attributes.get("objectsid", ())[:1] if (text := sid_text(sid))
        ]
        privileged: dict[str, Attribute] = {"privileged": True} if _number(entry.text("adminCount")) == 1 else {}
        yield IdentityFact(
            name=self._me, kind=IdentityKind.GROUP, title=title, place=self._place, aliases=tuple(sids),
            attributes={"dn": clean(entry.name, 300), "purpose": clean(entry.text("description")), **privileged},
        )  # fmt: skip
        yield from self._owners()
        yield from self._memberships()
        for key in ("member", "uniqueMember"):
            for dn in entry.texts(key):
                if canonical(dn) != canonical(entry.name):
                    yield self._edge(
                        self._node(dn), Relation.MEMBER_OF, self._me, key,
                        cut=f"dn: {entry.name} | changetype: modify | delete: {key} | {key}: {dn}",
                    )  # fmt: skip
        for key in entry.attributes:
            if key.startswith("member;range="):
                yield Skipped(what=f"members of {title}", reason="too-large", detail=clean(key))

    # Access rules

    def access(self, raw: AccessRead) -> Iterator[Fact]:
        entry = self._entry
        suffix, root = entry.text("olcSuffix"), entry.text("olcRootDN")
        if not suffix:
            return
        whole = self._named("subtree", canonical(suffix))
        if root:
            yield self._edge(self._node(root), Relation.CAN_REACH, whole, "olcRootDN",
                             actions=["manage"], cut=f"olcRootDN of {entry.name}")  # fmt: skip
            for account in raw.accounts:
                if canonical(account) != canonical(root):
                    yield self._edge(self._node(root), Relation.IMPERSONATE, self._node(account), "olcRootDN",
                                     actions=["write userPassword"], cut=f"olcRootDN of {entry.name}")  # fmt: skip
        rules = (
            *rules_of(entry.texts("olcAccess"), clean(entry.name, 500)), *rules_of(raw.after, clean(raw.frontend, 500)),
        )  # fmt: skip
        database = Database(
            name=clean(entry.name, 500), suffix=suffix, root=root, rules=rules[:MOST_RULES], groups=raw.groups,
            accounts=raw.accounts,
        )  # fmt: skip
        yield from DatabaseRights(database, Naming(entry=self._node, named=self._named, place=self._place)).facts()
