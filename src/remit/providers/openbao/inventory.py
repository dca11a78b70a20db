"""What an OpenBao tells to somebody who only looks: page by page, and `Hidden` for a path that may not be read.

Spec: OpenBao HTTP API, "System Backend", "Identity", "Token", "AppRole", "Databases"; LIST with `after` and `limit`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.openbao.client import require_address
from remit.providers.reading import JsonReader, part

PAGE: Final = 500
MOST: Final = 200_000
"""Names of one list that are read."""
# A policy may be hostile: what is not closed ends with the text, and nothing is looked for twice.
_COMMENT: Final = re.compile(r'("(?:[^"\\\n]|\\.)*"?)|#[^\n]*|//[^\n]*|/\*(?:.*?\*/|.*)', re.S)
_RULE: Final = re.compile(r'path\s+"((?:[^"\\\n]|\\.){0,2000})"\s*\{')
_CAPABILITIES: Final = re.compile(r"capabilities\s*=\s*\[([^\]]{0,2000})\]")
_OLD: Final = {"deny": ("deny",), "read": ("read", "list"), "write": ("create", "read", "update", "delete", "list")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A path that may not be read with our policies, or a list beyond the bound."""

    what: str
    why: str = "not-permitted"


class Reader:
    """One OpenBao, read with one token; for one thread."""

    def __init__(self, address: str, token: str, *, namespace: str = "", ca: str = "") -> None:
        self._address = require_address(address)
        self._namespace = {"x-vault-namespace": namespace} if namespace else {}
        self._ca = ca
        self._http = self._client(token)

    def close(self) -> None:
        self._http.close()

    def log_in(self, mount: str, role_id: str, secret_id: str) -> None:
        """Sign in by AppRole. Raises `Misconfigured` (`inventory.openbao.login`)."""
        body = {"role_id": role_id, "secret_id": secret_id}
        status, said = self._http.ask(f"auth/{part(mount)}/login", method="POST", body=body)
        token = said.get("auth", {}).get("client_token") if isinstance(said, dict) and status == 200 else None
        if not token:
            raise _refused(self._address, status)
        self._http.close()
        self._http = self._client(str(token))

    def instance(self) -> str:
        """The cluster's id; asks whether our token holds. Raises `Misconfigured` (`inventory.openbao.login`)."""
        status, said = self._http.ask("auth/token/lookup-self")
        if status in (401, 403):
            raise _refused(self._address, status)
        _, health = self._http.ask("sys/health?standbyok=true&sealedcode=200&uninitcode=200")
        found = health.get("cluster_id") if isinstance(health, dict) else None
        if status != 200 or not isinstance(said, dict) or not found:
            raise Rejected(
                "inventory.openbao.unfit", f"`{self._address}` is no OpenBao that answers ({status})",
                next_step="check the address, and that it is unsealed",
            )  # fmt: skip
        return str(found)

    def read(self, *path: str) -> Mapping[str, Any] | Hidden | None:
        """The `data` of a path whose segments are `path`; `None` where there is nothing."""
        return self._data("GET", _join(path))

    def look_up(self, accessor: str) -> Mapping[str, Any] | Hidden | None:
        """A token by its accessor; `None` for one that has ended."""
        return self._data("POST", "auth/token/lookup-accessor", {"accessor": accessor})

    def secret_id(self, mount: str, role: str, accessor: str) -> Mapping[str, Any] | Hidden | None:
        """A secret id of an AppRole by its accessor."""
        path = _join(("auth", mount, "role", role, "secret-id-accessor", "lookup"))
        return self._data("POST", path, {"secret_id_accessor": accessor})

    def names(self, *path: str) -> Iterator[str | Hidden]:
        """The names below a path, in pages where the server makes pages."""
        first, after, count, where = "", "", 0, _join(path)
        while True:
            data = self._data("LIST", f"{where}?limit={PAGE}" + (f"&after={part(after)}" if after else ""))
            if isinstance(data, Hidden):
                yield Hidden(what=where)
                return
            found = [str(each) for each in (data or {}).get("keys") or ()]
            if after and found and found[0] == first:
                return  # a list that knows no pages gave everything at first
            yield from found
            count += len(found)
            if len(found) < PAGE:
                return
            if count >= MOST:
                yield Hidden(what=f"rest of {where}", why="too-large")
                return
            first, after = first or found[0], found[-1]

    def _data(self, method: str, path: str, body: object = None) -> Mapping[str, Any] | Hidden | None:
        status, said = self._http.ask(path, method=method, body=body)
        if status in (401, 403):
            if method == "POST" and _gone(said):
                return None
            return Hidden(what=path.partition("?")[0])
        if status >= 400 or not isinstance(said, dict):
            return None
        data = said.get("data")
        return data if isinstance(data, dict) else said

    def _client(self, token: str) -> JsonReader:
        headers = {"x-vault-request": "true", **({"x-vault-token": token} if token else {}), **self._namespace}
        return JsonReader(f"{self._address}/v1", headers=headers, ca=self._ca)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRule:
    """What one policy says of one path."""

    path: str
    """Without a leading slash; `+` is a segment, `*` at the end anything."""
    capabilities: tuple[str, ...]
    limits: tuple[str, ...] = ()
    """Settings that narrow what may be written: `allowed_parameters` and the like."""


_LIMITS: Final = re.compile(r"\b((?:allowed|denied|required)_parameters|expiration|control_group)\b")


def statements_of(policy: str) -> list[PathRule]:
    """The rules of a policy in order, in HCL or JSON; what is not understood is left out."""
    if policy.lstrip().startswith("{"):
        return _statements_of_json(policy)
    text = _COMMENT.sub(lambda found: found[1] or " ", policy)
    found: list[PathRule] = []
    rules = list(_RULE.finditer(text))
    ends = [*(rule.start() for rule in rules[1:]), len(text)]
    for rule, end in zip(rules, ends, strict=False):
        block = text[rule.end() : end]
        said = _CAPABILITIES.search(block)
        words = tuple(re.findall(r'"([a-z]+)"', said[1])) if said else ()
        if not words and (old := re.search(r'policy\s*=\s*"(\w+)"', block)):
            words = _OLD.get(old[1], ("create", "read", "update", "delete", "list", "sudo"))
        limits = tuple(dict.fromkeys(_LIMITS.findall(block)))
        path = rule[1].replace('\\"', '"').removeprefix("/")
        found.append(PathRule(path=path, capabilities=words, limits=limits))
    return found


def rules_of(policy: str) -> dict[str, tuple[str, ...]]:
    """Paths and capabilities of a policy; of a path that stands there twice everything that it says."""
    found: dict[str, tuple[str, ...]] = {}
    for each in statements_of(policy):
        found[each.path] = tuple(dict.fromkeys((*found.get(each.path, ()), *each.capabilities)))
    return found


def _statements_of_json(policy: str) -> list[PathRule]:
    try:
        paths = json.loads(policy).get("path", {})
    except (ValueError, AttributeError, RecursionError):
        return []
    blocks = paths.items() if isinstance(paths, dict) else ()
    return [
        PathRule(
            path=str(path).removeprefix("/"),
            capabilities=tuple(str(each) for each in block.get("capabilities") or ()),
            limits=tuple(key for key in block if _LIMITS.fullmatch(str(key))),
        )
        for path, block in blocks
        if isinstance(block, dict)
    ]


def covers(pattern: str, path: str) -> bool:
    """Tell whether a policy's path is about `path`: `+` is one segment, and `*` at the end anything."""
    glob = pattern.endswith("*")
    words = re.escape(pattern.removesuffix("*")).replace(r"\+", "+").split("/")
    text = "/".join("[^/]+" if each == "+" else each.replace("+", r"\+") for each in words)
    return re.fullmatch(text + (".*" if glob else ""), path) is not None


def _join(path: tuple[str, ...]) -> str:
    """Mounts come with slashes of their own; every other segment is one, whatever it holds."""
    return "/".join("/".join(part(each) for each in segment.strip("/").split("/")) for segment in path)


def _gone(said: object) -> bool:
    errors = said.get("errors") if isinstance(said, dict) else None
    return any("invalid accessor" in str(each) for each in errors or ())


def _refused(address: str, status: int) -> Misconfigured:
    return Misconfigured(
        "inventory.openbao.login",
        f"`{address}` refuses what we sign in with ({status})",
        next_step="give a token of the policy that `remit connectors openbao` prints, or an AppRole that has it",
    )
