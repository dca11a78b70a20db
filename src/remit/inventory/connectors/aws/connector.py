"""The AWS connector: one account's IAM, from a file or the live API, as the same facts.

A principal's rights are the sum of many entries, so the account is read first (IAM's own quotas bound it) and then
translated principal by principal.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from remit.inventory.connectors.aws.account import Principal, identify, read_account, read_extras
from remit.inventory.connectors.aws.estate import Estate, survey
from remit.inventory.connectors.aws.facts import translate_account, translate_principal
from remit.inventory.connectors.port import Blind, ConnectorManifest, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Denied, Rejected
from remit.providers.aws import IamReader

MAX_FILE_BYTES = 512 * 1024 * 1024
MANIFEST = ConnectorManifest(
    id="aws",
    record_of=("aws",),
    title="AWS IAM",
    source="a file written by `aws iam get-account-authorization-details`, `live`, or `live:PROFILE`",
    observes=(
        "users, roles and groups with their policies, boundaries and tags",
        "who may become which role: by trust policies, federation, and escalation through permissions",
        "what each principal can reach, denials and boundaries applied",
        "access keys with age and last use, console passwords and second factors (live)",
    ),
    needs=(
        Permission(grant="iam:GetAccountAuthorizationDetails", why="principals, policies and trust in one call"),
        Permission(grant="iam:ListAccessKeys", why="the ids and ages of access keys"),
        Permission(grant="iam:GetAccessKeyLastUsed", why="which keys are in use"),
        Permission(grant="iam:GetLoginProfile", why="which users can sign in to the console"),
        Permission(grant="iam:ListMFADevices", why="who has a second factor"),
        Permission(grant="iam:ListOpenIDConnectProviders", why="which outside issuers are trusted"),
        Permission(grant="sts:GetCallerIdentity", why="which account it is; always allowed"),
    ),
    blind_to=(
        Blind(
            what="organisation policies (SCP, RCP)", why="they belong to the organisation: a right shown may be denied"
        ),
        Blind(what="resource policies other than trust", why="IAM does not hold those of buckets, keys and queues"),
        Blind(what="session policies", why="they exist only while a session lives"),
        Blind(what="what runs under a role", why="only IAM is read; ways through running compute are conditional"),
        Blind(what="access keys and passwords (from a file)", why="GetAccountAuthorizationDetails leaves them out"),
        Blind(what="IAM Identity Center assignments", why="they appear only as the roles they make"),
    ),
)


class Source(Protocol):
    """Where the details come from."""

    coverage: str
    """What it shows of an account: a run retires only what the same coverage showed before."""

    def open(self) -> str:
        """Get ready; return the number of the account."""
        ...

    def details(self, scan: Scan) -> tuple[Mapping[str, Any], list[Skipped]]: ...
    def close(self) -> None: ...


class FileSource:
    """A JSON file in the form of GetAccountAuthorizationDetails."""

    coverage = "details"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._details: Mapping[str, Any] = {}

    def open(self) -> str:
        """Read the file; raises `Rejected` (`inventory.source.*`, `inventory.aws.*`)."""
        try:
            status = self._path.stat()
        except OSError:
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise Rejected(
                "inventory.source.missing",
                f"there is no file `{self._path}`",
                next_step="write one with `aws iam get-account-authorization-details > account.json`",
            )
        if status.st_size > MAX_FILE_BYTES:
            raise Rejected(
                "inventory.source.too-large",
                f"`{self._path}` is larger than {MAX_FILE_BYTES} bytes",
                next_step="read the account live with `remit discover aws live`",
            )
        self._details = self._read()
        return identify(self._details)[1]

    def _read(self) -> Mapping[str, Any]:
        try:
            details = msgspec.json.decode(self._path.read_bytes())
        except OSError as error:
            raise Rejected(
                "inventory.source.unreadable",
                f"`{self._path}` cannot be read: {error.strerror}",
                next_step="give this user the right to read it",
            ) from None
        except (msgspec.DecodeError, RecursionError):
            details = None
        if not isinstance(details, dict):
            raise Rejected(
                "inventory.aws.not-json",
                f"`{self._path}` holds no JSON object",
                next_step="write it again with `aws iam get-account-authorization-details --output json`",
            )
        return details

    def details(self, scan: Scan) -> tuple[Mapping[str, Any], list[Skipped]]:
        """What the file holds; one page of several is reported."""
        skipped = []
        if self._details.get("IsTruncated") is True:
            detail = "it is one page of several: let the command line collect them all"
            skipped.append(Skipped(what=str(self._path), reason="malformed", detail=detail))
        return self._details, skipped

    def close(self) -> None:
        """Forget what was read."""
        self._details = {}


class LiveSource:
    """The API of the account to which the credentials belong."""

    coverage = "live"

    def __init__(self, reader: IamReader) -> None:
        self._reader = reader

    def open(self) -> str:
        return self._reader.open()

    def details(self, scan: Scan) -> tuple[Mapping[str, Any], list[Skipped]]:
        """The details, and for each user what the details leave out; a refused call is reported and left out."""
        found: dict[str, Any] = {}
        for page in self._reader.authorization_details():
            for key, entries in page.items():
                found.setdefault(key, []).extend(entries)
            scan.progress(sum(map(len, found.values())), "principals and policies")
        skipped: list[Skipped] = []
        users = [str(user["UserName"]) for user in found.get("UserDetailList", [])]
        calls: tuple[tuple[str, Callable[[str], list[dict[str, Any]]]], ...] = (
            ("AccessKeyMetadata", self._reader.access_keys),
            ("LoginProfiles", self._reader.login_profiles),
            ("MFADevices", self._reader.mfa_devices),
        )
        for key, call in calls:
            try:
                found[key] = [entry for user in users for entry in ([] if scan.stopped() else call(user))]
            except Denied as error:
                skipped.append(Skipped(what=key, reason="not-permitted", detail=error.message))
        try:
            found["OpenIDConnectProviderList"] = self._reader.oidc_providers()
        except Denied as error:
            skipped.append(Skipped(what="OpenIDConnectProviderList", reason="not-permitted", detail=error.message))
        return found, skipped

    def close(self) -> None:
        self._reader.close()


@dataclass(frozen=True, slots=True)
class Whole:
    """The account as a whole."""

    estate: Estate = field(repr=False)


@dataclass(frozen=True, slots=True)
class One:
    """One user or role of it."""

    estate: Estate = field(repr=False)
    principal: Principal


Raw: TypeAlias = Whole | One


class AwsConnector:
    """Reads the IAM of one account from `source`."""

    manifest = MANIFEST

    def __init__(self, source: Source) -> None:
        self._source = source
        self._instance = ""

    @classmethod
    def at(cls, source: str) -> AwsConnector:
        """By what a person types: `live`, `live:PROFILE`, or the path of a file."""
        if source == "live" or source.startswith("live:"):
            return cls(LiveSource(IamReader(profile=source.removeprefix("live").removeprefix(":") or None)))
        return cls(FileSource(source))

    @property
    def instance(self) -> str:
        """The number of the account."""
        return self._instance

    @property
    def scope(self) -> str:
        """The account and what the source covers of it: a file without access keys does not retire those seen live."""
        return f"{self._instance} {self._source.coverage}"

    def open(self) -> None:
        """Connect, or read the file; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self._instance = self._source.open()

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """The account, then its users and roles."""
        details, skipped = self._source.details(scan)
        account, malformed = read_account(details)
        yield from skipped
        yield from malformed
        yield from read_extras(details, account)
        estate = survey(account)
        yield Whole(estate)
        for count, principal in enumerate(account.principals()):
            if scan.stopped():
                yield Skipped(
                    what=f"account {account.id}", reason="changed-while-read", detail="stopped before the end"
                )
                return
            if count % 100 == 0:
                scan.progress(count, principal.arn)
            yield One(estate, principal)

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of the account, or of one principal."""
        match raw:
            case Whole():
                return translate_account(raw.estate)
            case One():
                return translate_principal(raw.estate, raw.principal, scan.now)

    def close(self) -> None:
        self._source.close()


def make_aws_connector(source: str, options: Mapping[str, str]) -> AwsConnector:
    """By what a person types; the option `profile` names a profile for `live`, `endpoint` a compatible server."""
    if source == "live":
        return AwsConnector(
            LiveSource(IamReader(profile=options.get("profile") or None, endpoint=options.get("endpoint") or None))
        )
    return AwsConnector.at(source)
