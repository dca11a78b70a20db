"""NATS as a source, on a real server in operator mode and the directory of its resolver."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nats_stage import Operator, client, key, nats_server
from ports import free_port
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.nats import NatsConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, Skipped
from remit.inventory.secrets.engine import make_engine
from remit.inventory.secrets.found import find
from remit.inventory.secrets.model import Blob
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Rejected, Unavailable
from remit.kernel.ids import Name, name
from remit.providers.nats.nkeys import KeyPair, creds, decode_jwt, encode_jwt


@dataclass(slots=True)
class Estate:
    """A server with one account, users of which are kept in a store, revoked, or only connected."""

    operator: Operator
    folder: Path
    monitor: int = 0
    users: dict[str, KeyPair] = field(default_factory=dict)

    def user(self, label: str, signer: KeyPair | None = None, **claims: Any) -> str:
        self.users.setdefault(label, key("U"))
        nats = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, **claims.pop("nats", {})}
        said = {"iat": 1_700_000_000, "sub": self.users[label].public, "name": label, "nats": nats, **claims}
        return encode_jwt(said, signer or self.operator.account)

    def keep(self, path: str, jwt: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(jwt)

    def named(self, label: str) -> Name:
        return name("nats", self.operator.account.public, "user", self.users[label].public)

    def connector(self, **options: str) -> NatsConnector:
        live = {"monitor": f"http://127.0.0.1:{self.monitor}"} if self.monitor else {}
        return make(str(self.folder), {**live, **options}, "")


class Connected:
    """A client in a loop of its own."""

    def __init__(self, port: int, text: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = asyncio.run_coroutine_threadsafe(client(port, text), self._loop).result(20)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


@pytest.fixture(scope="module")
def estate() -> Iterator[Estate]:
    operator = Operator()
    folder = Path(tempfile.mkdtemp(prefix="remit-nsc-", dir="/tmp"))
    try:
        with nats_server(operator, monitor=free_port()) as server:
            made = Estate(operator, folder, server.monitor)
            made.user("revoked")
            revocations = {made.users["revoked"].public: 1_800_000_000}
            account = operator.account_jwt(
                operator.account, signing_keys=[operator.signing.public], revocations=revocations
            )
            made.keep("test/test.jwt", operator.operator_jwt())
            made.keep("test/accounts/app/app.jwt", account)
            made.keep("test/accounts/SYS/SYS.jwt", operator.account_jwt(operator.system))
            made.keep("test/accounts/app/users/revoked.jwt", made.user("revoked"))
            rights = {"pub": {"allow": ["orders.new"]}, "sub": {"allow": ["orders.>"], "deny": ["orders.secret"]}}
            made.keep("test/accounts/app/users/orders.jwt", made.user("orders", exp=1_900_000_000, nats=rights))
            made.keep("test/accounts/app/users/open.jwt", made.user("open", nats={"bearer_token": True}))
            made.keep("test/accounts/app/users/forged.jwt", made.user("forged", signer=key("A")))
            made.keep("test/accounts/app/users/broken.jwt", "no.jwt.here")
            (folder / "test/link.jwt").symlink_to("/etc/hostname")
            session = Connected(server.port, creds(made.user("live", exp=1_900_000_000), made.users["live"].seed))
            try:
                yield made
            finally:
                session.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def stage(estate: Estate) -> ConnectorStage:
    app = estate.operator.account.public
    return ConnectorStage(
        connector=estate.connector,
        expected=(
            estate.named("orders"), estate.named("live"), name("nats", app, "account", app),
            name("nats", "nkey", "account", estate.operator.signing.public),
            name("nats", "nkey", "operator", estate.operator.operator.public),
            sha256(estate.users["orders"].public.encode()),
        ),
        secrets=tuple(each.seed for each in estate.users.values()),
        refused=lambda: make("/no/such/directory", {}, ""),
    )  # fmt: skip


class TestNats(ConnectorContract):
    pass


@pytest.fixture(scope="module")
def facts(estate: Estate) -> list[Fact]:
    return facts_of(estate.connector())


def rules(facts: list[Fact], subject: str) -> set[str]:
    return {each.rule for each in facts if isinstance(each, FindingFact) and each.subject == subject}


def test_a_user_reaches_what_its_permissions_say(estate: Estate, facts: list[Fact]) -> None:
    [edge] = [each for each in facts if isinstance(each, EdgeFact) and each.source == estate.named("orders")]
    assert edge.actions == ("PUB orders.new", "SUB orders.>")
    assert edge.conditions == ("not SUB orders.secret",)


def test_findings_say_who_never_ends_and_whose_token_opens_by_itself(estate: Estate, facts: list[Fact]) -> None:
    assert rules(facts, estate.named("orders")) == set()
    assert rules(facts, estate.named("open")) == {
        "nats.user-never-expires", "nats.bearer-user", "nats.user-unrestricted",
    }  # fmt: skip


def test_a_revoked_user_cannot_log_in_and_reaches_nothing(estate: Estate, facts: list[Fact]) -> None:
    [who] = [each for each in facts if isinstance(each, IdentityFact) and each.name == estate.named("revoked")]
    assert who.attributes["revoked"] is True and who.attributes["can_login"] is False
    assert not [each for each in facts if isinstance(each, EdgeFact) and each.source == who.name]


def test_what_the_operator_did_not_sign_is_reported_and_left_out(estate: Estate, facts: list[Fact]) -> None:
    skipped = {each.what: each.reason for each in facts if isinstance(each, Skipped)}
    assert skipped["test/accounts/app/users/forged.jwt"] == "not-permitted"
    assert skipped["test/accounts/app/users/broken.jwt"] == "malformed"
    assert estate.users["forged"].public not in repr([each for each in facts if isinstance(each, IdentityFact)])


def test_a_connected_user_whose_jwt_is_in_no_store_is_seen_with_its_use(estate: Estate, facts: list[Fact]) -> None:
    [who] = [each for each in facts if isinstance(each, IdentityFact) and each.name == estate.named("live")]
    assert who.attributes["last_used"] and "127.0.0.1" in str(who.attributes["consumers"])
    [use] = [each for each in facts if isinstance(each, UseFact)]
    assert [each.use.name for each in use.sessions] == [name("nats", "nkey", "user", estate.users["live"].public)]


def test_a_seed_found_by_the_secret_scan_is_the_same_credential_and_identity(estate: Estate, facts: list[Fact]) -> None:
    user = estate.users["orders"]
    blob = Blob(path="app/bus.creds", data=creds(estate.user("orders", exp=1_900_000_000), user.seed).encode())
    engine = make_engine(pure=True)
    found = [find(hit, blob, lambda secret: "hmac:" + "0" * 64) for hit in engine.scan(blob)]
    [seed] = [each for each in found if each.rule == "nats-seed"]
    [mine] = [each for each in facts if isinstance(each, CredentialFact) and each.identity == estate.named("orders")]
    [who] = [each for each in facts if isinstance(each, IdentityFact) and each.name == estate.named("orders")]
    assert seed.fingerprint == mine.fingerprint
    assert seed.binding.subject is not None and seed.binding.subject.name in who.aliases


def test_the_directory_of_the_servers_own_resolver_can_be_read(estate: Estate) -> None:
    operator = estate.operator
    with nats_server(operator) as server:
        facts: list[Fact] = []
        deadline = time.monotonic() + 60
        while not any(isinstance(each, IdentityFact) for each in facts) and time.monotonic() < deadline:
            facts = facts_of(make(str(server.folder / "jwt"), {"operator": operator.operator.public}, ""))
    shown = {each.name for each in facts if isinstance(each, IdentityFact)}
    assert name("nats", "nkey", "account", operator.account.public) in shown


def test_a_directory_of_two_operators_is_refused(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jwt").write_text(Operator().operator_jwt())
    with pytest.raises(Rejected) as refusal:
        make(str(tmp_path), {}, "").open()
    assert refusal.value.code == "inventory.nats.operator"


@pytest.mark.parametrize("url", ["http://bus.example:8222", "ftp://127.0.0.1", "http://u:p@127.0.0.1:1", "http://["])
def test_the_monitoring_endpoint_is_of_this_machine_or_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        make(str(tmp_path), {"monitor": url}, "")


def test_a_silent_endpoint_fails_before_anything_is_retired(estate: Estate) -> None:
    with pytest.raises(Unavailable):
        estate.connector(monitor=f"http://127.0.0.1:{free_port()}").open()


def test_hostile_claims_are_shown_as_text(tmp_path: Path) -> None:
    operator, user = Operator(), key("U")
    (tmp_path / "o.jwt").write_text(operator.operator_jwt())
    (tmp_path / "a.jwt").write_text(operator.account_jwt(operator.account, signing_keys=[7, {"key": []}, None]))
    nats = {"type": "user", "pub": {"allow": ["\x1b[31m", 7, None]}, "sub": "no", "src": {"a": 1}, "times": [3]}
    jwt = encode_jwt({"sub": user.public, "name": "a\n\x1b]0;x", "iat": "soon", "nats": nats}, operator.account)
    (tmp_path / "u.jwt").write_text(jwt)
    assert decode_jwt(jwt)["sub"] == user.public
    facts = facts_of(make(str(tmp_path), {}, ""))
    assert "\x1b" not in repr(facts).replace("\\x1b", "\x1b")
