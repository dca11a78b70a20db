"""OpenBao, by its JWT auth method, takes our JWT-SVIDs: it finds the keys by our OpenID discovery, and nothing else."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from oauth_stage import API, FRONT, STOCK, Stage, issuing_stage

from patience import until_ready
from ports import free_port, on_a_free_port

BAO = Path(sys.executable).with_name("bao")


@dataclass(frozen=True, slots=True)
class Bao:
    """A development server of OpenBao, in memory, on a free port."""

    url: str
    token: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str = "") -> tuple[int, Any]:
        request = urllib.request.Request(
            f"{self.url}/v1/{path}", method=method, data=json.dumps(body).encode() if body is not None else None,
            headers={"X-Vault-Token": token or self.token},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                raw = answer.read()
                return answer.status, json.loads(raw) if raw else {}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def login(self, jwt: str) -> tuple[int, Any]:
        return self.call("POST", "auth/jwt/login", {"role": "front", "jwt": jwt})


@on_a_free_port
def openbao(folder: Path) -> Iterator[Bao]:
    if not BAO.exists() and shutil.which("bao") is None:
        pytest.skip("openbao: not installed")
    port, token = free_port(), secrets.token_hex(16)
    said = folder / f"{port}.log"
    log = said.open("wb")
    process = subprocess.Popen(
        [str(BAO) if BAO.exists() else "bao", "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}",
         f"-dev-root-token-id={token}"],
        stdout=log, stderr=log, env={**os.environ, "HOME": "/nonexistent"},
    )  # fmt: skip
    log.close()
    bao = Bao(f"http://127.0.0.1:{port}", token)
    try:
        until_ready(process, said, lambda: bao.call("GET", "sys/health")[0] == 200)
        yield bao
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with issuing_stage() as made:
        yield made


@pytest.fixture(scope="module")
def bao(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with openbao(tmp_path_factory.mktemp("bao")) as made:
        assert made.call("POST", "sys/auth/jwt", {"type": "jwt"})[0] == 204
        status, said = made.call(
            "POST", "auth/jwt/config", {"oidc_discovery_url": stage.issuer, "bound_issuer": stage.issuer}
        )
        assert status == 204, said
        role = {
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["bao"], "bound_subject": FRONT,
            "token_policies": ["default"],
        }  # fmt: skip
        status, said = made.call("POST", "auth/jwt/role/front", role)
        assert status in (200, 204), said
        yield made


def test_a_jwt_svid_for_openbao_is_a_login_there(stage: Stage, bao: Bao) -> None:
    status, said = bao.login(stage.jwt_svid(FRONT, "bao"))
    assert status == 200, said
    looked = bao.call("GET", "auth/token/lookup-self", token=said["auth"]["client_token"])[1]
    assert looked["data"]["display_name"] == f"jwt-{FRONT}"


@pytest.mark.parametrize("wrong", ["audience", "subject", "access token", "altered"])
def test_every_other_token_is_refused_there(stage: Stage, bao: Bao, wrong: str) -> None:
    match wrong:
        case "audience":
            token = stage.jwt_svid(FRONT, "somebody-else")
        case "subject":
            token = stage.jwt_svid(STOCK, "bao")
        case "access token":
            token = stage.own(FRONT, "read", API)
        case _:
            head, _, tail = stage.jwt_svid(FRONT, "bao").rpartition(".")
            token = f"{head}.{'A' if tail[0] != 'A' else 'B'}{tail[1:]}"
    status, said = bao.login(token)
    assert status == 400, said


def test_after_a_rotation_openbao_finds_the_new_key_by_itself(stage: Stage, bao: Bao) -> None:
    stage.server.cli("authority", "rotate", "jwt")
    status, said = bao.login(stage.jwt_svid(FRONT, "bao"))
    assert status == 200, said
