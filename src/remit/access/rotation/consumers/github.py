"""GitHub Actions secrets of a repository: sealed to its public key here, and never read back.

Spec: GitHub REST API, "GitHub Actions Secrets"; libsodium, "Sealed boxes".
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping

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
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.rest import Rest

_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_NAME = re.compile(r"(?!GITHUB_)[A-Z_][A-Z0-9_]{0,99}")


class _Secrets:
    def __init__(self, rest: Rest, token_file: str, repository: str) -> None:
        self._rest = rest
        self._token_file = token_file
        self._url = f"/repos/{repository}/actions/secrets"

    async def read(self, names: frozenset[str]) -> None:
        return None

    async def write(self, entries: Mapping[str, str | None]) -> None:
        token = await read_token(self._token_file)
        headers = {"authorization": f"Bearer {token}", "accept": "application/vnd.github+json"}
        key = await self._rest.ask("GET", f"{self._url}/public-key", headers=headers)
        for name, value in entries.items():
            if value is None:
                await self._rest.ask("DELETE", f"{self._url}/{name}", headers=headers, absent_ok=True)
                continue
            sealed = await asyncio.to_thread(_sealed, value, key.get("key"))
            body: dict[str, Json] = {"encrypted_value": sealed, "key_id": str(key.get("key_id", ""))}
            await self._rest.ask("PUT", f"{self._url}/{name}", body, headers=headers)


def _sealed(value: str, key: object) -> str:
    try:
        from nacl.exceptions import CryptoError
        from nacl.public import PublicKey, SealedBox
    except ImportError:
        raise Misconfigured(
            "access.rotation.driver", "PyNaCl is not installed", next_step="pip install 'remit[rotation]'"
        ) from None
    try:
        box = SealedBox(PublicKey(base64.b64decode(str(key), validate=True)))
    except (CryptoError, ValueError, TypeError):
        raise Rejected("access.rotation.github", "the repository's public key is malformed") from None
    return base64.b64encode(box.encrypt(value.encode())).decode()


class GitHubFactory:
    """The plug-in."""

    id = "github"
    title = "secrets of GitHub Actions"

    def make(self, options: Mapping[str, Json], house: House) -> EntriesConsumer:
        only(options, "api", "repository", "secrets", "token_file", "ca_file")
        repository, names = text_of(options, "repository"), templates_of(options, "secrets")
        if not _REPOSITORY.fullmatch(repository) or not all(_NAME.fullmatch(name) for name in names):
            raise bad("`repository` is OWNER/NAME, and `secrets` are names in capital letters")
        rest = Rest(text_of(options, "api", "https://api.github.com"), ca_file=path_of(options, "ca_file", "") or None)
        place = _Secrets(rest, path_of(options, "token_file"), repository)
        return EntriesConsumer(f"github {repository} ({', '.join(names)})", place, names)
