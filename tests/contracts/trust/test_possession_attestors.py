"""The contract of proof attestors, on those that ask for a key, a secret or a cloud's word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import certificates as made
from possession_stage import (
    DOMAIN,
    HOST,
    REGION,
    LocalSts,
    MemoryJoinTokenStore,
    Region,
    aws_credentials,
    encoded,
    identity_document,
    machine,
    ssh_certificate,
    ssh_key,
    written,
)
from remit.kernel.canonical import Json
from remit.kernel.clock import ManualClock
from remit.trust.attestors.anchors import Anchors
from remit.trust.attestors.aws_iid import AwsIidAttestor
from remit.trust.attestors.aws_sts import AwsStsAttestor
from remit.trust.attestors.clients.aws import AwsStsProver
from remit.trust.attestors.clients.ssh_pop import SshPopProver
from remit.trust.attestors.clients.x509_pop import X509PopProver
from remit.trust.attestors.join_token import JoinTokenAttestor, JoinTokens
from remit.trust.attestors.provers import Prover
from remit.trust.attestors.ssh_pop import HostAuthorities, SshPopAttestor
from remit.trust.attestors.x509_pop import X509PopAttestor
from remit.trust.ports import ProofAttestor
from remit.trust.proof_testing import ProofAttestorContract
from remit.trust.testing import NOON, KeyedAttester

__all__ = ["aws_credentials"]
T = TypeVar("T")


class PossessionContract(ProofAttestorContract):
    """The honest caller is the prover that ships; time is the machine's, by which other programs sign."""

    prover: Prover
    folder: Path

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return datetime.now(UTC)

    def honest(self) -> Mapping[str, Json]:
        return _apart(lambda: self.prover.payload("spiffe://remit.test"))

    def answer(self, question: Mapping[str, Json]) -> Mapping[str, Json]:
        return _apart(lambda: self.prover.answer(question))


def _apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run in a loop of its own: the contract asks from inside one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


class TestX509Pop(PossessionContract):
    @pytest.fixture(autouse=True, params=["ec", "rsa"])
    def stage(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.root = made.root()
        self.middle = made.intermediate(self.root)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if request.param == "rsa" else None
        self.leaf = machine(self.middle, key=key)
        certificate, private = written(tmp_path, self.leaf, self.middle)
        self.prover = X509PopProver(certificate=certificate, key=private, trust_domain=DOMAIN.name)

    def attestor(self) -> ProofAttestor:
        return X509PopAttestor(Anchors("x509pop", self.root.pem), trust_domain=DOMAIN)

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        hours = timedelta(hours=5)
        begins, ends = made.NOW - 2 * hours, made.NOW + 2 * hours
        bad: dict[str, list[made.Made]] = {
            "without the CA between": [self.leaf],
            "by another CA of the same name": [machine(replace(made.intermediate(made.root()))), self.middle],
            "a CA as a leaf": [self.middle],
            "the root itself": [self.root],
            "expired": [machine(self.middle, begins=begins, ends=made.NOW - hours), self.middle],
            "not yet valid": [machine(self.middle, begins=made.NOW + hours, ends=ends), self.middle],
            "that may sign certificates": [
                machine(self.middle, key_usage=made.usage("digital_signature", "key_cert_sign")),
                self.middle,
            ],
            "under a leaf": [machine(self.leaf), self.leaf, self.middle],
            "under an expired CA": self._under(made.intermediate(self.root, begins=begins, ends=made.NOW - hours)),
            "under a CA that may not sign": self._under(
                made.intermediate(self.root, key_usage=made.usage("digital_signature"))
            ),
            "self-signed": [machine(None)],  # type: ignore[arg-type]
        }
        found: dict[str, Mapping[str, Json]] = {
            what: {"chain": [encoded(one.der) for one in chain]} for what, chain in bad.items()
        }
        honest = self.honest()
        found["with nine certificates"] = {"chain": [encoded(self.leaf.der)] * 9}
        found["cut short"] = {"chain": [encoded(self.leaf.der[:-1])]}
        found["with bytes after it"] = {"chain": [encoded(self.leaf.der + b"\0")]}
        found["with a member beside it"] = {**honest, "more": "x"}
        return found

    def _under(self, issuer: made.Made) -> list[made.Made]:
        return [machine(issuer), issuer]


class TestSshPop(PossessionContract):
    @pytest.fixture(autouse=True, params=["ed25519", "ecdsa", "rsa"])
    def stage(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.ca = ssh_key(tmp_path, "ca", "-t", request.param)
        self.key = ssh_key(tmp_path, "host", "-t", request.param)
        ssh_certificate(tmp_path, self.ca, self.key, *HOST)
        self.prover = SshPopProver(key=str(self.key), trust_domain=DOMAIN.name)

    def attestor(self) -> ProofAttestor:
        return SshPopAttestor(HostAuthorities(Path(f"{self.ca}.pub").read_bytes()), trust_domain=DOMAIN)

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        other = ssh_key(self.folder, "other")
        valid = ("-V", "-1h:+1h")
        bad = {
            "by another CA": (other, HOST),
            "of a user": (self.ca, ("-I", "web-1", "-n", "root", *valid)),
            "for every host": (self.ca, ("-h", "-I", "web-1", *valid)),
            "expired": (self.ca, ("-h", "-I", "web-1", "-n", "web-1", "-V", "-2h:-1h")),
            "not yet valid": (self.ca, ("-h", "-I", "web-1", "-n", "web-1", "-V", "+1h:+2h")),
            "with an option nobody knows": (self.ca, (*HOST, "-O", "critical:only-on@example.com=monday")),
        }
        found: dict[str, Mapping[str, Json]] = {}
        for what, (ca, options) in bad.items():
            path = ssh_certificate(self.folder, ca, ssh_key(self.folder, what.replace(" ", "-")), *options)
            found[what] = {"certificate": " ".join(Path(path).read_text().split()[:2])}
        line = str(self.honest()["certificate"])
        found["the key without a certificate"] = {"certificate": Path(f"{self.key}.pub").read_text().strip()}
        found["with a changed name"] = {"certificate": _changed(line)}
        found["cut short"] = {"certificate": line[:-8]}
        return found


def _changed(line: str) -> str:
    from base64 import b64decode

    kind, blob = line.split()
    return f"{kind} {encoded(b64decode(blob).replace(b'web-1.example.com', b'web-2.example.com'))}"


@pytest.mark.usefixtures("aws_credentials")
class TestAwsSts(PossessionContract):
    @cached_property
    def prover(self) -> Prover:  # type: ignore[override]
        return AwsStsProver(region=REGION, trust_domain=DOMAIN.name)

    def attestor(self) -> ProofAttestor:
        return AwsStsAttestor(LocalSts(), trust_domain=DOMAIN, accounts=["111122223333"], regions=[REGION, "global"])

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        hosts = (
            "sts.amazonaws.com.evil.example",
            "sts.eu-central-1.amazonaws.com.evil.example",
            "evil.example/sts.amazonaws.com",
            "sts.amazonaws.com@evil.example",
            "sts.amazonaws.com:8443",
            "sts.amazonaws.com/",
            "sts.amazonaws.com?x=1",
            "STS.AMAZONAWS.COM",
            "sts.amazonaws.com.",
            "sts.us-east-1.amazonaws.com",
            "s3.amazonaws.com",
            "127.0.0.1",
            "sts.amazonaws.com\n",
        )
        return {host: {"host": host} for host in hosts}


class TestAwsIid(PossessionContract):
    @pytest.fixture(autouse=True)
    def stage(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.region = Region.make()

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return NOON

    def attestor(self) -> ProofAttestor:
        return AwsIidAttestor({REGION: self.region.pem}, accounts=["111122223333"], max_age=timedelta(hours=2))

    def honest(self) -> Mapping[str, Json]:
        return {"rsa2048": self.region.pkcs7(identity_document(), self.folder)}

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        other, good = Region.make(), identity_document()
        documents: Mapping[str, Any] = {
            "of another account": identity_document(accountId="999999999999"),
            "of a region without a certificate": identity_document(region="us-east-1"),
            "of an old instance": identity_document(pendingTime="2026-11-22T09:00:00Z"),
            "of an instance to come": identity_document(pendingTime="2026-11-22T13:00:00Z"),
            "without an instance": identity_document(instanceId=None),
            "without a time": identity_document(pendingTime=7),
            "with two accounts": good.replace(b'"region"', b'"accountId": "111122223333", "region"'),
        }
        found: dict[str, Mapping[str, Json]] = {
            what: {"document": text.decode(), "signature": self.region.signature(text)}
            for what, text in documents.items()
        }
        found["signed by another"] = {"rsa2048": other.pkcs7(good, self.folder)}
        found["signed by another, plainly"] = {"document": good.decode(), "signature": other.signature(good)}
        found["changed"] = {
            "document": good.decode().replace("m7g", "m8g"),
            "signature": self.region.signature(good),
        }
        found["both forms at once"] = {**self.honest(), "document": good.decode()}
        return found


class TestJoinToken(PossessionContract):
    @property
    def now(self) -> datetime:  # type: ignore[override]
        return NOON

    @cached_property
    def store(self) -> MemoryJoinTokenStore:
        return MemoryJoinTokenStore(ManualClock(NOON))

    @cached_property
    def tokens(self) -> JoinTokens:
        return JoinTokens(KeyedAttester())

    def attestor(self) -> ProofAttestor:
        return JoinTokenAttestor(self.store, self.tokens)

    def honest(self) -> Mapping[str, Json]:
        def work(unit: Any) -> str:
            return self.tokens.create(unit, name="rack/7", labels=["zone=a"], actor="person:ada")[1]

        return {"token": _apart(lambda: self.store.write(work))}

    def forgeries(self) -> Mapping[str, Mapping[str, Json]]:
        token = str(self.honest()["token"])
        token_id, _, secret = token.partition(".")
        other = str(self.honest()["token"]).partition(".")[2]
        return {
            "with another's secret": {"token": f"{token_id}.{other}"},
            "of an unknown id": {"token": f"jt_{'0' * 26}.{secret}"},
            "without the secret": {"token": token_id},
            "with a space after it": {"token": token + " "},
            "with a member beside it": {"token": token, "more": "x"},
        }
