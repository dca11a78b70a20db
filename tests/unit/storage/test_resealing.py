"""A rotation of data keys reaches every sealed value that any table has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, insert, select
from test_kek import on, rotate

from remit.storage.kek import LocalKek
from remit.storage.keys import _SEALED, KeyRing
from remit.storage.schema import everything

_OPEN = {"storage_key.sealed", "storage_key.public"}
_SECRET = ("sealed", "answer")


def sealed_columns() -> set[str]:
    return {
        f"{table.name}.{column.name}"
        for table in everything().tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name.startswith(_SECRET)
    } - _OPEN


def test_no_sealed_column_is_forgotten() -> None:
    assert sealed_columns() == {f"{table}.{column}" for table, _, column, _ in _SEALED}


@pytest.mark.parametrize("version", [1, 7])
def test_the_secret_of_a_plan_is_sealed_anew_in_the_context_of_its_version(tmp_path: Path, version: int) -> None:
    def scene(ring: KeyRing, unit: Any) -> None:
        table = everything().tables["access_rotation"]
        context = f"access_rotation_plan/app/{version}"
        row = {
            "name": "app",
            "content": {"version": version},
            "signature": "",
            "sealed": ring.seal(b"s", context=context),
        }
        lost = {**row, "name": "lost", "content": {}}
        unit.conn.execute(insert(table), [row, lost])
        rotation = rotate(ring, unit)
        assert rotation.unreadable == 1
        after = unit.conn.scalar(select(table.c.sealed).where(table.c.name == "app"))
        assert after.startswith(f"rs1:{rotation.active}:".encode())
        assert ring.unseal(after, context=context) == b"s"

    on(tmp_path / "remit.db", LocalKek(b"k" * 32), scene)
