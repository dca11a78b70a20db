"""Segments are built from registered facts alone, and written the same way every time."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
import yaml

from remit.access.segments import Check, Form, Place, Probe, Source, Verdict, parse_place, render
from remit.access.segments.pg_hba import region_of, replaced
from remit.kernel.errors import Rejected
from segment_stage import NOW, local_task, permitted, pod_task, segment, target

PODS = Place(subject="task:report", namespace="billing", labels={"app": "report"})


def test_a_local_task_comes_as_the_user_of_its_definition() -> None:
    [opening] = segment(permitted(local_task())).openings
    assert opening.source == Source(uid=1000)


def test_a_task_whose_place_nobody_registered_gets_no_opening() -> None:
    built = segment(permitted(pod_task()))
    assert not built.openings
    assert "remit segment place task:report" in built.left_out[0].why


def test_a_place_that_contradicts_the_proof_opens_nothing() -> None:
    elsewhere = Place(subject="task:report", namespace="kube-system", labels={"app": "report"})
    built = segment(permitted(pod_task()), places=(elsewhere,))
    assert not built.openings
    assert "billing" in built.left_out[0].why


@pytest.mark.parametrize("form", list(Form))
def test_the_order_of_facts_does_not_change_a_letter(form: Form) -> None:
    tasks = [permitted(local_task(f"t{number}", uid=1000 + number)) for number in range(8)]
    shuffled = random.Random(1).sample(tasks, len(tasks))
    assert render(segment(*tasks), form) == render(segment(*shuffled), form)


@pytest.mark.parametrize("form", list(Form))
def test_who_is_left_out_is_written_down(form: Form) -> None:
    assert "left out: task report" in render(segment(permitted(pod_task())), form)


def test_pods_of_a_task_may_go_to_the_target_and_to_names_alone() -> None:
    text = render(segment(permitted(pod_task()), places=(PODS,)), Form.KUBERNETES)
    [policy] = yaml.safe_load_all(text)
    assert policy["metadata"]["namespace"] == "billing"
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app": "report"}}
    assert policy["spec"]["policyTypes"] == ["Egress"]
    first, names = policy["spec"]["egress"]
    assert first == {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], "ports": [{"protocol": "TCP", "port": 5432}]}
    assert {port["port"] for port in names["ports"]} == {53}


def test_a_target_in_the_cluster_admits_the_pods_of_its_tasks_alone() -> None:
    database = Place(subject="target:orders", namespace="data", labels={"app": "pg"})
    text = render(segment(permitted(pod_task()), places=(PODS, database)), Form.KUBERNETES)
    [policy] = yaml.safe_load_all(text)
    assert (policy["metadata"]["namespace"], policy["spec"]["policyTypes"]) == ("data", ["Ingress"])
    [rule] = policy["spec"]["ingress"]
    [peer] = rule["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "billing"}}
    assert peer["podSelector"] == {"matchLabels": {"app": "report"}}


def test_a_target_in_the_cluster_that_nobody_may_reach_admits_nobody() -> None:
    database = Place(subject="target:orders", namespace="data", labels={"app": "pg"})
    [policy] = yaml.safe_load_all(render(segment(places=(database,)), Form.KUBERNETES))
    assert policy["spec"]["ingress"] == []


def test_a_unix_socket_has_no_network() -> None:
    with pytest.raises(Rejected) as raised:
        render(segment(target=target(host="/run/postgresql")), Form.NFTABLES)
    assert raised.value.code == "access.segment.form"


def test_a_host_name_needs_a_registered_address() -> None:
    named = target(host="db.example.test")
    with pytest.raises(Rejected):
        render(segment(target=named), Form.NFTABLES)
    placed = Place(subject="target:orders", addresses=("10.1.1.1/32",))
    assert "ip daddr 10.1.1.1 tcp dport 5432 jump users" in render(
        segment(target=named, places=(placed,)), Form.NFTABLES
    )


@pytest.mark.parametrize(
    "address", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "fe80::1%eth0", "db.example.test", "", "10.0.0.0/8 x"]
)
def test_what_is_no_place_is_refused(address: str) -> None:
    with pytest.raises(Rejected) as raised:
        parse_place("task:t", addresses=[address], namespace="", labels={}, actor="person:ann")
    assert raised.value.code == "access.segment.place"


@pytest.mark.parametrize(
    ("subject", "namespace", "labels"),
    [("someone", "a", {}), ("task:t", "A b", {}), ("task:t", "", {"a": "b"}), ("task:t", "a", {"a\n": "b"}), ("task:t", "a", {"a": "b c"})],
)  # fmt: skip
def test_malformed_names_are_no_place(subject: str, namespace: str, labels: dict[str, str]) -> None:
    with pytest.raises(Rejected):
        parse_place(subject, addresses=["10.0.0.1"], namespace=namespace, labels=labels, actor="person:ann")


def test_a_region_replaces_itself_first_in_the_file_and_leaves_the_rest() -> None:
    one, two = (render(segment(permitted(local_task(uid=uid))), Form.PG_HBA) for uid in (1, 2))
    mark = segment().mark
    theirs = "# theirs\nlocal all all peer\n"
    assert replaced(replaced(theirs, mark, one), mark, two) == two + theirs
    assert region_of(two + theirs, mark) == two
    assert replaced(two + theirs, mark, "") == theirs


def probe(*checks: tuple[str, Verdict]) -> Probe:
    seen = tuple(Check(what="x", expected=expected, verdict=verdict) for expected, verdict in checks)
    return Probe(target="orders", form=Form.NFTABLES, time=NOW + timedelta(0), checks=seen)


def test_a_probe_passes_only_when_both_sides_were_tried() -> None:
    assert probe(("open", Verdict.PASS), ("shut", Verdict.PASS)).verdict is Verdict.PASS
    assert probe(("open", Verdict.PASS), ("shut", Verdict.UNMEASURED)).verdict is Verdict.UNMEASURED
    assert probe(("shut", Verdict.PASS), ("kept", Verdict.PASS)).verdict is Verdict.UNMEASURED
    assert probe(("open", Verdict.PASS), ("shut", Verdict.PASS), ("kept", Verdict.FAIL)).verdict is Verdict.FAIL
