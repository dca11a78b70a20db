"""ARNs, and what the nodes of an account are called."""

from __future__ import annotations

import re
from dataclasses import dataclass

from remit.kernel.ids import Name, name

GITHUB = "token.actions.githubusercontent.com"
"""The OIDC issuer of GitHub Actions."""
_ARN = re.compile(r"arn:(aws[a-z-]*):([^:]*):([^:]*):([^:]*):(.*)", re.DOTALL)
_ROLE_SESSION = re.compile(r"assumed-role/([^/]+)/.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arn:
    """An Amazon Resource Name, split; `resource` is everything after the fifth colon."""

    partition: str
    service: str
    region: str
    account: str
    resource: str


def parse_arn(text: str) -> Arn | None:
    """Split an ARN (or a pattern in the form of one); `None` where it has not the form."""
    match = _ARN.fullmatch(text)
    if match is None or len(text) > 2048:
        return None
    partition, service, region, account, resource = match.groups()
    return Arn(partition=partition, service=service, region=region, account=account, resource=resource)


def account_of(value: str) -> str | None:
    """The account that a principal element names as a whole: its number, or the ARN of its root."""
    if re.fullmatch(r"\d{12}", value):
        return value
    arn = parse_arn(value)
    return arn.account if arn is not None and arn.service == "iam" and arn.resource == "root" else None


def user_name(account: str, path: str, local: str) -> Name:
    return name("aws", account, "user", f"{path.strip('/')}/{local}".lstrip("/"))


def role_name(account: str, path: str, local: str) -> Name:
    return name("aws", account, "role", f"{path.strip('/')}/{local}".lstrip("/"))


def group_name(account: str, path: str, local: str) -> Name:
    return name("aws", account, "group", f"{path.strip('/')}/{local}".lstrip("/"))


def arn_alias(account: str, arn: str) -> Name:
    """The alias by which other connectors name what they only know by its ARN."""
    return name("aws", account, "arn", arn)


def root_name(account: str) -> Name:
    """The account itself as an identity: who is its administrator is as good as its root user."""
    return name("aws", account, "root", "root")


def account_name(account: str) -> Name:
    """Everything that an account has, as a resource."""
    return name("aws", account, "account", account)


def principals_name(account: str) -> Name:
    """Any principal of an account that its own policies let assume roles elsewhere."""
    return name("aws", account, "principals", "*")


def service_name(account: str, service: str) -> Name:
    """An AWS service, as far as it acts in one account: `lambda.amazonaws.com`."""
    return name("aws", account, "service", service)


def subject_name(issuer: str, subject: str) -> Name:
    """A subject of an OIDC issuer (host and path, without the scheme)."""
    return name("oidc", issuer, "subject", subject)


def principal_name(arn: str) -> Name | None:
    """The name of a user, role or session by its ARN; of an account by `root`; `None` for anything else."""
    parsed = parse_arn(arn)
    if parsed is None:
        return None
    kind, _, local = parsed.resource.partition("/")
    if parsed.service == "iam" and kind in ("user", "role", "group") and local:
        return name("aws", parsed.account, kind, local)
    if parsed.service == "iam" and parsed.resource == "root":
        return principals_name(parsed.account)
    if parsed.service == "sts" and (session := _ROLE_SESSION.fullmatch(parsed.resource)):
        return name("aws", parsed.account, "role", session[1])
    return None


def pipeline_name(repository: str) -> Name:
    """The workflows of a GitHub repository (`org/app`)."""
    return name("github", "github.com", "pipeline", repository)


def pipeline_of(subject: str) -> tuple[str, str] | None:
    """The repository of a GitHub Actions subject, and the rest of it: `repo:org/app:ref:refs/heads/main`."""
    if not subject.startswith("repo:"):
        return None
    repository, _, rest = subject.removeprefix("repo:").partition(":")
    return (repository, rest or "*") if repository else None


def resource_of(pattern: str, account: str) -> tuple[Name, str, str]:
    """The node of a resource pattern of a policy: (name, kind, title). Objects of a bucket are the bucket."""
    arn = parse_arn(pattern)
    if arn is None or arn.service in ("", "*"):
        return account_name(account), "aws-account", f"account {account}"
    owner = arn.account if re.fullmatch(r"\d{12}", arn.account) else account
    local = arn.resource
    if arn.service == "s3":
        local = local.partition("/")[0] or "*"
        return name("aws", owner, "s3", local), "s3-bucket", local
    if arn.region and arn.region != "*":
        local = f"{arn.region}/{local}"
    return name("aws", owner, arn.service, local), f"aws-{arn.service}", arn.resource or "*"
