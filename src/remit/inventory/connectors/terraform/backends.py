"""Where state is kept, as a resource: who reads that place reads every secret in the state.

Spec: Terraform, "Backend configuration": s3, gcs, azurerm, remote, http, pg, consul, kubernetes, local.
"""

from __future__ import annotations

import re

from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.connectors.terraform.documents import Item, Values
from remit.kernel.ids import Name, name

_ACCOUNT = re.compile(r"arn:aws[\w-]*:iam::(\d{12}):")


def kept_at(sheet: Sheet, backend: str, config: Values, *, account: str, line: int | None = None) -> Name | None:
    """The place that a backend's configuration names, as the connector of its system names it.

    `account` is the AWS account where the configuration does not tell; `None` for a local backend.
    """

    def said(*keys: str) -> str:
        return next((value for key in keys if isinstance(value := config.get(key), str) and value), "")

    match backend:
        case "s3":
            role = said("role_arn") or str(dict(config.get("assume_role") or {}).get("role_arn") or "")
            found = _ACCOUNT.match(role)
            of, kind = sheet.name("aws", found[1] if found else account, "s3", said("bucket")), "s3-bucket"
            where = f"{said('bucket')}/{said('key')}"
        case "gcs":
            of, kind = sheet.name("gcp", "global", "bucket", said("bucket")), "gcs-bucket"
            where = f"{said('bucket')}/{said('prefix')}"
        case "azurerm":
            local = f"{said('storage_account_name')}/{said('container_name')}"
            of, kind, where = sheet.name("azure", "global", "storage", local), "azure-container", local
        case "remote":
            host, organisation = said("hostname") or "app.terraform.io", said("organization")
            spaces = config.get("workspaces")
            space = spaces[0] if isinstance(spaces, list) and spaces else spaces
            local = f"{organisation}/{dict(space or {}).get('name') or '*'}"
            of, kind, where = sheet.name("terraform", host, "workspace", local), "terraform-workspace", local
        case "kubernetes":
            local = f"{said('namespace') or 'default'}/tfstate-default-{said('secret_suffix')}"
            of, kind, where = sheet.name("kubernetes", "unknown", "secret", local), "kubernetes-secret", local
        case "http" | "consul" | "pg" | "cos" | "oss" | "etcdv3" | "swift":
            # Their address may carry a login: it is recorded as a credential, and shown nowhere.
            address = re.sub(r"//[^/@]*@", "//", said("address", "conn_str", "bucket", "container"))
            local = f"{address.partition('?')[0]}/{said('path', 'schema_name', 'key')}".strip("/")
            of, kind, where = sheet.name("terraform", backend, "state", local), f"{backend}-state", local
        case _:
            return None
    return sheet.resource(of, kind, f"Terraform state in {where}", line=line, backend=backend)


def state_of(sheet: Sheet, lineage: str) -> Name:
    """A state as a resource of its own: by its lineage, which every copy of it shares."""
    of = (
        name("terraform", "state", "lineage", lineage)
        if re.fullmatch(r"[0-9a-f-]{8,64}", lineage)
        else sheet.name("host", sheet.file.host, "terraform-state", sheet.file.path)
    )
    return sheet.resource(of, "terraform-state", f"Terraform state {sheet.file.name}", lineage=lineage)


def remote_state(item: Item) -> tuple[str, Values]:
    """Backend and configuration of a `terraform_remote_state` data source."""
    return item.text("backend"), item.block("config")
