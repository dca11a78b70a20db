"""Every connector by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from remit.inventory.connectors.port import AnyConnector, ConnectorManifest
from remit.kernel.errors import NotFound

NAMES = ("files", "kubernetes", "aws", "postgres")


def make_connector(name: str, source: str, options: Mapping[str, str], secret: str) -> AnyConnector:
    """A connector on one source; nothing is opened yet. `NotFound` names those that exist."""
    match name:
        case "files":
            from remit.inventory.connectors.files.connector import FilesConnector

            return FilesConnector(Path(source))
        case "kubernetes":
            from remit.inventory.connectors.kubernetes import KubernetesConnector

            return KubernetesConnector(
                Path(source), cluster=options.get("cluster") or None, issuer=options.get("issuer") or None
            )
        case "aws":
            from remit.inventory.connectors.aws import make_aws_connector

            return make_aws_connector(source, options)
        case "postgres":
            return _postgres(source, options, secret)
        case _:
            raise NotFound(
                "inventory.connector.unknown", f"no connector is called `{name}`", next_step="use " + ", ".join(NAMES)
            )


def _postgres(source: str, options: Mapping[str, str], secret: str) -> AnyConnector:
    from remit.inventory.connectors.postgres import PostgresConnector, connector_from
    from remit.providers.postgres.address import Address

    if "://" in source:
        environment = {"PGPASSWORD": secret} if secret else {"PGPASSFILE": options.get("passfile", "")}
        return connector_from(source, environment)
    address = Address(
        host=options["host"], port=int(options["port"]), user=options["user"], database=options["database"],
        ssl_mode=options.get("sslmode", ""), ssl_root=options.get("sslrootcert", ""),
    )  # fmt: skip
    return PostgresConnector(address, secret)


def connector_manifests() -> tuple[ConnectorManifest, ...]:
    """What each connector says of itself."""
    from remit.inventory.connectors.aws import MANIFEST as AWS
    from remit.inventory.connectors.files.connector import MANIFEST as FILES
    from remit.inventory.connectors.kubernetes import MANIFEST as KUBERNETES
    from remit.inventory.connectors.postgres import MANIFEST as POSTGRES

    return (FILES, KUBERNETES, AWS, POSTGRES)
