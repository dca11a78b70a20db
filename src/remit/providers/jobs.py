"""What CI platforms say of a job: whether it has ended, and how.

Spec: GitHub REST API, "Get a workflow run"; GitLab REST API, "Get a single job".
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from remit.kernel.errors import Unavailable
from remit.providers.documents import Documents, require_address

GITHUB_API: Final = "https://api.github.com"
GITLAB_API: Final = "https://gitlab.com/api/v4"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_OVER = frozenset({"success", "failed", "canceled", "skipped", "manual"})


class GitHubRuns:
    """Workflow runs of one GitHub: a job ends at the latest when its run does."""

    def __init__(self, documents: Documents, api: str = GITHUB_API) -> None:
        self._documents = documents
        self._api = require_address(api).rstrip("/")

    async def ended(self, project: str, job: str) -> str:
        """How the run `job` of the repository `project` ended; empty while it runs. `Unavailable`."""
        if not _NAME.fullmatch(project) or not _NUMBER.fullmatch(job):
            return ""
        found = (await self._documents.get(f"{self._api}/repos/{project}/actions/runs/{job}")).content
        if str(found.get("id")) != job:
            raise _strange("GitHub")
        if found.get("status") != "completed":
            return ""
        return f"GitHub says that the run is completed: {str(found.get('conclusion'))[:40]}"


class GitLabJobs:
    """Jobs of one GitLab."""

    def __init__(self, documents: Documents, api: str = GITLAB_API) -> None:
        self._documents = documents
        self._api = require_address(api).rstrip("/")

    async def ended(self, project: str, job: str) -> str:
        """How the job ended; empty while it runs. `project` is its number. `Unavailable`."""
        if not _NUMBER.fullmatch(project) or not _NUMBER.fullmatch(job):
            return ""
        found = (await self._documents.get(f"{self._api}/projects/{quote(project)}/jobs/{job}")).content
        if str(found.get("id")) != job:
            raise _strange("GitLab")
        status = str(found.get("status"))[:40]
        return f"GitLab says that the job has ended: {status}" if status in _OVER else ""


def _strange(who: str) -> Unavailable:
    return Unavailable(
        "providers.job.strange", f"{who} answered about another job", next_step="check the address of its API"
    )
