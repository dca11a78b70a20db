"""Proofs that are one text: a join token, and the token that a platform gave to a job or a pod."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured
from remit.trust.attestors.clients.questions import unasked

MAX_TOKEN_BYTES = 64 * 1024
_DEFAULTS: Mapping[str, tuple[str, str]] = {
    "gitlab": ("", "REMIT_ID_TOKEN"),
    "k8s_psat": ("/var/run/secrets/tokens/remit", ""),
}
"""Where a kind looks when it was not told: a file, or a variable."""


class TokenProver:
    """Shows what a file or a variable of the environment holds now, so that a token that is renewed is read again."""

    def __init__(self, kind: str, *, file: str = "", env: str = "", environ: Mapping[str, str] = os.environ) -> None:
        self.id = kind
        self._environ = environ
        self._file, self._env = (file, env) if file or env else _DEFAULTS.get(kind, ("", ""))
        if bool(self._file) == bool(self._env):
            raise Misconfigured(
                "trust.prover.option",
                f"the prover `{kind}` needs one of `file` and `env`",
                next_step="name one of them",
            )

    async def payload(self, audience: str) -> Mapping[str, Json]:
        text = await asyncio.to_thread(_read, self._file) if self._file else self._environ.get(self._env, "")
        if not text.strip():
            raise _missing(f"`{self._file or self._env}` holds no token")
        return {"token": text.strip()}

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        raise unasked(self.id)


class GitHubProver:
    """Asks the job's own token service for a token made out to the control plane. It needs `id-token: write`."""

    id = "github"

    def __init__(self, *, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    async def payload(self, audience: str) -> Mapping[str, Json]:
        from remit.providers.job_tokens import fetch_job_token

        url, bearer = (self._environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{part}", "") for part in ("URL", "TOKEN"))
        if not url or not bearer:
            raise _missing("this job has no `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`")
        return {"token": await fetch_job_token(url, bearer, audience)}

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        raise unasked(self.id)


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_TOKEN_BYTES).decode("ascii")
    except (OSError, ValueError):
        raise _missing(f"`{file}` cannot be read as a token") from None


def _missing(why: str) -> Misconfigured:
    return Misconfigured(
        "trust.prover.missing", why, next_step="give this machine or job its token, or name another file or variable"
    )
