"""What connectors of servers understand of what servers say, without any server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.inventory.connectors.endpoint import endpoint, named, shown
from remit.inventory.connectors.mariadb_facts import pick, reached
from remit.inventory.connectors.rabbitmq_facts import uris
from remit.kernel.errors import Rejected
from remit.kernel.ids import parse_name
from remit.providers.mariadb.inventory import Account, Code, Grant
from remit.providers.openbao.inventory import covers, rules_of
from remit.providers.rabbitmq.inventory import User as RabbitUser
from remit.providers.redis.inventory import User, parse_user


def account(host: str) -> Account:
    return Account(user="app", host=host, role=False)


@pytest.mark.parametrize(
    ("address", "host"),
    [("172.16.2.3", "172.16.%"), ("10.9.9.9", "10.0.0.0/255.0.0.0"), ("localhost", "localhost"), ("far.example", "%")],
)
def test_mariadb_takes_the_most_specific_host(address: str, host: str) -> None:
    hosts = ["%", "10.0.0.0/255.0.0.0", "10.%", "172.16.%", "localhost"]
    taken = pick(address, [account(each) for each in hosts])
    assert taken is not None and taken.host == host


def test_nobody_is_taken_where_no_host_fits() -> None:
    assert pick("192.0.2.1", [account("10.%"), account("localhost")]) is None


def test_a_pattern_of_many_signs_takes_no_time() -> None:
    assert pick("a" * 200, [account("%a" * 60 + "b")]) is None


def test_a_right_on_a_database_reaches_each_definer_once() -> None:
    code = {"app": [Code(kind="procedure", schema="app", name=str(n), definer="dba@%") for n in range(9)]}
    grant = Grant(
        user="u", host="%", level="database", database="a%", thing="", column="", actions=("EXECUTE", "SELECT")
    )
    assert list(reached(grant, code)) == [("dba@%", "procedure app.0", "EXECUTE")]


def test_a_line_of_redis_with_selectors_is_read() -> None:
    line = f"user app on #{'a' * 64} sanitize-payload ~a:* %R~b:* resetchannels &c -@all +get (~d:* +set) (%W~e +del)"
    user = parse_user(line)
    assert isinstance(user, User)
    assert user.hashes == ("a" * 64,)
    assert user.rules.keys == ("~a:*", "%R~b:*")
    assert [(each.keys, each.commands) for each in user.selectors] == [(("~d:*",), ("+set",)), (("%W~e",), ("+del",))]
    assert "aaaa" not in repr(user)


@given(st.text(max_size=200))
def test_any_line_of_redis_is_a_user_or_is_said_to_be_none(line: str) -> None:
    assert isinstance(parse_user(line), (User, str))


def test_a_policy_in_hcl_with_comments_and_old_words_is_read() -> None:
    policy = """
    # path "no" { capabilities = ["sudo"] }
    path "a/*" { capabilities = ["read", "list"] } // path "no2" { capabilities = ["sudo"] }
    path "b#c" {
      /* path "no3" { capabilities = ["sudo"] } */
      capabilities = [ "create",
                       "update" ]
      allowed_parameters = { "x" = ["y"] }
    }
    path "old" { policy = "read" }
    """
    assert rules_of(policy) == {"a/*": ("read", "list"), "b#c": ("create", "update"), "old": ("read", "list")}


@given(st.text(max_size=300))
def test_any_text_of_a_policy_is_read_without_an_error(policy: str) -> None:
    rules_of(policy)
    rules_of('{"path": ' + policy)


@pytest.mark.parametrize(
    ("pattern", "path", "does"),
    [
        ("a/+/c", "a/b/c", True), ("a/+/c", "a/b/d/c", False), ("a/*", "a/b/c", True), ("a/b", "a/bc", False),
        ("a/b*", "a/bc", True), ("+/creds/*", "database/creds/x", True), ("a.b", "axb", False),
    ],
)  # fmt: skip
def test_a_path_of_a_policy_covers_as_openbao_says(pattern: str, path: str, does: bool) -> None:
    assert covers(pattern, path) is does


def test_a_rabbit_password_is_compared_offline() -> None:
    stored = "noV0iHuBG4fsE/PnQOeS+XAaeDoBQ5iB27SfXKMf+V/jaV9e"
    user = RabbitUser(name="mon", tags=(), algorithm="sha256", stored=stored)
    assert user.has_password("m") and not user.has_password("mon")
    assert stored not in repr(user)
    assert not RabbitUser(name="mon", tags=(), algorithm="sha256", stored="no base64!").has_password("m")


def test_uris_are_found_wherever_they_stand_in_a_parameter() -> None:
    value = {"uri": ["amqp://a:b@c", 7], "src-uri": "amqps://d:e@f", "prefetch-count": 1, "deep": {"uri": "amqp://no"}}
    assert list(uris(value)) == ["amqp://a:b@c", "amqps://d:e@f"]


@given(st.text(max_size=600))
def test_any_name_is_bounded_and_well_formed(local: str) -> None:
    made = named("x", "y", "z", local)
    assert len(made) <= 1000 and parse_name(made) is not None


@given(st.text(max_size=600), st.text(max_size=600))
def test_two_names_stay_two(one: str, other: str) -> None:
    assert (named("x", "y", "z", one) == named("x", "y", "z", other)) == (one == other)


@given(st.text(max_size=600))
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    assert re.fullmatch(r"[^\n\r\x00-\x1f\x7f]{0,200}", shown(text))


@given(st.text(max_size=80))
def test_any_source_is_an_endpoint_or_is_refused(source: str) -> None:
    try:
        endpoint(source, {}, plain=("redis",), port=6379)
        endpoint(f"redis://{source}", {}, plain=("redis",), port=6379)
    except Rejected as error:
        assert error.code == "inventory.source.unfit"
