"""A broker on moto (see `aws_server`), with exactly the rights that it asks for, and boto3 that uses leases."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remit.access.brokers.aws import AwsBroker, AwsBrokerFactory
from remit.access.brokers.presentation import Credential
from remit.access.model import Minted, MintOrder, Target
from remit.access.testing import INSTANCE, mint_order

ACCOUNT = "123456789012"
MANAGED = f"arn:aws:iam::{ACCOUNT}:policy/see-users"
ROLE = "actions=s3:GetObject,s3:ListBucket resources=arn:aws:s3:::orders,arn:aws:s3:::orders/*"
WRITE = f"{ROLE} actions=s3:PutObject resources=arn:aws:s3:::orders/in/*"
SEE_USERS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iam:ListUsers", "Resource": "*"}],
}
EASY = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}


@cache
def _session() -> Any:
    """One for all: it remembers the models of services, which take long to read."""
    import boto3

    return boto3.session.Session()


@dataclass(slots=True)
class Moto:
    """A server with an account of its own."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def judges(self, judging: bool) -> None:
        """Whether it looks at signatures and policies at all."""
        httpx2.post(f"{self.url}/moto-api/reset-auth", content=b"0" if judging else b"inf").raise_for_status()

    def client(self, service: str, key: str = "AKIAROOTROOTROOTROOT", secret: str = "root", token: str = "") -> Any:
        """boto3, as somebody."""
        from botocore.config import Config

        return _session().client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token or None,
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=60),
        )

    @contextmanager
    def as_root(self) -> Iterator[None]:
        self.judges(False)
        yield
        self.judges(True)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """A program that has moto loaded, and makes servers of it."""

    def __init__(self) -> None:
        pytest.importorskip("flask", reason="moto's server: not installed")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("aws_server.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **EASY},
        )  # fmt: skip
        if self._read() != "ready":
            self.close()
            raise AssertionError("moto does not start")

    def new(self) -> Moto:
        assert self._process.stdin is not None
        self._process.stdin.write("new\n")
        self._process.stdin.flush()
        pid, port = self._read().split()
        return Moto(int(pid), int(port))

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def target_on(moto: Moto, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "name": "prod",
        "system": "aws",
        "host": ACCOUNT,
        "port": 443,
        "database": "us-east-1",
        "user": "AKIAIOSFODNN7EXAMPLE",
        "roles": {"reader": ROLE, "writer": WRITE, "users": MANAGED},
        "options": {"endpoint": moto.url},
    }
    return Target(**(values | changes))


def install(moto: Moto, target: Target, instance: str = INSTANCE, *others: str) -> tuple[Target, str]:
    """What an administrator does once; the target with the broker's key, and its secret."""
    iam, s3 = moto.client("iam"), moto.client("s3")
    s3.create_bucket(Bucket="orders")
    s3.put_object(Bucket="orders", Key="one", Body=b"first")
    s3.put_object(Bucket="orders", Key="in/two", Body=b"second")
    iam.create_policy(PolicyName="see-users", PolicyDocument=json.dumps(SEE_USERS))
    iam.create_user(UserName="remit-broker")
    key = iam.create_access_key(UserName="remit-broker")["AccessKey"]
    target = Target(**{name: getattr(target, name) for name in target.__slots__} | {"user": key["AccessKeyId"]})
    deploy(moto, target, instance)
    for other in others:
        rights = json.loads(AwsBroker(target, "x" * 20).install_script(other))["Resources"]["Rights"]["Properties"]
        document = json.dumps(rights["PolicyDocument"])
        iam.put_user_policy(UserName="remit-broker", PolicyName=other, PolicyDocument=document)
    moto.judges(True)
    return target, str(key["SecretAccessKey"])


def deploy(moto: Moto, target: Target, instance: str) -> None:
    """The template's two resources, as CloudFormation makes them."""
    iam = moto.client("iam")
    made = json.loads(AwsBroker(target, "x" * 20).install_script(instance))["Resources"]
    boundary, rights = made["Boundary"]["Properties"], made["Rights"]["Properties"]
    iam.create_policy(PolicyName=boundary["ManagedPolicyName"], PolicyDocument=json.dumps(boundary["PolicyDocument"]))
    iam.put_user_policy(
        UserName="remit-broker",
        PolicyName=rights["PolicyName"],
        PolicyDocument=json.dumps(rights["PolicyDocument"]),
    )


def keys_in(minted: Minted, secret: str) -> dict[str, str]:
    """What a task finds, where it asked for its environment."""
    credential = Credential(target="prod", role="reader", settings=minted.settings, secret=secret)
    return dict(AwsBrokerFactory().present(credential).secrets)


@dataclass(slots=True)
class Session:
    """A task with boto3."""

    s3: Any

    async def work(self) -> None:
        await asyncio.to_thread(self.s3.get_object, Bucket="orders", Key="one")

    async def close(self) -> None:
        self.s3.close()


@dataclass(slots=True)
class AwsStage:
    """`BrokerStage` on a server."""

    moto: Moto
    broker: AwsBroker
    target: Target
    secret: str
    role: str = ROLE
    database: str = "us-east-1"

    def client(self, service: str, minted: Minted, secret: str) -> Any:
        keys = keys_in(minted, secret)
        return self.moto.client(
            service, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], keys["AWS_SESSION_TOKEN"]
        )

    async def use(self, minted: Minted, secret: str) -> Session:
        session = Session(self.client("s3", minted, secret))
        await session.work()
        return session

    async def lease(self, **changes: Any) -> tuple[MintOrder, Minted]:
        order = mint_order(self, **changes)
        return order, await self.broker.mint(order)

    def role_of(self, principal: str) -> Any:
        """IAM's own record, as an administrator sees it."""
        with self.moto.as_root():
            return self.moto.client("iam").get_role(RoleName=principal)["Role"]

    async def admit_anyone(self) -> None:
        self.moto.judges(False)

    async def stop(self) -> None:
        self.moto.stop()


@asynccontextmanager
async def aws_stage(nursery: Nursery, **changes: Any) -> AsyncIterator[AwsStage]:
    """An open broker, on a server of its own."""
    moto = nursery.new()
    try:
        target, secret = await asyncio.to_thread(install, moto, target_on(moto, **changes), INSTANCE, "other002")
        broker = AwsBroker(target, secret)
        try:
            await broker.open()
            yield AwsStage(moto, broker, target, secret)
        finally:
            await broker.close()
    finally:
        moto.stop()
