"""Traps of Kubernetes, each with the broker that steps over it; kubectl is the real one, the API server emulated."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kubernetes_api import KubernetesApi
from kubernetes_stage import (
    DEPLOY,
    EDIT,
    ROLE,
    KubernetesStage,
    cluster,
    install,
    kubernetes_stage,
    target_on,
    token_in,
)
from remit.access.brokers.kubernetes import KubernetesBroker, KubernetesBrokerFactory, name_of
from remit.access.brokers.kubernetes_settings import BROKER, BROKER_HOME, HOME, RBAC, decode_secret
from remit.access.brokers.kubernetes_token import claims_of, unseal
from remit.access.model import Proved, Unproved
from remit.access.testing import INSTANCE, mint_order, principal, revoke_order
from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable

STRANGER = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: remit-leases, labels: {labels}}}
"""


def on_stage(play: Callable[[KubernetesStage], Coroutine[Any, Any, None]], **changes: Any) -> None:
    async def run() -> None:
        async with kubernetes_stage(**changes) as stage:
            await play(stage)

    asyncio.run(run())


async def gone(stage: KubernetesStage) -> None:
    """Until no lease has an account."""
    async with asyncio.timeout(60):
        while stage.api.names("serviceaccounts", HOME):
            await asyncio.sleep(0.01)


def kubectl(api: KubernetesApi, token: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The real one, as whoever holds the token."""
    program = Path(sys.executable).with_name("kubectl")
    if not program.exists():
        pytest.skip("kubectl: not installed")
    config = api.folder / "config"
    cluster = {"server": api.url, "certificate-authority": str(api.ca)}
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return subprocess.run(
        [str(program), "--kubeconfig", str(config), *words],
        input=stdin,
        env={"HOME": str(api.folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def may(api: KubernetesApi, token: str, *words: str) -> bool:
    """VERB RESOURCE[.GROUP][/SUBRESOURCE] [NAMESPACE], as kubectl asks the server."""
    verb, resource, namespace = *words, *[""] * (3 - len(words))
    resource, _, subresource = resource.partition("/")
    resource, _, group = resource.partition(".")
    asked = {"verb": verb, "resource": resource, "group": group, "subresource": subresource, "namespace": namespace}
    review = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    done = kubectl(api, token, "create", "--raw", path, "-f", "-", stdin=json.dumps(review))
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout)["status"]["allowed"])


@pytest.mark.parametrize(
    ("role", "words"), [("cluster-admin", "not currently held"), ("edit", "not currently held"), ("view", "")]
)
def test_the_broker_can_bind_the_roles_of_its_list_alone(role: str, words: str) -> None:
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    subjects = [{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}]
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "roleRef": reference, "subjects": subjects}
    text = json.dumps({**binding, "metadata": {"name": "mine", "namespace": "shop"}})
    with cluster() as api:
        token = install(api, target_on(api, roles={"view": ROLE}))
        done = kubectl(api, token, "create", "--validate=false", "-f", "-", stdin=text)
        assert (done.returncode == 0) is (words == "") and words in done.stderr


def test_the_broker_may_become_nobody_else() -> None:
    with cluster() as api:
        token = install(api, target_on(api))
        assert may(api, token, "create", "serviceaccounts/token", HOME)
        for words in (
            ("get", "secrets", "shop"),
            ("create", "serviceaccounts/token", "shop"),
            ("create", "serviceaccounts/token", BROKER_HOME),
            ("create", f"clusterrolebindings.{RBAC}"),
            ("update", f"rolebindings.{RBAC}", "shop"),
            ("create", f"rolebindings.{RBAC}", "books"),
            ("escalate", f"roles.{RBAC}", "shop"),
            ("impersonate", "serviceaccounts", "shop"),
            ("create", "pods", HOME),
        ):
            assert not may(api, token, *words), words


def test_kubectl_applies_what_the_broker_asks_for() -> None:
    with cluster() as api:
        target = target_on(api)
        text = KubernetesBroker(target, "x" * 20).install_script(INSTANCE)
        done = kubectl(api, api.admin, "create", "--validate=false", "-f", "-", stdin=text)
        assert done.returncode == 0, done.stderr
        path = f"/api/v1/namespaces/{BROKER_HOME}/serviceaccounts/{BROKER}/token"
        asked = json.dumps({"kind": "TokenRequest", "spec": {"expirationSeconds": 36000}})
        made = kubectl(api, api.admin, "create", "--raw", path, "-f", "-", stdin=asked)
        assert made.returncode == 0, made.stderr
        token = json.loads(made.stdout)["status"]["token"]

        async def checked() -> list[str]:
            broker = KubernetesBroker(target, token)
            await broker.open()
            try:
                return [one.title for one in await broker.check() if one.ok]
            finally:
                await broker.close()

        assert {"the broker may do its work", "the broker holds no more than it needs"} <= set(asyncio.run(checked()))


def test_a_token_is_bound_to_account_and_secret_and_falls_with_either() -> None:
    async def play(stage: KubernetesStage) -> None:
        for resource in ("serviceaccounts", "secrets"):
            order, token = await stage.lease()
            about = claims_of(token)["kubernetes.io"]
            assert (about["namespace"], about["secret"]["name"]) == (HOME, name_of(order.principal))
            path = f"/api/v1/namespaces/{HOME}/{resource}/{name_of(order.principal)}"
            assert httpx2_as(stage.api, stage.api.admin, "DELETE", path) == 200
            assert httpx2_as(stage.api, token, "GET", "/api/v1/namespaces/shop/pods") == 401

    on_stage(play)


def httpx2_as(api: KubernetesApi, token: str, method: str, path: str) -> int:
    import ssl

    context = ssl.create_default_context(cafile=str(api.ca))
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.request(method, api.url + path, headers=headers, verify=context, trust_env=False).status_code


def test_a_server_that_binds_no_tokens_is_refused_and_nothing_stays() -> None:
    async def play(stage: KubernetesStage) -> None:
        stage.api.binds_tokens = False
        order = mint_order(stage)
        with pytest.raises(Rejected) as refused:
            await stage.broker.mint(order)
        assert refused.value.code == "access.kubernetes.unbound"
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and await stage.broker.sweep(INSTANCE) == []

    on_stage(play)


def test_the_proof_waits_while_the_server_still_remembers_the_token() -> None:
    async def play(stage: KubernetesStage) -> None:
        stage.api.token_cache = 0.6
        order, token = await stage.lease()
        assert stage.api.user_of(token) is not None
        revoking = asyncio.create_task(stage.broker.revoke([revoke_order(order)]))
        await gone(stage)
        remembered = stage.api.user_of(token) is not None
        [done] = await revoking
        assert remembered and isinstance(done.proof, Proved) and done.proof.refusal == "401 Unauthorized"

    on_stage(play)


def test_a_remembered_token_may_do_nothing_any_more() -> None:
    async def play(stage: KubernetesStage) -> None:
        stage.api.token_cache = 30
        order, token = await stage.lease()
        path = "/api/v1/namespaces/shop/pods"
        assert await asyncio.to_thread(httpx2_as, stage.api, token, "GET", path) == 200
        revoking = asyncio.create_task(stage.broker.revoke([revoke_order(order)]))
        await gone(stage)
        assert await asyncio.to_thread(httpx2_as, stage.api, token, "GET", path) == 403
        stage.api.token_cache = 0
        stage.api.forget_tokens()
        await revoking

    on_stage(play)


def test_a_proof_that_must_wait_delays_the_end_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.access.brokers.kubernetes._REFUSED_WITHIN", 60)

    async def play(stage: KubernetesStage) -> None:
        stage.api.token_cache = 60
        orders = [(await stage.lease())[0] for _ in range(10)]
        revoking = asyncio.create_task(stage.broker.revoke([revoke_order(order) for order in orders]))
        await gone(stage)
        stage.api.token_cache = 0
        stage.api.forget_tokens()
        assert all(isinstance(one.proof, Proved) for one in await revoking)

    on_stage(play)


def test_an_open_watch_lives_on_and_the_revocation_says_that_it_cannot_see_it() -> None:
    async def play(stage: KubernetesStage) -> None:
        order, token = await stage.lease()
        session = stage.client(token)
        async with session.client.stream("GET", "/api/v1/namespaces/shop/pods?watch=1&resourceVersion=0") as stream:
            lines = stream.aiter_lines()
            assert json.loads(await anext(lines))["object"]["metadata"]["name"] == "web-1"
            [done] = await stage.broker.revoke([revoke_order(order)])
            stage.api.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web-2, namespace: shop}\n")
            assert json.loads(await anext(lines))["object"]["metadata"]["name"] == "web-2"
        assert [(one.fate, "watch" in one.what) for one in done.left_behind] == [("not seen", True)]

    on_stage(play)


def test_an_account_that_a_finalizer_holds_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.access.brokers.kubernetes._GONE_WITHIN", 0.3)

    async def play(stage: KubernetesStage) -> None:
        order, _ = await stage.lease()
        hold(stage.api, order.principal, ["example.com/hold"])
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert not done.gone and isinstance(done.proof, Unproved) and "finalizer" in done.proof.why
        assert list(await stage.broker.sweep(INSTANCE)) == [order.principal]
        hold(stage.api, order.principal, [])
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved) and done.proof.refusal == "401 Unauthorized"

    on_stage(play)


def hold(api: KubernetesApi, name: str, finalizers: list[str]) -> None:
    api.patch("serviceaccounts", HOME, name_of(name), {"metadata": {"finalizers": finalizers or None}})


def test_an_account_of_the_same_name_made_again_does_not_revive_the_token() -> None:
    async def play(stage: KubernetesStage) -> None:
        order, token = await stage.lease()
        await stage.broker.revoke([revoke_order(order)])
        await stage.broker.mint(replace(order, secret="another secret of the same lease"))
        assert stage.api.user_of(token) is None

    on_stage(play)


def test_a_binding_alone_is_swept_and_strangers_are_not() -> None:
    async def play(stage: KubernetesStage) -> None:
        order, _ = await stage.lease()
        for resource in ("serviceaccounts", "secrets"):
            stage.api.remove(resource, HOME, name_of(order.principal))
        alike = name_of(principal())
        stage.api.apply(STRANGER.format(name=alike, labels="{}"))
        stage.api.apply(STRANGER.format(name="remit-test0001-tool", labels=f"{{remit/instance: {INSTANCE}}}"))
        assert list(await stage.broker.sweep(INSTANCE)) == [order.principal]
        await stage.broker.revoke([revoke_order(order)])
        assert stage.api.names("rolebindings", "shop") == ["remit-broker"]
        assert stage.api.names("serviceaccounts", HOME) == sorted([alike, "remit-test0001-tool"])

    on_stage(play)


def test_an_object_that_has_our_name_and_is_not_ours_is_never_used() -> None:
    async def play(stage: KubernetesStage) -> None:
        order = mint_order(stage)
        stage.api.apply(STRANGER.format(name=name_of(order.principal), labels="{}"))
        with pytest.raises(RemitError) as refused:
            await stage.broker.mint(order)
        assert refused.value.code == "access.kubernetes.taken"

    on_stage(play)


def test_a_sweep_reads_every_page() -> None:
    async def play(stage: KubernetesStage) -> None:
        orders = [mint_order(stage) for _ in range(7)]
        for order in orders:
            await stage.broker.mint(order)
        stage.api.page = 3
        assert list(await stage.broker.sweep(INSTANCE)) == sorted(order.principal for order in orders)

    on_stage(play)


def test_a_token_ends_with_its_grant_and_never_before_ten_minutes() -> None:
    async def play(stage: KubernetesStage) -> None:
        now = datetime.now(UTC)
        for until, least in ((timedelta(hours=2), 7190), (timedelta(seconds=30), 590)):
            _, token = await stage.lease(until=now + until)
            assert least <= int(claims_of(token)["exp"]) - time.time() <= least + 20

    on_stage(play)


def test_what_the_server_made_of_the_life_is_what_the_task_is_told() -> None:
    async def play(stage: KubernetesStage) -> None:
        stage.api.shortest = 7 * 3600
        order = mint_order(stage)
        minted = await stage.broker.mint(order)
        token = token_in(minted, order.secret)
        assert minted.settings["expires"] == str(claims_of(token)["exp"])
        assert int(minted.settings["expires"]) > time.time() + 6 * 3600

    on_stage(play)


def test_the_cluster_holds_no_token_in_clear_and_another_secret_opens_none() -> None:
    async def play(stage: KubernetesStage) -> None:
        order = mint_order(stage)
        minted = await stage.broker.mint(order)
        token = token_in(minted, order.secret)
        assert token and token not in json.dumps([*stage.api.store.values()])
        assert token not in str(minted.settings)
        assert unseal(minted.settings["sealed"], "another", order.principal) is None
        assert unseal(minted.settings["sealed"], order.secret, principal()) is None

    on_stage(play)


@pytest.mark.parametrize("done_before", range(5))
def test_a_mint_that_broke_off_anywhere_is_finished_by_the_same_order(done_before: int) -> None:
    async def play(stage: KubernetesStage) -> None:
        order = mint_order(stage)
        stage.api.budget = done_before
        with pytest.raises(Unavailable):
            await stage.broker.mint(order)
        stage.api.budget = None
        session = await stage.use(await stage.broker.mint(order), order.secret)
        [done] = await stage.broker.revoke([revoke_order(order)])
        assert done.gone and isinstance(done.proof, Proved) and await stage.broker.sweep(INSTANCE) == []
        with pytest.raises(httpx2.HTTPStatusError):
            await session.work()

    on_stage(play)


@pytest.mark.parametrize("done_before", range(3))
def test_a_revocation_that_broke_off_anywhere_is_finished_by_a_broker_that_knows_nothing(done_before: int) -> None:
    async def play(stage: KubernetesStage) -> None:
        order, token = await stage.lease()
        stage.api.budget = done_before
        with pytest.raises(Unavailable):
            await stage.broker.revoke([revoke_order(order)])
        stage.api.budget = None
        fresh = KubernetesBroker(stage.target, install(stage.api, stage.target))
        await fresh.open()
        try:
            [done] = await fresh.revoke([revoke_order(order)])
        finally:
            await fresh.close()
        assert done.gone and isinstance(done.proof, Proved) and done.proof.refusal == "401 Unauthorized"
        assert stage.api.user_of(token) is None

    on_stage(play)


def test_a_role_that_is_not_there_is_not_bound() -> None:
    async def play(stage: KubernetesStage) -> None:
        order = mint_order(stage, role="clusterrole/ghost")
        with pytest.raises(Rejected) as refused:
            await stage.broker.mint(order)
        assert refused.value.code == "access.kubernetes.role_missing"
        assert stage.api.names("rolebindings", "shop") == ["remit-broker"]

    on_stage(play, roles={"ghost": "clusterrole/ghost"})


def test_a_namespaced_role_gives_what_it_says_where_it_says() -> None:
    async def play(stage: KubernetesStage) -> None:
        _, token = await stage.lease(role=DEPLOY)
        for words, answer in (
            (["create", "configmaps", "shop"], True),
            (["list", "pods", "shop"], False),
            (["create", "configmaps", "books"], False),
            (["get", "secrets", HOME], False),
        ):
            assert await asyncio.to_thread(may, stage.api, token, *words) is answer, words

    on_stage(play)


def test_a_need_names_one_of_the_targets_namespaces_and_no_other() -> None:
    async def play(stage: KubernetesStage) -> None:
        order, token = await stage.lease(database="books")
        assert stage.api.rbac_says(token, "list", "pods", "books") and not stage.api.rbac_says(
            token, "list", "pods", "shop"
        )
        await stage.broker.revoke([revoke_order(order)])
        assert stage.api.names("rolebindings", "books") == ["remit-broker"]
        for space in ("kube-system", HOME):
            with pytest.raises(Rejected) as refused:
                await stage.broker.mint(mint_order(stage, database=space))
            assert refused.value.code == "access.kubernetes.namespace_unknown"

    on_stage(play, options={"namespaces": "books"})


def test_a_server_of_another_authority_gets_no_token() -> None:
    async def opened(api: KubernetesApi, other: KubernetesApi) -> None:
        broker = KubernetesBroker(target_on(api, options={"ca": str(other.ca)}), api.admin)
        with pytest.raises(Unavailable) as refused:
            await broker.open()
        await broker.close()
        assert "not trusted" in refused.value.message

    with cluster() as api, cluster() as other:
        asyncio.run(opened(api, other))


def test_a_broker_whose_own_token_is_not_known_says_so() -> None:
    async def opened(api: KubernetesApi) -> str:
        broker = KubernetesBroker(target_on(api), "remit-no-such-token")
        with pytest.raises(Misconfigured) as refused:
            await broker.open()
        await broker.close()
        return refused.value.code

    with cluster() as api:
        assert asyncio.run(opened(api)) == "access.kubernetes.login"


def test_doctor_names_roles_that_outlive_and_rights_that_lack_or_exceed() -> None:
    async def play(stage: KubernetesStage) -> None:
        said = {one.title: one for one in await stage.broker.check()}
        assert not said["what a role makes does not outlive its lease"].ok
        assert f"`{EDIT}` may create" in said["what a role makes does not outlive its lease"].detail
        stage.api.remove("clusterroles", "", "remit-broker")
        binding = "kind: ClusterRoleBinding\nmetadata: {name: x}\nroleRef: {kind: ClusterRole, name: cluster-admin}\n"
        before = {one.title: one for one in await stage.broker.check()}
        assert "get clusterroles view in the cluster" in before["the broker may do its work"].detail
        stage.api.apply(f"{binding}subjects: [{{kind: ServiceAccount, name: {BROKER}, namespace: {BROKER_HOME}}}]\n")
        after = {one.title: one for one in await stage.broker.check()}
        assert "bind clusterroles cluster-admin in shop" in after["the broker holds no more than it needs"].detail
        assert after["the broker may do its work"].ok

    on_stage(play)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roles": {"all": "clusterrole/cluster-admin"}}, "access.kubernetes.role"),
        ({"roles": {"all": "clusterrole/admin"}}, "access.kubernetes.role"),
        ({"roles": {"view": "view"}}, "access.kubernetes.role"),
        ({"roles": {"view": "clusterrole/../secrets"}}, "access.kubernetes.role"),
        ({"database": ""}, "access.kubernetes.namespace"),
        ({"database": HOME}, "access.kubernetes.namespace"),
        ({"database": BROKER_HOME}, "access.kubernetes.namespace"),
        ({"options": {"home": "shop"}}, "access.kubernetes.namespace"),
        ({"options": {"namespaces": "a/b"}}, "access.kubernetes.namespace"),
        ({"options": {"insecure": "true"}}, "access.target.option"),
    ],
)
def test_a_target_cannot_be(changes: dict[str, Any], code: str) -> None:
    target = replace(target_on(KubernetesApi(Path("/nowhere"), port=1)), **changes)
    with pytest.raises(Misconfigured) as refused:
        KubernetesBrokerFactory().make(target, "x" * 20)
    assert refused.value.code == code


def test_the_secret_is_a_token_alone_or_in_a_kubeconfig() -> None:
    config = {"users": [{"name": "u", "user": {"token": "abcdefgh.ijklmnop"}}]}
    assert decode_secret("abcdefgh.ijklmnop\n") == decode_secret(json.dumps(config)) == "abcdefgh.ijklmnop"
    for wrong in ("", "a b", "{}", '{"users": []}', "users: [{user: {token: 5}}]", "&a [*a]", "\x00"):
        with pytest.raises(Misconfigured) as refused:
            decode_secret(wrong)
        assert refused.value.code == "access.kubernetes.secret"


def test_a_url_names_the_namespace_by_path_or_parameter_and_never_a_password() -> None:
    locate = KubernetesBrokerFactory().locate
    assert locate("kubernetes://k8s.example/shop").database == "shop"
    where = locate("kubernetes://k8s.example:443?namespace=shop&ca=/etc/ca.pem")
    assert (where.port, where.database, where.user, dict(where.options)) == (443, "shop", BROKER, {"ca": "/etc/ca.pem"})
    with pytest.raises(Rejected):
        locate("kubernetes://u:secret@k8s.example/shop")
