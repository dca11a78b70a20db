"""The contract of proof attestors, on those that believe platforms' tokens."""

from __future__ import annotations

import itertools
import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from platform_tokens import (
    AUDIENCE,
    GITHUB,
    GITLAB,
    KUBERNETES,
    RSA_KEY,
    MemoryKeys,
    by_authlib,
    by_joserfc,
    by_pyjwt,
    false_tokens,
    issued,
    public_jwk,
)
from remit.kernel.canonical import Json
from remit.providers.kubernetes.tokens import Review
from remit.trust.attestors.github_actions import GitHubActionsAttestor
from remit.trust.attestors.gitlab import GitLabAttestor
from remit.trust.attestors.kubernetes_psat import Cluster, KubernetesPsatAttestor, ReviewedBy
from remit.trust.attestors.oidc import OidcAttestor, OidcIssuer
from remit.trust.issuers import Issuer
from remit.trust.ports import ProofAttestor
from remit.trust.proof_testing import ProofAttestorContract

_signers = itertools.cycle((by_joserfc, by_pyjwt, by_authlib))


def issuer(claims: Mapping[str, Any]) -> Issuer:
    return Issuer(
        url=claims["iss"], audiences=(AUDIENCE,), keys=MemoryKeys({"k1": public_jwk(RSA_KEY, "k1", alg="RS256")})
    )


class TokenContract(ProofAttestorContract):
    """What a platform's token must be, whoever signs it."""

    claims: Mapping[str, Any]

    def honest(self) -> Mapping[str, Json]:
        return {"token": next(_signers)(issued(self.claims))}

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        false = {what: {"token": token} for what, token in false_tokens(self.claims).items()}
        return {**false, "with something beside it": {"token": by_joserfc(issued(self.claims)), "more": "x"}}


class TestGitHub(TokenContract):
    claims = GITHUB

    def attestor(self) -> ProofAttestor:
        return GitHubActionsAttestor(issuer(GITHUB))


class TestGitLab(TokenContract):
    claims = GITLAB

    def attestor(self) -> ProofAttestor:
        return GitLabAttestor(issuer(GITLAB))


CI = {"iss": "https://ci.example/oidc", "sub": "organization:acme:pipeline:deploy", "steps": ["a", "b"], "n": 7}


class TestOidc(TokenContract):
    claims = CI

    def attestor(self) -> ProofAttestor:
        mapped = {"ci_sub": "sub", "ci_step": "steps", "ci_number": "n"}
        return OidcAttestor([OidcIssuer(name="ci", issuer=issuer(self.claims), selectors=mapped)])


class TestKubernetesByKeys(TokenContract):
    claims = KUBERNETES

    def attestor(self) -> ProofAttestor:
        return KubernetesPsatAttestor([Cluster(name="prod", by=issuer(KUBERNETES))])

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        bound: Mapping[str, Any] = KUBERNETES["kubernetes.io"]  # type: ignore[assignment]
        more = {
            "of an unknown cluster": {"token": by_joserfc(issued(KUBERNETES)), "cluster": "dev"},
            "of no service account": {"token": by_joserfc(issued({**KUBERNETES, "kubernetes.io": None}))},
            "of two minds": {
                "token": by_joserfc(issued({**KUBERNETES, "kubernetes.io": {**bound, "namespace": "kube-system"}}))
            },
        }
        return {**super().forgeries(), **more}


class ApiServer:
    """The API server's word, without a network: it vouches for what joserfc verifies under the right key."""

    async def review(self, token: str, audiences: Sequence[str]) -> Review:
        from joserfc import jwk, jwt
        from joserfc.errors import JoseError

        try:
            claims = jwt.decode(token, jwk.RSAKey.import_key(public_jwk(RSA_KEY, "k1")), algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return Review(authenticated=False)
        if claims.get("iss") != KUBERNETES["iss"]:
            return Review(authenticated=False)
        bound = claims["kubernetes.io"]
        return Review(
            authenticated=True,
            audiences=tuple(set(audiences) & {claims["aud"]}),
            username=f"system:serviceaccount:{bound['namespace']}:{bound['serviceaccount']['name']}",
            uid=bound["serviceaccount"]["uid"],
            extra={
                "authentication.kubernetes.io/pod-name": bound["pod"]["name"],
                "authentication.kubernetes.io/pod-uid": bound["pod"]["uid"],
                "authentication.kubernetes.io/node-name": bound["node"]["name"],
            },
        )


class TestKubernetesByReview(TokenContract):
    claims = KUBERNETES

    def attestor(self) -> ProofAttestor:
        return KubernetesPsatAttestor(
            [Cluster(name="prod", by=ReviewedBy(reviewer=ApiServer(), audiences=(AUDIENCE,)))]
        )

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        # The API server chooses the key by itself: which name the token gives it is nothing that we look at.
        own = {"by a key of another name", "by a key without a name"}
        return {what: token for what, token in super().forgeries().items() if what not in own}


def test_the_claims_of_the_platforms_are_those_that_are_signed() -> None:
    body = by_authlib(issued(GITHUB)).split(".")[1]
    assert json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))["repository_id"] == "640000001"
