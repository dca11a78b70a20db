"""What runs here by declaration: services of a compose file, units of systemd.

Spec: Compose specification, "services"; systemd.exec(5), "Credentials", "User/Group Identity".
"""

from __future__ import annotations

import posixpath

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import record_settings, settings_of
from remit.inventory.connectors.files.formats import Document, Setting, mapping, parse_dotenv, parse_ini, sequence, text
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.readers.mcp import redact
from remit.inventory.connectors.files.record import Role
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import Autonomy, CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name


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


def read_unit(sheet: Sheet) -> None:
    """Record a unit as a workload: as whom it runs, and what secrets it is given."""
    settings = parse_ini(sheet.file.data, separators="=")
    service = [setting for setting in settings if setting.section in {"Service", "Socket"}]
    user = next((setting for setting in service if setting.key == "User"), None)
    given = [
        setting
        for setting in service
        if setting.key in {"LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"}
    ]
    environment = [pair for setting in service if setting.key == "Environment" for pair in _pairs(setting)]
    files = [setting for setting in service if setting.key == "EnvironmentFile"]
    shipped = sheet.file.role is Role.VENDOR
    if not any(setting.key == "ExecStart" for setting in service) and not (user or given or environment):
        return
    if shipped and user is None and not given:
        return  # the distribution's own, running as root: the platform, no identity of anybody's
    label = (
        sheet.file.name if not sheet.file.directory.endswith(".d") else posixpath.basename(sheet.file.directory)[:-2]
    )
    unit = sheet.identity(
        sheet.name("host", sheet.file.host, "unit", label),
        IdentityKind.WORKLOAD,
        label,
        attributes={
            "service": label.partition(".")[0].partition("@")[0], "autonomy": Autonomy.AUTONOMOUS.value,
            "purpose": next((setting.value for setting in settings if setting.key == "Description"), ""),
            "environment_files": ", ".join(setting.value for setting in files)[:200],
        },
    )  # fmt: skip
    account = user.value if user and user.value and "%" not in user.value else "" if user else "root"
    if account:
        sheet.edge(
            unit,
            Relation.RUNS_AS,
            sheet.account(account),
            f"User={account}" if user else "no User=",
            line=user.line if user else None,
        )
    record_settings(sheet, environment, holders=[unit])
    for setting in given:
        _credential(sheet, unit, setting)


def _pairs(setting: Setting) -> list[Setting]:
    text_of = setting.value.replace('"', "\n").encode()
    if "\n" not in text_of.decode():
        text_of = setting.value.replace(" ", "\n").encode()
    return [Setting("", pair.key, pair.value, setting.line) for pair in parse_dotenv(text_of)]


def _credential(sheet: Sheet, unit: Name, setting: Setting) -> None:
    label, _, value = setting.value.partition(":")
    if setting.key == "SetCredential":
        sheet.secret(label, value, line=setting.line, holders=[unit])
        return
    sheet.credential(
        sha256(f"systemd:{sheet.file.host}:{label}:{value if setting.key == 'LoadCredential' else ''}".encode()),
        CredentialKind.SECRET,
        f"credential {label} of {sheet.file.name}",
        line=setting.line,
        manager="systemd",
        holders=[unit],
        attributes={"setting": label, "encrypted": setting.key.endswith("Encrypted"), "reference": True},
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
