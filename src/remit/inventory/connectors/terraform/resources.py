"""What the resource types of the large providers mean: identities, their keys, and who trusts whom.

A reader answers the identity that an instance is or proves, and the attributes that it has dealt with; what is left
is searched for secrets by name, by shape, and by what Terraform marks as sensitive.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from remit.inventory.connectors.aws.naming import GITHUB, arn_alias, parse_arn, pipeline_name, pipeline_of, subject_name
from remit.inventory.connectors.files.dsn import dsn_of
from remit.inventory.connectors.files.environment import record_aws_key
from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keys import pem_blocks, read_ssh_line, sha256
from remit.inventory.connectors.files.pem import record_block
from remit.inventory.connectors.files.readers.cloud import azure_application, google_account, google_key
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.connectors.terraform.documents import Item
from remit.inventory.model import Attribute, CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A sheet and what the whole document told: whose account, whose organisation, which state."""

    sheet: Sheet
    holders: tuple[Name, ...]
    """What can be read to have the secrets: the state and the place where it is kept."""
    account: str = "unknown"
    """The AWS account that most ARNs of the document name."""
    organisation: str = "unknown"
    """The GitHub owner of the repositories in it."""
    server: str = "unknown"
    """What names logins of servers whose address the document does not tell."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a reader made of an instance."""

    identity: Name | None = None
    used: frozenset[str] = frozenset()


ResourceReader: TypeAlias = Callable[[Page, Item], Known]
_MANAGED = frozenset({"arn", "unique_id", "tags_all"})


def _owned(item: Item) -> dict[str, Attribute]:
    tags = item.block("tags") or item.block("labels")
    found = {str(key).lower(): str(value) for key, value in tags.items() if isinstance(value, str | int)}
    wanted = {"environment": ("environment", "env", "stage"), "service": ("service", "app", "application")}
    owned: dict[str, Attribute] = {"terraform": item.address}
    for key, words in wanted.items():
        owned[key] = next((found[word] for word in words if word in found), "")
    return owned


def _aws_principal(kind: str, what: IdentityKind) -> ResourceReader:
    def read(page: Page, item: Item) -> Known:
        local = item.text("name")
        if not local:
            return Known()
        arn = item.text("arn")
        parsed = parse_arn(arn)
        account = parsed.account if parsed else page.account
        path = item.text("path").strip("/")
        sheet = page.sheet
        of = sheet.identity(
            sheet.name("aws", account, kind, f"{path}/{local}".lstrip("/")), what, local, line=item.line,
            aliases=[arn_alias(account, arn)] if parsed else [], attributes={"arn": arn, **_owned(item)},
        )  # fmt: skip
        if kind == "role":
            _trust(page, item, of)
        return Known(of, frozenset({"assume_role_policy", *_MANAGED}))

    return read


def _trust(page: Page, item: Item, role: Name) -> None:
    """Who its trust policy lets in by OpenID Connect: the subjects, and for GitHub the repository's pipeline."""
    for statement in _statements(item.text("assume_role_policy")):
        provider = parse_arn(str(_as_dict(statement.get("Principal")).get("Federated") or ""))
        if provider is None or not provider.resource.startswith("oidc-provider/"):
            continue
        issuer = provider.resource.partition("/")[2]
        tests = [
            (str(key), value)
            for operator in _as_dict(statement.get("Condition")).values()
            for key, value in _as_dict(operator).items()
        ]
        for key, value in tests:
            if not key.lower().endswith(":sub"):
                continue
            for subject in value if isinstance(value, list) else [value]:
                _subject(page, role, issuer, str(subject), item)


def _subject(page: Page, role: Name, issuer: str, subject: str, item: Item) -> None:
    why = f"{item.address} lets in {subject} of {issuer}"
    cut = f"narrow the trust policy of {item.address}"
    page.sheet.edge(subject_name(issuer, subject), Relation.ASSUME, role, why, line=item.line, cut=cut)
    found = pipeline_of(subject) if issuer == GITHUB else None
    if found and "*" not in found[0] and "?" not in found[0]:
        conditions = [] if found[1] == "*" else [f"the run is {found[1]}"]
        page.sheet.edge(
            pipeline_name(found[0]), Relation.ASSUME, role, why, line=item.line, cut=cut, conditions=conditions
        )


def _statements(policy: str) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(policy) if policy else {}
    except (ValueError, RecursionError):
        return []
    statements = _as_dict(found).get("Statement")
    return [each for each in statements if isinstance(each, dict)] if isinstance(statements, list) else []


def _as_dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _aws_access_key(page: Page, item: Item) -> Known:
    key, user = item.text("id"), item.text("user")
    if not key.startswith(("AKIA", "ASIA")):
        return Known()
    sheet = page.sheet
    node = record_aws_key(sheet, key, item.text("secret"), line=item.line, holders=page.holders)
    sheet.hide(item.text("ses_smtp_password_v4"))
    who = None
    if node and user:
        who = sheet.identity(sheet.name("aws", page.account, "user", user), IdentityKind.CLOUD_USER, user)
        sheet.edge(node, Relation.SECRET_OF, who, f"access key of {user} ({item.address})", line=item.line)
        if item.text("secret"):
            _in_clear(page, item, node, "an access key's secret")
    return Known(who, frozenset({"id", "secret", "ses_smtp_password_v4", "encrypted_secret"}))


def _in_clear(page: Page, item: Item, node: Name, what: str) -> None:
    page.sheet.finding(
        "key-in-state", Severity.HIGH, f"{what} lies in clear in {page.sheet.file.name}",
        f"{item.address}: everybody who reads the state, or one of its old versions, has it",
        f"make it outside Terraform or by a role, then `remit revoke {node} --dry-run`",
        subject=node, line=item.line,
    )  # fmt: skip


def _google_account(page: Page, item: Item) -> Known:
    email = item.text("email")
    return Known(google_account(page.sheet, email, item.text("project")) if email else None)


def _google_key(page: Page, item: Item) -> Known:
    used = frozenset({"private_key", "public_key", "public_key_data"})
    try:
        key = json.loads(base64.b64decode(item.text("private_key"), validate=True))
    except (ValueError, RecursionError):
        return Known(None, used)
    known = {str(name): value for name, value in _as_dict(key).items() if isinstance(value, str)}
    page.sheet.hide(item.text("private_key"))
    try:
        google_key(page.sheet, known, item.line)
    except Malformed:
        page.sheet.skip("malformed", f"{item.address} holds no key")
    return Known(None, used)


def _google_grant(page: Page, item: Item) -> Known:
    """A role on a project, or on a service account: to impersonate it."""
    role, project = item.text("role"), item.text("project")
    members = [item.text("member"), *(str(each) for each in item.values.get("members") or () if isinstance(each, str))]
    target = item.text("service_account_id").rpartition("/")[2]
    for member in filter(None, members):
        kind, _, local = member.partition(":")
        if kind != "serviceAccount":
            continue
        who = google_account(page.sheet, local, "")
        if target:
            of = google_account(page.sheet, target, project)
            page.sheet.edge(who, Relation.IMPERSONATE, of, f"{role} by {item.address}", line=item.line)
        elif project:
            of = page.sheet.resource(page.sheet.name("gcp", project, "project", project), "gcp-project", project)
            page.sheet.edge(
                who, Relation.CAN_REACH, of, item.address, line=item.line, actions=[role],
                cut=f"gcloud projects remove-iam-policy-binding {project} --member={member} --role={role}",
            )  # fmt: skip
    return Known()


def _azure_application(page: Page, item: Item) -> Known:
    client = item.text("client_id", "application_id")
    tenant = item.text("tenant_id", "application_tenant_id")
    return Known(azure_application(page.sheet, tenant, client, line=item.line) if client else None)


def _azure_federation(page: Page, item: Item) -> Known:
    application = item.text("application_id", "application_object_id").rpartition("/")[2]
    issuer, subject = item.text("issuer").removeprefix("https://"), item.text("subject")
    if application and issuer and subject:
        of = page.sheet.name("azure", "unknown", "application-object", application)
        who = page.sheet.identity(of, IdentityKind.SERVICE_ACCOUNT, f"application object {application}")
        _subject(page, who, issuer, subject, item)
    return Known()


def _kubernetes_account(page: Page, item: Item) -> Known:
    meta = item.block("metadata")
    local, namespace = str(meta.get("name") or ""), str(meta.get("namespace") or "default")
    if not local:
        return Known()
    of = page.sheet.name("kubernetes", "unknown", "serviceaccount", f"{namespace}/{local}")
    who = page.sheet.identity(of, IdentityKind.SERVICE_ACCOUNT, f"{namespace}/{local}", attributes=_owned(item))
    role = str(_as_dict(meta.get("annotations")).get("eks.amazonaws.com/role-arn") or "")
    if (arn := parse_arn(role)) and arn.resource.startswith("role/"):
        target = page.sheet.name("aws", arn.account, "role", arn.resource.removeprefix("role/"))
        page.sheet.edge(who, Relation.ASSUME, target, f"annotation of {item.address}", line=item.line)
    return Known(who)


def _login(system: str) -> ResourceReader:
    def read(page: Page, item: Item) -> Known:
        user = item.text("name", "user", "username", "master_username")
        host = item.text("address", "endpoint", "fqdn") or page.server
        password = item.text("password", "plaintext_password", "master_password", "administrator_password")
        engine = item.text("engine")
        known = "postgres" if "postgres" in engine else "mysql" if "m" in engine[:1] or "aurora" in engine else system
        used = frozenset({"password", "plaintext_password", "master_password", "administrator_password"})
        if not user or not known:
            return Known(None, used if user and not password else frozenset())
        port = item.values.get("port")
        of, _ = page.sheet.dsn(
            dsn_of(known, host=host.partition(":")[0], port=str(port or ""), user=user, password=password,
                   database=item.text("db_name", "database_name", "database")),
            f"{item.address}.password", line=item.line, holders=page.holders,
        )  # fmt: skip
        return Known(of, used)

    return read


def _pem(page: Page, item: Item) -> Known:
    """Key pairs and certificates: the same key in OpenSSH and PKCS#8 form is one credential."""
    forms = frozenset(key for key in item.values if key.startswith(("private_key", "public_key")) or "pem" in key)
    for key in sorted(forms):
        for block in pem_blocks(item.text(key).encode("utf-8", "replace")):
            try:
                record_block(page.sheet, block, line=item.line, holders=page.holders, setting=f"{item.address}.{key}")
            except Malformed:
                page.sheet.skip("malformed", f"{item.address}.{key}")
            page.sheet.hide(item.text(key))
    return Known(None, forms)


def _github_secret(page: Page, item: Item) -> Known:
    """The forge's secret by its name, as the workflow that uses it names it; its value where the state has it."""
    repository, called = item.text("repository"), item.text("secret_name").upper()
    value = item.text("plaintext_value")
    scope = f"github.com/{page.organisation}" + (f"/{repository}" if repository else "")
    sheet = page.sheet
    if called:
        sheet.credential(
            sha256(f"github-actions:{scope}:{called}".encode()), CredentialKind.SECRET, f"{called} of {scope}",
            line=item.line, manager="github-actions", holders=page.holders if value else (),
            attributes={"setting": called, "reference": True},
        )  # fmt: skip
    if value:
        sheet.secret(f"{item.address}.plaintext_value", value, line=item.line, holders=page.holders)
    return Known(None, frozenset({"plaintext_value", "encrypted_value"}))


def _deploy_key(page: Page, item: Item) -> Known:
    words = item.text("key").split()
    if len(words) < 2:
        return Known()
    try:
        part = read_ssh_line(words[1])
    except Malformed:
        return Known()
    slug = f"{page.organisation}/{item.text('repository', 'project')}"
    forge = "github" if item.type.startswith("github") else "gitlab"
    repository = page.sheet.resource(page.sheet.name(forge, f"{forge}.com", "repository", slug), "repository", slug)
    of = page.sheet.identity(
        page.sheet.name(forge, f"{forge}.com", "deploy-key", f"{slug}/{part.fingerprint.partition(':')[2][:32]}"),
        IdentityKind.BOT, f"deploy key {item.text('title')} of {slug}", line=item.line,
    )  # fmt: skip
    page.sheet.credential(
        part.fingerprint, CredentialKind.SSH_KEY, f"deploy key {item.text('title')}", identity=of, line=item.line,
        attributes={"algorithm": part.algorithm, "ssh_fingerprint": part.ssh_fingerprint},
    )  # fmt: skip
    actions = ["read"] if item.values.get("read_only") is True else ["read", "write"]
    page.sheet.edge(of, Relation.CAN_REACH, repository, item.address, line=item.line, actions=actions)
    return Known(of)


def _vault_role(page: Page, item: Item) -> Known:
    local = f"auth/{item.text('backend') or 'approle'}/{item.text('role_name')}"
    if not item.text("role_name"):
        return Known()
    of = page.sheet.identity(
        page.sheet.name("openbao", page.server, "role", local), IdentityKind.SERVICE_ACCOUNT, local, line=item.line
    )
    issuer = item.text("bound_issuer").removeprefix("https://") or GITHUB
    if subject := item.text("bound_subject"):
        _subject(page, of, issuer, subject, item)
    for key in ("secret_id", "client_token"):
        if value := item.text(key):
            page.sheet.secret(f"{item.address}.{key}", value, identity=of, line=item.line, holders=page.holders)
    return Known(of, frozenset({"secret_id", "client_token"}))


READERS: Mapping[str, ResourceReader] = {
    "aws_iam_user": _aws_principal("user", IdentityKind.CLOUD_USER),
    "aws_iam_role": _aws_principal("role", IdentityKind.CLOUD_ROLE),
    "aws_iam_group": _aws_principal("group", IdentityKind.CLOUD_GROUP),
    "aws_iam_access_key": _aws_access_key,
    "aws_db_instance": _login(""),
    "aws_rds_cluster": _login(""),
    "aws_redshift_cluster": _login("postgres"),
    "google_service_account": _google_account,
    "google_service_account_key": _google_key,
    "google_project_iam_member": _google_grant,
    "google_project_iam_binding": _google_grant,
    "google_service_account_iam_member": _google_grant,
    "google_service_account_iam_binding": _google_grant,
    "azuread_application": _azure_application,
    "azuread_application_registration": _azure_application,
    "azuread_service_principal": _azure_application,
    "azurerm_user_assigned_identity": _azure_application,
    "azuread_application_federated_identity_credential": _azure_federation,
    "kubernetes_service_account": _kubernetes_account,
    "kubernetes_service_account_v1": _kubernetes_account,
    "postgresql_role": _login("postgres"),
    "google_sql_user": _login("postgres"),
    "mysql_user": _login("mysql"),
    "tls_private_key": _pem,
    "tls_self_signed_cert": _pem,
    "tls_locally_signed_cert": _pem,
    "acme_certificate": _pem,
    "github_actions_secret": _github_secret,
    "github_actions_organization_secret": _github_secret,
    "github_dependabot_secret": _github_secret,
    "github_repository_deploy_key": _deploy_key,
    "gitlab_deploy_key": _deploy_key,
    "vault_approle_auth_backend_role": _vault_role,
    "vault_approle_auth_backend_role_secret_id": _vault_role,
    "vault_jwt_auth_backend_role": _vault_role,
    "vault_token_auth_backend_role": _vault_role,
}
"""Types that are understood; every other one is searched for secrets alone."""
