"""On a narrow screen the tables of the console become cards; a table that does not hides its last columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remit.surface import console

TEMPLATES = Path(console.__file__).parent / "templates"
PAGES = (
    "blast_top", "coverage", "decisions", "findings", "intents", "leaks", "leases", "ledger", "paths", "requests",
    "rightsizing", "rotations", "sources", "standing", "targets", "tasks", "trust",
)  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_every_table_of_a_page_of_the_menu_becomes_cards(page: str) -> None:
    text = (TEMPLATES / f"{page}.html").read_text()
    tables = re.findall(r"<table[^>]*>", text)
    assert tables and all("stack" in each for each in tables)


@pytest.mark.parametrize("page", ["decision_row", "intents", "issuance_row", "ledger", "standing"])
def test_every_cell_of_a_card_but_its_first_says_what_it_is(page: str) -> None:
    for row in re.findall(r"<tr[^>]*><td.*</tr>", (TEMPLATES / f"{page}.html").read_text()):
        for each in row.split("{% else %}<tr")[0].split("<td")[2:]:
            assert "data-label=" in each.split(">")[0], each[:60]
