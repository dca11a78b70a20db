"""CI/CD variables of a GitLab project.

Spec: GitLab REST API, "Project-level CI/CD variables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from remit.access.rotation.consumers.entries import (
    EntriesConsumer,
    bad,
    only,
    path_of,
    read_token,
    templates_of,
    text_of,
)
from remit.access.rotation.ports import House
from remit.kernel.canonical import Json
from remit.providers.rest import Rest

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


class _Variables:
    def __init__(self, rest: Rest, token_file: str, project: str) -> None:
        self._rest = rest
        self._token_file = token_file
        self._url = f"/api/v4/projects/{quote(project, safe='')}/variables"

    async def read(self, names: frozenset[str]) -> Mapping[str, str]:
        found = {}
        for name in sorted(names):
            answer = await self._rest.ask("GET", f"{self._url}/{name}", headers=await self._headers(), absent_ok=True)
            if isinstance(answer.get("value"), str):
                found[name] = str(answer["value"])
        return found

    async def write(self, entries: Mapping[str, str | None]) -> None:
        headers = await self._headers()
        there = await self.read(frozenset(entries))
        for name, value in entries.items():
            if value is None:
                await self._rest.ask("DELETE", f"{self._url}/{name}", headers=headers, absent_ok=True)
            elif name in there:
                await self._rest.ask("PUT", f"{self._url}/{name}", {"value": value}, headers=headers)
            else:
                await self._rest.ask("POST", self._url, {"key": name, "value": value, "masked": True}, headers=headers)

    async def _headers(self) -> dict[str, str]:
        return {"private-token": await read_token(self._token_file)}


class GitLabFactory:
    """The plug-in."""

    id = "gitlab"
    title = "CI/CD variables of a GitLab project"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "server", "project", "variables", "token_file", "ca_file")
        project, variables = text_of(options, "project"), templates_of(options, "variables")
        if not all(_KEY.fullmatch(name) for name in variables):
            raise bad("`variables` are names of variables")
        rest = Rest(text_of(options, "server", "https://gitlab.com"), ca_file=path_of(options, "ca_file", "") or None)
        place = _Variables(rest, path_of(options, "token_file"), project)
        return EntriesConsumer(f"gitlab {project} ({', '.join(variables)})", place, variables)
