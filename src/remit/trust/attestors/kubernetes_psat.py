"""The Kubernetes attestor: a pod proves by its projected service account token which pod, account and node it is.

There are two ways to verify one, set for each cluster:

- *keys*: against the cluster's JWK set. No call for each proof, but a pod that was deleted a moment ago is not noticed;
- *review*: the API server is asked (TokenReview), which also knows that the pod and the account are still there.

Every value begins with the cluster's name (`k8s_psat:service_account:prod/billing/nightly`): who administers one
cluster can name a namespace as they like, and must not become another cluster's workload by it.

Spec: Kubernetes, "Managing Service Accounts" (bound tokens); authentication.k8s.io/v1 TokenReview.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.kubernetes.tokens import Review
from remit.trust import jose
from remit.trust.issuers import (
    ClaimKey,
    ClaimKeys,
    Issuer,
    PlatformToken,
    evidence_of,
    read_platform_token,
    refused,
    text_of,
    token_profile,
    verify_platform_token,
)
from remit.trust.model import Evidence, Selector
from remit.trust.ports import Challenge

_CLUSTER: Final = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
_DNS: Final = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
_UID: Final = r"[A-Za-z0-9-]{1,64}"
_USER: Final = re.compile(rf"system:serviceaccount:(?P<namespace>{_DNS}):(?P<name>{_DNS})")
KEYS: Final[Mapping[str, ClaimKey]] = {
    "cluster": ClaimKey("cluster", "the configured name of the cluster", _CLUSTER),
    "namespace": ClaimKey("namespace", "`CLUSTER/NAMESPACE`", rf"{_CLUSTER}/{_DNS}"),
    "service_account": ClaimKey("service_account", "`CLUSTER/NAMESPACE/NAME`", rf"{_CLUSTER}/{_DNS}/{_DNS}"),
    "service_account_uid": ClaimKey("service_account_uid", "`CLUSTER/UID` of the account", rf"{_CLUSTER}/{_UID}"),
    "pod_name": ClaimKey("pod_name", "`CLUSTER/NAMESPACE/NAME`", rf"{_CLUSTER}/{_DNS}/{_DNS}"),
    "pod_uid": ClaimKey("pod_uid", "`CLUSTER/UID` of the pod", rf"{_CLUSTER}/{_UID}"),
    "node_name": ClaimKey("node_name", "`CLUSTER/NAME` of the node that the pod runs on", rf"{_CLUSTER}/{_DNS}"),
    "node_uid": ClaimKey("node_uid", "`CLUSTER/UID` of that node", rf"{_CLUSTER}/{_UID}"),
}


class TokenReviewer(Protocol):
    """The API server of a cluster, asked about a token."""

    async def review(self, token: str, audiences: Sequence[str]) -> Review:
        """What it says; `Unavailable` when it says nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedBy:
    """Verification by the API server, of tokens for one of these audiences."""

    reviewer: TokenReviewer
    audiences: tuple[str, ...]
    profile: jose.Profile = field(default_factory=token_profile)


Verification: TypeAlias = Issuer | ReviewedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster, as the operator configured it."""

    name: str
    by: Verification
    reusable: bool = False
    """Whether a token may be shown again until it expires: a pod reads the same file until the kubelet replaces it."""


class KubernetesPsatAttestor:
    """Attests pods of the clusters that were configured; `cluster` in the proof may be left out where there is one."""

    id = "k8s_psat"

    def __init__(self, clusters: Sequence[Cluster]) -> None:
        """`Misconfigured` (`trust.attestor.clusters`) for a name that is malformed or stands twice."""
        self._clusters = {one.name: one for one in clusters}
        if len(self._clusters) != len(clusters) or not all(re.fullmatch(_CLUSTER, name) for name in self._clusters):
            raise Misconfigured(
                "trust.attestor.clusters",
                "a cluster's name is malformed or stands twice",
                next_step="name each cluster once, with a-z, 0-9, `.` and `-`",
            )
        self._keys = ClaimKeys(self.id, KEYS)

    @property
    def keys(self) -> Mapping[str, str]:
        """The selector keys that it knows, each with one sentence on its value."""
        return self._keys.keys

    def check(self, selector: Selector) -> None:
        """Refuse a selector that it could never produce, one of an unknown cluster included.

        Raises `Rejected` (`trust.selector.unknown`, `.malformed`).
        """
        self._keys.check(selector)
        name = selector.value.partition("/")[0]
        if name not in self._clusters:
            raise Rejected(
                "trust.selector.malformed",
                f"`{str(selector)[:200]}` could never match: no cluster is called `{name}`",
                next_step=f"the clusters are: {', '.join(self._clusters)}",
            )

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence:
        """Verify a token. `Rejected` (`trust.proof.…`), `Unavailable` when keys or API server cannot be had."""
        text = text_of(payload, "token", optional=("cluster",))
        cluster = self._named(str(payload.get("cluster", "")))
        token = read_platform_token(text, cluster.by.profile)
        if isinstance(cluster.by, ReviewedBy):
            verified, said = await _reviewed(text, token, cluster.by, now)
        else:
            verified = await verify_platform_token(token, cluster.by, now)
            said = _said_by_token(verified.claims)
        return evidence_of(
            self._keys, verified, now, claims=_qualified(cluster.name, said), single_use=not cluster.reusable
        )

    async def finish(self, challenge: Challenge, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """Never called: a token is the whole proof."""
        raise AssertionError("a token is never a question")

    def _named(self, name: str) -> Cluster:
        found = self._clusters.get(name)
        if found is None and not name and len(self._clusters) == 1:
            (found,) = self._clusters.values()
        if found is None:
            raise Rejected(
                "trust.proof.issuer",
                "the proof names no cluster that is configured",
                next_step="send the cluster's configured name as `cluster`",
            )
        return found


async def _reviewed(
    text: str, token: jose.Unverified, by: ReviewedBy, now: datetime
) -> tuple[PlatformToken, Mapping[str, str]]:
    """Ask the API server, after what would be refused in any case was refused without asking.

    It vouches for the token as a whole, so that its claims are then as good as verified ones; whom it names is taken
    from its answer all the same, and the two must agree.
    """
    try:
        jose.check_claims(token.claims, by.profile, now=now, issuer=None, audience=by.audiences)
    except Rejected as why:
        raise refused(why) from None
    review = await by.reviewer.review(text, by.audiences)
    if not review.authenticated:
        raise Rejected("trust.proof.forged", "the cluster does not vouch for the proof")
    if not set(review.audiences) & set(by.audiences):
        # An API server that knows nothing of audiences authenticates tokens that are meant for itself.
        raise refused(Rejected("trust.jose.audience", "the token is meant for another audience"))
    user = _USER.fullmatch(review.username)
    if user is None or review.username != token.claims.get("sub"):
        raise _not_bound()
    said = {"namespace": user["namespace"], "name": user["name"], "service_account_uid": review.uid}
    for key in ("pod_name", "pod_uid", "node_name", "node_uid"):
        value = review.extra.get("authentication.kubernetes.io/" + key.replace("_", "-"))
        if value:
            said[key] = value
    return PlatformToken.vouched(token), said


def _said_by_token(claims: Mapping[str, Json]) -> Mapping[str, str]:
    bound = claims.get("kubernetes.io")
    if not isinstance(bound, Mapping):
        raise _not_bound()
    account, pod, node = (_part(bound, name) for name in ("serviceaccount", "pod", "node"))
    said = {
        "namespace": _text(bound, "namespace"),
        "name": _text(account, "name"),
        "service_account_uid": _text(account, "uid"),
        "pod_name": _text(pod, "name"),
        "pod_uid": _text(pod, "uid"),
        "node_name": _text(node, "name"),
        "node_uid": _text(node, "uid"),
    }
    if claims.get("sub") != f"system:serviceaccount:{said['namespace']}:{said['name']}":
        raise _not_bound()
    return said


def _qualified(cluster: str, said: Mapping[str, str]) -> Mapping[str, Json]:
    """The values of the selectors, each beginning with the cluster's name; what was not said is left out."""
    namespace = said["namespace"]
    found: dict[str, Json] = {
        "cluster": cluster,
        "namespace": f"{cluster}/{namespace}",
        "service_account": f"{cluster}/{namespace}/{said['name']}",
    }
    if said.get("pod_name"):
        found["pod_name"] = f"{cluster}/{namespace}/{said['pod_name']}"
    for key in ("service_account_uid", "pod_uid", "node_name", "node_uid"):
        if said.get(key):
            found[key] = f"{cluster}/{said[key]}"
    return found


def _part(claims: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = claims.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(claims: Mapping[str, Json], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _not_bound() -> Rejected:
    return Rejected(
        "trust.proof.claim",
        "the token is not one that a cluster binds to a service account",
        next_step="mount a projected service account token with our audience",
    )
