"""Log files: read once, through growth, rotation and compression, in bounded memory."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.testing import NOW, fingerprint
from remit.inventory.connectors.use import UseConnector, make
from remit.inventory.model import Skipped
from remit.inventory.use import logs
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Rejected


def _line(number: int, *, who: str = "orders", minute: int = 0) -> str:
    event = {
        "stage": "ResponseComplete", "requestReceivedTimestamp": f"2026-11-20T10:{minute:02}:00Z",
        "user": {"username": f"system:serviceaccount:shop:{who}"}, "sourceIPs": ["10.0.0.1"], "auditID": number,
    }  # fmt: skip
    return json.dumps(event) + "\n"


class Reader:
    """Runs of one connector, each told how far the logs were counted."""

    def __init__(self, path: Path) -> None:
        self.path, self.counted = path, dict[str, str]()
        self.skipped: list[Skipped] = []

    def read(self) -> int:
        """How many uses a whole run tells."""
        connector = UseConnector(self.path, "kubernetes-audit", instance="prod")
        connector.open()
        found = list(connector.fetch(Scan(now=NOW, fingerprint=fingerprint, recalled=self.counted)))
        self.skipped = [each for each in found if isinstance(each, Skipped)]
        told = [fact for fact in found if isinstance(fact, UseFact)]
        self.counted |= {fact.log: str(fact.end) for fact in told}
        return sum(row.count for fact in told for row in fact.rows)


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(_line(1) + _line(2))
    reader = Reader(log)
    assert (reader.read(), reader.read()) == (2, 0)
    with log.open("a") as file:
        file.write(_line(3))
    assert (reader.read(), reader.read()) == (1, 0)


def test_a_line_that_is_still_being_written_is_kept_for_the_next_time(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    whole = _line(2)
    log.write_text(_line(1) + whole[:40])
    reader = Reader(log)
    assert reader.read() == 1
    with log.open("a") as file:
        file.write(whole[40:])
    assert reader.read() == 1


def test_rotation_and_compression_count_nothing_twice(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(_line(1) + _line(2))
    reader = Reader(log)
    assert reader.read() == 2
    with log.open("a") as file:
        file.write(_line(3))
    log.rename(tmp_path / "audit.log.1")
    log.write_text(_line(4))
    assert reader.read() == 2
    (tmp_path / "audit.log.2.gz").write_bytes(gzip.compress((tmp_path / "audit.log.1").read_bytes()))
    (tmp_path / "audit.log.1").unlink()
    assert reader.read() == 0


def test_many_rotated_logs_are_each_read_once(tmp_path: Path) -> None:
    for number in range(90):
        file = tmp_path / f"audit-{number:03}.log"
        file.write_text(_line(number))
        os.utime(file, (1_760_000_000 + number, 1_760_000_000 + number))
    reader = Reader(tmp_path)
    assert (reader.read(), reader.read()) == (90, 0)


def test_a_copy_that_stopped_growing_does_not_hide_what_the_log_said_since(tmp_path: Path) -> None:
    log, copy = tmp_path / "audit.log", tmp_path / "audit.log.1"
    log.write_text(_line(1))
    copy.write_text(_line(1))
    with log.open("a") as file:
        file.write(_line(2))
    os.utime(copy, (1_760_000_000, 1_760_000_000))
    assert Reader(log).read() == 2


def test_a_log_that_could_not_be_read_for_a_while_is_not_counted_again(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "audit.log").write_text(_line(1) + _line(2))
    reader = Reader(folder)
    assert reader.read() == 2
    (folder / "audit.log").rename(tmp_path / "away")
    assert reader.read() == 0
    (tmp_path / "away").rename(folder / "audit.log.7")
    assert reader.read() == 0


def test_an_archive_that_was_read_to_its_end_is_not_decompressed_again(tmp_path: Path) -> None:
    content = (_line(1) + _line(2)).encode()
    (tmp_path / "a.log.gz").write_bytes(gzip.compress(content))
    (log,) = [each for each in logs.find_logs(tmp_path) if isinstance(each, logs.Log)]
    assert logs.ends_at(log, len(content))
    assert not logs.ends_at(log, len(_line(1)))


def test_a_long_query_cannot_forge_a_record_of_its_own(tmp_path: Path) -> None:
    forged = '2026-11-20 10:00:00.000 UTC,"victim","shop",1,"10.0.0.1:5",x,1,"s",t,v,0,LOG,00000,"x",,,,,,,,,"web"\n'
    inside = ("y" * 60 + "\n") * (logs.LONGEST_RECORD // 60) + forged.replace('"', '""')
    row = f'2026-11-20 10:00:00.000 UTC,"app","shop",1,"10.0.0.1:5",x,1,"s",t,v,0,LOG,00000,"{inside}",,,,,,,,,"web"\n'
    log = tmp_path / "pg.csv"
    log.write_text(row + forged.replace("victim", "honest"))
    connector = UseConnector(log, "postgres-csv", instance="db:5432")
    found = list(connector.fetch(Scan(now=NOW, fingerprint=fingerprint)))
    names = [row.name for fact in found if isinstance(fact, UseFact) for row in fact.rows]
    assert [each.rpartition(":")[2] for each in names] == ["honest"]
    assert [each.reason for each in found if isinstance(each, Skipped)] == ["too-large"]


def test_a_record_that_is_too_long_is_told_and_the_next_is_read(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(_line(1) + "x" * (logs.LONGEST_RECORD * 2 + 5) + "\n" + _line(2))
    reader = Reader(log)
    assert reader.read() == 2
    assert [each.reason for each in reader.skipped] == ["too-large"]


def test_a_damaged_archive_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.log.gz").write_bytes(gzip.compress((_line(1) * 5000).encode())[:-40])
    (tmp_path / "b.log").write_text(_line(2))
    reader = Reader(tmp_path)
    assert reader.read() >= 1
    assert [each.reason for each in reader.skipped] == ["unreadable"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(_line(1))
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "audit.log").symlink_to(tmp_path / "elsewhere")
    assert Reader(folder).read() == 0


def test_many_names_are_handed_over_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text("".join(_line(number, who=f"a{number}") for number in range(4500)))
    connector = UseConnector(log, "kubernetes-audit", instance="prod")
    found = [each for each in connector.fetch(Scan(now=NOW, fingerprint=fingerprint)) if isinstance(each, UseFact)]
    assert [len(fact.rows) for fact in found] == [2000, 2000, 500]


def test_a_csv_record_goes_on_over_lines(tmp_path: Path) -> None:
    log = tmp_path / "pg.csv"
    row = '2026-11-20 10:00:00.000 UTC,"app","shop",1,"10.0.0.1:5",x,1,"s",t,v,0,LOG,00000,"SELECT\n1",,,,,,,,,"web"\n'
    log.write_text(row * 3)
    connector = UseConnector(log, "postgres-csv", instance="db:5432")
    (fact,) = [each for each in connector.fetch(Scan(now=NOW, fingerprint=fingerprint)) if isinstance(each, UseFact)]
    assert [(row.count, row.consumers) for row in fact.rows] == [(3, {"10.0.0.1 web": 3})]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"kind": "novel"}, "inventory.use.kind-unknown"),
        ({"kind": "postgres-csv"}, "inventory.use.instance-missing"),
        ({"kind": "sshd", "people": "everybody"}, "inventory.use.network-unfit"),
        ({"kind": "sshd"}, "inventory.source.missing"),
    ],
)
def test_what_cannot_be_read_is_told(options: dict[str, str], code: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as error:
        make(str(tmp_path / "none"), options, "").open()
    assert error.value.code == code
