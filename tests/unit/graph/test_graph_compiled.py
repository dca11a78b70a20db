"""Compiled kernels: where their machine code may lie, and that large graphs are answered as small ones are."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.inventory.graph import AccessGraph, Category, Edge, Node, blast, compiled
from remit.inventory.graph.compiled import KERNELS_FROM_EDGES, has_kernels
from remit.inventory.graph.engine import Engine, PlainEngine, count_everything
from remit.inventory.model import Relation, Sensitivity

needs_kernels = pytest.mark.skipif(not has_kernels(), reason="numba: not installed")
MANY = KERNELS_FROM_EDGES + 10_000


def folder() -> Path | None:
    return compiled._folder.__wrapped__()


def star(many: int) -> AccessGraph:
    """One identity, a role that it becomes, and everything behind the role, each third thing under a condition."""
    nodes = [
        Node(name=name, category=Category.IDENTITY, kind="role", title=name, environment="test")
        for name in ("a", "b")
    ]  # fmt: skip
    nodes += [
        Node(
            name=f"r{at}", category=Category.RESOURCE, kind="bucket", title="r", sensitivity=Sensitivity.CONFIDENTIAL,
            environment="production",
        )
        for at in range(many)
    ]  # fmt: skip
    reach = Relation.CAN_REACH
    edges = [Edge(source="a", relation=Relation.ASSUME, target="b")]
    edges += [
        Edge(source="b", relation=reach, target=f"r{at}", conditions=() if at % 3 else ("mfa",)) for at in range(many)
    ]
    return AccessGraph.build(nodes, edges)


def test_machine_code_is_kept_where_nobody_else_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = folder()
    assert found is not None and found.stat().st_mode & 0o777 == 0o700
    found.chmod(0o777)
    assert folder() is None


def test_machine_code_is_not_kept_behind_a_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "remit").mkdir()
    (tmp_path / "remit/kernels").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() is None


@pytest.mark.parametrize("home", ["", "relative/cache"])
def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.delenv("HOME", raising=False)
    assert folder() is None


def test_without_the_extra_everything_is_counted_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "has_kernels", lambda: False)
    graph = star(MANY)
    engine = count_everything(graph)
    assert isinstance(engine, PlainEngine)
    assert engine.of(graph.position("a")).resources == MANY
    assert blast(graph, "a").score == 3 * MANY


@needs_kernels
def test_a_large_graph_is_counted_by_the_kernels() -> None:
    graph = star(MANY)
    engine = count_everything(graph)
    assert isinstance(engine, Engine)
    counts = engine.of(graph.position("a"))
    certain = MANY - (MANY + 2) // 3
    assert (counts.resources, counts.becomes, counts.certain_score) == (MANY, 1, 3 * certain)


@needs_kernels
def test_a_large_blast_radius_says_what_a_small_one_says() -> None:
    found = blast(star(MANY), "a")
    assert (len(found), found.score, found.certain_score) == (MANY + 1, 3 * MANY, 3 * (MANY - (MANY + 2) // 3))
    assert (found.becomes_count, [node.name for node in found.becomes]) == (1, ["b"])
    assert found.by_kind == {"bucket": MANY, "role": 1}
    assert (found.environments, found.crossed) == (("production", "test"), ("production",))
    assert [edge.target for edge in found.path("r2")] == ["b", "r2"]
    assert "r0" in found and "a" not in found
    assert next(each for each in found if each.node.name == "r3").conditional
