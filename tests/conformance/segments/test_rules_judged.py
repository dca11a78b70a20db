"""Rules with hostile names, judged by those who read them: nft, a YAML parser, and PostgreSQL itself."""

from __future__ import annotations

import asyncio
import re
import string
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network_stage import ELSEWHERE, HERE, THERE, connects, private_network, second_machine
from postgres_stage import connect
from remit.access.segments import Form, Place, Segment, render
from remit.access.segments.pg_hba import is_writable, replaced
from segment_stage import INSTANCE, local_task, permitted, pod_task, segment, target
from servers import LocalServer, postgres_server

_SHARP = "\"'\\#\n\r\t{};:,$`|&<>*?!~@+/= -"
HOSTILE = st.one_of(
    st.text(alphabet=_SHARP + string.ascii_letters, max_size=40),
    st.text(max_size=40),
    st.sampled_from(
        [
            'x"\nhost all all 0.0.0.0/0 trust', "} table inet y { chain z { accept } }", "a\n---\nkind: Secret",
            "all", "+all", "@/etc/passwd", "/^.*$", "sameuser", "include /etc/passwd", "a,b", "a\\\nb", "x\u2028y", '"',
            "# remit_abcd1234_00000000 end\n", "é" * 40, "a\x00b",
        ]
    ),
)  # fmt: skip
GRAMMAR = re.compile(
    r"#[ -~]*|table inet remit_\w{17}( \{)?|delete table inet remit_\w{17}|\tchain \w+ \{|\t?\}"
    r"|\t\t(type filter hook \w+ priority 0; policy accept;|meta skuid \d+ accept|reject with tcp reset|#[ -~]*"
    r'|(iifname != "lo" )?ip6? daddr [0-9a-f.:/]+ tcp dport \d+ jump (users|networks)|ip6? saddr [0-9a-f.:/]+ accept)|'
)
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def hostile(name: str, role: str, database: str, why: str, login: str) -> Segment:
    places = (
        Place(
            subject="task:report", namespace="billing", labels={"app": "report"}, addresses=("10.2.0.0/16", "fd00::/8")
        ),
        Place(subject="target:" + name, addresses=("10.9.9.9/32", "fd01::1/128")),
    )
    return segment(
        permitted(local_task(identity=why, uid=4242), role=role, database=database, why=why),
        permitted(pod_task(), role="app_ro", why=why),
        places=places, target=target(name=name, user=login, options={"sslmode": "disable"}), address="127.0.0.1", patterns=True,
    )  # fmt: skip


@QUICK
@given(HOSTILE, HOSTILE)
def test_no_name_adds_a_line_to_a_ruleset(name: str, why: str) -> None:
    for line in render(hostile(name, "app_ro", "shop", why, "remit"), Form.NFTABLES).split("\n"):
        assert GRAMMAR.fullmatch(line), line


@QUICK
@given(HOSTILE, HOSTILE)
def test_no_name_adds_a_document_or_a_rule(name: str, why: str) -> None:
    [policy] = yaml.safe_load_all(render(hostile(name, "app_ro", "shop", why, "remit"), Form.KUBERNETES))
    assert (policy["kind"], policy["metadata"]["namespace"]) == ("NetworkPolicy", "billing")
    assert len(policy["spec"]["egress"]) == 2
    assert policy["metadata"]["annotations"]["remit.local/target"] == name


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with postgres_server() as made:
        yield made


async def rules(server: LocalServer) -> list[tuple[str, list[str], list[str], str, str]]:
    admin = await connect(server.address(), server.password)
    try:
        rows = await admin.fetch("SELECT * FROM pg_hba_file_rules ORDER BY line_number")
        assert not [row["error"] for row in rows if row["error"]]
        return [(row["type"], row["database"], row["user_name"], row["address"], row["auth_method"]) for row in rows]
    finally:
        await admin.close()


@settings(QUICK, max_examples=40)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_postgresql_reads_each_name_as_itself(server: LocalServer, role: str, database: str, why: str) -> None:
    text = render(hostile("orders", role, database, why, "remit"), Form.PG_HBA)
    path = server.data / "pg_hba.conf"
    before = path.read_text()
    path.write_text(replaced("", segment().mark, text))
    try:
        read = asyncio.run(rules(server))
    finally:
        path.write_text(before)
    named = [("host", [database], [f"+{role}"], "127.0.0.1", "scram-sha-256")]
    expected = [
        ("host", ["all"], ["remit"], "127.0.0.1", "scram-sha-256"),
        ("host", ["all"], [f"/^remit_{INSTANCE}_[0-9a-hjkmnp-tv-z]{{26}}$"], "127.0.0.1", "scram-sha-256"),
        *(named if is_writable(role) and is_writable(database) else []),
        ("host", ["shop"], ["+app_ro"], "10.2.0.0", "scram-sha-256"),
        ("host", ["shop"], ["+app_ro"], "fd00::", "scram-sha-256"),
        ("host", ["all"], ["all"], "all", "reject"),
    ]
    assert read == expected


@pytest.fixture
def network() -> Iterator[None]:
    with private_network():
        yield


def nft(text: str, *options: str) -> None:
    done = subprocess.run(["nft", *options, "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nft_takes_hostile_names_and_networks_of_both_families(network: None) -> None:
    names = ['x" accept', "} flush ruleset", "a;b", "$x", "`id`", "\u202e"]
    nft("\n".join(render(hostile(name, "app_ro", "shop", name, "remit"), Form.NFTABLES) for name in names), "--check")


def test_networks_that_were_registered_get_in_and_others_do_not(network: None) -> None:
    with second_machine(5432) as away:
        assert connects(HERE, 5432, netns=away, source=ELSEWHERE)
        placed, at = Place(subject="task:report", addresses=(f"{THERE}/32",)), target(host=HERE)
        tasks = (permitted(pod_task()), permitted(local_task(uid=4242)))
        nft(render(segment(*tasks, places=(placed,), target=at), Form.NFTABLES))
        assert connects(HERE, 5432, netns=away, source=THERE)
        assert not connects(HERE, 5432, netns=away, source=ELSEWHERE)
        assert connects(HERE, 5432, uid=4242)
        assert not connects(HERE, 5432, uid=4243)
        nft(render(segment(target=at), Form.NFTABLES))
        assert not connects(HERE, 5432, netns=away, source=THERE)
        assert not connects(HERE, 5432, uid=4242)
