"""Parsers of a host's files never raise, whatever lies there, and end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.keystores import read_store
from remit.inventory.connectors.files.units import parse_unit
from remit.inventory.connectors.host.accounts import parse_accounts, parse_groups, parse_shadow
from remit.inventory.connectors.host.cron import parse_anacrontab, parse_crontab
from remit.inventory.connectors.host.logins import from_wtmp
from remit.inventory.connectors.host.sudoers import gather, parse_doas, parse_sudoers
from remit.inventory.connectors.ldap_access import rules_of
from remit.inventory.connectors.ldap_facts import canonical, moment_of, sid_text, sids_allowed

WORDS = st.sampled_from([
    "ann", "ALL", "=", "(", ")", ":", ",", "!", "\\", '"', "#", "\n", " ", "%wheel", "NOPASSWD:", "PASSWD :", "User_Alias",
    "Cmnd_Alias", "OPS", "/bin/sh", "*", "@include x", "#includedir d", "Defaults", "!authenticate", "sha224:", "@daily",
    "0 0 * * *", "root", "[Service]", "User=", "ExecStart=", "permit", "as", "cmd", "args", "{", "}", "\x00", "\x85", "é", "$1$",
])  # fmt: skip
TEXT = st.one_of(st.lists(WORDS, max_size=60).map(" ".join).map(str.encode), st.lists(WORDS, max_size=60).map("".join).map(
    str.encode), st.binary(max_size=400))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_rules_jobs_and_accounts_never_raise(data: bytes) -> None:
    parts, _ = gather("/etc/sudoers", lambda path: data, lambda directory: ("a", "b"))
    parse_sudoers(parts)
    parse_doas(data)
    parse_crontab(data)
    parse_crontab(data, user="ann")
    parse_anacrontab(data)
    parse_accounts(data)
    parse_shadow(data)
    parse_groups(data)
    from_wtmp(data)


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_units_and_stores_are_malformed_or_read(data: bytes) -> None:
    for read in (lambda: parse_unit(data, "x"), lambda: list(read_store(b"\xfe\xed\xfe\xed" + data))):
        try:
            read()
        except Malformed:
            pass


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=200))
def test_values_of_a_directory_never_raise(data: bytes, text: str) -> None:
    sids_allowed(data)
    sid_text(data)
    canonical(text)
    moment_of(text)
    list(rules_of([text, "to * by " + text]))


def test_long_lines_end_soon() -> None:
    for line in (
        b"a," * 500_000,
        b"ann ALL=" + b"(" * 1_000_000,
        b"\\\n" * 500_000,
        b"!" * 1_000_000,
        b"@include x\n" * 90_000,
    ):
        parts, _ = gather(
            "/etc/sudoers", lambda path, line=line: line if path == "/etc/sudoers" else None, lambda d: ()
        )
        parse_sudoers(parts)
        parse_crontab(line)
        parse_unit(b"[Service]\nExecStart=" + line, "x")
