"""Code hosts, package registries and their tokens."""

from __future__ import annotations

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.engine.rule import ALNUM, BASE64, HEX, LOWER, UPPER, URLSAFE, WORD, Rule, token

_KEY = CredentialKind.API_KEY
_SECRET = CredentialKind.SECRET
_PASSWORD = CredentialKind.PASSWORD

RULES: tuple[Rule, ...] = (
    token(
        "github-token",
        "GitHub token",
        "gh[pousr]_",
        ALNUM,
        36,
        keywords=("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        checksum="github",
    ),
    token(
        "github-fine-grained-token", "GitHub fine-grained token", "github_pat_", WORD, 76, 82, checksum="github-fine"
    ),
    token(
        "github-stateless-token",
        "GitHub installation token (stateless)",
        "ghs_[A-Za-z0-9]{1,20}_eyJ",
        URLSAFE + ".",
        60,
        2000,
        keywords=("ghs_",),
    ),
    token("gitlab-token", "GitLab personal access token", "glpat-", URLSAFE, 20, edge=URLSAFE + "."),
    token(
        "gitlab-routable-token",
        "GitLab routable token",
        r"gl(?:pat|dt|rt|ptt|rtr|oas|soat|ft|cbt|agent|imt|ffct)-(?:t[0-9]_)?[A-Za-z0-9_-]{20,300}(?:\.[a-z0-9]{2})?\.",
        LOWER,
        9,
        keywords=("gl",),
        checksum="gitlab",
        edge=URLSAFE,
    ),
    token("gitlab-deploy-token", "GitLab deploy token", "gldt-", URLSAFE, 20, 50, edge=URLSAFE),
    token("gitlab-runner-token", "GitLab runner token", "glrt-(?:t[0-9]_)?", URLSAFE, 20, 50, edge=URLSAFE),
    token("gitlab-registration-token", "GitLab runner registration token", "GR1348941", URLSAFE, 20, 50, edge=URLSAFE),
    token("gitlab-trigger-token", "GitLab trigger token", "glptt-", URLSAFE, 20, 60, edge=URLSAFE),
    token("gitlab-ci-job-token", "GitLab CI job token", "glcbt-", URLSAFE, 16, 90, edge=URLSAFE),
    token("gitlab-scim-token", "GitLab SCIM token", "glsoat-", URLSAFE, 20, 60, edge=URLSAFE),
    token("gitlab-feed-token", "GitLab feed token", "glft-", URLSAFE, 20, 80, edge=URLSAFE),
    token("gitlab-agent-token", "GitLab agent token", "glagent-", URLSAFE, 50, 90, edge=URLSAFE),
    token("gitlab-oauth-secret", "GitLab OAuth application secret", "gloas-", URLSAFE, 64, edge=URLSAFE, kind=_SECRET),
    token("gitlab-mail-token", "GitLab incoming mail token", "glimt-", URLSAFE, 25, edge=URLSAFE),
    token("gitlab-feature-token", "GitLab feature-flag client token", "glffct-", URLSAFE, 20, edge=URLSAFE),
    token(
        "bitbucket-token",
        "Bitbucket app password",
        "ATBB",
        ALNUM + "=",
        32,
        48,
        kind=_PASSWORD,
        checksum="atlassian",
        edge=ALNUM,
    ),
    token(
        "bitbucket-access-token",
        "Bitbucket repository access token",
        "ATCTT3xFfG",
        URLSAFE + "=",
        60,
        300,
        checksum="atlassian",
        edge=URLSAFE,
    ),
    token("bitbucket-server-token", "Bitbucket Data Center token", "BBDC-", BASE64 + "=", 40, 48, edge=ALNUM),
    token("gitea-token", "Gitea OAuth token", "gta_", LOWER, 52, 56),
    token("npm-token", "npm token", "npm_", ALNUM, 36, checksum="github"),
    token("pypi-token", "PyPI token", "pypi-AgE[A-Za-z0-9]", URLSAFE + "=", 60, 1000, checksum="pypi", edge=URLSAFE),
    token("rubygems-key", "RubyGems API key", "rubygems_", HEX, 48, kind=_KEY),
    token("nuget-key", "NuGet API key", "oy2", LOWER, 43, kind=_KEY),
    token("crates-token", "crates.io token", "cio", ALNUM, 32, 36, entropy=3.4),
    token("docker-token", "Docker Hub token", "dckr_(?:pat|oat)_", URLSAFE, 27, 40, keywords=("dckr_",), edge=URLSAFE),
    token("clojars-token", "Clojars token", "CLOJARS_", LOWER, 60),
    token("hex-token", "Hex package key", "hexp?_", ALNUM, 32, 48, keywords=("hex_", "hexp_")),
    token("jfrog-token", "Artifactory identity token", "cmVmd", ALNUM, 54, 64, edge=ALNUM),
    token("jfrog-api-key", "Artifactory API key", "AKCp", ALNUM, 26, 72, kind=_KEY),
    token("sonar-token", "SonarQube token", "sq[upa]_", ALNUM, 40, keywords=("squ_", "sqp_", "sqa_")),
    token(
        "sourcegraph-token",
        "Sourcegraph token",
        "sg[pdsm][_-](?:(?:[a-fA-F0-9]{16}|local)_)?",
        "a-fA-F0-9",
        40,
        keywords=("sgp_", "sgd_", "sgs_", "sgm_", "sgp-", "sgd-", "sgs-", "sgm-"),
    ),
    token("sourcegraph-license-token", "Sourcegraph license token", "slk_", HEX, 64),
    token("snyk-token", "Snyk token", r"snyk_(?:uat|sat)\.[a-z0-9]{8}\.", URLSAFE + ".", 60, 240, keywords=("snyk_",)),
    token("postman-key", "Postman API key", "PMAK-[a-f0-9]{24}-", HEX, 34, kind=_KEY),
    token("postman-collection-key", "Postman collection key", "PMAT-", UPPER, 26, kind=_KEY),
    token("readme-key", "ReadMe API key", "rdme_", LOWER, 64, 74, kind=_KEY),
    token(
        "jetbrains-token",
        "JetBrains Hub token",
        r"perm[:-][A-Za-z0-9+/=_-]{4,60}\.[A-Za-z0-9+/=_-]{2,60}\.",
        ALNUM,
        24,
        40,
        keywords=("perm",),
    ),
    token("packagist-token", "Packagist token", "packagist_(?:o|u)[rw]t_", HEX, 68, keywords=("packagist_",)),
)
