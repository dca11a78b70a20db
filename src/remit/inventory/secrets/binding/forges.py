"""Forges: the class stands in the prefix, a checksum at the end, and user and organisation in the URL round it.

Spec: GitHub "GitHub's token formats"; GitLab "Token overview", "Routable tokens"; Atlassian "API tokens".
"""

from __future__ import annotations

import base64
import re
import zlib
from urllib.parse import unquote

from remit.inventory.connectors.files.values import has_valid_checksum
from remit.inventory.model import Attribute, CredentialKind, IdentityKind
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, Subject, subject
from remit.kernel.ids import name

_GITHUB = {
    "ghp_": "personal access token (classic)", "gho_": "OAuth token", "ghu_": "app user token",
    "ghs_": "app installation token", "ghr_": "app refresh token", "github_pat_": "fine-grained token",
}  # fmt: skip
_GITLAB = {
    "glpat-": "personal, project or group access token", "gldt-": "deploy token", "glrt-": "runner token",
    "glrtr-": "runner registration token", "glptt-": "pipeline trigger token", "glcbt-": "CI job token",
    "glsoat-": "SCIM token", "glft-": "feed token", "glimt-": "incoming mail token", "glagent-": "cluster agent token",
    "gloas-": "OAuth application secret", "glffct-": "feature flags client token", "glwt-": "workspace token",
}  # fmt: skip
_MACHINE = frozenset({"ghs_", "gldt-", "glrt-", "glrtr-", "glptt-", "glcbt-", "glsoat-", "glagent-"})
_ROUTABLE = re.compile(r"(gl[a-z]{2,8}-(?:t\d_)?([\w-]{27,300})\.(\w{2}))\.(\w{2})(\w{7})")
_ROUTE = re.compile(r"^([cougptr]):([a-z0-9]{1,32})$", re.MULTILINE)
_ROUTE_NAME = {"c": "cell", "o": "organisation", "u": "user", "g": "group", "p": "project", "t": "token_type"}
_USERLESS = frozenset({"x-access-token", "oauth2", "x-token-auth", "oauth", "git", "token", "gitlab-ci-token"})
_URL = re.compile(r"https?://(?:([^/\s:@]{1,200}):)?$")
_AFTER = re.compile(r"^@([\w.-]{1,200})(?::\d+)?(?:/([\w.~-]{1,200}(?:/[\w.~-]{1,200})*))?")


def bind(seen: Seen) -> Binding | None:
    """A token of GitHub, GitLab, Bitbucket or Atlassian."""
    value = seen.value
    if re.fullmatch(r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{60,250}", value):
        return _github(seen, value)
    if re.fullmatch(r"gl[a-z]{2,8}-[\w.-]{18,320}", value):
        return _gitlab(seen, value)
    if re.fullmatch(r"ATATT3[\w=-]{50,400}", value) or re.fullmatch(r"ATBB[A-Za-z0-9]{24,}[A-F0-9]{8}", value):
        return _atlassian(seen, value)
    return None


def _github(seen: Seen, value: str) -> Binding:
    prefix = "github_pat_" if value.startswith("github_pat_") else value[:4]
    checksum = "" if prefix == "github_pat_" else "pass" if has_valid_checksum(value) else "fail"
    who, reached, host = _login_near(seen, "github")
    return Binding(
        provider="github",
        method="login in the URL" if who else "prefix",
        what=f"GitHub {_GITHUB[prefix]}",
        kind=CredentialKind.TOKEN,
        subject=who,
        reached=reached,
        attributes={"class": prefix, "checksum": checksum, "machine": prefix in _MACHINE, "host": host},
    )


def _gitlab(seen: Seen, value: str) -> Binding | None:
    prefix = value.partition("-")[0] + "-"
    if prefix not in _GITLAB:
        return None
    who, reached, host = _login_near(seen, "gitlab")
    about: dict[str, Attribute] = {"class": prefix, "machine": prefix in _MACHINE, "host": host}
    if route := routing(value):
        about |= route
        if who is None and "user" in route:
            instance = host or "gitlab.com"
            who = subject(
                "gitlab", instance, "user-id", str(route["user"]), title=f"user {route['user']} at {instance}"
            )
    return Binding(
        provider="gitlab",
        method="the token's routing part" if who and "routable" in about else "login in the URL" if who else "prefix",
        what=f"GitLab {_GITLAB[prefix]}",
        kind=CredentialKind.TOKEN,
        subject=who,
        reached=reached,
        attributes=about,
    )


def routing(token: str) -> dict[str, Attribute]:
    """What a routable token says of itself; empty of a token of the older form.

    The payload is base64url of lines `key:value` (numbers in base 36) before random bytes; its length is the second
    last field, in base 36, and the last seven characters are the CRC32 of all before them, in base 36.
    """
    found = _ROUTABLE.fullmatch(token)
    if not found:
        return {}
    clear = token[:-7]
    checksum = "pass" if int(found.group(5), 36) == zlib.crc32(clear.encode()) else "fail"
    payload = found.group(2)
    text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode("latin-1")
    known: dict[str, Attribute] = {"routable": True, "checksum": checksum}
    for key, digits in _ROUTE.findall(text):
        known[_ROUTE_NAME.get(key, key)] = int(digits, 36)
    return known


def _atlassian(seen: Seen, value: str) -> Binding:
    mail = re.search(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,4}", seen.part("user", "email"))
    site = re.search(r"\b([\w-]{1,63})\.atlassian\.net\b", seen.around)
    host = site.group() if site else "atlassian.com"
    if value.startswith("ATATT3") and "=" in value:
        body, _, check = value.rpartition("=")
        checksum = "pass" if f"{zlib.crc32(body.encode()):08X}" == check.upper() else "fail"
    else:
        checksum = "pass" if f"{zlib.crc32(value[:-8].encode()):08X}" == value[-8:] else "fail"
    return Binding(
        provider="atlassian",
        method="login beside the token" if mail else "prefix",
        what="Bitbucket app password" if value.startswith("ATBB") else "Atlassian API token",
        kind=CredentialKind.TOKEN,
        subject=subject("atlassian", host, "user", mail.group(), title=mail.group()) if mail else None,
        attributes={"checksum": checksum, "host": host if site else ""},
    )


def _login_near(seen: Seen, system: str) -> tuple[Subject | None, tuple[Reached, ...], str]:
    """User, repository and host of the URL in which the token stands: `https://user:TOKEN@host/org/app.git`."""
    before, value, after = seen.around.partition(seen.value)
    opening, closing = _URL.search(before[-300:]), _AFTER.match(after[:500])
    user = unquote(opening.group(1) or "") if opening and closing else seen.part("user", "username")
    host = closing.group(1).lower() if opening and closing else seen.part("host").lower()
    slug = (closing.group(2) or "").removesuffix(".git") if opening and closing else ""
    host = host if re.fullmatch(r"[\w.-]{1,200}", host) else ""
    reached: tuple[Reached, ...] = ()
    if value and host and "/" in slug:
        at = name(system, host, "repository", slug)
        reached = (Reached(name=at, kind="repository", title=f"{host}/{slug}"),)
    who = None
    if user and host and user.lower() not in _USERLESS and user != seen.value:
        who = subject(
            system, host, "user", user, of=IdentityKind.SERVICE_ACCOUNT,
            title=f"{user} at {host}", attributes={"host": host, "user": user},
        )  # fmt: skip
    return who, reached, host
