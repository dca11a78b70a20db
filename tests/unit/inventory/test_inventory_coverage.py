"""What is covered, what is only named, and that no share reads as whole before it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from remit.inventory.coverage import Coverage, Named, measure
from remit.inventory.records import SourceRecord
from remit.kernel.ids import name

NOW = datetime(2026, 11, 23, tzinfo=UTC)
RECORD_OF = {"files": ("host",), "postgres": ("postgres",), "redis": ("redis",)}
BLIND = {"postgres": [("use between two runs", "no last login")], "redis": [("x", "y")]}


def source(connector: str, instance: str, *, finished: datetime | None = NOW) -> SourceRecord:
    return SourceRecord(
        id=f"src_{connector}", connector=connector, instance=instance, scope="/", run="run_1", started=NOW,
        finished=finished, counts={"identity": 2, "skipped": 1}, skipped=({"reason": "not-permitted"},),
    )  # fmt: skip


def named(system: str, instance: str, local: str, *seen_by: str, identity: str = "") -> Named:
    return Named(name=name(system, instance, "role", local), identity=identity or local, seen_by=frozenset(seen_by))


def measured(*names: Named, sources: tuple[SourceRecord, ...] = (), resources: tuple[str, ...] = ()) -> Coverage:
    return measure(names, resources, sources, RECORD_OF, BLIND, NOW)


def test_a_server_that_only_a_file_names_is_not_covered_and_the_connector_is_told() -> None:
    found = measured(named("postgres", "db:5432", "app", "files"), sources=(source("files", "h"),))
    assert (found.systems, found.systems_covered, found.share_of_systems) == (1, 0, 0)
    assert found.uncovered[0].connectors == ("postgres",)


def test_a_server_is_covered_by_whatever_name_others_call_it() -> None:
    both = (
        named("postgres", "sys-1", "app", "files", "postgres", identity="id_1"),
        named("postgres", "db:5432", "app", "files", "postgres", identity="id_1"),
        named("postgres", "db:5432", "other", "files", identity="id_2"),
    )
    found = measured(*both, sources=(source("postgres", "sys-1"),))
    assert [each.instance for each in found.uncovered] == []
    assert (found.identities, found.identities_of_record, found.share_of_identities) == (2, 1, 50)


def test_a_system_without_a_connector_is_told_as_such() -> None:
    found = measured(named("oracle", "db:1521", "app", "files"))
    assert found.uncovered[0].connectors == ()


def test_a_run_that_did_not_end_covers_nothing() -> None:
    found = measured(
        named("redis", "r:6379", "app", "files"), sources=(source("redis", "r:6379", finished=None),)
    )  # fmt: skip
    assert found.systems_covered == 0 and found.sources[0].stale


def test_what_is_almost_whole_never_reads_as_whole() -> None:
    names = [named("postgres", f"s{number}", "app", "postgres") for number in range(999)]
    assert measured(*names, named("redis", "r", "app", "files")).share_of_systems == 99


def test_blind_spots_are_of_connectors_in_use_and_stale_sources_are_told() -> None:
    old = source("postgres", "sys-1", finished=NOW - timedelta(days=8))
    found = measured(sources=(old,))
    assert [each.connector for each in found.blind] == ["postgres"]
    assert found.sources[0].stale and found.sources[0].reasons == {"not-permitted": 1}
    assert found.unused == ("files", "redis")


def test_resources_name_systems_too() -> None:
    found = measured(resources=(name("s3", "aws", "bucket", "backups"),))
    assert [(each.system, each.covered) for each in found.uncovered] == [("s3", False)]
