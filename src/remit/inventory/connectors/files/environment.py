"""Settings as programs get them: names and values, in a dotenv file, a compose file, a unit, an MCP server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from remit.inventory.connectors.files import values
from remit.inventory.connectors.files.dsn import dsn_of, find_dsns, parse_conninfo
from remit.inventory.connectors.files.formats import Document, Path, Setting, Tree
from remit.inventory.connectors.files.keys import pem_blocks
from remit.inventory.connectors.files.pem import record_block
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.model import CredentialKind
from remit.kernel.ids import Name

_PASSWORD = re.compile(r"(.*?)_?(?:PASSWORD|PASSWD|PASS|PWD|PASSWORD_FILE)$")
_ENGINES = {
    "PG": "postgres", "POSTGRES": "postgres", "POSTGRESQL": "postgres", "MYSQL": "mysql", "MARIADB": "mysql",
    "REDIS": "redis", "RABBITMQ": "rabbitmq", "AMQP": "rabbitmq", "MONGO": "mongodb", "MONGODB": "mongodb",
    "LDAP": "ldap", "SMTP": "smtp", "CLICKHOUSE": "clickhouse",
}  # fmt: skip
_PORTS = {"5432": "postgres", "3306": "mysql", "6379": "redis", "5672": "rabbitmq", "27017": "mongodb"}


def record_settings(sheet: Sheet, settings: Iterable[Setting], *, holders: Iterable[Name] = ()) -> list[Name]:
    """Record every secret among `settings`, tied to the login that its neighbours name; answers the credentials."""
    listed = list(settings)
    by_name = {setting.key.upper().replace("-", "_").replace(".", "_"): setting.value for setting in listed}
    held = tuple(holders)
    found = [_record(sheet, setting, by_name, held) for setting in listed]
    return [node for node in found if node is not None]


def _record(sheet: Sheet, setting: Setting, by_name: Mapping[str, str], holders: tuple[Name, ...]) -> Name | None:
    key, value, line = setting.key, setting.value, setting.line
    if "PRIVATE KEY-----" in value:
        for block in pem_blocks(value.encode("utf-8", "replace")):
            return record_block(sheet, block, line=line, holders=holders, setting=key)
    recorded: Name | None = None
    for dsn in find_dsns(value):
        _, node = sheet.dsn(dsn, key, line=line, holders=holders)
        recorded = recorded or node
    if recorded is not None or "://" in value:
        return recorded
    if conninfo := parse_conninfo(value):
        return sheet.dsn(conninfo, key, line=line, holders=holders)[1]
    known = values.recognise(value)
    if known and known.kind is CredentialKind.ACCESS_KEY:
        return record_aws_key(sheet, value, by_name.get("AWS_SECRET_ACCESS_KEY", ""), line=line, holders=holders)
    if key.upper() == "AWS_SECRET_ACCESS_KEY" and values.recognise(by_name.get("AWS_ACCESS_KEY_ID", "")):
        return None  # recorded with its id
    if not known and not values.is_secret_name(key):
        return None
    if (login := _login(key, by_name)) and value:
        system, host, port, user, database = login
        dsn = dsn_of(system, host=host, port=port, user=user, password=value, database=database)
        return sheet.dsn(dsn, key, line=line, holders=holders)[1]
    return sheet.secret(key, value, line=line, holders=holders)


def _login(key: str, by_name: Mapping[str, str]) -> tuple[str, str, str, str, str] | None:
    """System, host, port, user and database that stand beside a password of the same prefix."""
    match = _PASSWORD.match(key.upper().replace("-", "_").replace(".", "_"))
    if not match:
        return None
    prefix = match.group(1)

    def beside(*suffixes: str) -> str:
        joined = (by_name.get(prefix + glue + suffix, "") for suffix in suffixes for glue in ("_", ""))
        return next((value for value in joined if value and not values.is_placeholder(f"{value}..")), "")

    if "=" in (dn := beside("DN") or (beside("BIND_DN", "BINDDN") if "LDAP" in prefix else "")):
        return _directory(prefix.removesuffix("BIND").rstrip("_"), dn, by_name)
    user, host, port = beside("USER", "USERNAME", "LOGIN"), beside("HOST", "HOSTNAME", "SERVER", "ADDR"), beside("PORT")
    system = next((_ENGINES[part] for part in prefix.split("_") if part in _ENGINES), None) or _PORTS.get(port)
    if system is None and prefix in {"DB", "DATABASE"}:
        system = _ENGINES.get(
            beside("CONNECTION", "ENGINE", "TYPE", "DRIVER", "DIALECT").upper().removeprefix("DJANGO.DB.BACKENDS.")
        )
    if system is None or not (user or system == "redis"):
        return None
    return system, host, port, user or "default", beside("DB", "DATABASE", "NAME", "DBNAME")


def _directory(prefix: str, dn: str, by_name: Mapping[str, str]) -> tuple[str, str, str, str, str] | None:
    """The login of a directory: the name with which it is bound, and where, by a URL or by host and port."""

    def said(*suffixes: str) -> str:
        return next((value for each in suffixes if (value := by_name.get(f"{prefix}_{each}", ""))), "")

    try:
        place = urlsplit(said("URL", "URI", "SERVER_URI", "SERVER"))
        host, port = place.hostname or "", place.port
    except ValueError:
        return None
    usual = "636" if place.scheme == "ldaps" else ""
    return "ldap", host or said("HOST", "HOSTNAME"), str(port or "") or said("PORT") or usual, dn, ""


def record_aws_key(
    sheet: Sheet,
    key_id: str,
    secret: str,
    *,
    line: int | None = None,
    holders: Iterable[Name] = (),
    profile: str = "",
) -> Name | None:
    """Record an AWS access key by its id, which is public; the account is read from the id."""
    if values.is_placeholder(key_id) or "EXAMPLE" in key_id:
        return None
    attributes: dict[str, str] = {"profile": profile} if profile else {}
    if secret and not values.is_placeholder(secret):
        sheet.hide(secret)
        attributes["secret_fingerprint"] = sheet.fingerprint(secret.encode("utf-8", "replace"))
    return sheet.secret(
        "aws_access_key_id",
        key_id,
        line=line,
        kind=CredentialKind.ACCESS_KEY,
        title=f"AWS access key {key_id}",
        holders=holders,
        attributes=attributes,
    )


def flatten(document: Document, *, base: Path = ()) -> Iterator[Setting]:
    """Every text in a document as a setting, named by the keys that lead to it."""
    pending: list[tuple[Path, Tree]] = [((), document.value)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, dict):
            pending.extend(((*path, key), child) for key, child in reversed(node.items()))
        elif isinstance(node, list):
            pending.extend(((*path, index), child) for index, child in reversed(list(enumerate(node))))
        elif isinstance(node, str):
            key = "_".join(str(part) for part in path if isinstance(part, str))
            yield Setting("", key, node, document.line(*base, *path) or 1)


def settings_of(document: Document, *path: str | int) -> list[Setting]:
    """The environment declared at `path`: a mapping of names to values, or a list of `NAME=value`."""
    node: Tree = document.value
    for step in path:
        if isinstance(node, dict) and isinstance(step, str):
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            return []
    if isinstance(node, dict):
        return [
            Setting("", key, value, document.line(*path, key) or 1)
            for key, value in node.items()
            if isinstance(value, str)
        ]
    pairs = [
        (index, *item.partition("="))
        for index, item in enumerate(node if isinstance(node, list) else [])
        if isinstance(item, str)
    ]
    return [Setting("", key, value, document.line(*path, index) or 1) for index, key, _, value in pairs]
