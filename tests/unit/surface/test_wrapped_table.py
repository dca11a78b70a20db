"""A table whose long columns are wrapped loses nothing, whatever the width of the terminal."""

from __future__ import annotations

import pytest

from remit.surface.cli.dependents import show_dependents

WHERE = "/srv/harbour/shop/deploy/overlays/production/values-with-a-long-name.yaml:118"
WHY = "the service account annotation eks.amazonaws.com/role-arn names this very role for its pods"
ROW = {
    "breaks": "certainly", "title": "deployment checkout-service-of-the-shop", "relation": "assumes",
    "last_seen": "2026-11-22T12:00:00Z", "confidence": 95, "environment": "production",
    "ask": "payments-platform@acme.example", "evidence": WHY, "place": WHERE,
}  # fmt: skip


@pytest.mark.parametrize("columns", [100, 150])
def test_dependents_are_told_whole_on_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("remit.surface.cli.output._PIPED", columns)
    show_dependents({"dependents": [ROW], "total": 1}, dry_run=False)
    said = capsys.readouterr().out
    letters = sorted("".join(said.split()))
    assert max(map(len, said.splitlines())) <= columns
    assert "…" not in said
    for told in (ROW["title"], ROW["ask"], WHY, WHERE):
        assert all(letters.count(each) >= str(told).replace(" ", "").count(each) for each in str(told))
    assert len(letters) > sum(len(str(told).replace(" ", "")) for told in (ROW["title"], ROW["ask"], WHY, WHERE))
