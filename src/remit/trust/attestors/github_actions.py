"""The GitHub Actions attestor: a job proves by GitHub's own token which repository, workflow and environment it is.

The job asks for the token (`permissions: id-token: write`) with our audience. What keeps it honest is GitHub's word
alone: a name of a repository or owner can pass to somebody else, so that entries better name `repository_id` and
`owner_id`; and a workflow that runs code of strangers (`event_name:pull_request_target`) is still that workflow.

Spec: GitHub, "OpenID Connect reference", claims of the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.trust.issuers import ClaimKey, PlatformAttestor

ISSUER: Final = "https://token.actions.githubusercontent.com"
_NUMBER: Final = r"[0-9]{1,20}"
_REPOSITORY: Final = r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}"
_WORKFLOW: Final = rf"{_REPOSITORY}/[^\x00-\x1f\x7f@]{{1,512}}@[^\x00-\x1f\x7f]{{1,512}}"
CLAIMS: Final[Mapping[str, ClaimKey]] = {
    "repository": ClaimKey("repository", "the repository, `OWNER/NAME`", _REPOSITORY),
    "repository_id": ClaimKey("repository_id", "the repository's number, which stays when it is renamed", _NUMBER),
    "owner": ClaimKey(
        "repository_owner", "the organisation or user that owns the repository", r"[A-Za-z0-9_.-]{1,100}"
    ),
    "owner_id": ClaimKey("repository_owner_id", "the owner's number", _NUMBER),
    "repository_visibility": ClaimKey(
        "repository_visibility", "`public`, `private` or `internal`", r"public|private|internal"
    ),
    "ref": ClaimKey(
        "ref", "the git reference that the run is for, `refs/heads/main`", r"refs/[^\x00-\x20\x7f]{1,1000}"
    ),
    "ref_type": ClaimKey("ref_type", "`branch` or `tag`", r"branch|tag"),
    "environment": ClaimKey("environment", "the deployment environment of the job"),
    "workflow_ref": ClaimKey("workflow_ref", "the workflow's file with its reference, `…/ci.yml@refs/…`", _WORKFLOW),
    "job_workflow_ref": ClaimKey("job_workflow_ref", "the reusable workflow that the job is of", _WORKFLOW),
    "event_name": ClaimKey("event_name", "the event that started the run, `push`", r"[a-z_]{1,64}"),
    "actor": ClaimKey("actor", "the account that started the run", r"[A-Za-z0-9_.\[\]-]{1,100}"),
    "actor_id": ClaimKey("actor_id", "that account's number", _NUMBER),
    "run_id": ClaimKey("run_id", "the number of the run", _NUMBER),
    "runner_environment": ClaimKey(
        "runner_environment", "`github-hosted` or `self-hosted`", r"github-hosted|self-hosted"
    ),
    "sha": ClaimKey("sha", "the commit, 40 or 64 hexadecimal digits", r"[0-9a-f]{40}|[0-9a-f]{64}"),
    "sub": ClaimKey("sub", "the subject as GitHub writes it, `repo:OWNER/NAME:ref:refs/heads/main`"),
}


class GitHubActionsAttestor(PlatformAttestor):
    """Attests jobs of github.com, or of one GitHub Enterprise Server (`https://HOST/_services/token`)."""

    id = "github"
    claims = CLAIMS
