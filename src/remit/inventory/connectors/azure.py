"""Azure and Entra ID from what the `az` command line exports: applications, service principals, role assignments.

Spec: Microsoft Graph v1.0 (`application`, `servicePrincipal`, `federatedIdentityCredential`); Azure RBAC, "Role
assignments" as `az role assignment list` prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from remit.inventory.connectors.aws.naming import GITHUB, pipeline_name, pipeline_of, subject_name
from remit.inventory.connectors.exports import ExportConnector
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.github.facts import moment
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

MANIFEST = ConnectorManifest(
    id="azure",
    title="Azure and Entra ID, from exported JSON",
    record_of=("azure",),
    source="a JSON file, or a directory of them, that `az … -o json` wrote",
    observes=(
        "applications, service principals and managed identities, joined by their application id",
        "secrets and certificates of applications, with their end",
        "federated credentials: which outside subjects (GitHub, Kubernetes) become which application",
        "what each may do, where: role assignments",
    ),
    needs=(
        Permission(grant="Microsoft Graph: Application.Read.All", why="az ad app list --all, az ad sp list --all"),
        Permission(grant="Azure role Reader at the management group", why="az role assignment list --all"),
        Permission(
            grant="az ad app federated-credential list --id APP", why="put under `federatedIdentityCredentials` of it"
        ),
    ),
    blind_to=(
        Blind(what="values of secrets", why="Graph never shows them; only a hint of their start"),
        Blind(what="last sign-in", why="it needs AuditLog.Read.All and is not in these exports"),
        Blind(what="custom roles' actions", why="an assignment names the role: its definition is another export"),
    ),
    hazards=("an export is a map of the tenant: keep it where the registry is kept",),
    options=(Option(name="tenant", help="id of the tenant, where the export does not say it"),),
)
_STRONG: Final = frozenset(
    {"Owner", "User Access Administrator", "Contributor", "Role Based Access Control Administrator"}
)
_LONG_DAYS: Final = 365


def make(source: str, options: Mapping[str, str], secret: str) -> ExportConnector:
    """A connector on a file or directory."""

    def read(sheet: SystemSheet, row: Mapping[str, Any]) -> bool:
        return _read(sheet, row, options.get("tenant", ""))

    return ExportConnector(MANIFEST, Path(source), read, lists=("value",))


def _read(sheet: SystemSheet, row: Mapping[str, Any], tenant: str) -> bool:
    if "principalId" in row and "roleDefinitionName" in row:
        _assignment(sheet, row, tenant)
    elif "appId" in row and "id" in row:
        _application(sheet, row, tenant)
    elif "clientId" in row and "principalId" in row:
        _managed(sheet, row)
    else:
        return False
    return True


def _principal(sheet: SystemSheet, tenant: str, object_id: str) -> Name:
    return sheet.name("azure", tenant or "unknown", "principal", object_id)


def _application(sheet: SystemSheet, row: Mapping[str, Any], tenant: str) -> None:
    """An application or its service principal: one identity, known by the application id."""
    client, is_principal = str(row["appId"]), "servicePrincipalType" in row
    home = str(row.get("appOwnerOrganizationId") or row.get("appOwnerTenantId") or "") if is_principal else ""
    foreign = bool(home and tenant and home != tenant)
    where = tenant or home or "unknown"
    aliases = [_principal(sheet, where, str(row["id"]))] if is_principal else []
    aliases += [] if is_principal else [sheet.name("azure", where, "application-object", str(row["id"]))]
    title = str(row.get("displayName") or client)
    of = sheet.identity(
        sheet.name("azure", where, "application", client),
        IdentityKind.VENDOR if foreign else IdentityKind.SERVICE_ACCOUNT, title, aliases=aliases,
        attributes={"tenant": where, "app_id": client, "created": str(row.get("createdDateTime") or ""),
                    "enabled": row.get("accountEnabled") is not False,
                    "kind": str(row.get("servicePrincipalType") or "Application"),
                    "purpose": str(row.get("notes") or row.get("description") or "")},
    )  # fmt: skip
    for kind, listed in (
        (CredentialKind.SECRET, "passwordCredentials"),
        (CredentialKind.CERTIFICATE, "keyCredentials"),
    ):
        for each in row.get(listed) or ():
            _credential(sheet, of, title, kind, each)
    for each in row.get("federatedIdentityCredentials") or ():
        _federated(sheet, of, title, each)


def _credential(sheet: SystemSheet, of: Name, title: str, kind: CredentialKind, row: Mapping[str, Any]) -> None:
    key, called = str(row["keyId"]), str(row.get("displayName") or row["keyId"])
    issued, expires = moment(row.get("startDateTime")), moment(row.get("endDateTime"))
    node = sheet.credential(
        sha256(f"azure-key:{key}".encode()), kind, f"{kind.value} {called} of {title}", identity=of,
        issued=issued, expires=expires,
        attributes={"key_id": key, "thumbprint": str(row.get("customKeyIdentifier") or ""),
                    "usage": str(row.get("usage") or "")},
    )  # fmt: skip
    if (
        kind is CredentialKind.SECRET
        and issued
        and expires
        and (expires - issued).days > _LONG_DAYS + 1
        and expires > sheet.now
    ):
        sheet.finding(
            "long-lived-secret", Severity.MEDIUM,
            f"secret {called} of {title} is valid for {(expires - issued).days} days",
            "it is a password that nobody has to change",
            "use a federated credential or a managed identity; `az ad app credential delete --key-id` ends it",
            subject=node,
        )  # fmt: skip


def _federated(sheet: SystemSheet, of: Name, title: str, row: Mapping[str, Any]) -> None:
    issuer, subject = str(row.get("issuer", "")).removeprefix("https://").rstrip("/"), str(row.get("subject", ""))
    cut = f"az ad app federated-credential delete --federated-credential-id {row.get('id') or row.get('name')}"
    why = f"federated credential {row.get('name') or ''} of {title}"
    sheet.edge(subject_name(issuer, subject), Relation.ASSUME, of, why, cut=cut)
    found = pipeline_of(subject) if issuer == GITHUB else None
    if found:
        sheet.edge(pipeline_name(found[0]), Relation.ASSUME, of, why, conditions=[f"the run is {found[1]}"], cut=cut)


def _managed(sheet: SystemSheet, row: Mapping[str, Any]) -> None:
    tenant, client = str(row.get("tenantId") or "unknown"), str(row["clientId"])
    sheet.identity(
        sheet.name("azure", tenant, "application", client), IdentityKind.SERVICE_ACCOUNT,
        str(row.get("name") or client),
        aliases=[_principal(sheet, tenant, str(row["principalId"]))],
        attributes={"tenant": tenant, "app_id": client, "kind": "ManagedIdentity",
                    "resource": str(row.get("id") or "")},
    )  # fmt: skip


def _assignment(sheet: SystemSheet, row: Mapping[str, Any], tenant: str) -> None:
    if str(row.get("principalType")) not in ("ServicePrincipal", "Group", "ForeignGroup"):
        return  # people are no machine identities
    scope, role = str(row.get("scope", "/")), str(row["roleDefinitionName"])
    kind = IdentityKind.CLOUD_GROUP if "Group" in str(row["principalType"]) else IdentityKind.SERVICE_ACCOUNT
    title = str(row.get("principalName") or row["principalId"])
    of = sheet.identity(_principal(sheet, tenant, str(row["principalId"])), kind, title)
    parts = scope.strip("/").split("/")
    whole = len(parts) <= 2 or parts[0] != "subscriptions"
    target = sheet.resource(
        sheet.name("azure", parts[1] if len(parts) > 1 else "root", "scope", scope.lower()),
        "azure-subscription" if whole else "azure-resource", scope or "/",
    )  # fmt: skip
    cut = f"az role assignment delete --ids {row.get('id')}"
    conditions = [str(row["condition"])] if row.get("condition") else []
    sheet.edge(
        of, Relation.CAN_REACH, target, f"role assignment {role}", actions=[role], conditions=conditions, cut=cut
    )
    if role in _STRONG and whole and not conditions:
        sheet.finding(
            "strong-role", Severity.HIGH, f"{title} is {role} of {scope}", "it may change everything there",
            f"assign a narrower role or scope, then `{cut}`", subject=of,
        )  # fmt: skip
