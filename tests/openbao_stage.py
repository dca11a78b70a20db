"""A real OpenBao with a PKI engine, and the ways to sign in to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.openbao import Bao, available_openbao, dev_openbao

from remit.providers.openbao.client import AppRoleAuth, Auth, JwtAuth, OpenBao, TokenAuth
from remit.trust.authority.upstream.disk import read_secret

POLICY = (
    'path "pki/issuer/default/sign-intermediate" { capabilities = ["update"] }\n'
    'path "pki/issuer/default/json" { capabilities = ["read"] }\n'
)


@dataclass(frozen=True, slots=True)
class Engine:
    """A PKI engine with a root of its own, and a policy `remit` that lets intermediates be signed."""

    bao: Bao
    folder: Path

    def secret(self, name: str, value: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(value + "\n")
        return path

    def token(self, *, ttl: str = "5m") -> Auth:
        made = self.bao.write("auth/token/create", {"policies": ["remit"], "ttl": ttl, "no_parent": True})
        path = self.secret("token", made["auth"]["client_token"])
        return TokenAuth(token=lambda: read_secret(path))

    def approle(self) -> Auth:
        self.bao.write("sys/auth/approle", {"type": "approle"})
        self.bao.write("auth/approle/role/remit", {"token_policies": "remit", "token_ttl": "5m"})
        role_id = self.bao.read("auth/approle/role/remit/role-id")["data"]["role_id"]
        path = self.secret("secret-id", self.bao.write("auth/approle/role/remit/secret-id")["data"]["secret_id"])
        return AppRoleAuth(role_id=role_id, secret_id=lambda: read_secret(path))

    def jwt(self, token: str, public_pem: str) -> Auth:
        self.bao.write("sys/auth/jwt", {"type": "jwt"})
        self.bao.write("auth/jwt/config", {"jwt_validation_pubkeys": [public_pem]})
        role = {"role_type": "jwt", "bound_audiences": ["bao"], "user_claim": "sub", "token_policies": ["remit"]}
        self.bao.write("auth/jwt/role/remit", role)
        path = self.secret("jwt", token)
        return JwtAuth(role="remit", jwt=lambda: read_secret(path))

    def client(self, auth: Auth) -> OpenBao:
        return OpenBao(self.bao.address, auth)


@contextmanager
def pki_engine(folder: Path, *, key_type: str = "ec", key_bits: int = 256) -> Iterator[Engine]:
    """Start one; skips the test where there is no OpenBao."""
    program = available_openbao()
    if program is None:
        pytest.skip("bao: not installed")
    with dev_openbao(program) as bao:
        bao.write("sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "8760h"}})
        root = {"common_name": "company root", "ttl": "8760h", "key_type": key_type, "key_bits": key_bits}
        bao.write("pki/root/generate/internal", root)
        bao.write("sys/policies/acl/remit", {"policy": POLICY})
        yield Engine(bao, folder)
