"""What GetAccountAuthorizationDetails (and a few calls more) say, as records of one account.

The API and the JSON file of the command line give the same records: documents decoded, times aware.

Spec: IAM API Reference, GetAccountAuthorizationDetails.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from remit.inventory.connectors.aws.naming import parse_arn
from remit.inventory.connectors.aws.policy import MalformedPolicyError, Policy, Statement, parse_document
from remit.inventory.model import Skipped
from remit.kernel.errors import Rejected

_NUMBER = re.compile(r"\d{12}")
_ALL = (
    Statement(
        allow=True,
        actions=("*",),
        not_actions=False,
        resources=("*",),
        not_resources=False,
        conditions=(),
        shown_actions=("*",),
    ),
)


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


@dataclass(slots=True)
class Extras:
    """What the details leave out, by user name; `None` where it was not asked."""

    keys: dict[str, list[AccessKey]] | None = None
    console: dict[str, bool] | None = None
    mfa: dict[str, int] | None = None
    providers: list[str] | None = None


@dataclass(slots=True)
class Account:
    """One account."""

    id: str
    partition: str = "aws"
    users: dict[str, Principal] = field(default_factory=dict)
    roles: dict[str, Principal] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    managed: dict[str, Policy] = field(default_factory=dict)
    extras: Extras = field(default_factory=Extras)

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
    return account, skipped


def identify(details: Mapping[str, Any]) -> tuple[str, str]:
    """The partition and the number of the account that the details are of; raises as `read_account` does."""
    seen: set[tuple[str, str]] = set()
    for key in ("UserDetailList", "RoleDetailList", "GroupDetailList", "Policies"):
        for entry in _entries(details, key):
            arn = parse_arn(str(entry.get("Arn", ""))) if isinstance(entry, dict) else None
            if arn is not None and _NUMBER.fullmatch(arn.account):
                seen.add((arn.partition, arn.account))
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
    arn = str(entry["Arn"])
    versions = [version for version in entry["PolicyVersionList"] if version["IsDefaultVersion"]]
    account.managed[arn] = Policy(
        label=f"policy {arn.rpartition('/')[2]}", arn=arn, statements=parse_document(versions[0]["Document"])
    )


def _group(account: Account, entry: Mapping[str, Any]) -> None:
    name = _name(entry["GroupName"])
    policies, _ = _policies(account, entry, "GroupPolicyList", f"of group {name}")
    account.groups[name] = Group(name=name, arn=_arn(entry), path=_path(entry), policies=policies)


def _user(account: Account, entry: Mapping[str, Any]) -> None:
    name = _name(entry["UserName"])
    policies, incomplete = _policies(account, entry, "UserPolicyList", "")
    account.users[name] = Principal(
        kind="user",
        name=name,
        arn=_arn(entry),
        path=_path(entry),
        policies=policies,
        boundary=_boundary(account, entry),
        tags=_tags(entry),
        created=moment(entry.get("CreateDate")),
        groups=tuple(str(group) for group in entry.get("GroupList") or ()),
        incomplete=incomplete,
    )


def _role(account: Account, entry: Mapping[str, Any]) -> None:
    name = _name(entry["RoleName"])
    policies, incomplete = _policies(account, entry, "RolePolicyList", "")
    profiles = entry.get("InstanceProfileList") or ()
    account.roles[name] = Principal(
        kind="role",
        name=name,
        arn=_arn(entry),
        path=_path(entry),
        policies=policies,
        boundary=_boundary(account, entry),
        tags=_tags(entry),
        created=moment(entry.get("CreateDate")),
        trust=parse_document(entry["AssumeRolePolicyDocument"]),
        profiles=tuple(str(profile["InstanceProfileName"]) for profile in profiles),
        last_used=moment((entry.get("RoleLastUsed") or {}).get("LastUsedDate")),
        use_tracked="RoleLastUsed" in entry,
        incomplete=incomplete,
    )


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise ValueError("no name")
    return value


def _arn(entry: Mapping[str, Any]) -> str:
    arn = entry["Arn"]
    if not isinstance(arn, str) or parse_arn(arn) is None:
        raise ValueError("no ARN")
    return arn


def _path(entry: Mapping[str, Any]) -> str:
    path = entry.get("Path", "/")
    if not isinstance(path, str) or len(path) > 512:
        raise ValueError("no path")
    return path


def _policies(
    account: Account, entry: Mapping[str, Any], inline: str, owner: str
) -> tuple[tuple[Policy, ...], tuple[str, ...]]:
    found, missing = [], []
    for item in entry.get(inline) or ():
        label = " ".join(filter(None, ("inline policy", str(item["PolicyName"]), owner)))
        found.append(Policy(label=label, arn=None, statements=parse_document(item["PolicyDocument"])))
    for item in entry.get("AttachedManagedPolicies") or ():
        arn = str(item["PolicyArn"])
        policy = _known(account, arn)
        if policy is None:
            missing.append(arn)
        else:
            label = " ".join(filter(None, (policy.label, owner)))
            found.append(Policy(label=label, arn=arn, statements=policy.statements))
    return tuple(found), tuple(missing)


def _known(account: Account, arn: str) -> Policy | None:
    if arn not in account.managed and arn.endswith(":iam::aws:policy/AdministratorAccess"):
        return Policy(label="policy AdministratorAccess", arn=arn, statements=_ALL)
    return account.managed.get(arn)


def _boundary(account: Account, entry: Mapping[str, Any]) -> Policy | None:
    """The permissions boundary; one that is not shown allows nothing that we could claim."""
    attached = entry.get("PermissionsBoundary")
    if not attached:
        return None
    arn = str(attached["PermissionsBoundaryArn"])
    return _known(account, arn) or Policy(label=f"boundary {arn}", arn=arn, statements=())


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
    if isinstance(details.get("OpenIDConnectProviderList"), list):
        entries = (entry for entry in details["OpenIDConnectProviderList"] if isinstance(entry, dict))
        extras.providers = [entry["Arn"] for entry in entries if isinstance(entry.get("Arn"), str)]
    return skipped


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
    boundaries = {p.boundary.arn for p in account.principals() if p.boundary and not p.boundary.statements}
    for arn in sorted(arns | {arn for arn in boundaries if arn}):
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
