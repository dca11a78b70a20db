"""Tasks far from here on a running installation and a real Redis: by SVID, by a job's token, by a pod's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from installation import REMIT
from remit.client import runs as client
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected
from runs_stage import BATCH, IMAGE, NEED, OTHER, Runs, new_key, runs_stage, thumbprint, until

GITHUB_RUN = "/repos/acme/billing/actions/runs/11111111111"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with runs_stage(tmp_path_factory.mktemp("runs")) as made:
        yield made


def begin_by_svid(stage: Runs, task: str = "slow", by: str = BATCH, key: str = "") -> tuple[client.Handle, Any]:
    with stage.identity(by) as identity:
        handle = client.Handle(key=key or new_key(), server=stage.listener)
        answer = client.begin(stage.server(identity), handle, task=task, needs=[NEED], reason="the books")
        return client.Handle(key=handle.key, server=stage.listener, run=answer["run"]), answer


def end_by_svid(stage: Runs, handle: client.Handle, by: str = BATCH) -> Any:
    with stage.identity(by) as identity:
        return client.end(stage.server(identity), handle)


def test_a_batch_gets_its_credential_and_at_its_end_the_target_refuses_it(stage: Runs) -> None:
    handle, answer = begin_by_svid(stage)
    assert stage.works(answer)
    (row,) = [one for one in stage.remit.json("leases") if one["id"] == answer["credentials"][0]["lease"]]
    assert (row["kind"], row["where"]) == ("batch", BATCH)
    (proved,) = end_by_svid(stage, handle)["leases"]
    assert proved["state"] == "revoked"
    assert proved["proof"]["proof"]["refusal"].startswith("WRONGPASS")
    assert not stage.works(answer)


def test_the_command_line_begins_beats_and_ends_a_run(stage: Runs, tmp_path: Path) -> None:
    state = tmp_path / "run.json"
    begun = stage.remit.cli("task", "begin", "batch", "--need", NEED, "--state", state, "--server", stage.listener)
    answer = json.loads(begun.stdout)
    assert state.stat().st_mode & 0o777 == 0o600
    beating = subprocess.Popen(
        [*REMIT, "task", "heartbeat", "--state", str(state)], env=stage.remit.env, stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: stage.run(answer["run"])["beats"] >= 3)
        assert stage.works(answer)
        assert "batch" in stage.remit.cli("task", "ls", "--runs").stdout
        assert "active" in stage.remit.cli("task", "show", answer["run"]).stdout
    finally:
        beating.send_signal(signal.SIGTERM)
        beating.wait()
    ended = json.loads(stage.remit.cli("task", "end", "--state", state).stdout)
    assert [one["state"] for one in ended["leases"]] == ["revoked"]
    assert not state.exists()


def test_a_batch_that_falls_silent_loses_everything(stage: Runs) -> None:
    handle, answer = begin_by_svid(stage, "batch")
    assert stage.ended(answer["run"]) == "its heartbeat was lost"
    assert not stage.works(answer)
    with stage.identity(BATCH) as identity, pytest.raises(Conflict) as over:
        client.heartbeat(stage.server(identity), handle)
    assert over.value.code == "access.run.ended"


def test_the_same_key_is_the_same_run_and_another_question_under_it_is_refused(stage: Runs) -> None:
    handle, answer = begin_by_svid(stage)
    again, same = begin_by_svid(stage, key=handle.key)
    assert same == answer
    assert again.run == handle.run
    with pytest.raises(Conflict) as other:
        begin_by_svid(stage, task="batch", key=handle.key)
    assert other.value.code == "access.run.key"
    end_by_svid(stage, handle)
    with pytest.raises(Conflict):
        begin_by_svid(stage, key=handle.key)


@pytest.mark.parametrize("who", ["another identity", "another key"])
def test_nobody_else_continues_or_ends_a_run(stage: Runs, who: str) -> None:
    handle, answer = begin_by_svid(stage)
    thief = handle if who == "another identity" else client.Handle(key=new_key(), server="", run=handle.run)
    with stage.identity(OTHER if who == "another identity" else BATCH) as identity:
        for verb in (client.heartbeat, client.end):
            with pytest.raises(NotFound) as refused:
                verb(stage.server(identity), thief)
            assert refused.value.code == "access.run.unknown"
    assert stage.works(answer)
    end_by_svid(stage, handle)


def test_a_task_of_another_identity_is_not_begun(stage: Runs) -> None:
    with pytest.raises(Denied) as refused:
        begin_by_svid(stage, by=OTHER)
    assert refused.value.code == "access.task.identity"


def test_a_restart_in_between_ends_no_task_that_is_in_time(stage: Runs) -> None:
    handle, answer = begin_by_svid(stage)
    stage.remit.stop(signal.SIGKILL)
    stage.start()
    handle = client.Handle(key=handle.key, server=stage.listener, run=handle.run)
    with stage.identity(BATCH) as identity:
        beaten = client.heartbeat(stage.server(identity), handle)
    assert [one["state"] for one in beaten["leases"]] == ["active"]
    assert stage.works(answer)
    end_by_svid(stage, handle)
    assert not stage.works(answer)


# The decision holds no longer.


def withdrawn(stage: Runs, answer: dict[str, Any]) -> str:
    """Why the lease of a run that goes on was revoked, once it was."""
    until(lambda: stage.run(answer["run"])["leases"][0]["state"] == "revoked")
    assert not stage.works(answer)
    found = stage.run(answer["run"])
    assert found["ended"] is None
    return str(found["leases"][0]["reason"])


def test_a_policy_change_withdraws_the_credential_of_a_task_that_lives(stage: Runs) -> None:
    handle, answer = begin_by_svid(stage)
    path = stage.remit.root / "p.cedar"
    policy = path.read_text()
    try:
        (stage.remit.root / "q.cedar").write_text(policy + '@id("no") forbid (principal, action, resource);')
        stage.apply(stage.remit.root / "q.cedar")
        assert "no longer allows it" in withdrawn(stage, answer)
    finally:
        stage.apply(path)
    end_by_svid(stage, handle)


def test_a_quarantine_withdraws_the_credential_of_a_task_that_lives(stage: Runs) -> None:
    _, answer = begin_by_svid(stage)
    stage.remit.cli("quarantine", BATCH, "--reason", "it misbehaves")
    try:
        assert withdrawn(stage, answer)
    finally:
        stage.remit.cli("release", BATCH, "--reason", "it was nothing")


# A run of an agent.


def test_the_end_of_its_intent_ends_an_agent_s_run(stage: Runs) -> None:
    key = new_key()

    def begin(intent: str) -> Any:
        with stage.identity(BATCH) as identity:
            handle = client.Handle(key=key, server="")
            return client.begin(stage.server(identity), handle, task="helper", needs=[NEED], intent=intent)

    with pytest.raises(Denied) as refused:
        begin("in_unknown")
    assert refused.value.code == "access.task.intent"
    intent = stage.intent(BATCH)
    answer = begin(intent)
    assert stage.works(answer)
    stage.remit.cli("intent", "rm", intent)
    assert stage.ended(answer["run"]) == "its intent has ended"
    assert not stage.works(answer)


# A job of GitHub Actions.


def new_job(stage: Runs, key: Any, *, secret: str = "", **changed: Any) -> tuple[int, dict[str, Any]]:
    body = {"task": "deploy", "needs": [NEED], "key": secret or new_key(), "proofs": [stage.job(**changed)]}
    return stage.post("/api/v1/runs", body, key)


def test_a_ci_job_lives_until_its_platform_says_that_it_is_completed(stage: Runs) -> None:
    stage.github.on(GITHUB_RUN, {"id": 11111111111, "status": "in_progress", "conclusion": None})
    status, answer = new_job(stage, ec.generate_private_key(ec.SECP256R1()))
    assert status == 200, answer
    assert stage.works(answer)
    asked = len(stage.github.asked)
    until(lambda: len(stage.github.asked) > asked + 2)
    assert stage.works(answer)
    stage.github.on(GITHUB_RUN, {"id": 11111111111, "status": "completed", "conclusion": "cancelled"})
    assert stage.ended(answer["run"]) == "GitHub says that the run is completed: cancelled"
    assert not stage.works(answer)


def test_a_job_s_run_belongs_to_the_key_that_it_proved(stage: Runs) -> None:
    stage.github.on(GITHUB_RUN, {"id": 11111111111, "status": "in_progress", "conclusion": None})
    key, secret = ec.generate_private_key(ec.SECP256R1()), new_key()
    _, answer = new_job(stage, key, secret=secret)
    assert stage.run(answer["run"])["sender"] == f"jkt:{thumbprint(key)}"
    path = f"/api/v1/runs/{answer['run']}"
    for other, headers in ((ec.generate_private_key(ec.SECP256R1()), {}), (None, {})):
        status, said = stage.post(f"{path}/end", {"key": secret}, other, headers=headers)
        assert status in (401, 404), said
    status, _ = stage.post(f"{path}/end", {"key": secret}, key, target=f"{stage.listener}{path}/heartbeat")
    assert status == 400  # a proof for another request
    assert stage.post(f"{path}/heartbeat", {"key": secret}, key)[0] == 200
    status, ended = stage.post(f"{path}/end", {"key": secret}, key)
    assert (status, [one["state"] for one in ended["leases"]]) == (200, ["revoked"])


@pytest.mark.parametrize("changed", [{"environment": "review"}, {"repository_id": "7"}])
def test_another_job_than_the_task_names_gets_nothing(stage: Runs, changed: dict[str, Any]) -> None:
    status, said = new_job(stage, ec.generate_private_key(ec.SECP256R1()), **changed)
    assert (status, said["code"]) == (403, "access.task.proof")


def test_a_begin_without_any_proof_gets_nothing(stage: Runs) -> None:
    body = {"task": "deploy", "needs": [NEED], "key": new_key()}
    assert stage.post("/api/v1/runs", body, None)[1]["code"] == "surface.proof.missing"
    key = ec.generate_private_key(ec.SECP256R1())
    assert stage.post("/api/v1/runs", body, key)[1]["code"] == "surface.proof.missing"


# A Kubernetes Job.


def new_pod(stage: Runs, name: str, image: str = IMAGE) -> str:
    stage.cluster.namespace("billing")
    stage.cluster.apply(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: billing}}\n"
        f"spec: {{containers: [{{name: job, image: example.test/job@{image}}}]}}\n"
        f"status: {{phase: Running, containerStatuses: [{{name: job, imageID: example.test/job@{image}}}]}}\n"
    )
    return str(stage.cluster.find("pods", "billing", name)["metadata"]["uid"])


def begin_in_pod(stage: Runs, name: str, uid: str) -> tuple[int, dict[str, Any]]:
    body = {"task": "nightly", "needs": [NEED], "key": new_key(), "proofs": [stage.pod(uid, name)]}
    return stage.post("/api/v1/runs", body, ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize("end", ["completed", "deleted"])
def test_a_pod_s_run_ends_with_the_pod(stage: Runs, end: str) -> None:
    uid = new_pod(stage, f"nightly-{end}")
    status, answer = begin_in_pod(stage, f"nightly-{end}", uid)
    assert status == 200, answer
    assert stage.works(answer)
    if end == "completed":
        stage.cluster.patch("pods", "billing", f"nightly-{end}", {"status": {"phase": "Succeeded"}})
    else:
        stage.cluster.remove("pods", "billing", f"nightly-{end}")
    assert "pod" in stage.ended(answer["run"])
    assert not stage.works(answer)


def test_another_image_than_was_registered_gets_nothing(stage: Runs) -> None:
    uid = new_pod(stage, "nightly-changed", "sha256:" + "b" * 64)
    status, said = begin_in_pod(stage, "nightly-changed", uid)
    assert (status, said["code"]) == (403, "access.task.image")


def test_a_container_that_somebody_added_to_a_pod_that_runs_counts_as_well(stage: Runs) -> None:
    uid = new_pod(stage, "nightly-debugged")
    added = {"name": "debugger", "image": "example.test/evil:latest"}
    stage.cluster.patch("pods", "billing", "nightly-debugged", {"spec": {"ephemeralContainers": [added]}})
    status, said = begin_in_pod(stage, "nightly-debugged", uid)
    assert (status, said["code"]) == (403, "access.task.image")


def test_a_pod_that_is_gone_gets_nothing(stage: Runs) -> None:
    status, _ = begin_in_pod(stage, "nightly-gone", "0b9f0a6a-0000-4000-8000-000000000000")
    assert status >= 400


# What is registered.


def test_a_definition_that_nobody_could_prove_is_refused(stage: Runs) -> None:
    for options in (["--ci", "gitlab:project_id:20"], ["--ci", "github:repositry:x"], ["--batch", "--heartbeat", "1"]):
        assert stage.remit.cli("task", "add", "wrong", *options, code=None).returncode != 0
    assert "k8s_psat" in stage.remit.cli("task", "ls").stdout
    with pytest.raises(Rejected):
        begin_by_svid(stage, key="short")


def test_a_run_that_is_elsewhere_is_not_started_here(stage: Runs) -> None:
    done = stage.remit.cli("run", "--task", "batch", "--need", NEED, "--", "/bin/true", code=None)
    assert "access.task.kind" in done.stderr + done.stdout or "elsewhere" in done.stderr
    assert os.WEXITSTATUS(done.returncode << 8) == 125
