"""`remit run` in Kubernetes: plain kubectl and the official library find their credential, and it dies with the task.

Both are real; the API server is emulated (see `kubernetes_api`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_stage import Stage, stage, summary, until

from kubernetes_api import KubernetesApi
from kubernetes_stage import cluster, install, target_on

NEEDS = ["kubernetes://prod?role=view"]
LIBRARY = """
import kubernetes, os, sys
kubernetes.config.load_kube_config()
core = kubernetes.client.CoreV1Api()
print(kubernetes.client.AuthenticationV1Api().create_self_subject_review({}).status.user_info.username, flush=True)
if sys.argv[1:] == ["wait"]:
    for event in kubernetes.watch.Watch().stream(core.list_namespaced_pod, "shop"):
        print(event["object"].metadata.name, flush=True)
try:
    core.list_namespaced_secret("shop")
except kubernetes.client.ApiException as error:
    print(error.status)
print(oct(os.stat(os.environ["KUBECONFIG"]).st_mode)[-3:])
print(open(os.environ["KUBECONFIG"]).read())
"""


def kubectl() -> str:
    found = Path(sys.executable).with_name("kubectl")
    if not found.exists():
        pytest.skip("kubectl: not installed")
    return str(found)


@pytest.fixture(scope="module")
def api() -> Iterator[KubernetesApi]:
    with cluster() as served:
        yield served


@pytest.fixture
def made(api: KubernetesApi) -> Iterator[Stage]:
    with stage() as scene:
        target = target_on(api)
        token = install(api, target)
        scene.arrange(lambda state: state.targets.add(target, token, actor="person:ann"))
        scene.env |= {"HOME": str(scene.folder), "KUBECONFIG": "/nowhere/else"}
        path = scene.folder / "job"
        path.write_text(f"#!{sys.executable}{LIBRARY}")
        path.chmod(0o755)
        scene.register("job", str(path))
        scene.register("kubectl", kubectl())
        scene.start_agent()
        yield scene


def left(api: KubernetesApi) -> list[str]:
    """What there is of leases."""
    names = [*api.names("serviceaccounts", "remit-leases"), *api.names("secrets", "remit-leases")]
    return [name for name in (*names, *api.names("rolebindings", "shop")) if name.startswith("remit-scene001-")]


def ask(kubeconfig: str, scene: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    """kubectl with a kubeconfig of its own."""
    path = scene.folder / "copy"
    path.write_text(kubeconfig)
    return subprocess.run(
        [kubectl(), "--kubeconfig", str(path), *words],
        env={**os.environ, "HOME": str(scene.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_plain_kubectl_works_and_its_lease_is_gone_afterwards(made: Stage, api: KubernetesApi) -> None:
    done = made.run("kubectl", kubectl(), "get", "pods", needs=NEEDS, options=["--format", "json"])
    assert done.returncode == 0, done.stderr
    assert "web-1" in done.stdout
    [lease] = summary(done.stderr)["leases"]
    assert lease["refusal"].startswith("401 ")
    assert not left(api)


def test_kubectl_is_forbidden_what_the_role_does_not_say(made: Stage) -> None:
    done = made.run("kubectl", kubectl(), "get", "secrets", needs=NEEDS)
    assert done.returncode == 1
    assert "Forbidden" in done.stderr and "remit-leases:remit-scene001-" in done.stderr


def test_the_official_library_finds_it_and_afterwards_kubectl_is_refused(made: Stage, api: KubernetesApi) -> None:
    done = made.run("job", str(made.folder / "job"), needs=NEEDS)
    assert done.returncode == 0, done.stderr
    user, status, mode, config = done.stdout.split("\n", 3)
    assert user.startswith("system:serviceaccount:remit-leases:remit-scene001-")
    assert (status, mode) == ("403", "600")
    refused = ask(config, made, "get", "pods")
    assert refused.returncode == 1 and "logged in" in refused.stderr, refused.stderr
    assert not left(api)


def test_the_lease_of_a_killed_supervisor_ends(made: Stage, api: KubernetesApi) -> None:
    running = subprocess.Popen(
        made.command("job", str(made.folder / "job"), "wait", needs=NEEDS),
        env=made.env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith("system:serviceaccount:")
    assert len(left(api)) == 3
    running.send_signal(signal.SIGKILL)
    running.communicate()
    until(lambda: not left(api))
    until(lambda: len(made.recorded("access.lease.revoked")) == 1)
    made.kill_agent()


def test_what_an_agent_left_is_swept_by_the_next(made: Stage, api: KubernetesApi) -> None:
    running = subprocess.Popen(
        made.command("job", str(made.folder / "job"), "wait", needs=NEEDS),
        env=made.env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith("system:serviceaccount:")
    made.kill_agent()
    running.kill()
    running.communicate()
    assert left(api)
    made.start_agent()
    until(lambda: not left(api))


def test_the_task_finds_a_kubeconfig_that_kubectl_reads_as_its_own(made: Stage) -> None:
    done = made.run("kubectl", kubectl(), "config", "view", "-o", "json", needs=NEEDS)
    shown: dict[str, Any] = json.loads(done.stdout)
    assert shown["current-context"] == "prod"
    assert shown["contexts"][0]["context"]["namespace"] == "shop"
    assert [one["user"]["token"] for one in shown["users"]] == ["REDACTED"]
