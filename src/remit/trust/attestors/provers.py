"""What a node or a workload sends to prove itself: the other half of each `ProofAttestor`, on the machine in question.

A prover reads keys, tokens and devices of its own machine; nothing that it returns is a lasting secret, except a join
token, which is spent by being shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from remit.kernel.canonical import Json
from remit.kernel.errors import Misconfigured

KINDS: Mapping[str, tuple[str, ...]] = {
    "join_token": ("file", "env"),
    "x509pop": ("certificate", "key", "trust_domain"),
    "sshpop": ("certificate", "key", "trust_domain"),
    "tpm": ("tcti", "algorithm", "ek_certificate", "ek_handle", "trust_domain"),
    "aws_sts": ("region", "profile", "trust_domain"),
    "aws_iid": ("endpoint",),
    "github": (),
    "gitlab": ("file", "env"),
    "k8s_psat": ("file", "env"),
    "oidc": ("file", "env"),
}
"""Each kind, which is the id of its attestor, and the options that its prover takes."""


class Prover(Protocol):
    """Proves one machine or job to a control plane, as often as it is asked. Methods belong to an event loop."""

    @property
    def id(self) -> str:
        """The attestor that it answers."""
        ...

    async def payload(self, audience: str) -> Mapping[str, Json]:
        """What is sent first. `audience` names the control plane, for proofs that are made out to somebody.

        Raises `Misconfigured` (`trust.prover.…`) when what it reads is not there, `Unavailable` when a service of
        the platform does not answer.
        """
        ...

    async def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        """The answer to what the attestor asked. Raises as `payload`, and `Rejected` (`trust.prover.question`)."""
        ...


def prover(kind: str, options: Mapping[str, str]) -> Prover:
    """The prover of this kind; nothing is read before its first use. See `KINDS` for the options.

    With the option `trust_domain` it answers no question that was asked in the name of another.
    Raises `Misconfigured` (`trust.prover.unknown`, `.option`).
    """
    if kind not in KINDS:
        raise Misconfigured(
            "trust.prover.unknown",
            f"nothing proves itself as `{kind[:80]}`",
            next_step="use one of: " + ", ".join(KINDS),
        )
    unknown = sorted(set(options) - set(KINDS[kind]))
    if unknown:
        raise Misconfigured(
            "trust.prover.option",
            f"the prover `{kind}` takes no option `{unknown[0][:80]}`",
            next_step="it takes: " + (", ".join(KINDS[kind]) or "none"),
        )
    return _make(kind, options)


def _make(kind: str, options: Mapping[str, str]) -> Prover:
    def given(name: str) -> str:
        return options.get(name, "")

    match kind:
        case "x509pop":
            from remit.trust.attestors.clients.x509_pop import X509PopProver

            return X509PopProver(certificate=given("certificate"), key=given("key"), trust_domain=given("trust_domain"))
        case "sshpop":
            from remit.trust.attestors.clients.ssh_pop import SshPopProver

            return SshPopProver(certificate=given("certificate"), key=given("key"), trust_domain=given("trust_domain"))
        case "tpm":
            from remit.trust.attestors.clients.tpm import TpmProver

            return TpmProver(
                tcti=given("tcti"),
                algorithm=given("algorithm"),
                ek_certificate=given("ek_certificate"),
                ek_handle=given("ek_handle"),
                trust_domain=given("trust_domain"),
            )
        case "aws_sts":
            from remit.trust.attestors.clients.aws import AwsStsProver

            return AwsStsProver(region=given("region"), profile=given("profile"), trust_domain=given("trust_domain"))
        case "aws_iid":
            from remit.trust.attestors.clients.aws import AwsIidProver

            return AwsIidProver(endpoint=given("endpoint"))
        case "github":
            from remit.trust.attestors.clients.tokens import GitHubProver

            return GitHubProver()
        case _:
            from remit.trust.attestors.clients.tokens import TokenProver

            return TokenProver(kind, file=given("file"), env=given("env"))
