"""Sources that lie: they take no credential of others, free nothing, and let nothing of others vanish."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from remit.inventory import registry
from remit.kernel.ids import name

KEY = f"sha256:{9:064x}"
MINE = name("files", "host", "account", "mallory")


def test_who_shows_a_public_key_first_does_not_keep_it(reg: Any, say: Any) -> None:
    reg.run("tree", [say.secret(KEY, MINE)], record_of=())
    reg.run("db", [say.identity(reg.A), say.secret(KEY, reg.A)])
    bearer = reg.rows.credentials([KEY])[KEY].identity
    assert bearer == reg.named(reg.A).id != reg.named(MINE).id
    assert "inventory.credential.rebound" in reg.recorded


def test_who_shows_it_later_does_not_take_it(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A), say.secret(KEY, reg.A)])
    reg.run("tree", [say.identity(MINE), say.secret(KEY, MINE)], record_of=())
    reg.run("db", [say.identity(reg.A), say.secret(KEY, reg.A)])
    assert reg.rows.credentials([KEY])[KEY].identity == reg.named(reg.A).id


def test_of_two_records_the_first_keeps_it(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A), say.identity(reg.B), say.secret(KEY, reg.A), say.secret(KEY, reg.B)])
    reg.run("other", [say.identity(reg.B), say.secret(KEY, reg.B)])
    assert reg.rows.credentials([KEY])[KEY].identity == reg.named(reg.A).id


@pytest.mark.parametrize("state", ["quarantined", "suspended"])
def test_no_source_takes_a_credential_out_of_containment(reg: Any, say: Any, state: str) -> None:
    reg.run("tree", [say.secret(KEY, MINE)], record_of=())
    held = reg.named(MINE).id
    reg.rows.restore(held, state=state, owner=None, tier=None)
    reg.run("db", [say.identity(reg.A), say.secret(KEY, reg.A)])
    assert reg.rows.credentials([KEY])[KEY].identity == held


def test_a_source_that_calls_itself_another_retires_nothing_and_is_a_finding(reg: Any, say: Any) -> None:
    reg.run("db", [say.identity(reg.A), say.identity(reg.B)])
    run = registry.begin_run(reg.unit(), "db", "i", "scope", record_of=("db",))
    run = replace(run, elsewhere="db.example.test")
    registry.reconcile(reg.unit(), run, [say.identity(reg.C)])
    assert registry.finish_run(reg.unit(), run, {}, ()) == {}
    assert reg.named(reg.A).present and reg.named(reg.B).present
    assert [each.rule for each in reg.rows.findings(limit=10)] == ["inventory.source-elsewhere"]
    reg.run("db", [say.identity(reg.A), say.identity(reg.C)])
    assert not reg.named(reg.B).present and reg.rows.findings(limit=10) == []
