"""Settings of applications: environment files, properties, and the common configuration files of frameworks."""

from __future__ import annotations

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import flatten, record_settings
from remit.inventory.connectors.files.formats import parse_dotenv, parse_ini, parse_json, parse_toml
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.connectors.files.yamldoc import parse_yaml


def read_dotenv(sheet: Sheet) -> None:
    """Record the secrets of an environment file."""
    record_settings(sheet, parse_dotenv(sheet.file.data))


def read_settings(sheet: Sheet) -> None:
    """Record the secrets of a configuration file, by the format of its name."""
    name, data = sheet.file.name.lower(), sheet.file.data
    if name.endswith(".json"):
        record_settings(sheet, flatten(parse_json(data)))
    elif name.endswith((".yml", ".yaml")):
        for document in parse_yaml(data):
            record_settings(sheet, flatten(document))
    elif name.endswith(".toml"):
        record_settings(sheet, flatten(parse_toml(data)))
    else:
        record_settings(sheet, parse_ini(data))


DOTENV = Reader(
    id="dotenv",
    reads="environment files",
    patterns=(
        Pattern(
            regex=r"\.env(?:[._-][\w.-]{1,60})?|\.envrc|[\w.-]{1,60}\.env|env\.(?:local|prod|production|staging|development)|\.flaskenv|\.dev\.vars"
        ),
        Pattern(names=("environment",), under=("etc", "conf", "config")),
        Pattern(under=("etc/default", "etc/sysconfig", "etc/conf.d")),
    ),
    read=read_dotenv,
)
SETTINGS = Reader(
    id="settings",
    reads="configuration files of frameworks that usually hold connection strings",
    patterns=(
        Pattern(
            regex=r"appsettings(?:\.[\w-]+)?\.json|(?:application|bootstrap)(?:-[\w-]+)?\.(?:ya?ml|properties)|database\.(?:ya?ml|properties|ini)|"
            r"(?:secrets?|credentials|passwords?)(?:[._-][\w-]+)?\.(?:ya?ml|json|toml|ini|properties|conf)|local\.settings\.json|"
            r"alembic\.ini|pgbouncer\.ini|odbc\.ini|redis\.conf|.*\.tfvars|parameters\.ya?ml|settings\.(?:toml|ya?ml)|config\.(?:ya?ml|toml|ini)"
        ),
    ),
    read=read_settings,
)
