"""What makes AWS different: sessions that nothing revokes, an IAM that settles late, emulators that refuse nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aws_stage import ACCOUNT, MANAGED, ROLE, WRITE, AwsStage, Moto, Nursery, aws_stage, keys_in, target_on
from remit.access.brokers.aws import AwsBroker, AwsBrokerFactory
from remit.access.brokers.aws_session import closed, ends_at, external_id, seal, sealed_in, sealed_tags, unseal
from remit.access.brokers.presentation import Credential
from remit.access.model import Proved, Unproved
from remit.access.testing import INSTANCE, mint_order, principal, revoke_order
from remit.kernel.errors import Conflict, Misconfigured, Rejected, RemitError
from remit.providers.aws.account import Session
from remit.providers.aws.query import Keys, sign

PATH = f"/remit/{INSTANCE}/"
Play = Callable[[AwsStage], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@pytest.fixture
def on_stage(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], None]:
    monkeypatch.setattr("remit.access.brokers.aws._REFUSED_WITHIN", 0.5)
    monkeypatch.setattr("remit.access.brokers.aws._SETTLES_WITHIN", 1.0)

    def on_it(play: Play) -> None:
        async def run() -> None:
            async with aws_stage(nursery) as stage:
                await play(stage)

        asyncio.run(run())

    return on_it


def code_of(client: Any, ask: str, **values: str) -> str:
    try:
        getattr(client, ask)(**values)
    except client.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_a_lease_may_do_what_its_role_says_and_no_more(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease(role=WRITE)
        s3, iam, sts = (stage.client(service, minted, order.secret) for service in ("s3", "iam", "sts"))
        assert code_of(s3, "put_object", Bucket="orders", Key="in/two", Body="x") == ""
        assert code_of(s3, "put_object", Bucket="orders", Key="one", Body="x") == "AccessDenied"
        assert code_of(iam, "create_user", UserName="me") == "AccessDenied"
        assert code_of(iam, "list_role_tags", RoleName=order.principal) == ""
        other, _ = await stage.lease()
        assert code_of(iam, "list_role_tags", RoleName=other.principal) == "AccessDenied"
        arn = minted.settings["role_arn"]
        assert code_of(sts, "assume_role", RoleArn=arn, RoleSessionName="again") == "AccessDenied"

    on_stage(play)


def test_a_managed_policy_is_attached_and_bounds_the_session_too(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease(role=MANAGED)
        iam = stage.client("iam", minted, order.secret)
        assert code_of(iam, "list_users") == ""
        with stage.moto.as_root():
            stage.moto.client("iam").put_role_policy(
                RoleName=order.principal,
                PolicyName="more",
                PolicyDocument=json.dumps(
                    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
                ),
            )
        assert code_of(stage.client("s3", minted, order.secret), "list_buckets") == "AccessDenied"
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)

    on_stage(play)


def test_the_role_is_bounded_named_tagged_and_the_brokers_alone(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease()
        role = stage.role_of(order.principal)
        assert (role["Path"], role["MaxSessionDuration"]) == (PATH, 3600)
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"].endswith(":policy/remit-boundary")
        tags = {tag["Key"]: tag["Value"] for tag in role["Tags"]}
        assert (tags["remit:principal"], tags["remit:lease"]) == (order.principal, "ls_1")
        [assume, *_] = role["AssumeRolePolicyDocument"]["Statement"]
        assert assume["Principal"]["AWS"] == f"arn:aws:iam::{ACCOUNT}:user/remit-broker"
        said = assume["Condition"]["StringEquals"]
        assert said == {"sts:ExternalId": external_id(order.secret), "sts:SourceIdentity": order.principal}
        assert keys_in(minted, order.secret)["AWS_SECRET_ACCESS_KEY"] not in json.dumps(role, default=str)
        assert order.secret not in json.dumps(role, default=str)

    on_stage(play)


def test_the_broker_itself_cannot_make_a_role_without_the_boundary_or_elsewhere(
    on_stage: Callable[[Play], None],
) -> None:
    async def play(stage: AwsStage) -> None:
        iam = stage.moto.client("iam", stage.target.user, stage.secret)
        empty = json.dumps({"Version": "2012-10-17", "Statement": []})
        boundary = f"arn:aws:iam::{ACCOUNT}:policy/remit-boundary"
        made = {"RoleName": principal(), "Path": PATH, "AssumeRolePolicyDocument": empty}
        assert code_of(iam, "create_role", **made) == "AccessDenied"
        assert code_of(iam, "create_role", **(made | {"Path": "/"}), PermissionsBoundary=boundary) == "AccessDenied"
        assert code_of(iam, "create_user", UserName="x") == "AccessDenied"
        order, _ = await stage.lease()
        admin = "arn:aws:iam::aws:policy/AdministratorAccess"
        assert code_of(iam, "attach_role_policy", RoleName=order.principal, PolicyArn=admin) == "AccessDenied"

    on_stage(play)


def test_after_a_restart_the_very_session_is_still_what_is_refused(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease()
        fresh = AwsBroker(stage.target, stage.secret)
        await fresh.open()
        try:
            [done] = await fresh.revoke([revoke_order(order)])
        finally:
            await fresh.close()
        assert isinstance(done.proof, Proved) and done.proof.refusal.startswith("AccessDenied ")
        assert done.proof.control.startswith("iam:ListRoleTags as arn:aws:iam::")
        sts = stage.client("sts", minted, order.secret)
        assert code_of(sts, "get_caller_identity") == "InvalidClientTokenId"

    on_stage(play)


def test_a_revocation_that_broke_off_is_finished_by_a_broker_that_knows_nothing(
    on_stage: Callable[[Play], None],
) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease()
        account = stage.broker._opened
        await account.trust(order.principal, closed(stage.broker._arn))
        await account.delete_policy(order.principal, "remit-lease")
        fresh = AwsBroker(stage.target, stage.secret)
        await fresh.open()
        try:
            [done] = await fresh.revoke([revoke_order(order)])
            assert done.gone and isinstance(done.proof, Proved)
            assert await fresh.sweep(INSTANCE) == []
        finally:
            await fresh.close()
        assert code_of(stage.client("s3", minted, order.secret), "list_buckets") == "InvalidAccessKeyId"

    on_stage(play)


def test_a_mint_that_broke_off_before_its_session_is_finished_by_the_same_order(
    on_stage: Callable[[Play], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(stage: AwsStage) -> None:
        order = mint_order(stage)

        async def broken(*_: object) -> str:
            raise Rejected("test.broke", "it broke off")

        with monkeypatch.context() as patch:
            patch.setattr(AwsBroker, "_become", broken)
            with pytest.raises(Rejected):
                await stage.broker.mint(order)
        assert await stage.broker.sweep(INSTANCE) == [order.principal]
        await (await stage.use(await stage.broker.mint(order), order.secret)).close()

    on_stage(play)


def test_another_secret_gets_nothing_of_the_same_name(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease()
        with pytest.raises(Conflict) as refused:
            await stage.broker.mint(replace(order, secret="another secret of the same lease"))
        assert refused.value.code == "access.aws.taken"
        assert unseal(minted.settings["sealed"], "another", order.principal) is None

    on_stage(play)


def test_a_role_of_our_name_that_is_not_ours_is_never_used_or_deleted(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, empty = mint_order(stage), json.dumps({"Version": "2012-10-17", "Statement": []})
        with stage.moto.as_root():
            stage.moto.client("iam").create_role(RoleName=order.principal, AssumeRolePolicyDocument=empty)
        for verb in (stage.broker.mint(order), stage.broker.revoke([revoke_order(order)])):
            with pytest.raises(RemitError) as refused:
                await verb
            assert refused.value.code == "access.aws.taken"
        assert await stage.broker.sweep(INSTANCE) == []
        assert stage.role_of(order.principal)["Path"] == "/"

    on_stage(play)


def test_a_server_that_judges_nothing_leaves_it_unproved_however_often(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, _ = await stage.lease()
        stage.moto.judges(False)
        for _ in range(2):
            [done] = await stage.broker.revoke([revoke_order(order)])
            assert done.gone and isinstance(done.proof, Unproved)
        stage.moto.judges(True)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert isinstance(done.proof, Proved) and done.proof.refusal.startswith("InvalidClientTokenId")

    on_stage(play)


def test_a_role_that_something_hangs_on_is_not_gone(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        order, minted = await stage.lease()
        with stage.moto.as_root():
            iam = stage.moto.client("iam")
            iam.create_instance_profile(InstanceProfileName="hold")
            iam.add_role_to_instance_profile(InstanceProfileName="hold", RoleName=order.principal)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert not done.gone and isinstance(done.proof, Unproved)
        assert code_of(stage.client("s3", minted, order.secret), "list_buckets") == "AccessDenied"
        with stage.moto.as_root():
            iam.remove_role_from_instance_profile(InstanceProfileName="hold", RoleName=order.principal)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved)

    on_stage(play)


def test_the_session_outlives_its_expiry_nowhere_and_lasts_as_long_as_its_grant(
    on_stage: Callable[[Play], None],
) -> None:
    async def play(stage: AwsStage) -> None:
        now = datetime.now(UTC)
        for until, least in ((timedelta(hours=2), 7190), (timedelta(seconds=30), 890), (timedelta(days=9), 43190)):
            _, minted = await stage.lease(until=now + until)
            lasts = datetime.fromisoformat(minted.settings["expires"]) - now
            assert least <= lasts.total_seconds() <= least + 30

    on_stage(play)


def test_doctor_says_what_it_measured_and_what_it_could_not(on_stage: Callable[[Play], None]) -> None:
    async def play(stage: AwsStage) -> None:
        said = {one.title: one for one in await stage.broker.check()}
        for title in ("AWS answers", "the clocks agree", "access keys are checked"):
            assert said[title].ok, said[title]
        assert said["the boundary and the mapped policies exist"].ok
        assert not said["the broker may do its work"].ok
        await stage.broker.sweep(INSTANCE)
        again = {one.title: one for one in await stage.broker.check()}
        for title in ("the broker may do its work", "the broker holds no more than it needs"):
            assert again[title].ok, again[title]
        every = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iam:*", "Resource": "*"}]}
        with stage.moto.as_root():
            iam, words = stage.moto.client("iam"), json.dumps(every)
            iam.put_user_policy(UserName="remit-broker", PolicyName="more", PolicyDocument=words)
        after = {one.title: one for one in await stage.broker.check()}["the broker holds no more than it needs"]
        assert not after.ok and "iam:CreateRole without the boundary" in after.detail
        assert "iam:CreateUser" in after.detail
        stage.moto.judges(False)
        assert not {one.title: one for one in await stage.broker.check()}["access keys are checked"].ok

    on_stage(play)


def test_an_unknown_key_and_a_foreign_account_are_told_apart(nursery: Nursery) -> None:
    async def opened(target: Any, secret: str) -> str:
        broker = AwsBroker(target, secret)
        with pytest.raises(Misconfigured) as refused:
            await broker.open()
        await broker.close()
        assert secret not in str(refused.value)
        return refused.value.code

    moto = nursery.new()
    try:
        assert asyncio.run(opened(target_on(moto, host="999999999999"), "x" * 40)) == "access.aws.account"
        moto.judges(True)
        assert asyncio.run(opened(target_on(moto), "x" * 40)) == "providers.aws.credentials-refused"
    finally:
        moto.stop()


def test_the_signature_is_botocores() -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    at, url, body = datetime.now(UTC), "https://iam.amazonaws.com/", b"Action=GetRole&RoleName=a+b%2Fc"
    keys = Keys(id="AKIAIOSFODNN7EXAMPLE", secret="wJalrXUtnFEMI", token="t/o+k=")
    ours = sign(url, body, keys=keys, service="iam", region="us-east-1", at=at, headers={"content-type": "x; y=z"})
    request = AWSRequest(method="POST", url=url, data=body, headers={"content-type": "x; y=z"})
    request.context["timestamp"] = ours["x-amz-date"]
    judge = SigV4Auth(Credentials(keys.id, keys.secret, keys.token), "iam", "us-east-1")
    request.headers["X-Amz-Date"], request.headers["X-Amz-Security-Token"] = ours["x-amz-date"], keys.token
    signature = judge.signature(judge.string_to_sign(request, judge.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={signature}")


def test_a_session_of_any_length_rests_in_tags_and_one_too_long_is_refused() -> None:
    for length in (1, 300, 2000, 6000):
        session = Session(keys=Keys(id="ASIA", secret="s" * 40, token="t" * length), expires="")
        tags = sealed_tags(seal(session, "secret", "remit_a", b"n" * 12))
        assert unseal(sealed_in(tags | {"other": "x"}), "secret", "remit_a") == session
        assert max(map(len, tags.values())) <= 256
    with pytest.raises(Rejected):
        sealed_tags("x" * 20_000)


def test_several_needs_are_profiles_of_the_same_files_and_caller_s_credentials_are_taken_away() -> None:
    session = Session(keys=Keys(id="ASIAX", secret="key", token="token"), expires="")
    settings = {"user": "remit_x", "region": "eu-west-1", "sealed": seal(session, "s", "remit_x", b"n" * 12)}
    credential = Credential(target="prod", role="reader", settings=settings, secret="s")
    shown = AwsBrokerFactory().present(credential)
    assert shown.files["aws-credentials"].splitlines()[0] == "[prod-reader]"
    assert shown.files["aws-config"] == "[profile prod-reader]\nregion = eu-west-1\n"
    assert "token" not in shown.files["aws-config"] + repr(shown) + repr(session)
    assert {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"} <= set(shown.stale)


def test_the_expiry_is_a_denial_by_the_clock_of_aws() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    [statement] = ends_at(at)["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "*")
    assert str(statement["Condition"]["DateGreaterThan"]["aws:CurrentTime"]).startswith("2026-01-02T03:04:05")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roles": {"all": "arn:aws:iam::aws:policy/AdministratorAccess"}}, "access.aws.role"),
        ({"roles": {"all": "actions=* resources=*"}}, "access.aws.role"),
        ({"roles": {"all": "actions=s3:* resources=*"}}, "access.aws.role"),
        ({"roles": {"all": "actions=iam:CreateUser resources=*"}}, "access.aws.role"),
        ({"roles": {"all": "actions=sts:AssumeRole resources=*"}}, "access.aws.role"),
        ({"roles": {"all": "actions=s3:GetObject"}}, "access.aws.role"),
        ({"roles": {"all": "resources=*"}}, "access.aws.role"),
        ({"roles": {"all": "reader"}}, "access.aws.role"),
        ({"host": "prod"}, "access.aws.account"),
        ({"user": "admin"}, "access.aws.account"),
        ({"database": "moon"}, "access.aws.region"),
        ({"options": {"boundary": "arn:aws:iam::999999999999:policy/x"}}, "access.aws.role"),
        ({"options": {"endpoint": "http://example.com"}}, "providers.document.address"),
        ({"options": {"insecure": "true"}}, "access.target.option"),
    ],
)
def test_a_target_cannot_be(changes: dict[str, Any], code: str) -> None:
    target = replace(target_on(Moto(0, 1)), **changes)
    with pytest.raises(Misconfigured) as refused:
        AwsBrokerFactory().make(target, "x" * 40)
    assert refused.value.code == code


def test_the_boundary_holds_what_the_roles_say_and_denies_what_outlives_them() -> None:
    whole = json.loads(AwsBroker(target_on(Moto(0, 1), roles={"reader": ROLE}), "x" * 40).install_script(INSTANCE))
    said = whole["Resources"]["Boundary"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = [action for one in said if one["Effect"] == "Allow" for action in [*one["Action"]]]
    assert "s3:GetObject" in allowed and "*" not in allowed
    [denied] = [one["Action"] for one in said if one["Effect"] == "Deny"]
    assert {"iam:PassRole", "sts:AssumeRole*", "iam:Create*"} <= set(denied)


def test_a_url_names_key_account_and_region_and_never_a_secret() -> None:
    where = AwsBrokerFactory().locate(f"aws://AKIAIOSFODNN7EXAMPLE@{ACCOUNT}/eu-central-1")
    assert (where.host, where.user, where.database, where.port) == (
        ACCOUNT,
        "AKIAIOSFODNN7EXAMPLE",
        "eu-central-1",
        443,
    )
    with pytest.raises(Rejected):
        AwsBrokerFactory().locate(f"aws://AKIAIOSFODNN7EXAMPLE:secret@{ACCOUNT}")
