"""What runs here by declaration: services of a compose file, units of systemd.

Spec: Compose specification, "services".
"""

from __future__ import annotations

import posixpath

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import record_settings, settings_of
from remit.inventory.connectors.files.formats import Document, Setting, mapping, sequence, text
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.readers.mcp import redact
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.units import read_unit
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import Autonomy, CredentialKind, IdentityKind, Relation, Severity


def read_compose(sheet: Sheet) -> None:
    """Record each service, its environment and the secrets mounted into it."""
    for document in parse_yaml(sheet.file.data):
        services = mapping(mapping(document.value).get("services"))
        project = text(mapping(document.value).get("name")) or posixpath.basename(sheet.file.directory)
        for label, entry in services.items():
            if isinstance(entry, dict):
                _read_service(sheet, document, project, label)


def _read_service(sheet: Sheet, document: Document, project: str, label: str) -> None:
    root = mapping(document.value)
    entry = mapping(mapping(root.get("services")).get(label))
    line = document.line("services", label)
    at = sheet.file.repository
    scope = f"{at.slug}/{sheet.file.within_repository}" if at and at.slug else sheet.file.path
    service = sheet.identity(
        sheet.name("compose", at.forge if at and at.slug else sheet.file.host, "service", f"{scope}#{label}"),
        IdentityKind.WORKLOAD,
        f"{label} of {project}",
        line=line,
        attributes={"service": label, "image": text(entry.get("image")), "autonomy": Autonomy.AUTONOMOUS.value},
    )
    record_settings(sheet, settings_of(document, "services", label, "environment"), holders=[service])
    _, secrets = redact([text(word) for word in sequence(entry.get("command"))] or text(entry.get("command")).split())
    record_settings(sheet, [Setting("", key, value, line or 1) for key, value in secrets], holders=[service])
    for item in sequence(entry.get("secrets")):
        secret = text(item) or text(mapping(item).get("source"))
        if secret:
            sheet.credential(
                sha256(f"compose:{scope}:{secret}".encode()),
                CredentialKind.SECRET,
                f"compose secret {secret}",
                line=line,
                manager="compose",
                holders=[service],
                attributes={"setting": secret, "reference": True},
            )
    if entry.get("privileged") is True or any(
        "docker.sock" in text(volume) for volume in sequence(entry.get("volumes"))
    ):
        root_account = sheet.account("root")
        sheet.edge(service, Relation.ASSUME, root_account, "privileged, or given the engine's socket", line=line)
        sheet.finding(
            "privileged-container",
            Severity.HIGH,
            f"service {clean(label, 60)} can become root of its host",
            "it is privileged or holds the container engine's socket",
            f"take that away from the service; `remit blast {service}` shows what it reaches",
            subject=service,
            line=line,
        )


COMPOSE = Reader(
    id="compose",
    reads="services of compose files",
    patterns=(Pattern(regex=r"(?:docker-)?compose(?:[.-][\w-]{1,60})?\.ya?ml"),),
    read=read_compose,
)
SYSTEMD = Reader(
    id="systemd",
    reads="units of systemd: as whom they run, which secrets they are given",
    patterns=(
        Pattern(suffixes=(".service", ".socket"), under=("systemd/system", "systemd/user")),
        Pattern(suffixes=(".service",)),
    ),
    read=read_unit,
    system=True,
)
