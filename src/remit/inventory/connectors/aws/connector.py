"""The AWS connector: the IAM of one account or of several, from files or the live API, as the same facts.

A principal's rights are the sum of many entries, so the account is read first (IAM's own quotas bound it) and then
translated principal by principal.
"""

from __future__ import annotations

import codecs
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from remit.inventory.connectors.aws.account import Principal, identify, read_account, read_extras
from remit.inventory.connectors.aws.beyond import CALLS, NEEDS
from remit.inventory.connectors.aws.crossing import crossing_facts, resource_policy_facts, settled
from remit.inventory.connectors.aws.documents import details_of
from remit.inventory.connectors.aws.estate import Estate, survey
from remit.inventory.connectors.aws.evaluate import link
from remit.inventory.connectors.aws.facts import place_of, translate_account, translate_principal
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Denied, Rejected, Unavailable
from remit.providers.aws import ORGANIZATION_GRANTS, POLICY_CALLS, IamReader

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_FILES = 20_000
_ASKED = ("AccessKeyMetadata", "LoginProfiles", "MFADevices", "OpenIDConnectProviderList", *(one.key for one in CALLS))
_OUTSIDE = ("Organization", *(call.key for call in POLICY_CALLS))
"""Policies outside IAM that are read besides; what is refused of them is reported."""
_LISTED = {need.grant for need in NEEDS}
_READ = "calls permitted"
MANIFEST = ConnectorManifest(
    id="aws",
    record_of=("aws",),
    title="AWS IAM",
    source=(
        "a file written by `aws iam get-account-authorization-details`, a directory with one for each account, `live`, "
        "or `live:PROFILE`"
    ),
    observes=(
        "users, roles and groups with their policies, boundaries and tags",
        "who may become which role: by trust policies, federation, and escalation through permissions",
        "what each principal can reach: boundaries, organisation policies (SCP, RCP) and resource policies applied",
        "who of one account may assume roles of another, where both are read",
        "access keys with age and last use, console passwords and second factors (live)",
        "OIDC and SAML providers, functions and machines with their roles, names of secrets and parameters (live)",
    ),
    options=(
        Option(name="profile", help="profile for `live`"),
        Option(name="region", help="region for `live`"),
        Option(name="endpoint", help="URL of a compatible service, for `live`"),
    ),
    needs=(
        Permission(grant="iam:GetAccountAuthorizationDetails", why="principals, policies and trust in one call"),
        Permission(grant="iam:ListAccessKeys", why="the ids and ages of access keys"),
        Permission(grant="iam:GetAccessKeyLastUsed", why="which keys are in use"),
        Permission(grant="iam:GetLoginProfile", why="which users can sign in to the console"),
        Permission(grant="iam:ListMFADevices", why="who has a second factor"),
        Permission(grant="iam:ListOpenIDConnectProviders", why="which outside issuers are trusted"),
        *NEEDS,
        *(
            Permission(grant=grant, why=f"policies of {call.service}")
            for call in POLICY_CALLS
            for grant in call.grants
            if grant not in _LISTED
        ),
        *(Permission(grant=grant, why="what the organisation denies (SCP, RCP)") for grant in ORGANIZATION_GRANTS),
        Permission(grant="sts:GetCallerIdentity", why="which account it is; always allowed"),
    ),
    blind_to=(
        Blind(what="organisation and resource policies (from a file)", why="only what the file has beside IAM is seen"),
        Blind(what="session policies", why="they exist only while a session lives"),
        Blind(what="what runs under a role beside Lambda and EC2", why="ECS, EKS and others are not read"),
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
    def lost(self) -> None:
        """Raise where less is shown than last time, though it may be there: then nothing is retired."""
        ...

    def close(self) -> None: ...


class FileSource:
    """A JSON file in the form of GetAccountAuthorizationDetails, or a directory of such files."""

    coverage = "details"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._details: Mapping[str, Any] = {}

    def open(self) -> str:
        """Read what is there; raises `Rejected` (`inventory.source.*`, `inventory.aws.*`)."""
        try:
            status = self._path.stat()
            folder = stat.S_ISDIR(status.st_mode)
            files = sorted(self._path.glob("*.json"))[:MAX_FILES] if folder else [self._path]
            size = sum(file.stat().st_size for file in files)
        except OSError:
            files, size = [], 0
        if not files or not all(file.is_file() for file in files):
            raise Rejected(
                "inventory.source.missing",
                f"there is no file `{self._path}`",
                next_step="write one with `aws iam get-account-authorization-details > account.json`",
            )
        if size > MAX_FILE_BYTES:
            raise Rejected(
                "inventory.source.too-large",
                f"`{self._path}` is larger than {MAX_FILE_BYTES} bytes",
                next_step="read the account live with `remit discover aws live`",
            )
        documents = [self._read(file) for file in files]
        if (
            len(documents) == 1
            and isinstance(documents[0], dict)
            and not isinstance(documents[0].get("Accounts"), list)
        ):
            self._details = documents[0]
            return identify(self._details)[1]
        accounts = details_of(documents)
        self._details = {"Accounts": accounts} if len(accounts) > 1 else accounts[0]
        return "+".join(_shown([str(one["AccountId"]) for one in accounts]))

    def _read(self, file: Path) -> Any:
        try:
            details = msgspec.json.decode(_plain(file.read_bytes()))
        except OSError as error:
            raise Rejected(
                "inventory.source.unreadable",
                f"`{file}` cannot be read: {error.strerror}",
                next_step="give this user the right to read it",
            ) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            details = None
        if not isinstance(details, dict) and not (
            isinstance(details, list) and all(isinstance(d, dict) for d in details)
        ):
            raise Rejected(
                "inventory.aws.not-json",
                f"`{file}` holds no JSON object",
                next_step="write it again with `aws iam get-account-authorization-details --output json`",
            )
        return details

    def details(self, scan: Scan) -> tuple[Mapping[str, Any], list[Skipped]]:
        """What the file holds; one page of several is reported."""
        skipped = []
        parts = (self._details, *self._details.get("Accounts", ()))
        if any(one.get("IsTruncated") is True or one.get("NextToken") for one in parts):
            detail = "it is one page of several: let the command line collect them all"
            skipped.append(Skipped(what=str(self._path), reason="malformed", detail=detail))
        return self._details, skipped

    def lost(self) -> None:
        """A file shows what it shows."""

    def close(self) -> None:
        """Forget what was read."""
        self._details = {}


class LiveSource:
    """The API of the account to which the credentials belong."""

    coverage = "live"

    def __init__(self, reader: IamReader, region: str = "") -> None:
        self._reader = reader
        self._lost: list[str] = []
        self._account = ""
        if region:
            self.coverage = f"live {region}"

    def open(self) -> str:
        self._account = self._reader.open()
        return self._account

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
        refused: set[str] = set()
        for one in CALLS:
            if scan.stopped():
                break
            try:
                listed = self._reader.listed(one.grant, one.service, one.operation, one.key)
            except Denied as error:
                skipped.append(Skipped(what=one.key, reason="not-permitted", detail=error.message))
                refused.add(one.grant)
                continue
            found[one.key] = [{key: entry[key] for key in one.keeps if key in entry} for entry in listed]
        self._read_outside(scan, found, skipped, refused)
        self._require_whole(scan, {key for key in found if key in (*_ASKED, *_OUTSIDE)})
        return found, skipped

    def _read_outside(
        self, scan: Scan, found: dict[str, Any], skipped: list[Skipped], refused: Set[str] = frozenset()
    ) -> None:
        """Policies that are not IAM's own: of resources, and of the organisation.

        `refused`: listing calls whose refusal has been told; what is not listed has no policies to read.
        """
        calls: list[tuple[str, Callable[[], Any]]] = [
            (call.key, partial(self._reader.policies, call)) for call in POLICY_CALLS if refused.isdisjoint(call.grants)
        ]
        calls.append(("Organization", partial(self._reader.organization, self._account)))
        for key, read in calls:
            if scan.stopped():
                return
            try:
                told = read()
            except (Denied, Unavailable) as error:
                reason = "not-permitted" if isinstance(error, Denied) else "unreachable"
                skipped.append(Skipped(what=key, reason=reason, detail=error.message))
                continue
            if told is not None:
                found[key] = told

    def _require_whole(self, scan: Scan, read: set[str]) -> None:
        """Remember what may be read; what was permitted last time and is refused now is not gone."""
        self._lost = sorted(set(scan.recalled.get(_READ, "").split()) - read) if not scan.stopped() else []
        if not self._lost:
            scan.remember(_READ, " ".join(sorted(read)))

    def lost(self) -> None:
        """Raise `Denied` (`inventory.aws.permission-lost`) where a call is refused that was permitted last time."""
        if self._lost:
            raise Denied(
                "inventory.aws.permission-lost",
                f"AWS refuses `{self._lost[0]}`, which was permitted last time; what was known of it is kept",
                next_step="give the right back, or read a file of details instead",
            )

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
    beside: Mapping[str, Estate] = field(default_factory=dict, repr=False)
    """The accounts that are read together, by number."""


Raw: TypeAlias = Whole | One


class AwsConnector:
    """Reads the IAM of one account, or of several together, from `source`."""

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
        """The number of the account; of several the numbers."""
        return self._instance

    @property
    def scope(self) -> str:
        """The account and what the source covers of it: a file without access keys does not retire those seen live."""
        return f"{self._instance} {self._source.coverage}"

    def open(self) -> None:
        """Connect, or read the file; raises `Unavailable`, `Rejected` or `Misconfigured`."""
        self._instance = self._source.open()

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Each account, then its users and roles."""
        details, skipped = self._source.details(scan)
        yield from skipped
        accounts = []
        for one in details.get("Accounts") or (details,):
            account, malformed = read_account(one)
            account.now = scan.now
            accounts.append(account)
            yield from malformed
            yield from read_extras(one, account)
        link(accounts)
        estates = {account.id: survey(account) for account in accounts}
        for estate in estates.values():
            yield Whole(estate)
            for count, principal in enumerate(estate.account.principals()):
                if scan.stopped():
                    what = f"account {estate.account.id}"
                    yield Skipped(what=what, reason="changed-while-read", detail="stopped before the end")
                    return
                if count % 100 == 0:
                    scan.progress(count, principal.arn)
                yield One(estate, principal, estates)
        self._source.lost()

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of the account, or of one principal."""
        match raw:
            case Whole():
                account = raw.estate.account
                root = place_of(f"arn:{account.partition}:iam::{account.id}:root")
                facts = settled(translate_account(raw.estate), account)
                return chain(facts, resource_policy_facts(account, root))
            case One():
                facts = translate_principal(raw.estate, raw.principal, scan.now)
                if len(raw.beside) < 2:
                    return facts
                facts = settled(facts, raw.estate.account)
                if raw.principal.kind == "user":
                    return facts
                place = place_of(raw.principal.arn)
                return chain(facts, crossing_facts(raw.estate, raw.principal, raw.beside, place))

    def close(self) -> None:
        self._source.close()


def _plain(content: bytes) -> bytes | str:
    """The text without a byte order mark: some shells write one, or UTF-16, when output goes to a file."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.removeprefix(codecs.BOM_UTF8)


def _shown(numbers: list[str]) -> list[str]:
    """The accounts by which an estate is called: a few by name, many by the first and how many more."""
    return numbers if len(numbers) <= 4 else [numbers[0], f"{len(numbers) - 1} more"]


def make_aws_connector(source: str, options: Mapping[str, str]) -> AwsConnector:
    """By what a person types; the option `profile` names a profile for `live`, `endpoint` a compatible server."""
    if source == "live":
        return AwsConnector(
            LiveSource(
                IamReader(
                    profile=options.get("profile") or None,
                    endpoint=options.get("endpoint") or None,
                    region=options.get("region") or None,
                ),
                options.get("region", ""),
            )
        )
    return AwsConnector.at(source)
