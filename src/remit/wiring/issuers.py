"""Attestors of platform tokens, as the attestors file has them: GitHub, GitLab, Kubernetes, any OIDC issuer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from remit.kernel.errors import Misconfigured
from remit.providers.documents import Documents
from remit.providers.kubernetes.tokens import TokenReviews
from remit.providers.oidc import IssuerKeys, KeyFile
from remit.trust import jose
from remit.trust.attestors import github_actions, gitlab
from remit.trust.attestors.kubernetes_psat import Cluster, KubernetesPsatAttestor, ReviewedBy
from remit.trust.attestors.oidc import OidcAttestor, OidcIssuer
from remit.trust.issuers import Issuer, KeySource, token_profile

if TYPE_CHECKING:
    from remit.wiring.proofs import ProofContext

_LIFETIME = (timedelta(minutes=1), timedelta(days=7))


class IssuerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every issuer has."""

    issuer: str
    """Exactly the claim `iss`; its metadata is fetched below it."""
    audience: tuple[str, ...] = ()
    """Tokens must be for one of these alone; without any, for the trust domain's SPIFFE ID."""
    required: dict[str, tuple[str, ...]] = {}
    """Claims that must have one of these values."""
    jwks_url: str = ""
    """Where the keys are, without asking the metadata."""
    jwks_file: str = ""
    """Where the keys are, on this machine."""
    ca_file: str = ""
    """PEM file of the CAs that the issuer's certificate is verified by, in place of the system's."""
    bearer_file: str = ""
    """File with a token to show to the issuer."""
    max_lifetime: int = 86_400
    """The longest life of a token, in seconds."""
    algorithms: tuple[str, ...] = tuple(sorted(jose.ALGORITHMS))


class GitHubConfig(IssuerConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[github]`"""

    issuer: str = github_actions.ISSUER


class GitLabConfig(IssuerConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[gitlab]`"""

    issuer: str = gitlab.ISSUER


class OidcConfig(IssuerConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[oidc]]`"""

    name: str
    selectors: dict[str, str]
    """Selector key → claim."""


class ClusterConfig(IssuerConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[kubernetes]]`: with `server`, its API server verifies each token; otherwise its keys do."""

    name: str
    issuer: str = ""
    server: str = ""
    """URL of the API server, for TokenReview with the token of `bearer_file`."""
    reusable: bool = False


def make_github(configs: Sequence[GitHubConfig], context: ProofContext) -> github_actions.GitHubActionsAttestor:
    """The attestor of GitHub Actions."""
    (config,) = configs
    return github_actions.GitHubActionsAttestor(_issuer(config, context, "github"))


def make_gitlab(configs: Sequence[GitLabConfig], context: ProofContext) -> gitlab.GitLabAttestor:
    """The attestor of GitLab's jobs."""
    (config,) = configs
    return gitlab.GitLabAttestor(_issuer(config, context, "gitlab"))


def make_oidc(configs: Sequence[OidcConfig], context: ProofContext) -> OidcAttestor:
    """The attestor of any other issuers."""
    return OidcAttestor(
        [OidcIssuer(name=one.name, issuer=_issuer(one, context, "oidc"), selectors=one.selectors) for one in configs]
    )


def make_kubernetes(configs: Sequence[ClusterConfig], context: ProofContext) -> KubernetesPsatAttestor:
    """The attestor of pods."""
    return KubernetesPsatAttestor([_cluster(one, context) for one in configs])


def _cluster(config: ClusterConfig, context: ProofContext) -> Cluster:
    if not config.server:
        return Cluster(name=config.name, by=_issuer(config, context, "kubernetes"), reusable=config.reusable)
    if config.issuer or config.jwks_url or config.jwks_file or config.required or not config.bearer_file:
        raise _invalid("kubernetes", "with `server` there is `bearer_file`, and no `issuer`, keys or `required`")
    reviewer = TokenReviews(config.server, documents=_documents(config, context, "kubernetes"))
    return Cluster(
        name=config.name,
        by=ReviewedBy(reviewer=reviewer, audiences=_audiences(config, context), profile=_profile(config, "kubernetes")),
        reusable=config.reusable,
    )


def _profile(config: IssuerConfig, sort: str) -> jose.Profile:
    least, most = _LIFETIME
    lifetime = timedelta(seconds=min(max(config.max_lifetime, 0), 2**31))
    if not least <= lifetime <= most:
        raise _invalid(sort, f"`max_lifetime` is not between {least} and {most}, in seconds")
    algorithms = frozenset(config.algorithms)
    if not algorithms or not algorithms <= jose.ALGORITHMS | {"EdDSA"}:
        raise _invalid(sort, f"`algorithms` are some of {', '.join(sorted(jose.ALGORITHMS))}, EdDSA")
    return token_profile(max_lifetime=lifetime, algorithms=algorithms)


def _issuer(config: IssuerConfig, context: ProofContext, sort: str) -> Issuer:
    if not config.issuer or not all(config.required.values()):
        raise _invalid(sort, "it has no `issuer`, or a claim in `required` without a value")
    return Issuer(
        url=config.issuer,
        audiences=_audiences(config, context),
        keys=_keys(config, context, sort),
        required={claim: frozenset(values) for claim, values in config.required.items()},
        profile=_profile(config, sort),
    )


def _keys(config: IssuerConfig, context: ProofContext, sort: str) -> KeySource:
    if config.jwks_file and (config.jwks_url or config.ca_file or config.bearer_file):
        raise _invalid(sort, "`jwks_file` stands alone: nothing is fetched")
    if config.jwks_file:
        return KeyFile(_file(context, config.jwks_file, sort))
    return IssuerKeys(
        config.issuer,
        documents=_documents(config, context, sort),
        clock=context.clock,
        jwks_url=config.jwks_url,
    )


def _documents(config: IssuerConfig, context: ProofContext, sort: str) -> Documents:
    return Documents(
        ca_file=_file(context, config.ca_file, sort) if config.ca_file else None,
        bearer_file=_file(context, config.bearer_file, sort) if config.bearer_file else None,
    )


def _audiences(config: IssuerConfig, context: ProofContext) -> tuple[str, ...]:
    return config.audience or (context.trust_domain.id,)


def _file(context: ProofContext, name: str, sort: str) -> Path:
    path = context.folder / name
    if not path.is_file():
        raise _invalid(sort, f"there is no file `{path}`")
    return path


def _invalid(sort: str, why: str) -> Misconfigured:
    return Misconfigured(
        "trust.attestors.invalid",
        f"the table `{sort}` of the attestors file cannot be used: {why}",
        next_step="correct it as the page on plug-ins has it",
    )
