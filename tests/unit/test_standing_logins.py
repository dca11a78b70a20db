"""Which login of which target a name stands for: no name may be taken for the login of another server."""

from __future__ import annotations

import pytest

from remit.kernel.ids import name
from remit.wiring.standing_logins import _login, _same_place


@pytest.mark.parametrize(
    ("given", "system", "expected"),
    [
        (name("postgres", "db:5432", "role", "shop"), "postgres", ("db:5432", "shop")),
        (name("postgres", "db:5432", "group", "shop"), "postgres", None),
        (name("mysql", "db:3306", "user", "shop"), "mariadb", ("db:3306", "shop")),
        (name("mariadb", "uid", "user", "shop@%"), "mariadb", ("uid", "shop")),
        (name("mariadb", "uid", "role", "shop"), "mariadb", None),
        (name("redis", "db:6379", "user", "a@b"), "redis", ("db:6379", "a@b")),
        (name("redis", "db:6379", "user", "shop"), "rabbitmq", None),
        ("spiffe://acme/shop", "redis", None),
    ],
)
def test_a_name_stands_for_a_login_of_its_own_system(given: str, system: str, expected: object) -> None:
    assert _login(given, system) == expected


def test_a_place_is_the_targets_by_host_and_port_alone() -> None:
    assert _same_place("localhost:5432", "127.0.0.1", 5432) and _same_place("db.acme:5432", "db.acme", 5432)
    assert not _same_place("db.acme:5433", "db.acme", 5432) and not _same_place("localhost:5432", "db.acme", 5432)
    assert not _same_place("db.acme", "db.acme", 5432)
