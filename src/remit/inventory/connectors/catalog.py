"""Every connector by name: the one table to which a new one is added.

A connector's module has `MANIFEST` (`port.ConnectorManifest`) and `make(source, options, secret)`, which opens nothing
yet. Modules are imported when they are asked for, so that a driver that is not installed harms nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Final, NamedTuple

from remit.inventory.connectors.port import AnyConnector, ConnectorManifest
from remit.kernel.errors import NotFound, Rejected

_HERE: Final = "remit.inventory.connectors"


class Listed(NamedTuple):
    """Where a connector is, and what its command says."""

    module: str
    help: str
    variables: tuple[str, ...] = ()
    """Environment variables from which the command takes the secret, the first that is set."""
    system: str = ""
    """The system of targets whose name can stand for a source: they are read with the target's own credential."""


CATALOG: Final[Mapping[str, Listed]] = MappingProxyType({
    "files": Listed("files.connector", "Scan a directory tree or a home directory."),
    "kubernetes": Listed(
        "kubernetes",
        "Read Kubernetes: its API, a kubeconfig, a target's name, or manifests.",
        ("KUBE_TOKEN",),
        "kubernetes",
    ),
    "aws": Listed("aws", "Read an AWS account: an authorization-details file, or `live`."),
    "postgres": Listed("postgres", "Read a PostgreSQL server: a target's name, or a URL.", ("PGPASSWORD",), "postgres"),
    "mariadb": Listed("mariadb", "Read a MariaDB server: a target's name, or a URL.", ("MYSQL_PWD",), "mariadb"),
    "redis": Listed("redis", "Read a Redis server: a target's name, or a URL.", ("REDISCLI_AUTH",), "redis"),
    "openbao": Listed("openbao", "Read an OpenBao: a target's name, or its address.", ("BAO_TOKEN",), "openbao"),
    "rabbitmq": Listed(
        "rabbitmq", "Read a RabbitMQ cluster: a target's name, or a URL.", ("RABBITMQ_PASSWORD",), "rabbitmq"
    ),
    "nats": Listed("nats", "Read NATS: the directory of a resolver, or the store of nsc."),
    "use": Listed("use", "Read logs: who used what, when and from where."),
    "terraform": Listed("terraform", "Read Terraform states, plans and configurations."),
    "github": Listed("github", "Read a GitHub organisation or repository.", ("GITHUB_TOKEN", "GH_TOKEN")),
    "gitlab": Listed("gitlab", "Read a GitLab group or project.", ("GITLAB_TOKEN",)),
    "docker": Listed("docker", "Read Dockerfiles, compose files, image archives, or a Docker engine."),
    "google": Listed("google", "Read what Google Cloud's command line exported."),
    "azure": Listed("azure", "Read what Azure's command line exported."),
    "ldap": Listed("ldap", "Read an LDAP directory: a target's name, or a URL.", ("LDAP_PASSWORD",), "ldap"),
    "ssh": Listed("ssh", "Read what an sshd admits: `local`, or ssh://USER@HOST."),
    "tls": Listed("tls", "Look at TLS endpoints that you name: HOST:PORT, or a file of them."),
    "host": Listed("host", "Read a host: units, jobs, sudo, accounts, what runs; `/` or an image's root."),
    "import": Listed("import_file", "Read a file in Remit's own form: any other system."),
})  # fmt: skip
"""A connector's name is that of its command: `remit discover NAME SOURCE`."""


def of_target(name: str) -> str:
    """The system of targets that this connector reads by name; empty for one that reads none."""
    return CATALOG[name].system if name in CATALOG else ""


def from_target(name: str, address: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The options of a connector that reads a registered target: its address, and those settings that it knows."""
    known = {option.name for option in _module(name).MANIFEST.options} | _FROM_TARGET
    return {key: value for key, value in {**settings, **address}.items() if key in known}


def make_connector(name: str, source: str, options: Mapping[str, str], secret: str) -> AnyConnector:
    """A connector on one source; nothing is opened yet.

    Raises `NotFound` (`inventory.connector.unknown`), which names those that exist, `Rejected`
    (`inventory.connector.option-unknown`) for an option that its manifest does not have, and what its `make` raises.
    """
    module = _module(name)
    manifest: ConnectorManifest = module.MANIFEST
    known = {option.name for option in manifest.options}
    if strange := sorted(set(options) - known - _FROM_TARGET):
        raise Rejected(
            "inventory.connector.option-unknown",
            f"the connector `{name}` has no option `{strange[0][:40]}`",
            next_step="it has " + (", ".join(sorted(known)) or "none"),
        )
    if _SECRET_IN_IT.search(source):
        # Before anything says or keeps the source: a scope is shown, stored and in the ledger.
        raise Rejected(
            "inventory.source.unfit",
            "the source cannot be read: it carries a password",
            next_step="leave it out; it comes by --secret-stdin, or the system's usual variable",
        )
    connector: AnyConnector = module.make(source, options, secret)
    return connector


_SECRET_IN_IT: Final = re.compile(
    r":/{1,2}[^/@\s]{0,200}:[^/@\s]{1,4000}@|(?:^|[?&\s])(?:password|passwd|pwd|token|secret|sslpassword)=",
    re.IGNORECASE,
)
"""A URL with a login's password, or a setting that is one."""
_FROM_TARGET: Final = frozenset({"host", "port", "user", "database", "sslmode", "sslrootcert"})
"""Where a registered target is, and as whom it is entered."""


def connector_manifests() -> tuple[ConnectorManifest, ...]:
    """What each connector says of itself."""
    return tuple(_module(name).MANIFEST for name in CATALOG)


def connector_manifest(name: str) -> ConnectorManifest:
    """What one connector says of itself. `NotFound` (`inventory.connector.unknown`)."""
    manifest: ConnectorManifest = _module(name).MANIFEST
    return manifest


def _module(name: str) -> ModuleType:
    if name not in CATALOG:
        raise NotFound(
            "inventory.connector.unknown",
            f"no connector is called `{name[:40]}`",
            next_step="use " + ", ".join(CATALOG),
        )
    return import_module(f"{_HERE}.{CATALOG[name].module}")
