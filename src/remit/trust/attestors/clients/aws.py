"""Proves a machine as an AWS principal, and as an EC2 instance."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from remit.kernel.canonical import Json
from remit.trust.attestors import aws_iid, aws_sts
from remit.trust.attestors.clients.questions import text_of, trust_domain_of, unasked

_GLOBAL = "global"


class AwsStsProver:
    """Signs GetCallerIdentity with the credentials of the usual chain: environment, profile, container, instance.

    `region` chooses the host of STS (default: the profile's region, else `us-east-1`); `global` is `sts.amazonaws.com`.
    """

    id = aws_sts.KIND

    def __init__(self, *, region: str = "", profile: str = "", trust_domain: str = "") -> None:
        self._region = region
        self._profile = profile
        self._trust_domain = trust_domain

    async def payload(self, audience: str) -> Mapping[str, Json]:
        return {"host": _host(await asyncio.to_thread(self._chosen_region))}

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        domain = trust_domain_of(question, self._trust_domain)
        challenge = aws_sts.challenge_value(domain, text_of(question, "nonce"))
        return await asyncio.to_thread(self._signed, challenge)

    def _chosen_region(self) -> str:
        from remit.providers.aws.signing import configured_region

        return self._region or configured_region(self._profile)

    def _signed(self, challenge: str) -> Mapping[str, Json]:
        from remit.providers.aws.signing import sign_post

        region = self._chosen_region()
        headers = {
            "Host": _host(region),
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            aws_sts.CHALLENGE_HEADER: challenge,
        }
        signed = sign_post(
            f"https://{_host(region)}/", body=aws_sts.BODY, headers=headers, service="sts",
            region=_signing_region(region), profile=self._profile,
        )  # fmt: skip
        return {"headers": [[name, value] for name, value in signed]}


class AwsIidProver:
    """Shows the instance's identity document. `endpoint` replaces the metadata service's address."""

    id = aws_iid.KIND

    def __init__(self, *, endpoint: str = "") -> None:
        self._endpoint = endpoint

    async def payload(self, audience: str) -> Mapping[str, Json]:
        from remit.providers.aws.metadata import fetch_instance_identity

        return {"rsa2048": await fetch_instance_identity(self._endpoint)}

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        raise unasked(self.id)


def _host(region: str) -> str:
    if region == _GLOBAL:
        return "sts.amazonaws.com"
    return f"sts.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def _signing_region(region: str) -> str:
    return "us-east-1" if region == _GLOBAL else region
