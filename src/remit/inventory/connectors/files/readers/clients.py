"""Logins that clients of registries and forges keep in a home.

Spec: docker "config.json"; npm "npmrc"; Python "pypirc", pip "Authentication"; netrc(5); git-credential-store(1);
Terraform "CLI configuration"; gh.
"""

from __future__ import annotations

import base64
import re

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.dsn import find_dsns
from remit.inventory.connectors.files.environment import record_settings
from remit.inventory.connectors.files.formats import Setting, decode, mapping, parse_ini, parse_json, text
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import CredentialKind, IdentityKind
from remit.kernel.ids import Name

MAX_LINES = 20_000


def login(sheet: Sheet, system: str, host: str, user: str, *, line: int | None = None) -> Name | None:
    """The login `user` at a registry or forge; `None` when the user is not named or is a filler."""
    if not user or user.lower() in {
        "__token__",
        "oauth2accesstoken",
        "oauth2",
        "x-access-token",
        "x-token-auth",
        "oauth",
        "_json_key",
        "token",
    }:
        return None
    of = sheet.name(system, host, "user", user)
    return sheet.identity(
        of, IdentityKind.SERVICE_ACCOUNT, f"{user} at {host}", line=line, attributes={"host": host, "user": user}
    )


def forge_of(host: str) -> str:
    """The system's name of a forge, as names have it."""
    return next((kind for kind in ("github", "gitlab", "bitbucket") if kind in host), "git")


def read_docker(sheet: Sheet) -> None:
    """Record registry logins; where a helper keeps them, there is nothing to find."""
    document = parse_json(sheet.file.data)
    for registry, entry in mapping(mapping(document.value).get("auths")).items():
        line = document.line("auths", registry)
        user, password = text(mapping(entry).get("username")), text(mapping(entry).get("password"))
        if auth := text(mapping(entry).get("auth")):
            try:
                user, _, password = base64.b64decode(auth).decode("utf-8", "replace").partition(":")
            except ValueError:
                sheet.skip("malformed", "a login that is no base64")
                continue
            sheet.hide(auth)
        host = registry.removeprefix("https://").removeprefix("http://").partition("/")[0]
        token = text(mapping(entry).get("identitytoken"))
        who = login(sheet, "docker", host, user, line=line)
        for value in (password, token):
            if value:
                sheet.secret(
                    host,
                    value,
                    line=line,
                    identity=who,
                    kind=CredentialKind.PASSWORD,
                    attributes={"registry": host},
                )


_NPM = re.compile(r"(?://(?P<host>[^/:\s]+)[^:=\s]*:)?(?P<key>_authToken|_auth|_password)$")


def read_npm(sheet: Sheet) -> None:
    """Record registry tokens and passwords."""
    for setting in parse_ini(sheet.file.data, separators="="):
        found = _NPM.match(setting.key)
        if found:
            host = found.group("host") or "registry.npmjs.org"
            sheet.secret(
                host,
                setting.value,
                line=setting.line,
                kind=CredentialKind.TOKEN,
                attributes={"registry": host},
            )
        else:
            record_settings(sheet, [setting])


def read_pypi(sheet: Sheet) -> None:
    """Record upload logins of Python indexes."""
    sections: dict[str, dict[str, Setting]] = {}
    for setting in parse_ini(sheet.file.data):
        sections.setdefault(setting.section, {})[setting.key.lower()] = setting
    for section, settings in sections.items():
        url = settings["repository"].value if "repository" in settings else section
        host = url.partition("://")[2].partition("/")[0] or section
        if password := settings.get("password"):
            user = settings["username"].value if "username" in settings else ""
            who = login(sheet, "pypi", host, user, line=password.line)
            sheet.secret(host, password.value, line=password.line, identity=who, attributes={"registry": host})


def read_urls(sheet: Sheet) -> None:
    """Record logins inside URLs: pip's and uv's indexes, git's credential store, remotes, Terraform."""
    for number, line in enumerate(decode(sheet.file.data).splitlines()[:MAX_LINES], 1):
        if "://" not in line:
            continue
        for dsn in find_dsns(line):
            if dsn.system == "ssh" and not dsn.password:
                continue
            if dsn.system != "http":
                sheet.dsn(dsn, "URL", line=number)
                continue
            from_git = sheet.file.name in {".git-credentials", "config", ".gitconfig", ".gitmodules", "credentials"}
            system = forge_of(dsn.host) if from_git or "git" in dsn.host else "http"
            user, secret = (dsn.user, dsn.password) if dsn.password else ("", dsn.user)
            if not dsn.password and len(secret) < 20:
                continue  # a plain user name, no token
            who = login(sheet, system, dsn.host, user, line=number)
            sheet.secret(dsn.host, secret, line=number, identity=who, attributes={"host": dsn.host, "user": user})


def read_git_config(sheet: Sheet) -> None:
    """Record logins in remotes, and headers that carry one (`http.extraHeader`)."""
    read_urls(sheet)
    for setting in parse_ini(sheet.file.data, separators="="):
        if setting.key.lower() == "extraheader" and "authorization" in setting.value.lower():
            scheme, _, value = setting.value.partition(":")[2].strip().partition(" ")
            sheet.hide(value)
            if scheme.lower() == "basic":
                try:
                    value = base64.b64decode(value).decode("utf-8", "replace").partition(":")[2] or value
                except ValueError:
                    pass
            sheet.secret("http.extraHeader", value, line=setting.line, kind=CredentialKind.TOKEN)


_NETRC = re.compile(r"\b(machine|default|login|account|password|macdef)\b(?:\s+(\S+))?")


def read_netrc(sheet: Sheet) -> None:
    """Record each machine's login."""
    host, user = "", ""
    for number, line in enumerate(decode(sheet.file.data).splitlines()[:MAX_LINES], 1):
        if line.lstrip().startswith("#"):
            continue
        words = line.split()
        at = 0
        while at < len(words):
            value = words[at + 1] if at + 1 < len(words) else ""
            match words[at]:
                case "machine":
                    host, user, at = value.lower(), "", at + 1
                case "default":
                    host, user = "default", ""
                case "login":
                    user, at = value, at + 1
                case "password":
                    at += 1
                    who = login(
                        sheet, forge_of(host) if "git" in host else "http", host or "default", user, line=number
                    )
                    sheet.secret(host, value, line=number, identity=who, attributes={"host": host, "user": user})
            at += 1


_TERRAFORM = re.compile(r'credentials\s+"([^"]{1,200})"\s*\{[^}]{0,2000}?token\s*=\s*"([^"]{1,2000})"', re.DOTALL)


def read_terraform(sheet: Sheet) -> None:
    """Record the tokens of Terraform's command line, in its own language or JSON."""
    if sheet.file.name.endswith(".json"):
        document = parse_json(sheet.file.data)
        for host, entry in mapping(mapping(document.value).get("credentials")).items():
            sheet.secret(
                host,
                text(mapping(entry).get("token")),
                line=document.line("credentials", host),
                kind=CredentialKind.TOKEN,
            )
        return
    source = decode(sheet.file.data)
    for found in _TERRAFORM.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        sheet.secret(
            found.group(1),
            found.group(2),
            line=line,
            kind=CredentialKind.TOKEN,
            attributes={"host": found.group(1)},
        )


def read_gh(sheet: Sheet) -> None:
    """Record the tokens of GitHub's command line, by host and user."""
    for document in parse_yaml(sheet.file.data):
        for host, entry in mapping(document.value).items():
            users = {text(mapping(entry).get("user")): mapping(entry)} | {
                user: mapping(value) for user, value in mapping(mapping(entry).get("users")).items()
            }
            for user, values in users.items():
                if token := text(values.get("oauth_token")):
                    who = login(sheet, forge_of(host), host, user, line=document.line(host))
                    sheet.secret(
                        host,
                        token,
                        line=document.line(host, "oauth_token"),
                        identity=who,
                        kind=CredentialKind.TOKEN,
                    )


DOCKER = Reader(
    id="docker-config",
    reads="registry logins of Docker and Podman",
    read=read_docker,
    patterns=(
        Pattern(names=("config.json",), under=(".docker", "docker", "kaniko/.docker")),
        Pattern(names=("auth.json",), under=("containers", ".config/containers")),
        Pattern(names=(".dockerconfigjson", ".dockercfg")),
    ),
)
NPM = Reader(id="npm", reads="npm registry tokens", read=read_npm, patterns=(Pattern(names=(".npmrc", "npmrc")),))
PYPI = Reader(
    id="pypi", reads="upload logins of Python indexes", read=read_pypi, patterns=(Pattern(names=(".pypirc",)),)
)
URLS = Reader(
    id="urls",
    reads="logins in URLs of pip, uv, git and package managers",
    read=read_urls,
    patterns=(
        Pattern(names=("pip.conf", "pip.ini", "uv.toml", "poetry.toml", "pipfile", ".condarc", "bunfig.toml")),
        Pattern(names=(".git-credentials", ".gitmodules", "requirements.txt", "sources.list", ".curlrc", ".wgetrc")),
        Pattern(names=("credentials",), under=("git",)),
        Pattern(suffixes=(".list", ".sources"), under=("etc/apt/sources.list.d",)),
    ),
)
GIT = Reader(
    id="git-config",
    reads="logins in git remotes and headers",
    read=read_git_config,
    patterns=(
        Pattern(names=(".gitconfig",)),
        Pattern(names=("config",), under=(".git", "git")),
        Pattern(names=("gitconfig",), under=("etc",)),
    ),
)
NETRC = Reader(
    id="netrc",
    reads="netrc logins",
    read=read_netrc,
    patterns=(Pattern(names=(".netrc", "_netrc", ".authinfo")), Pattern(under=("etc/apt/auth.conf.d",))),
)
TERRAFORM = Reader(
    id="terraform-cli", reads="tokens of Terraform's command line", read=read_terraform,
    patterns=(Pattern(names=(".terraformrc", "terraform.rc", ".tofurc", "credentials.tfrc.json")),),
)  # fmt: skip
GH = Reader(
    id="github-cli",
    reads="tokens of GitHub's command line",
    read=read_gh,
    patterns=(Pattern(names=("hosts.yml",), under=("gh",)),),
)

READERS = (DOCKER, NPM, PYPI, URLS, GIT, NETRC, TERRAFORM, GH)
