"""What a Redis user reaches by its evaluated rules: each claim is one that a look at the rules' names would get wrong."""

from __future__ import annotations

import pytest

from remit.inventory.connectors.redis_rights import Reach, grave, inside, reaches
from remit.providers.redis.inventory import User, parse_user

HASH = "#" + "0" * 64


def user(rules: str, name: str = "app") -> User:
    made = parse_user(f"user {name} on {HASH} {rules}")
    assert isinstance(made, User)
    return made


def of(rules: str, *, version: int = 7, default_on: bool = True, name: str = "app") -> dict[str, Reach]:
    found = reaches(user(rules, name), None, version=version, default_on=default_on)
    return {f"{each.target} {each.pattern}".strip(): each for each in found}


@pytest.mark.parametrize(
    ("rules", "actions"),
    [
        ("~a* -@all +@read", {"read"}),
        ("~a* -@all +@all -@write", {"read"}),
        ("%R~a* -@all +@all", {"read"}),
        ("%W~a* -@all +@all", {"write"}),
        ("~a* -@all +append", {"write"}),
        ("%R~a* -@all +eval", set()),
        ("~a* -@all +exists", {"metadata"}),
        ("%R~a* -@all +copy", set()),
        ("%R~a* %W~b* -@all +copy", {"read"}),
        ("~a* -@all +ping", set()),
        ("~a* -@all +get -get", set()),
        ("%R~a* -@all +georadius", {"read"}),
    ],
)
def test_a_pattern_gives_what_the_commands_can_do_there(rules: str, actions: set[str]) -> None:
    reach = of(rules).get("keys a*")
    found = {each for each in reach.actions if each in ("read", "write", "metadata")} if reach else set()
    assert found == actions


def test_a_selector_gives_its_commands_on_its_own_keys_alone() -> None:
    found = of("~a* -@all +get (~b* -@all +append)")
    assert found["keys a*"].actions[0] == "read" and found["keys b*"].actions[0] == "write"


def test_who_sets_users_becomes_any_of_them_without_conditions() -> None:
    assert of("-@all +acl|setuser")["users"].conditions == ()
    assert "users" not in of("-@all +@all -@admin -@dangerous -function")


def test_a_module_is_loaded_where_the_server_allows_it() -> None:
    assert "enable-module-command" in of("-@all +module|load")["users"].conditions[0]
    assert "enable-module-command" not in of("-@all +module|load", version=6)["users"].conditions[0]


def test_a_script_opens_nothing_and_a_replaced_function_acts_for_its_caller() -> None:
    assert "users" not in of("-@all +eval +script +fcall")
    assert of("-@all +function|load")["users"].conditions == ("another user calls a function that it replaced",)


def test_a_replica_is_sent_everything_whatever_its_keys() -> None:
    every = of("~own:* -@all +get +psync")["keys *"]
    assert every.actions == ("read",) and every.conditions == ()


def test_listening_to_others_is_a_condition() -> None:
    assert of("-@all +monitor")["keys *"].conditions == ("others send or ask for it while it listens",)


def test_the_password_of_default_can_be_changed_by_config_set() -> None:
    assert of("-@all +config|set")["default"].conditions == ()
    assert of("-@all +config|set", default_on=False)["default"].conditions == ("somebody switches `default` on",)
    assert "default" not in of("-@all +config", name="default")


def test_what_is_taken_back_is_not_grave() -> None:
    assert grave(user("+@all -@admin -@dangerous"), None) == ("function|delete", "function|flush", "function|load",
                                                              "function|restore")  # fmt: skip
    assert grave(user("-@all +@admin -@dangerous"), None) == ()


def test_a_cut_keeps_what_else_the_user_has() -> None:
    found = of("~a* %R~b* &c -@all +get (~d* -@all +set)")
    assert found["keys a*"].cut == "ACL SETUSER app resetkeys %R~b*"
    assert found["keys d*"].cut == 'ACL SETUSER app clearselectors "(-@all +set)"'


def test_a_wide_pattern_holds_the_narrower_ones_next_to_it() -> None:
    assert set(inside(["*", "a:*", "a:b:*", "a:b:c", "x?", "[ab]*"])) == {
        ("*", "a:*"), ("a:*", "a:b:*"), ("a:b:*", "a:b:c"), ("*", "x?"), ("*", "[ab]*"),
    }  # fmt: skip
