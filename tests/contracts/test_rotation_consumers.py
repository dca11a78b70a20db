"""The contract of consumers, held by every kind: files, a real OpenBao, and the documented behaviour of other APIs."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bench.openbao import Bao, available_openbao, dev_openbao

from remit.access.rotation.consumers.command import CommandFactory
from remit.access.rotation.consumers.systemd import SystemdFactory
from remit.access.rotation.ports import Consumer
from remit.access.rotation.testing import NEW, OLD, ConsumerContract
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.wiring.rotation import consumer_factories
from rest_stage import TOKEN, Apis, rest_apis

TEMPLATES = {
    "PGUSER": "{user}",
    "PGURL": "postgres://{user_url}:{secret_url}@{host}:{port}/{database}",
    "PASS": "{secret}",
}


class Vault:
    """Implements `House` in memory."""

    def __init__(self) -> None:
        self.held = {"orders": OLD.secret.encode()}

    async def replace_secret(self, name: str, value: bytes) -> None:
        self.held[name] = value

    async def read_secret(self, name: str) -> bytes:
        return self.held[name]


def make(kind: str, house: Vault | None = None, **options: Any) -> Consumer:
    return consumer_factories().get(kind).make(options, house or Vault())


@dataclass(slots=True)
class Stage:
    consumer: Consumer
    read: Callable[[], str]
    readable: bool = True

    async def seen(self) -> str:
        return await asyncio.to_thread(self.read)


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return str(path)


class Filed(ConsumerContract):
    """A suite whose place is below `tmp_path`."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path


class TestFile(Filed):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        path = self.folder / "password"
        path.write_text(OLD.secret)
        yield Stage(make("file", path=str(path)), path.read_text)


class TestDotenv(Filed):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        path = self.folder / ".env"
        path.write_text(f"# kept\nA=1\nexport PGUSER={OLD.user}\nPASS={OLD.secret}\nB='2 3'\n")
        yield Stage(
            make("dotenv", path=str(path), keys={"PGUSER": "{user}", "PASS": "{secret}"}), path.read_text
        )  # fmt: skip


class TestConfig(Filed):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        path, template = self.folder / "app.conf", self.folder / "app.conf.j2"
        template.write_text("[db]\nuser = {{ user }}\npassword = {{ secret }}\nhost = {{ host }}:{{ port }}\n")
        path.write_text(f"[db]\nuser = app\npassword = {OLD.secret}\nhost = by hand\n")
        yield Stage(make("config", path=str(path), template=str(template)), path.read_text)


class TestRemit(ConsumerContract):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        vault = Vault()
        yield Stage(make("remit", vault, secret="orders"), lambda: vault.held["orders"].decode())


class Served(ConsumerContract):
    """A suite whose place is an API."""

    apis: Apis
    token: str

    @pytest.fixture(autouse=True)
    def _served(self, apis: Apis, token: str) -> None:
        self.apis, self.token = apis, token


@pytest.fixture(scope="module")
def serving() -> Iterator[Apis]:
    with rest_apis() as made:
        yield made


@pytest.fixture
def apis(serving: Apis) -> Apis:
    serving.secret, serving.variables, serving.github, serving.fails = {}, {}, {}, 0
    return serving


class TestKubernetes(Served):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        texts = {"user": OLD.user, "password": OLD.secret, "kept": "x"}
        self.apis.secret |= {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        consumer = make(
            "kubernetes", server=self.apis.url, namespace="shop", name="db", token_file=self.token,
            data={"user": "{user}", "password": "{secret}", "url": TEMPLATES["PGURL"]},
        )  # fmt: skip
        yield Stage(
            consumer,
            lambda: str(sorted((key, base64.b64decode(one).decode()) for key, one in self.apis.secret.items())),
        )


class TestGitLab(Served):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        self.apis.variables |= {"PASS": OLD.secret, "KEPT": "x"}
        consumer = make(
            "gitlab", server=self.apis.url, project="shop/app", token_file=self.token, variables=TEMPLATES
        )  # fmt: skip
        yield Stage(consumer, lambda: str(sorted(self.apis.variables.items())))


class TestGitHub(Served):
    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        self.apis.github |= {"PASS": OLD.secret}
        consumer = make(
            "github", api=self.apis.url, repository="shop/app", token_file=self.token, secrets={"PASS": "{secret}"}
        )  # fmt: skip
        yield Stage(consumer, lambda: str(sorted(self.apis.github.items())), readable=False)


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    program = available_openbao()
    if program is None:
        pytest.skip("bao: not installed")
    with dev_openbao(program) as made:
        made.ask("POST", "sys/mounts/kv", {"type": "kv-v2"})
        status = 0
        while status != 200:  # the engine upgrades itself for a moment
            status, _ = made.ask("POST", "kv/data/ready", {"data": {"a": "b"}})
        yield made


class TestOpenBao(ConsumerContract):
    bao: Bao
    token: str

    @pytest.fixture(autouse=True)
    def _bao(self, bao: Bao, token: str) -> None:
        Path(token).write_text(bao.root)
        self.bao, self.token = bao, token

    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        self.bao.write("kv/data/shop/db", {"data": {"password": OLD.secret, "kept": "x"}})
        consumer = make(
            "openbao", address=self.bao.address, mount="kv", path="shop/db", token_file=self.token,
            fields={"password": "{secret}", "user": "{user}"},
        )  # fmt: skip
        yield Stage(consumer, lambda: str(sorted(self.bao.read("kv/data/shop/db")["data"]["data"].items())))


# -- what one kind alone must keep


def test_owner_and_mode_stay_and_nothing_lies_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(OLD.secret)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    asyncio.run(make("file", path=str(path)).publish(NEW))
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino and [each.name for each in tmp_path.iterdir()] == ["password"]


def test_a_new_file_is_for_its_owner_alone_and_goes_again(tmp_path: Path) -> None:
    path = tmp_path / "password"

    async def run() -> None:
        consumer = make("file", path=str(path))
        captured = await consumer.capture()
        await consumer.publish(NEW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await consumer.restore(captured, OLD)

    asyncio.run(run())
    assert not path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "password").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Rejected):
        asyncio.run(make("file", path=str(tmp_path / "password")).publish(NEW))
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_an_environment_file_keeps_every_other_line(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# PASS=no\nA=1\n\nexport PASS=old\nB='x y'\n")
    asyncio.run(make("dotenv", path=str(path), keys={"PASS": "{secret}"}).publish(NEW))
    assert path.read_text() == f"# PASS=no\nA=1\n\nexport PASS='{NEW.secret}'\nB='x y'\n"


def test_a_template_reaches_nothing_of_us(tmp_path: Path) -> None:
    template = tmp_path / "t"
    template.write_text("{{ ''.__class__.__mro__ }}{{ secret }}")
    with pytest.raises(Rejected) as caught:
        asyncio.run(make("config", path=str(tmp_path / "out"), template=str(template)).publish(NEW))
    assert not (tmp_path / "out").exists() and NEW.secret not in caught.value.message


def test_the_present_credential_is_read_out_of_its_place(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("PGURL=postgres://app%5F:p%2Fw@db:5432/orders\n")

    async def run() -> None:
        consumer = make("dotenv", path=str(path), keys={"PGURL": "postgres://{user_url}:{secret_url}@db:5432/orders"})
        assert consumer.recall(await consumer.capture()) == {"user": "app_", "secret": "p/w"}

    asyncio.run(run())


def test_an_api_that_is_away_is_unavailable_and_tells_no_secret(apis: Apis, token: str) -> None:
    apis.fails = 1
    consumer = make(
        "gitlab", server=apis.url, project="shop/app", token_file=token, variables={"PASS": "{secret}"}
    )  # fmt: skip
    with pytest.raises(Unavailable) as caught:
        asyncio.run(consumer.publish(NEW))
    assert TOKEN not in str(caught.value) and NEW.secret not in str(caught.value)


def test_a_token_that_others_may_read_is_not_used(apis: Apis, token: str) -> None:
    Path(token).chmod(0o644)
    consumer = make("gitlab", server=apis.url, project="a/b", token_file=token, variables={"P": "{secret}"})
    with pytest.raises(Misconfigured):
        asyncio.run(consumer.capture())


def test_a_hook_gets_its_words_without_a_shell_and_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("REMIT_TOKEN", "ours")
    path, shown = tmp_path / "hook", tmp_path / "shown"
    path.write_text(f'#!/bin/sh\necho "$1" > {shown}; env >> {shown}\n')
    path.chmod(0o755)
    asyncio.run(CommandFactory().make({"argv": [str(path), "$(id); *"]}, Vault()).publish(NEW))
    text = shown.read_text()
    assert text.startswith("$(id); *\n") and "REMIT_TOKEN" not in text and NEW.secret not in text


@pytest.mark.parametrize("script", ["exit 3", "sleep 60"])
def test_a_hook_that_fails_or_does_not_end_is_told(tmp_path: Path, script: str) -> None:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(Rejected):
        asyncio.run(CommandFactory().make({"argv": [str(path)], "seconds": 1}, Vault()).publish(NEW))


def test_systemd_is_asked_for_one_unit(tmp_path: Path) -> None:
    shown, program = tmp_path / "shown", tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {shown}\n')
    program.chmod(0o755)
    asyncio.run(SystemdFactory().make({"unit": "app.service", "systemctl": str(program)}, Vault()).publish(NEW))
    assert shown.read_text() == "reload-or-restart -- app.service\n"
    with pytest.raises(Rejected):
        SystemdFactory().make({"unit": "--force"}, Vault())


@pytest.mark.parametrize(
    "kind, options",
    [
        ("file", {"path": "relative"}),
        ("file", {"path": "/a", "content": "{password}"}), ("dotenv", {"path": "/a", "keys": {"A B": "{secret}"}}),
        ("command", {"argv": "rm -rf"}), ("command", {"argv": ["rm"]}), ("openbao", {"address": "http://a.example"}),
        ("kubernetes", {"server": "https://a", "name": "../x", "data": {"a": "{secret}"}}),
        ("github", {"repository": "a/b", "token_file": "/t", "secrets": {"GITHUB_X": "{secret}"}}),
        ("file", {"path": "/a", "shell": "x"}),
    ],
)  # fmt: skip
def test_options_that_are_not_understood_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises((Rejected, Misconfigured)):
        consumer_factories().get(kind).make({"path": "x", **options} if kind == "openbao" else options, Vault())
