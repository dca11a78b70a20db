"""Google Cloud from what its command line exports: service accounts, keys, policies, workload identity pools.

Spec: IAM REST reference (`projects.serviceAccounts`, `.keys`, `Policy`, `workloadIdentityPools.providers`); Cloud Asset
Inventory, "Export" (`gcloud asset export`, one object a line).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from remit.inventory.connectors.aws.naming import GITHUB, pipeline_name, pipeline_of, subject_name
from remit.inventory.connectors.exports import ExportConnector
from remit.inventory.connectors.files.keys import public_part, sha256
from remit.inventory.connectors.files.readers.cloud import google_account
from remit.inventory.connectors.github.facts import moment
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

MANIFEST = ConnectorManifest(
    id="google",
    record_of=("gcp",),
    title="Google Cloud, from exported JSON",
    source="a JSON file, or a directory of them, that `gcloud … --format json` or `gcloud asset export` wrote",
    observes=(
        "service accounts and their keys, with the fingerprint that key files have where the public half is there",
        "what each may do in projects, folders, organisations; who may impersonate whom",
        "workload identity pools: which outside subjects (GitHub, Kubernetes, AWS) become which service account",
    ),
    needs=(
        Permission(grant="roles/iam.securityReviewer", why="policies, service accounts and keys, at the organisation"),
        Permission(grant="roles/cloudasset.viewer", why="for `gcloud asset export`"),
        Permission(grant="gcloud iam service-accounts list --format json", why="the accounts"),
        Permission(grant="gcloud iam service-accounts keys list --iam-account A --format json", why="the keys"),
        Permission(grant="gcloud projects get-iam-policy P --format json", why="the grants"),
        Permission(grant="gcloud iam workload-identity-pools providers list --format json", why="outside issuers"),
    ),
    blind_to=(
        Blind(what="last use", why="it is in Policy Analyzer's activity, which the exports leave out"),
        Blind(what="conditions and deny policies", why="an edge with a condition is shown as conditional"),
        Blind(what="whose policy a bare policy is", why="give `--set project=P`, or name the file after the project"),
    ),
    hazards=("an export is a map of the organisation: keep it where the registry is kept",),
    options=(Option(name="project", help="of policies that do not say it"),),
)
_IMPERSONATES: Final = frozenset({
    "roles/iam.serviceAccountTokenCreator", "roles/iam.serviceAccountUser", "roles/iam.workloadIdentityUser",
    "roles/iam.serviceAccountKeyAdmin", "roles/iam.serviceAccountAdmin", "roles/iam.serviceAccountOpenIdTokenCreator",
})  # fmt: skip
_STRONG: Final = frozenset(
    {"roles/owner", "roles/editor", "roles/iam.securityAdmin", "roles/resourcemanager.projectIamAdmin"}
)
_KEY: Final = re.compile(r"projects/([^/]+)/serviceAccounts/([^/]+)/keys/([0-9a-f]{8,64})")
_ACCOUNT: Final = re.compile(r"serviceAccounts/([\w.@-]+)")
_POOL: Final = re.compile(
    r"principal(?:Set)?://iam\.googleapis\.com/(projects/\d+/locations/global/workloadIdentityPools/[\w-]+)/(.+)"
)


def make(source: str, options: Mapping[str, str], secret: str) -> ExportConnector:
    """A connector on a file or directory."""

    def read(sheet: SystemSheet, row: Mapping[str, Any]) -> bool:
        return _read(sheet, row, options.get("project", ""))

    return ExportConnector(
        MANIFEST, Path(source), read, lists=("accounts", "keys", "workloadIdentityPoolProviders", "assets")
    )


def _read(sheet: SystemSheet, row: Mapping[str, Any], project: str) -> bool:
    """What an object is, by its shape."""
    kind, name = str(row.get("assetType", row.get("asset_type", ""))), str(row.get("name", ""))
    if kind:
        data = (row.get("resource") or {}).get("data")
        policy = row.get("iamPolicy", row.get("iam_policy"))
        if isinstance(policy, dict):
            _policy(sheet, policy, name.removeprefix("//"))
        return (_read(sheet, data, project) if isinstance(data, dict) else False) or isinstance(policy, dict)
    if _KEY.search(name):
        _key(sheet, row, name)
    elif "uniqueId" in row and "email" in row:
        _account(sheet, row)
    elif "bindings" in row:
        stem = Path(sheet.file.path).stem.removesuffix("-policy").removesuffix(".policy")
        where = project or (
            stem if re.fullmatch(r"[a-z][a-z0-9-]{4,29}|.+@[\w.-]+\.gserviceaccount\.com", stem) else "unknown"
        )
        _policy(sheet, row, f"serviceAccounts/{where}" if "@" in where else f"projects/{where}")
    elif "oidc" in row or "aws" in row or "attributeMapping" in row:
        _provider(sheet, row, name)
    else:
        return bool(name and "projectNumber" in row)
    return True


def _account(sheet: SystemSheet, row: Mapping[str, Any]) -> None:
    email, project = str(row["email"]), str(row.get("projectId", ""))
    sheet.identity(
        sheet.name("gcp", project or "unknown", "serviceaccount", email), IdentityKind.SERVICE_ACCOUNT,
        str(row.get("displayName") or email),
        aliases=[sheet.name("gcp", project or "unknown", "unique-id", str(row["uniqueId"]))],
        attributes={"disabled": row.get("disabled") is True, "purpose": str(row.get("description") or ""),
                    "unique_id": str(row["uniqueId"]), "project": project, "email": email},
    )  # fmt: skip


def _key(sheet: SystemSheet, row: Mapping[str, Any], name: str) -> None:
    project, email, key = _KEY.search(name).groups()  # type: ignore[union-attr]
    of = google_account(sheet, email, "" if project == "-" else project)
    managed = row.get("keyType") == "SYSTEM_MANAGED"
    if managed:
        return
    fingerprint = _public(str(row.get("publicKeyData") or "")) or sha256(f"gcp-key:{email}:{key}".encode())
    expires = moment(row.get("validBeforeTime"))
    endless = expires is None or expires.year > 9000
    node = sheet.credential(
        fingerprint, CredentialKind.PRIVATE_KEY, f"key {key[:12]} of {email}", identity=of,
        issued=moment(row.get("validAfterTime")), expires=None if endless else expires,
        attributes={"key_id": key, "project": project, "provider": "google", "disabled": row.get("disabled") is True},
    )  # fmt: skip
    if endless and row.get("disabled") is not True:
        sheet.finding(
            "key-without-end", Severity.MEDIUM, f"key {key[:12]} of {email} does not expire",
            "whoever copied its file is the service account, for ever",
            f"gcloud iam service-accounts keys delete {key} --iam-account {email}", subject=node,
        )  # fmt: skip


def _public(data: str) -> str:
    """The fingerprint of a key whose certificate the export has (`--public-key-type TYPE_X509_PEM_FILE`)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        pem = base64.b64decode(data, validate=True)
        if b"BEGIN CERTIFICATE" in pem:
            return public_part(x509.load_pem_x509_certificate(pem).public_key()).fingerprint
        return public_part(load_pem_public_key(pem)).fingerprint if b"BEGIN PUBLIC" in pem else ""
    except ValueError:
        return ""


def _policy(sheet: SystemSheet, policy: Mapping[str, Any], where: str) -> None:
    """Who may do what to `where`: a project, folder, organisation, a service account, or another asset."""
    account = _ACCOUNT.search(where)
    found = re.search(r"(projects|folders|organizations)/([\w.:-]+)$", where)
    if account:
        target = google_account(sheet, account[1], "")
    elif found:
        kind = found[1].rstrip("s")
        target = sheet.resource(sheet.name("gcp", found[2], kind, found[2]), f"gcp-{kind}", f"{kind} {found[2]}")
    else:
        target = sheet.resource(sheet.name("gcp", "global", "asset", where), "gcp-asset", where)
    for binding in policy.get("bindings") or ():
        role, condition = str(binding.get("role", "")), binding.get("condition") or {}
        tests = [str(condition.get("expression") or condition.get("title") or "a condition")] if condition else []
        for member in binding.get("members") or ():
            _member(sheet, str(member), role, target, tests, is_account=account is not None)


def _member(sheet: SystemSheet, member: str, role: str, target: Name, tests: list[str], *, is_account: bool) -> None:
    cut = f"remove the member {member} from {role}"
    kind, _, local = member.partition(":")
    pool = _POOL.fullmatch(member)
    if member in ("allUsers", "allAuthenticatedUsers"):
        sheet.finding(
            "open-to-all", Severity.CRITICAL, f"everybody has {role}", f"{member} is bound to it", cut, subject=target
        )
        return
    if pool:
        of, more = _outside(sheet, pool[1], pool[2])
        sheet.edge(of, Relation.ASSUME if is_account else Relation.CAN_REACH, target, f"{role} for {pool[2]}",
                   conditions=[*tests, *more], actions=[] if is_account else [role], cut=cut)  # fmt: skip
        repository = re.fullmatch(r"attribute\.repository/([\w.-]+/[\w.-]+)", pool[2])
        subject = pool[2].removeprefix("subject/")
        slug = repository[1] if repository else (pipeline_of(subject) or ("", ""))[0]
        if slug and "*" not in slug:
            sheet.edge(
                pipeline_name(slug), Relation.ASSUME, of, "its runs are this principal of the pool", conditions=more
            )
        if pool[2].startswith("subject/"):
            sheet.edge(subject_name(GITHUB if subject.startswith("repo:") else pool[1], subject), Relation.ASSUME, of,
                       "the subject of its tokens")  # fmt: skip
        return
    if kind == "serviceAccount" and (inside := re.fullmatch(r"([\w-]+)\.svc\.id\.goog\[([\w.-]+)/([\w.-]+)\]", local)):
        of = sheet.name("kubernetes", inside[1], "serviceaccount", f"{inside[2]}/{inside[3]}")
        sheet.identity(of, IdentityKind.SERVICE_ACCOUNT, f"{inside[2]}/{inside[3]} of {inside[1]}")
    elif kind == "serviceAccount":
        of = google_account(sheet, local, "")
    elif kind == "group":
        of = sheet.identity(sheet.name("gcp", "global", "group", local), IdentityKind.CLOUD_GROUP, local)
    else:
        return  # people are no machine identities
    if is_account:
        relation = Relation.IMPERSONATE if role in _IMPERSONATES or role in _STRONG else Relation.CAN_REACH
        sheet.edge(of, relation, target, role, conditions=tests, cut=cut)
        return
    sheet.edge(of, Relation.CAN_REACH, target, role, actions=[role], conditions=tests, cut=cut)
    if role in _STRONG and kind == "serviceAccount" and not tests:
        sheet.finding(
            "strong-role", Severity.HIGH, f"{local} has {role}", "it may change nearly everything there",
            f"give it the roles that it uses, then {cut}", subject=of,
        )  # fmt: skip


def _outside(sheet: SystemSheet, pool: str, local: str) -> tuple[Name, list[str]]:
    of = sheet.name("gcp", pool.split("/")[1], "pool-principal", f"{pool.rpartition('/')[2]}/{local}")
    sheet.identity(of, IdentityKind.WORKLOAD, f"{local} of {pool.rpartition('/')[2]}", attributes={"pool": pool})
    wide = local == "*"
    if wide:
        sheet.finding(
            "any-subject", Severity.HIGH, f"every token that {pool.rpartition('/')[2]} accepts is let in",
            "whoever gets a token of one of its issuers gets the grant", "bind one subject or one attribute",
            subject=of,
        )  # fmt: skip
    return of, ["the pool's provider accepts the token"]


def _provider(sheet: SystemSheet, row: Mapping[str, Any], name: str) -> None:
    issuer = str((row.get("oidc") or {}).get("issuerUri", "")).removeprefix("https://")
    of = sheet.resource(
        sheet.name("gcp", "global", "pool-provider", name), "gcp-pool-provider", name.rpartition("/")[2] or "provider",
        issuer=issuer, condition=str(row.get("attributeCondition") or ""), disabled=row.get("disabled") is True,
    )  # fmt: skip
    if issuer == GITHUB and not row.get("attributeCondition"):
        sheet.finding(
            "provider-without-condition", Severity.HIGH,
            f"{name.rpartition('/')[2]} accepts every repository of GitHub",
            "a workflow of anybody gets a token of the pool",
            "set an attribute condition, as `assertion.repository_owner == 'ORG'`", subject=of,
        )  # fmt: skip
