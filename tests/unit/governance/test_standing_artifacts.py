"""What `remit convert` writes stays text, whatever names hold."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from remit.access.policy.check import check, errors_of
from remit.governance.standing.artifacts import cedar_text, commands_text, policy_text, workload_change
from remit.governance.standing.conversion import Conversion, Phase
from remit.providers.postgres.conversion import Holding, give_statements

T0 = datetime(2026, 1, 10, tzinfo=UTC)
HOSTILE = 'x"; $(touch /tmp/pwned) `id`\n}; permit(principal,action,resource); --'


def conversion(**more: str) -> Conversion:
    values = {
        "id": "cv_1", "identity": "id_app", "target": "orders", "login": HOSTILE, "role": "app", "group": "app_task",
        "task": "app", "actor": "person:ann",
    }  # fmt: skip
    return Conversion(**{**values, **more}, phase=Phase.PLANNED, revision=0, started=T0, moved=T0)  # type: ignore[arg-type]


def test_the_policy_is_one_policy_whatever_the_login_is_called() -> None:
    text = policy_text(conversion())
    assert errors_of(check(text)) == []
    assert text.count("permit (") == 1 and "permit(principal" in cedar_text(HOSTILE)


def test_a_command_line_stays_one_word_each() -> None:
    [*_, run] = commands_text(conversion(), [HOSTILE.replace("\n", " ")]).strip().splitlines()
    assert shlex.split(run)[-1] == HOSTILE.replace("\n", " ")


def test_a_login_s_name_stays_a_name_in_sql() -> None:
    held = Holding(
        oid=1, administers=False, inherits=True, memberships=('a"b; DROP ROLE x',), options=("",), rights=(), owns=1,
        elsewhere=0, settings=0,
    )  # fmt: skip
    [_, joined, owned] = give_statements(held, "it's", 'g"; --')
    assert joined == 'GRANT "a""b; DROP ROLE x" TO "g""; --"'
    assert owned == 'GRANT "it\'s" TO "g""; --"'


def test_the_secret_leaves_the_file_and_is_not_in_the_difference() -> None:
    unit = "[Service]\nEnvironment=PGPASSWORD=topsecret\nExecStart=/usr/bin/billing --all\n"
    said = workload_change(unit, "/etc/systemd/system/billing.service", ["topsecret"], [2], conversion())
    assert "topsecret" not in said and "-Environment=PGPASSWORD=********" in said
    need = shlex.quote("postgres://orders?role=app")
    assert f"+ExecStart=remit run --task app --need {need} --env -- /usr/bin/billing --all" in said
