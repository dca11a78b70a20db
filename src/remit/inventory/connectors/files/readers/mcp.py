"""MCP client configurations: which agent may use which tools, started how, with whose credentials.

Spec: Model Context Protocol, "Connect to local MCP servers" (`mcpServers`); VS Code (`servers`); Zed.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.dsn import find_dsns
from remit.inventory.connectors.files.environment import record_settings, settings_of
from remit.inventory.connectors.files.formats import (
    Document,
    Setting,
    Tree,
    mapping,
    parse_json,
    parse_toml,
    sequence,
    text,
)
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.values import is_placeholder, is_secret_name, recognise
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import Autonomy, IdentityKind, Relation, Severity
from remit.kernel.ids import Name

_CLIENTS = {
    "claude_desktop_config.json": "Claude Desktop", ".claude.json": "Claude Code", "mcp_config.json": "Windsurf",
    "cline_mcp_settings.json": "Cline", "mcp_settings.json": "Roo Code", "config.toml": "Codex",
}  # fmt: skip
_DIRECTORIES = {
    ".cursor": "Cursor", ".vscode": "VS Code", ".windsurf": "Windsurf", ".gemini": "Gemini", "zed": "Zed",
    ".amazonq": "Amazon Q", "goose": "Goose", ".continue": "Continue", ".roo": "Roo Code", ".codex": "Codex",
    ".claude": "Claude Code", ".kiro": "Kiro",
}  # fmt: skip
_ROOTS = ("mcpServers", "servers", "context_servers", "mcp_servers", "extensions")


def read(sheet: Sheet) -> None:
    """Record the agent, each server that it may use, and the credentials that come with them."""
    document = _parse(sheet)
    root = mapping(document.value)
    tables: list[tuple[str, ...]] = [(key,) for key in _ROOTS if isinstance(root.get(key), dict)]
    tables += [("mcp", "servers")] if isinstance(mapping(root.get("mcp")).get("servers"), dict) else []
    for project, entry in mapping(root.get("projects")).items():  # `.claude.json` keeps those of each project
        if isinstance(mapping(entry).get("mcpServers"), dict):
            tables.append(("projects", project, "mcpServers"))
    agent: Name | None = None
    for table in tables:
        for label, entry in _at(root, table).items():
            if isinstance(entry, dict) and {"command", "cmd", "url", "serverUrl", "httpUrl", "uri"} & entry.keys():
                agent = agent or _agent(sheet)
                _read_server(sheet, document, (*table, label), label, entry, agent)


def _parse(sheet: Sheet) -> Document:
    if sheet.file.name.endswith(".toml"):
        return parse_toml(sheet.file.data)
    if sheet.file.name.endswith((".yml", ".yaml")):
        return (parse_yaml(sheet.file.data) or [Document(None)])[0]
    return parse_json(sheet.file.data)


def _at(root: Mapping[str, Tree], path: tuple[str, ...]) -> Mapping[str, Tree]:
    node: Mapping[str, Tree] = root
    for step in path:
        node = mapping(node.get(step))
    return node


def _agent(sheet: Sheet) -> Name:
    client = _DIRECTORIES.get(posixpath.basename(sheet.file.directory)) or _CLIENTS.get(sheet.file.name, "MCP client")
    repository = sheet.file.repository
    if repository and repository.slug:
        of = sheet.name(
            repository.system, repository.forge, "agent", f"{repository.slug}/{sheet.file.within_repository}"
        )
        title = f"{client} in {repository.slug}"
    else:
        of = sheet.name("host", sheet.file.host, "agent", f"{sheet.file.account}/{client}")
        title = f"{client} of {sheet.file.account}"
    agent = sheet.identity(
        of,
        IdentityKind.AI_AGENT,
        title,
        attributes={"autonomy": Autonomy.AUTONOMOUS.value, "client": client, "purpose": "uses tools over MCP"},
    )
    sheet.edge(agent, Relation.RUNS_AS, sheet.account(), "the client runs as the account that configured it")
    return agent


def _read_server(
    sheet: Sheet, document: Document, path: tuple[str, ...], label: str, entry: Mapping[str, Tree], agent: Name
) -> None:
    line = document.line(*path)
    url = text(entry.get("url") or entry.get("serverUrl") or entry.get("httpUrl") or entry.get("uri"))
    command = text(entry.get("command") or entry.get("cmd"))
    server = _remote(sheet, label, url, line) if url else _local(sheet, document, path, label, command, entry, line)
    sheet.edge(
        agent,
        Relation.ASSUME,
        server,
        f"MCP server {label}",
        line=line,
        cut=f"remove {clean(label, 60)} from {sheet.file.path}",
    )
    holders = [agent, server]
    for table in ("env", "environment", "env_vars"):
        record_settings(sheet, settings_of(document, *path, table), holders=holders)
    for table in ("headers", "http_headers"):
        _headers(sheet, settings_of(document, *path, table), holders)
    for key in ("bearer_token", "apiKey", "api_key", "token", "authToken"):
        if value := text(entry.get(key)):
            sheet.secret(key, value, line=line, holders=holders)


def _headers(sheet: Sheet, headers: list[Setting], holders: list[Name]) -> None:
    for header in headers:
        scheme, _, credential = header.value.partition(" ")
        value = credential or scheme
        if (
            header.key.lower() in {"authorization", "proxy-authorization"}
            or is_secret_name(header.key)
            or recognise(value)
        ):
            sheet.secret(header.key, value, line=header.line, holders=holders)


def _remote(sheet: Sheet, label: str, url: str, line: int | None) -> Name:
    try:
        parts = urlsplit(url)
        host, where = (parts.hostname or "unknown"), parts.path
        query = parts.query
    except ValueError:
        host, where, query = "unknown", "", ""
    # A path can carry a key (`/sse/<key>`): only its plain words are shown.
    shown = "/".join(
        part if re.fullmatch(r"[a-z][a-z0-9_-]{0,24}", part) and not re.search(r"\d{4}", part) else "…"
        for part in where.split("/")
        if part
    )
    server = sheet.identity(
        sheet.name("mcp", host, "server", shown or "/"),
        IdentityKind.VENDOR,
        f"MCP server {label} at {host}",
        line=line,
        attributes={"url": f"{host}/{shown}", "transport": "http", "encrypted": not url.startswith("http://")},
    )
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if is_secret_name(key) or recognise(value):
            sheet.secret(key, value, line=line, holders=[server])
    for hidden in where.split("/"):
        if hidden not in shown.split("/") and (recognise(hidden) or looks_random(hidden)):
            sheet.secret("URL path", hidden, line=line, holders=[server])
    for dsn in find_dsns(url):
        sheet.dsn(dsn, "URL", line=line, holders=[server])
    return server


def _local(
    sheet: Sheet,
    document: Document,
    path: tuple[str, ...],
    label: str,
    command: str,
    entry: Mapping[str, Tree],
    line: int | None,
) -> Name:
    of = sheet.name("mcp", sheet.file.host, "server", f"{sheet.file.path}#{label}")
    words = [text(word) for word in sequence(entry.get("args"))]
    shown, secrets = redact([command, *words])
    server = sheet.identity(
        of,
        IdentityKind.WORKLOAD,
        f"MCP server {label}",
        line=line,
        attributes={"command": " ".join(shown), "transport": "stdio", "autonomy": Autonomy.AUTONOMOUS.value},
    )
    sheet.edge(server, Relation.RUNS_AS, sheet.account(), "the client starts it as its own account", line=line)
    for key, value in secrets:
        dsns = list(find_dsns(value))
        for dsn in dsns:
            sheet.dsn(dsn, key, line=line, holders=[server])
        if not dsns:
            sheet.secret(key, value, line=line, holders=[server])
    _unpinned(sheet, server, label, [command, *words], line)
    return server


_FLAG = re.compile(r"(--?[A-Za-z][\w-]{0,60})(?:=(.*))?", re.DOTALL)
_PLAIN = re.compile(r"[@./~\w:+-]{0,200}")


def redact(words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """What of a command line can be shown, and the (setting, value) pairs in it that may be secrets."""
    shown: list[str] = []
    secrets: list[tuple[str, str]] = []
    expect = ""
    for word in words[:100]:
        flag = _FLAG.fullmatch(word)
        if expect and not flag:
            secrets.append((expect, word))
            shown.append("…")
            expect = ""
        elif flag:
            name, value = flag.group(1), flag.group(2)
            secret = is_secret_name(name.lstrip("-")) or name in {"-p", "-H", "--header"}
            expect = name.lstrip("-") if secret and value is None else ""
            if value is None:
                shown.append(name)
            elif secret or not _is_plain(value):
                secrets.append((name.lstrip("-"), value))
                shown.append(f"{name}=…")
            else:
                shown.append(word)
        elif _is_plain(word):
            shown.append(word)
        else:
            key, _, value = word.partition("=")
            named = bool(value) and re.fullmatch(r"\w{1,60}", key) is not None
            if named:
                shown.append(f"{key}=…")
                if is_secret_name(key) or recognise(value) or "://" in value:
                    secrets.append((key, value))
            else:
                shown.append("…")
                if recognise(word) or "://" in word or looks_random(word):
                    secrets.append(("argument", word))
    return shown, secrets


def _is_plain(word: str) -> bool:
    return (
        _PLAIN.fullmatch(word) is not None
        and "://" not in word
        and recognise(word) is None
        and not any(map(looks_random, re.split(r"[/@:.]", word)))
    )


def looks_random(word: str) -> bool:
    """True of a run of letters and digits that nobody would type: long, and mixed."""
    body = re.sub(r"[^A-Za-z0-9]", "", word)
    if len(body) < 14 or is_placeholder(word):
        return False
    digits = sum(mark.isdigit() for mark in body)
    changes = sum(_class(a) != _class(b) for a, b in itertools.pairwise(body))
    return (digits >= 2 and changes >= len(body) // 4) or (len(body) >= 24 and digits >= 6) or changes >= len(body) // 3


def _class(mark: str) -> int:
    return 0 if mark.isdigit() else 1 if mark.isupper() else 2


def _unpinned(sheet: Sheet, server: Name, label: str, words: list[str], line: int | None) -> None:
    program = posixpath.basename(words[0]) if words else ""
    if program not in {"npx", "uvx", "bunx", "pipx", "docker", "podman"}:
        return
    package = next((word for word in words[1:] if not word.startswith("-") and word not in {"run", "exec", "dlx"}), "")
    pinned = re.search(r"(?:@|==)v?\d+\.\d+|@sha256:|:v?\d+\.\d+", package)
    if package and not pinned:
        sheet.finding(
            "unpinned-tool",
            Severity.MEDIUM,
            f"MCP server {clean(label, 60)} runs whatever version of its package is newest",
            "a new release runs with the agent's rights the next time that it starts",
            "pin an exact version (`package@1.2.3`) or a digest",
            subject=server,
            line=line,
        )


MCP = Reader(
    id="mcp",
    reads="MCP client configurations: agents, their tools and credentials",
    patterns=(
        Pattern(
            names=(
                "claude_desktop_config.json",
                ".mcp.json",
                "mcp.json",
                ".claude.json",
                "mcp_config.json",
                "cline_mcp_settings.json",
                "mcp_settings.json",
            )
        ),
        Pattern(
            names=("settings.json", "settings.local.json"),
            under=(".gemini", "zed", ".zed", ".vscode", ".claude", "Code/User", "Cursor/User"),
        ),
        Pattern(names=("config.toml",), under=(".codex",)),
        Pattern(names=("config.yaml",), under=("goose", ".continue")),
    ),
    read=read,
)
