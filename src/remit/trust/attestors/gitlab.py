"""The GitLab attestor: a CI job proves by GitLab's own token which project, reference and environment it is.

The job declares the token (`id_tokens: … aud:`) with our audience. Paths of projects can pass to somebody else: entries
better name `project_id`. `ref_protected:true` tells a branch that only trusted people push to.

Spec: GitLab, "OpenID Connect (OIDC) authentication using ID tokens", token payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remit.trust.issuers import ClaimKey, PlatformAttestor

ISSUER: Final = "https://gitlab.com"
_NUMBER: Final = r"[0-9]{1,20}"
_PATH: Final = r"[^\x00-\x20\x7f/]{1,255}(/[^\x00-\x20\x7f/]{1,255}){0,20}"
_TRUTH: Final = r"true|false"
CLAIMS: Final[Mapping[str, ClaimKey]] = {
    "project_path": ClaimKey("project_path", "the project, `GROUP/…/NAME`", _PATH),
    "project_id": ClaimKey("project_id", "the project's number, which stays when it is moved", _NUMBER),
    "namespace_path": ClaimKey("namespace_path", "the group or user that holds the project", _PATH),
    "namespace_id": ClaimKey("namespace_id", "that group's or user's number", _NUMBER),
    "project_visibility": ClaimKey(
        "project_visibility", "`public`, `private` or `internal`", r"public|private|internal"
    ),
    "ref": ClaimKey("ref", "the name of the branch or tag", r"[^\x00-\x20\x7f]{1,1000}"),
    "ref_type": ClaimKey("ref_type", "`branch` or `tag`", r"branch|tag"),
    "ref_path": ClaimKey("ref_path", "the whole reference, `refs/heads/main`", r"refs/[^\x00-\x20\x7f]{1,1000}"),
    "ref_protected": ClaimKey("ref_protected", "`true` for a protected branch or tag", _TRUTH),
    "environment": ClaimKey("environment", "the environment of the job"),
    "environment_protected": ClaimKey("environment_protected", "`true` for a protected environment", _TRUTH),
    "deployment_tier": ClaimKey("deployment_tier", "the environment's tier, `production`", r"[a-z_]{1,64}"),
    "pipeline_id": ClaimKey("pipeline_id", "the number of the pipeline", _NUMBER),
    "pipeline_source": ClaimKey("pipeline_source", "what started the pipeline, `push`", r"[a-z_]{1,64}"),
    "job_id": ClaimKey("job_id", "the number of the job", _NUMBER),
    "ci_config_ref_uri": ClaimKey("ci_config_ref_uri", "the pipeline's definition, `HOST/…//.gitlab-ci.yml@refs/…`"),
    "user_login": ClaimKey("user_login", "the account that runs the job", r"[^\x00-\x20\x7f]{1,255}"),
    "user_id": ClaimKey("user_id", "that account's number", _NUMBER),
    "runner_id": ClaimKey("runner_id", "the number of the runner", _NUMBER),
    "runner_environment": ClaimKey(
        "runner_environment", "`gitlab-hosted` or `self-hosted`", r"gitlab-hosted|self-hosted"
    ),
    "sha": ClaimKey("sha", "the commit, 40 or 64 hexadecimal digits", r"[0-9a-f]{40}|[0-9a-f]{64}"),
    "sub": ClaimKey("sub", "the subject as GitLab writes it, `project_path:…:ref_type:branch:ref:main`"),
}


class GitLabAttestor(PlatformAttestor):
    """Attests jobs of gitlab.com, or of one other GitLab."""

    id = "gitlab"
    claims = CLAIMS
