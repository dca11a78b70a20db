"""AREA=trust: SVIDs and tokens a second, a rotation and a revocation until the last has it, memory for each stream.

What is issued is durable in the ledger of an SQLite database, with synced commits, before it counts. The peers are the
cryptography library alone, `openssl speed`, and an OpenBao dev server in the same run, asked over kept connections by
the Python clients that ask fastest.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.exchange import fastest, token_service
from bench.openbao import Bao, available_openbao, dev_openbao, durable_openbao
from bench.race import Row, race, scaled
from remit.kernel.canonical import Json
from remit.kernel.clock import SystemClock
from remit.storage.database import open_database
from remit.trust import Evidence, Selector, SpiffeId, TrustDomain, TrustService, jose
from remit.trust.authority.x509 import BACKDATED, make_leaf_key, serial_number
from remit.trust.testing import KeyedAttester, PlainSealer

_DOMAIN = TrustDomain("bench.test")
_SELECTORS = (
    "unix:uid:1000", "unix:gid:1000", "unix:user:app", "unix:path:/usr/bin/app", f"unix:sha256:{'a' * 64}",
)  # fmt: skip
_BATCH = 500
_HOUR = timedelta(hours=1)


def measure(tell: Callable[[str], None]) -> Iterator[Row]:
    """Every measurement of the area, one by one."""
    with ExitStack() as stack:
        program = available_openbao()
        bao = stack.enter_context(dev_openbao(program)) if program is not None else None
        tell("X.509-SVIDs")
        yield from _x509(bao)
        tell("JWT-SVIDs")
        yield from _jwt(bao)
        tell("token exchange")
        yield from _exchange(bao, program)
    from bench.agents import revocation
    from bench.workloads import rotation_and_memory

    tell("rotation under 1,000 streams")
    yield from rotation_and_memory()
    tell("revocation with 100 agents")
    yield revocation()


# -- issuing


@dataclass(slots=True)
class House:
    """A trust service on a database of its own, and processes to issue to."""

    trust: TrustService
    seen: int = 0

    def evidence(self) -> Evidence:
        """Another process of the same program: nothing that was issued before is remembered for it."""
        self.seen += 1
        return Evidence(
            attestor="unix",
            selectors=frozenset(Selector.parse(text) for text in _SELECTORS),
            facts={"pid": self.seen, "start_ticks": 10_000 + self.seen, "boot": "b" * 36, "exe": "/usr/bin/app"},
            observed=self.trust.now(),
        )

    async def rate(self, count: int, issue: Callable[[Evidence], Awaitable[Any]]) -> float:
        """Issuances a second: bursts of at most 500 at the same time."""
        shown = [self.evidence() for _ in range(count)]
        begun = time.perf_counter()
        for at in range(0, count, _BATCH):
            await asyncio.gather(*(issue(each) for each in shown[at : at + _BATCH]))
        return count / (time.perf_counter() - begun)


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """A trust domain on SQLite with one entry."""
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as folder:
        clock = SystemClock()
        store = await open_database(f"sqlite:///{folder}/remit.db", clock=clock, published=lambda events: None)
        trust = TrustService(store, sealer=PlainSealer(), attester=KeyedAttester(), clock=clock, trust_domain=_DOMAIN)
        try:
            await trust.open()
            await trust.create_entry(
                spiffe_id=f"{_DOMAIN.id}/job", selectors=["unix:uid:1000", "unix:path:/usr/bin/app"], actor="bench"
            )
            yield House(trust)
        finally:
            await trust.close()
            await store.close()


def _x509(bao: Bao | None) -> Iterator[Row]:
    """Key and certificate alone against the library; issued and recorded against OpenBao, and against openssl."""
    made, raw = race(lambda: asyncio.run(_made()), _raw_leaf)
    yield Row(
        name="X.509-SVID made (key, certificate, PKCS#8)", ours=made, unit="SVID/s",
        against="P-256 key + signature by the library", theirs=raw, better="higher", bar=0.5,
    )  # fmt: skip

    def issued() -> float:
        return asyncio.run(_issued(lambda one, evidence: one.trust.x509_svids(evidence)))

    ours, theirs = race(issued, _pki_issue(bao) if bao is not None else None, rounds=5)
    yield Row(
        name="X.509-SVID issued, durable in the ledger", ours=ours, unit="SVID/s", against="OpenBao pki/issue",
        theirs=theirs, better="higher", bar=1.0,
    )  # fmt: skip
    yield Row(
        name="X.509-SVID made, one core", ours=made, unit="SVID/s", against="openssl speed ecdsap256 (signature alone)",
        theirs=_openssl_speed(), better="higher", bar=0.25,
    )  # fmt: skip


async def _made() -> float:
    async with house() as one:
        signer, spiffe_id, now = one.trust.keeper.keyring.x509, SpiffeId(_DOMAIN, "/job"), datetime.now(UTC)
        count = scaled(4000, 50)
        begun = time.perf_counter()
        for _ in range(count):
            _, point = make_leaf_key()
            signer.sign_point(
                spiffe_id, point, serial=serial_number(os.urandom), not_before=now - BACKDATED, not_after=now + _HOUR
            )
        return count / (time.perf_counter() - begun)


async def _issued(issue: Callable[[House, Evidence], Awaitable[Any]]) -> float:
    async with house() as one:
        await one.rate(scaled(500, 20), lambda evidence: issue(one, evidence))
        return await one.rate(scaled(4000, 50), lambda evidence: issue(one, evidence))


def _raw_leaf() -> float:
    count, how, body = scaled(4000, 50), ec.ECDSA(hashes.SHA256()), secrets.token_bytes(500)
    key = ec.generate_private_key(ec.SECP256R1())
    begun = time.perf_counter()
    for _ in range(count):
        ec.generate_private_key(ec.SECP256R1())
        key.sign(body, how)
    return count / (time.perf_counter() - begun)


def _jwt(bao: Bao | None) -> Iterator[Row]:
    """The signer against the bare signature; issued and recorded against OpenBao's identity tokens."""
    signed, raw = race(lambda: asyncio.run(_jwt_signed()), _raw_signature)
    yield Row(
        name="JWT-SVID signed", ours=signed, unit="SVID/s", against="ES256 signature by the library", theirs=raw,
        better="higher", bar=0.5,
    )  # fmt: skip

    def issued() -> float:
        return asyncio.run(_issued(lambda one, evidence: one.trust.jwt_svids(evidence, ["orders"])))

    ours, theirs = race(issued, _oidc_token(bao) if bao is not None else None, rounds=5)
    yield Row(
        name="JWT-SVID issued, durable in the ledger", ours=ours, unit="SVID/s", against="OpenBao identity/oidc/token",
        theirs=theirs, better="higher", bar=1.0,
    )  # fmt: skip
    yield Row(
        name="JWT-SVID signed, one core", ours=signed, unit="SVID/s",
        against="openssl speed ecdsap256 (signature alone)", theirs=_openssl_speed(), better="higher", bar=0.4,
    )  # fmt: skip


async def _jwt_signed() -> float:
    async with house() as one:
        signer, count, now = one.trust.keeper.keyring.jwt, scaled(8000, 50), int(time.time())
        begun = time.perf_counter()
        for number in range(count):
            signer.sign(
                {"sub": f"{_DOMAIN.id}/job", "aud": ["orders"], "exp": now + 300, "iat": now, "jti": f"{number:032x}"}
            )
        return count / (time.perf_counter() - begun)


def _raw_signature() -> float:
    count, how, body = scaled(8000, 50), ec.ECDSA(hashes.SHA256()), secrets.token_bytes(300)
    key = ec.generate_private_key(ec.SECP256R1())
    begun = time.perf_counter()
    for _ in range(count):
        key.sign(body, how)
    return count / (time.perf_counter() - begun)


def _openssl_speed() -> float | None:
    """Signatures a second of one core, as `openssl speed` has it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    done = subprocess.run(
        [openssl, "speed", "-seconds", "1", "ecdsap256"], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.search(r"\(nistp256\)\s+[\d.]+s\s+[\d.]+s\s+([\d.]+)", done.stdout)
    return float(found[1]) if found else None


# -- tokens


def _exchange(bao: Bao | None, program: str | None) -> Iterator[Row]:
    """A token of another's, exchanged by who received it, against a login by JWT, which gives a token too."""
    with ExitStack() as stack:
        mine = stack.enter_context(token_service())
        durable = stack.enter_context(durable_openbao(program)) if program is not None else None
        for peer, where in ((durable, "on its own storage"), (bao, "kept in memory")):
            ours, theirs = race(mine, _jwt_login(peer) if peer is not None else None, rounds=3)
            yield Row(
                name="token exchange by HTTP, durable", ours=ours, unit="token/s",
                against=f"OpenBao JWT login, {where}", theirs=theirs, better="higher", bar=1.0,
            )  # fmt: skip


# -- OpenBao


def _pki_issue(bao: Bao) -> Callable[[], float]:
    bao.write("sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "8760h"}})
    bao.write("pki/root/generate/internal", {"common_name": "bench", "ttl": "8760h", "key_type": "ec", "key_bits": 256})
    role = {"key_type": "ec", "key_bits": 256, "allow_any_name": True, "ttl": "1h", "allowed_uri_sans": "spiffe://*"}
    bao.write("pki/roles/job", {**role, "require_cn": False})
    body = {"uri_sans": f"{_DOMAIN.id}/job", "ttl": "1h"}
    found = bao.write("pki/issue/job", body)["data"]["certificate"]
    assert x509.load_pem_x509_certificate(found.encode()).not_valid_after_utc > datetime.now(UTC)
    return lambda: _fastest(bao, lambda client: client.write("pki/issue/job", body))


def _signed_in(bao: Bao) -> Callable[[Bao], dict[str, Any]]:
    """A role that a JWT logs in to, and the login."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()  # fmt: skip
    if "jwt/" not in bao.read("sys/auth")["data"]:
        bao.write("sys/auth/jwt", {"type": "jwt"})
    bao.write("auth/jwt/config", {"jwt_validation_pubkeys": [pem]})
    bao.write("auth/jwt/role/job", {"role_type": "jwt", "bound_audiences": ["bao"], "user_claim": "sub"})
    now = int(time.time())
    claims: dict[str, Json] = {"sub": f"{_DOMAIN.id}/job", "aud": "bao", "iat": now, "nbf": now, "exp": now + 3600}
    body = {"role": "job", "jwt": jose.Signer(key, {"typ": "JWT"}).sign(claims)}
    return lambda client: client.write("auth/jwt/login", body)


def _jwt_login(bao: Bao) -> Callable[[], float]:
    login = _signed_in(bao)
    return lambda: _fastest(bao, login)


@dataclass(slots=True)
class _Asking:
    """A client of OpenBao that asks the same again and again."""

    bao: Bao
    request: Callable[[Bao], Any]

    def ask(self) -> None:
        self.request(self.bao)

    def close(self) -> None:
        self.bao.close()


def _oidc_token(bao: Bao) -> Callable[[], float]:
    bao.write("sys/policies/acl/oidc", {"policy": 'path "identity/oidc/token/job" { capabilities = ["read"] }'})
    bao.write("identity/oidc/key/job", {"algorithm": "ES256", "allowed_client_ids": ["*"]})
    bao.write("identity/oidc/role/job", {"key": "job", "ttl": "5m"})
    login = _signed_in(bao)
    bao.write("auth/jwt/role/job", {
        "role_type": "jwt", "bound_audiences": ["bao"], "user_claim": "sub", "token_policies": ["oidc"],
    })  # fmt: skip
    token = login(bao)["auth"]["client_token"]

    def ask(client: Bao) -> None:
        status, found = client.ask("GET", "identity/oidc/token/job", token=token)
        assert status == 200, found

    return lambda: _fastest(bao, ask)


def _fastest(bao: Bao, ask: Callable[[Bao], Any]) -> float:
    """Requests a second over kept connections, by as many clients as are best for it."""
    return fastest(lambda: _Asking(Bao(bao.port, bao.root), ask))
