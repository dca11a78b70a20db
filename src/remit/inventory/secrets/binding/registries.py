"""Package and container registries: PyPI's macaroon, npm, Docker logins.

Spec: pypi/warehouse "Macaroon caveats"; libmacaroons, format 2; npm "About access tokens"; docker "config.json".
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import urlsplit

from remit.inventory.connectors.files.values import has_valid_checksum
from remit.inventory.model import Attribute, CredentialKind
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, Subject, known, moment, subject
from remit.kernel.ids import name

_NPM_LINE = re.compile(r"//([\w.-]{1,200})(?::\d+)?/[^\s=]{0,200}:(_authToken|_password|_auth)\s*=\s*\"?$")
_TOKEN_USERS = frozenset(
    {"__token__", "oauth2accesstoken", "oauth2", "_json_key", "token", "00000000-0000-0000-0000-000000000000", "aws"}
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def bind(seen: Seen) -> Binding | None:
    """A token of PyPI, npm, Docker Hub, or a login in a registry's configuration."""
    value = seen.value
    if value.startswith("pypi-") and len(value) > 40:
        return _pypi(value)
    if re.fullmatch(r"npm_[A-Za-z0-9]{36}", value):
        return _npm(seen, "pass" if has_valid_checksum(value) else "fail")
    if re.fullmatch(r"dckr_(?:pat|oat)_[\w-]{20,60}", value):
        return _hub(seen, value)
    if _npm_host(seen):
        return _npm(seen, "")
    return _docker(seen)


def _pypi(token: str) -> Binding:
    """A macaroon: where it is good, which token it is, and to which projects and time it is bound."""
    body = token.removeprefix("pypi-")
    location, identifier, caveats = _macaroon(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    location = location or "pypi.org"
    text = identifier.decode("utf-8", "replace")
    uuid = found.group() if (found := _UUID.search(text)) else ""
    about: dict[str, Attribute] = {"registry": location, "token_id": uuid}
    expires = None
    for raw in caveats[:50]:
        try:
            caveat = json.loads(raw)
        except ValueError:
            continue
        match caveat:
            case [0, int(end), int(_)] | [0, int(end)]:
                expires = moment(end)
            case [1, [*projects]]:
                about["projects"] = ", ".join(str(each) for each in projects[:10])
            case [2, [*projects]]:
                about["project_ids"] = ", ".join(str(each) for each in projects[:10])
            case [3, str(user)]:
                about["user_id"] = user
            case {"permissions": {"projects": [*projects]}}:
                about["projects"] = ", ".join(str(each) for each in projects[:10])
            case {"permissions": "user"}:
                about["scope"] = "user"
            case _:
                continue
    return Binding(
        provider="pypi",
        method="macaroon's identifier",
        what="PyPI token",
        kind=CredentialKind.TOKEN,
        subject=subject("pypi", location, "token", uuid, title=f"PyPI token {uuid[:8]}") if uuid else None,
        reached=tuple(
            Reached(name=name("pypi", location, "project", each), kind="package", title=each)
            for each in str(about.get("projects", "")).split(", ")
            if each
        ),
        expires=expires,
        attributes=known(about),
    )


def _macaroon(data: bytes) -> tuple[str, bytes, list[bytes]]:
    """Location, identifier and first-party caveats of a macaroon in the binary form 2."""
    if data[:1] != b"\x02":
        raise ValueError("no macaroon of form 2")
    at, location, identifier, section = 1, "", b"", 0
    caveats: list[bytes] = []
    while at < len(data) and len(caveats) < 100:
        kind, at = data[at], at + 1
        if kind == 0:
            section += 1
            if section > 1 and data[at : at + 1] == b"\x00":
                break
            continue
        length, at = _varint(data, at)
        packet, at = data[at : at + length], at + length
        if kind == 6:
            break
        if section == 0 and kind == 1:
            location = packet.decode("ascii", "replace")
        elif kind == 2:
            if section == 0:
                identifier = packet
            else:
                caveats.append(packet)
    return location[:200], identifier, caveats


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 35:
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise ValueError("a length that does not end")


def _npm_host(seen: Seen) -> str:
    before = seen.around.partition(seen.value)[0] if seen.value else ""
    found = _NPM_LINE.search(before[-500:])
    return found.group(1).lower() if found else ""


def _npm(seen: Seen, checksum: str) -> Binding:
    host = _npm_host(seen) or "registry.npmjs.org"
    return Binding(
        provider="npm",
        method="registry beside the token",
        what="npm token",
        kind=CredentialKind.TOKEN,
        reached=(Reached(name=name("npm", host, "registry", host), kind="package-registry", title=host),),
        attributes={"registry": host, "checksum": checksum, "class": "granular or automation" if checksum else ""},
    )


def _hub(seen: Seen, value: str) -> Binding:
    user = seen.part("user", "username")
    return Binding(
        provider="docker",
        method="login beside the token" if user else "prefix",
        what="Docker Hub organisation token" if value.startswith("dckr_oat") else "Docker Hub token",
        kind=CredentialKind.TOKEN,
        subject=docker_user("index.docker.io", user),
        attributes={"registry": "index.docker.io", "user": user},
    )


def docker_user(registry: str, user: str) -> Subject | None:
    """A login at a registry as the files connector names it; `None` for the fillers that precede a token."""
    if not user or user.lower() in _TOKEN_USERS:
        return None
    return subject("docker", registry, "user", user, title=f"{user} at {registry}",
                   attributes={"host": registry, "user": user})  # fmt: skip


def _docker(seen: Seen) -> Binding | None:
    """An entry of `auths` in a Docker configuration, whichever of its two forms was found."""
    if '"auths"' not in seen.around and not seen.hit.rule.startswith("docker"):
        return None
    wanted = seen.hit.value.strip()
    for registry, user, password in _auths(seen):
        if wanted in (password, f"{user}:".encode() + password, base64.b64encode(f"{user}:".encode() + password)):
            return Binding(
                provider="docker",
                method="registry of the configuration's entry",
                what=f"registry password of {user[:60] or 'a token'} at {registry[:100]}",
                kind=CredentialKind.PASSWORD,
                secret=password,
                subject=docker_user(registry, user),
                attributes={"registry": registry, "user": user},
            )
    return None


def _auths(seen: Seen) -> list[tuple[str, str, bytes]]:
    """Registry, user and password of each entry near the hit."""
    found = []
    entry = re.compile(r'"([^"\s]{1,300})"\s*:\s*\{([^{}]{1,4000})\}')
    for registry, body in entry.findall(seen.around)[:100]:
        fields = dict(re.findall(r'"(auth|username|password|identitytoken)"\s*:\s*"([^"]*)"', body))
        user, password = fields.get("username", ""), fields.get("password", "").encode()
        if auth := fields.get("auth"):
            try:
                name_, _, secret = base64.b64decode(auth).partition(b":")
            except ValueError:
                continue
            user, password = name_.decode("utf-8", "replace"), secret
        host = urlsplit(registry).hostname if "://" in registry else registry.partition("/")[0]
        if password and host:
            found.append((host, user, password))
    return found
