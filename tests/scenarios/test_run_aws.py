"""`remit run` in AWS: plain boto3 finds its profile, may do what its role says, and is refused when the task is over.

boto3 is real; IAM, STS and S3 are moto's, judged by the rules of IAM (see `aws_server`).
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Iterator

import pytest
from run_stage import Stage, stage, summary, until

from aws_stage import EASY, Moto, Nursery, install, target_on

NEEDS = ["aws://prod?role=reader"]
JOB = """
import os, sys
import boto3, botocore.exceptions
s3 = boto3.client("s3")
print(s3.get_object(Bucket="orders", Key="one")["Body"].read().decode(), flush=True)
print(boto3.client("sts").get_caller_identity()["Arn"], flush=True)
if sys.argv[1:] == ["wait"]:
    sys.stdin.read()
try:
    s3.put_object(Bucket="orders", Key="in/two", Body=b"mine")
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
print(oct(os.stat(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).st_mode)[-3:], "AWS_SECRET_ACCESS_KEY" in os.environ)
print(open(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).read())
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture
def moto(nursery: Nursery) -> Iterator[Moto]:
    found = nursery.new()
    yield found
    found.stop()


@pytest.fixture
def made(moto: Moto) -> Iterator[Stage]:
    with stage() as scene:
        target, secret = install(moto, target_on(moto), "scene001")
        scene.arrange(lambda state: state.targets.add(target, secret, actor="person:ann"))
        scene.env |= {**EASY, "AWS_ACCESS_KEY_ID": "AKIASTALESTALESTALE0", "AWS_SECRET_ACCESS_KEY": "stale"}
        path = scene.folder / "job"
        path.write_text(f"#!{sys.executable}{JOB}")
        path.chmod(0o755)
        scene.register("job", str(path))
        scene.start_agent()
        yield scene


def left(moto: Moto) -> list[str]:
    """The roles that there are of leases."""
    with moto.as_root():
        return [role["RoleName"] for role in moto.client("iam").list_roles(PathPrefix="/remit/")["Roles"]]


def test_plain_boto3_works_and_its_session_is_refused_afterwards(made: Stage, moto: Moto) -> None:
    done = made.run("job", str(made.folder / "job"), needs=NEEDS, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    body, arn, put, mode, credentials = done.stdout.split("\n", 4)
    assert (body, put, mode) == ("first", "AccessDenied", "600 False")
    name = arn.rpartition("/")[2]
    assert name.startswith("remit_scene001_") and arn.split("/")[1] == name
    [lease] = summary(done.stderr)["leases"]
    assert lease["refusal"].startswith("AccessDenied ")
    assert not left(moto)
    profiles = configparser.ConfigParser()
    profiles.read_string(credentials)
    keys = profiles["prod-reader"]
    session = (keys["aws_access_key_id"], keys["aws_secret_access_key"], keys["aws_session_token"])
    for service, ask in (("s3", "list_buckets"), ("sts", "get_caller_identity")):
        client = moto.client(service, *session)
        with pytest.raises(client.exceptions.ClientError) as refused:
            getattr(client, ask)()
        assert refused.value.response["Error"]["Code"] in ("InvalidAccessKeyId", "InvalidClientTokenId")


def test_what_an_agent_left_is_swept_by_the_next(made: Stage, moto: Moto) -> None:
    running = subprocess.Popen(
        made.command("job", str(made.folder / "job"), "wait", needs=NEEDS),
        env=made.env,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "first\n"
    made.kill_agent()
    running.kill()
    running.communicate()
    assert len(left(moto)) == 1
    made.start_agent()
    until(lambda: not left(moto))
