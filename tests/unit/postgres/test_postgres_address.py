"""Addresses, URLs and password files."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.kernel.errors import Misconfigured, Rejected
from remit.providers.postgres import Address, environment, parse_url, password_from_file


def test_a_url_is_read() -> None:
    address = parse_url("postgres://admin@db.example.org:6432/orders?sslmode=verify-ca&sslrootcert=/ca.pem")
    assert address == Address(
        host="db.example.org", port=6432, user="admin", database="orders", ssl_mode="verify-ca", ssl_root="/ca.pem"
    )


@pytest.mark.parametrize(
    "url",
    ["postgres://a:secret@h/d", "postgres://a:@h/d", "postgres://a@h/d?password=secret", "postgres://a@h/d?passfile=x"],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_url(url)
    assert caught.value.code == "access.target.password_in_url"
    assert "secret" not in str(caught.value) + caught.value.next_step


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a@h/d",
        "postgres://h/d",
        "postgres://a@/d",
        "postgres://a@h:0/d",
        "postgres://a@h:99999/d",
        "postgres://a@h:x/d",
        "postgres://a@h/d?options=-c",
        "postgres://a@h/d?sslmode=disable&sslmode=require",
        "postgres://a@h/" + "d" * 3000,
        "postgres://a@[::1/d",
        "",
    ],
)
def test_what_is_not_understood_is_rejected(url: str) -> None:
    with pytest.raises(Rejected):
        parse_url(url)


def test_a_socket_directory_is_percent_encoded() -> None:
    address = parse_url("postgres://a@%2Ftmp%2FPg/d")
    assert address.is_local_socket
    assert address.socket_path == "/tmp/Pg/.s.PGSQL.5432"
    assert parse_url(str(address)) == address


def test_an_ipv6_address_keeps_its_colons() -> None:
    address = parse_url("postgres://a@[2001:db8::1]:5433/d")
    assert (address.host, address.port) == ("2001:db8::1", 5433)
    assert parse_url(str(address)) == address


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ("/tmp", "disable"),
        ("127.0.0.1", "disable"),
        ("::1", "disable"),
        ("localhost", "disable"),
        ("10.0.0.1", "verify-full"),
        ("localhost.example.org", "verify-full"),
    ],
)
def test_encryption_is_strict_unless_the_host_is_this_machine(host: str, mode: str) -> None:
    assert Address(host=host, user="u", database="d").effective_ssl_mode == mode


def test_an_unknown_sslmode_is_misconfigured() -> None:
    with pytest.raises(Misconfigured) as caught:
        Address(host="h", user="u", database="d", ssl_mode="prefer")
    assert "verify-full" in caught.value.next_step


def test_the_variables_are_those_of_libpq() -> None:
    settings = Address(host="10.0.0.1", user="u", database="d").settings()
    assert environment(settings, "s") == {
        "PGHOST": "10.0.0.1",
        "PGPORT": "5432",
        "PGDATABASE": "d",
        "PGUSER": "u",
        "PGSSLMODE": "verify-full",
        "PGPASSWORD": "s",
    }


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("h:5432:d:u:p", "p"),
        ("*:*:*:*:p", "p"),
        (r"h:5432:d:u:p\:a\\b", "p:a\\b"),
        ("h:5432:d:other:p", None),
        ("h:5433:d:u:p", None),
        ("#h:5432:d:u:p", None),
        ("h:5432:d:u", None),
        ("", None),
    ],
)
def test_a_password_file_is_read_as_libpq_reads_it(tmp_path: Path, line: str, password: str | None) -> None:
    file = tmp_path / "pgpass"
    file.write_text(line + "\n")
    file.chmod(0o600)
    assert password_from_file(file, Address(host="h", user="u", database="d")) == password


def test_a_missing_password_file_is_misconfigured(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        password_from_file(tmp_path / "none", Address(host="h", user="u", database="d"))
