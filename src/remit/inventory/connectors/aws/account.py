"""What GetAccountAuthorizationDetails (and a few calls more) say, as records of one account.

The API and the JSON file of the command line give the same records: documents decoded, times aware.

Spec: IAM API Reference, GetAccountAuthorizationDetails.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from remit.inventory.connectors.aws.managed import published
from remit.inventory.connectors.aws.naming import parse_arn
from remit.inventory.connectors.aws.organization import Guards, guards_of
from remit.inventory.connectors.aws.policy import Condition, MalformedPolicyError, Policy, Statement, parse_document
from remit.inventory.connectors.aws.resource_policies import ResourcePolicies, read_resource_policies
from remit.inventory.model import Skipped
from remit.kernel.errors import Rejected

_NUMBER = re.compile(r"\d{12}")
_HOLDERS = {"UserDetailList": "User", "RoleDetailList": "Role", "GroupDetailList": "Group", "Policies": "Policy"}
_UNKNOWN = "000000000000"
"""The number of an account of whose number nothing is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key: its id, never its secret."""

    id: str
    active: bool
    created: datetime | None
    last_used: datetime | None
    service: str | None
    """The service at which it was last used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    name: str
    arn: str
    path: str
    policies: tuple[Policy, ...]
    incomplete: tuple[str, ...] = ()
    """Policies that are attached but not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A user or a role, with its own policies."""

    kind: str
    """`user` or `role`."""
    name: str
    arn: str
    path: str
    policies: tuple[Policy, ...]
    boundary: Policy | None
    tags: Mapping[str, str]
    created: datetime | None
    groups: tuple[str, ...] = ()
    trust: tuple[Statement, ...] = ()
    profiles: tuple[str, ...] = ()
    last_used: datetime | None = None
    use_tracked: bool = False
    """Whether the source tells of use at all: then no last use means none in AWS's tracking period (400 days)."""
    incomplete: tuple[str, ...] = ()
    """Policies that are attached but not shown: what it can do may be more."""
    id: str = ""
    """The unique id, `AIDA…` or `AROA…`."""
    tags_shown: bool = False
    """Whether `tags` are all that it has."""
    session: str = ""
    """The name of the one session of the role that is meant; empty where it is any of them."""


@dataclass(slots=True)
class Extras:
    """What the details leave out, by user name; `None` where it was not asked."""

    keys: dict[str, list[AccessKey]] | None = None
    console: dict[str, bool] | None = None
    mfa: dict[str, int] | None = None
    beyond: Mapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    """What other calls listed, by the key of their answer."""


@dataclass(slots=True)
class Account:
    """One account."""

    id: str
    partition: str = "aws"
    users: dict[str, Principal] = field(default_factory=dict)
    roles: dict[str, Principal] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    managed: dict[str, Policy] = field(default_factory=dict)
    versions: dict[str, tuple[Policy, ...]] = field(default_factory=dict)
    """The versions of a managed policy that are not in force, by its ARN."""
    extras: Extras = field(default_factory=Extras)
    guards: Guards = field(default_factory=Guards)
    held: ResourcePolicies = field(default_factory=ResourcePolicies)
    """The policies of its buckets, keys, queues and the like, as far as they are shown."""
    others: dict[str, Account] = field(default_factory=dict)
    """The other accounts of the same estate, by number."""
    homes: dict[str, str] = field(default_factory=dict)
    """The accounts of the estate's buckets, by ARN: it does not say."""
    now: datetime | None = None
    """When it was read."""
    exposed: tuple[Any, ...] | None = None
    """What its resources' own policies may open to other accounts, once it was asked for."""

    def principals(self) -> Iterator[Principal]:
        yield from self.users.values()
        yield from self.roles.values()

    def by_arn(self, arn: str) -> Principal | None:
        """The user or role of an ARN (a session is its role)."""
        parsed = parse_arn(arn)
        if parsed is None:
            return None
        kind, _, local = parsed.resource.partition("/")
        if parsed.service == "sts" and kind == "assumed-role":
            return self.roles.get(local.partition("/")[0])
        found = {"user": self.users, "role": self.roles}.get(kind, {}).get(local.rpartition("/")[2])
        return found if found is not None and found.arn == arn else None


def read_account(details: Mapping[str, Any]) -> tuple[Account, list[Skipped]]:
    """Build the account of merged GetAccountAuthorizationDetails answers.

    One malformed entry is skipped and reported. Raises `Rejected` (`inventory.aws.not-details`) when nothing in it is
    what the API gives, and (`inventory.aws.mixed-accounts`) when entries belong to more than one account.
    """
    partition, account_id = identify(details)
    account = Account(id=account_id, partition=partition)
    skipped: list[Skipped] = []
    for entry in _entries(details, "Policies"):
        _guarded(skipped, "policy", entry, partial(_managed, account))
    for key, read in (("GroupDetailList", _group), ("UserDetailList", _user), ("RoleDetailList", _role)):
        for entry in _entries(details, key):
            _guarded(skipped, key.removesuffix("DetailList").lower(), entry, partial(read, account))
    _missing(account, skipped)
    account.guards, unreadable = guards_of(details.get("Organization"), account.id)
    account.held, unheld = read_resource_policies(details, account.id, partition)
    skipped += [Skipped(what=text, reason="malformed", detail="left out") for text in (*unreadable, *unheld)]
    return account, skipped


def identify(details: Mapping[str, Any]) -> tuple[str, str]:
    """The partition and the number of the account that the details are of; raises as `read_account` does."""
    seen: set[tuple[str, str]] = set()
    number = details.get("AccountId")
    if isinstance(number, str) and _NUMBER.fullmatch(number):
        seen.add((str(details.get("Partition") or "aws"), number))
    nameless = False
    for key, kind in _HOLDERS.items():
        for entry in _entries(details, key):
            if not isinstance(entry, dict):
                continue
            arn = parse_arn(str(entry.get("Arn") or ""))
            if arn is not None and _NUMBER.fullmatch(arn.account):
                seen.add((arn.partition, arn.account))
            nameless |= (arn is not None or not entry.get("Arn")) and isinstance(entry.get(f"{kind}Name"), str)
    if not seen and nameless:
        return "aws", _UNKNOWN
    if not seen:
        raise Rejected(
            "inventory.aws.not-details",
            "there is no user, role, group or policy of an account in it",
            next_step="write the file with `aws iam get-account-authorization-details > account.json`",
        )
    if len(seen) > 1:
        raise Rejected(
            "inventory.aws.mixed-accounts",
            f"it mixes {len(seen)} accounts",
            next_step="discover each account from its own file",
        )
    return min(seen)


def _entries(details: Mapping[str, Any], key: str) -> list[Any]:
    entries = details.get(key)
    return entries if isinstance(entries, list) else []


def _guarded(skipped: list[Skipped], what: str, entry: Any, read: Any) -> None:
    label = f"{what} {entry.get('Arn', '?') if isinstance(entry, dict) else '?'}"
    try:
        read(entry)
    except MalformedPolicyError as error:
        skipped.append(Skipped(what=label, reason="malformed", detail=str(error)))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        skipped.append(Skipped(what=label, reason="malformed", detail="not in the form that the API gives"))


def _managed(account: Account, entry: Mapping[str, Any]) -> None:
    arn = _arn(account, entry, "Policy")
    label = f"policy {arn.rpartition('/')[2]}"
    versions = [version for version in entry["PolicyVersionList"] if _in_force(entry, version)]
    account.managed[arn] = Policy(label=label, arn=arn, statements=parse_document(versions[0]["Document"]))
    others = []
    for version in entry["PolicyVersionList"]:
        if version is not versions[0] and version.get("Document") is not None:
            with suppress(MalformedPolicyError):
                statements = parse_document(version["Document"])
                others.append(Policy(label=f"{label} ({version.get('VersionId')})", arn=arn, statements=statements))
    if others and ":iam::aws:" not in arn:
        account.versions[arn] = tuple(others)


def _in_force(entry: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    default = entry.get("DefaultVersionId")
    told = version.get("IsDefaultVersion", default is not None and version.get("VersionId") == default)
    return bool(told) or len(entry["PolicyVersionList"]) == 1


def _group(account: Account, entry: Mapping[str, Any]) -> None:
    name = _name(entry["GroupName"])
    policies, incomplete = _policies(account, entry, "GroupPolicyList", f"of group {name}")
    arn = _arn(account, entry, "Group")
    account.groups[name] = Group(name=name, arn=arn, path=_path(entry), policies=policies, incomplete=incomplete)


def _user(account: Account, entry: Mapping[str, Any]) -> None:
    name = _name(entry["UserName"])
    policies, incomplete = _policies(account, entry, "UserPolicyList", "")
    account.users[name] = Principal(
        kind="user",
        name=name,
        arn=_arn(account, entry, "User"),
        path=_path(entry),
        policies=policies,
        boundary=_boundary(account, entry),
        tags=_tags(entry),
        created=moment(entry.get("CreateDate")),
        groups=tuple(str(group) for group in entry.get("GroupList") or ()),
        incomplete=incomplete,
        id=str(entry.get("UserId") or ""),
        tags_shown=isinstance(entry.get("Tags"), list),
    )


def _role(account: Account, entry: Mapping[str, Any]) -> None:
    name = _name(entry["RoleName"])
    policies, incomplete = _policies(account, entry, "RolePolicyList", "")
    trust, unread = _trust(account, entry)
    profiles = entry.get("InstanceProfileList") or ()
    account.roles[name] = Principal(
        kind="role",
        name=name,
        arn=_arn(account, entry, "Role"),
        path=_path(entry),
        policies=policies,
        boundary=_boundary(account, entry),
        tags=_tags(entry),
        created=moment(entry.get("CreateDate")),
        trust=trust,
        profiles=tuple(str(profile["InstanceProfileName"]) for profile in profiles),
        last_used=moment((entry.get("RoleLastUsed") or {}).get("LastUsedDate")),
        use_tracked="RoleLastUsed" in entry,
        incomplete=(*incomplete, *unread),
        id=str(entry.get("RoleId") or ""),
        tags_shown=isinstance(entry.get("Tags"), list),
    )


def _trust(account: Account, entry: Mapping[str, Any]) -> tuple[tuple[Statement, ...], tuple[str, ...]]:
    document, what = entry.get("AssumeRolePolicyDocument"), f"trust policy of {_arn(account, entry, 'Role')}"
    try:
        return (parse_document(document), ()) if document else ((), (f"{what}: not shown",))
    except MalformedPolicyError as error:
        return (), (f"{what}: {error}"[:500],)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise ValueError("no name")
    return value


def _arn(account: Account, entry: Mapping[str, Any], kind: str) -> str:
    """The ARN of an entry, which says only what the account, the path and the name say already."""
    arn = entry.get("Arn")
    if not arn:
        arn = f"arn:{account.partition}:iam::{account.id}:{kind.lower()}{_path(entry)}{_name(entry[f'{kind}Name'])}"
    if not isinstance(arn, str) or parse_arn(arn) is None:
        raise ValueError("no ARN")
    return _whole_arn(account, arn)


def _whole_arn(account: Account, arn: str) -> str:
    return arn.replace(":iam:::", f":iam::{account.id}:", 1)


def _path(entry: Mapping[str, Any]) -> str:
    path = entry.get("Path") or "/"
    if not isinstance(path, str) or len(path) > 512:
        raise ValueError("no path")
    return path


def _policies(
    account: Account, entry: Mapping[str, Any], inline: str, owner: str
) -> tuple[tuple[Policy, ...], tuple[str, ...]]:
    found, missing = [], []
    for item in entry.get(inline) or ():
        label = " ".join(filter(None, ("inline policy", str(item["PolicyName"]), owner)))
        try:
            found.append(Policy(label=label, arn=None, statements=parse_document(item["PolicyDocument"])))
        except MalformedPolicyError as error:
            missing.append(f"{label} of {str(entry.get('Arn') or 'an entry')[:300]}: {error}")
    for item in entry.get("AttachedManagedPolicies") or ():
        arn = _attached_arn(account, item)
        policy = _known(account, arn)
        if policy is None:
            missing.append(arn)
        else:
            label = " ".join(filter(None, (policy.label, owner)))
            found.append(Policy(label=label, arn=arn, statements=policy.statements))
    return tuple(found), tuple(missing)


def _attached_arn(account: Account, item: Mapping[str, Any]) -> str:
    """The ARN of an attached policy; of one that is only named, the account's own before that of AWS."""
    if item.get("PolicyArn"):
        return _whole_arn(account, str(item["PolicyArn"]))
    own, theirs = (f"arn:{account.partition}:iam::{who}:policy/{item['PolicyName']}" for who in (account.id, "aws"))
    return theirs if own not in account.managed and published(theirs) is not None else own


def _known(account: Account, arn: str) -> Policy | None:
    return account.managed.get(arn) or published(arn)


def _boundary(account: Account, entry: Mapping[str, Any]) -> Policy | None:
    """The permissions boundary; what one that is not shown leaves stays open."""
    attached = entry.get("PermissionsBoundary")
    if not attached:
        return None
    arn = _whole_arn(account, str(attached["PermissionsBoundaryArn"]))
    return _known(account, arn) or _unseen(arn)


def _unseen(arn: str) -> Policy:
    words = f"the boundary {arn}, which is not shown, allows it"
    leaves = Condition(operator=_LEAVES, key="", values=(), words=words)
    statement = Statement(
        allow=True,
        actions=("*",),
        not_actions=False,
        resources=("*",),
        not_resources=False,
        conditions=(leaves,),
        shown_actions=("*",),
    )
    return Policy(label=f"boundary {arn}", arn=arn, statements=(statement,))


_LEAVES = "BoundaryNotShown"


def _tags(entry: Mapping[str, Any]) -> dict[str, str]:
    return {str(tag["Key"]): str(tag["Value"]) for tag in entry.get("Tags") or ()}


def read_extras(details: Mapping[str, Any], account: Account) -> list[Skipped]:
    """What other calls add to the details, under the keys of their own answers.

    `AccessKeyMetadata` (with `AccessKeyLastUsed` inside), `LoginProfiles`, `MFADevices`, `OpenIDConnectProviderList`.
    What is absent stays unknown, and is reported.
    """
    skipped: list[Skipped] = []
    extras = account.extras
    for key, what in _EXTRAS.items():
        if not isinstance(details.get(key), list):
            skipped.append(Skipped(what=f"{what} of account {account.id}", reason="not-supported", detail=_NO_EXTRAS))
    if isinstance(details.get("AccessKeyMetadata"), list):
        extras.keys = {}
        for entry in details["AccessKeyMetadata"]:
            _guarded(skipped, "access key", entry, partial(_key, account))
    if isinstance(details.get("LoginProfiles"), list):
        extras.console = {str(entry["UserName"]): True for entry in details["LoginProfiles"] if _has_user(entry)}
    if isinstance(details.get("MFADevices"), list):
        counted = Counter(str(entry["UserName"]) for entry in details["MFADevices"] if _has_user(entry))
        extras.mfa = dict(counted)
    extras.beyond = {
        key: [entry for entry in details[key] if isinstance(entry, dict)]
        for key in BEYOND
        if isinstance(details.get(key), list)
    }
    return skipped


BEYOND = (
    "Buckets",
    *("OpenIDConnectProviderList", "SAMLProviderList", "Functions", "Reservations", "SecretList", "Parameters"),
    *("Stacks", "Jobs", "DevEndpoints", "projects", "NotebookInstances", "stateMachines"),
    *("Services", "LaunchTemplateVersions", "tasks", "taskDefinitions", "codeInterpreters"),
)
_NO_EXTRAS = "GetAccountAuthorizationDetails does not tell; read the live account"
_EXTRAS = {
    "AccessKeyMetadata": "access keys",
    "LoginProfiles": "console passwords",
    "MFADevices": "second factors",
}


def _has_user(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("UserName"), str)


def _key(account: Account, entry: Mapping[str, Any]) -> None:
    used = entry.get("AccessKeyLastUsed") or {}
    service = used.get("ServiceName")
    key = AccessKey(
        id=_name(entry["AccessKeyId"]),
        active=entry["Status"] == "Active",
        created=moment(entry.get("CreateDate")),
        last_used=moment(used.get("LastUsedDate")),
        service=str(service) if service and service != "N/A" else None,
    )
    keys = account.extras.keys
    assert keys is not None
    keys.setdefault(_name(entry["UserName"]), []).append(key)


def _missing(account: Account, skipped: list[Skipped]) -> None:
    arns = {arn for principal in account.principals() for arn in principal.incomplete}
    arns.update(arn for group in account.groups.values() for arn in group.incomplete)
    for principal in account.principals():
        statements = principal.boundary.statements if principal.boundary else ()
        if principal.boundary and any(test.operator == _LEAVES for one in statements for test in one.conditions):
            arns.add(str(principal.boundary.arn))
    for arn in sorted(arns):
        what, unread, why = arn.rpartition(": ")
        if unread:
            skipped.append(Skipped(what=what, reason="malformed", detail=why))
            continue
        skipped.append(
            Skipped(what=f"policy {arn}", reason="not-permitted", detail="attached, but its document is not shown")
        )


def moment(value: Any) -> datetime | None:
    """A time of the API (aware datetime) or of a file (ISO 8601 text), in UTC; `None` for what is neither."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(found, datetime):
            return None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
