"""Logs → who used what, when, and from where: identities' and credentials' last use, consumers and environments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, TypeAlias

from remit.inventory.connectors.files.host import host_fingerprint
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.inventory.use import logs
from remit.inventory.use.model import ANY, Use, UseFact
from remit.inventory.use.readers import NAMES, Context, Kind, kinds
from remit.inventory.use.tally import Tally
from remit.kernel.errors import Rejected
from remit.kernel.ids import parse_name

MANIFEST = ConnectorManifest(
    id="use",
    title="Logs of use",
    source="a log file, with what rotation made of it, or a directory of logs",
    observes=(
        "when each identity and credential was used first and last, and on which days",
        "by which consumers (address and program), in which environments, and whether by a person",
        "failed attempts",
        "what was done on what, where the log says so: the base of `remit rightsize`",
        "from when to when a log tells: outside of it nobody is called dormant",
    ),
    options=(
        Option(name="kind", help="of log: " + ", ".join(NAMES)),
        Option(name="instance", help="of the system, as names have it: HOST:PORT of a database, a cluster, an account"),
        Option(name="environment", help="in which everything of this log happens"),
        Option(name="people", help="addresses and networks from which persons work, with commas"),
    ),
    needs=(Permission(grant="read access to the log files", why="they are read, never moved or truncated"),),
    blind_to=(
        Blind(what="what was not logged", why="PostgreSQL tells of connections only with `log_connections = on`"),
        Blind(
            what="what was done in a session",
            why="PostgreSQL tells it with pgaudit or `log_statement = all`, Redis only the last command of a client",
        ),
        Blind(what="data events of AWS", why="a trail tells of objects, items and invocations only where it is set to"),
        Blind(what="workloads behind one address", why="a proxy or NAT makes many consumers one"),
        Blind(what="moments of live lists", why="`CLIENT LIST` and `/api/connections` tell only of the moment"),
        Blind(what="tokens in an audit log of OpenBao", why="they are hashed under the server's own key"),
    ),
    hazards=("a log may hold secrets that programs wrote into it: nothing of it is kept but what is listed above",),
)
_MOST_NAMES: Final = 2_000
_MOST_DEEDS: Final = 50_000
_PIECE: Final = 200_000
"""Records after which what was counted is handed over."""
Raw: TypeAlias = UseFact


class UseConnector:
    """Reads the logs at `path` as being of one kind."""

    manifest = MANIFEST

    def __init__(
        self, path: Path, kind: str, *, instance: str = "", environment: str = "", people: tuple[str, ...] = ()
    ) -> None:
        self._path, self._name, self._environment = path, kind, environment
        self._kind = _known(kind)
        self._instance = instance or (host_fingerprint() if self._kind.system == "host" else "")
        self._people = tuple(_network(each) for each in people)

    @property
    def instance(self) -> str:
        return f"{self._kind.system} {self._instance or ANY}"

    @property
    def scope(self) -> str:
        return f"{self._name} {self._path}"[:1000]

    def open(self) -> None:
        """Check that there is a log and that its system is known; `Rejected`."""
        if not self._instance and self._kind.system != "aws":
            raise Rejected(
                "inventory.use.instance-missing",
                f"a log of the kind `{self._name}` does not say of which {self._kind.system} it is",
                next_step="name it as `remit show` does: `--set instance=HOST:PORT`, or the cluster's name",
            )
        if not self._path.exists():
            raise Rejected(
                "inventory.source.missing",
                f"there is no log at `{str(self._path)[:200]}`",
                next_step="name a log file or a directory of logs on the machine on which Remit runs",
            )

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """What the logs tell beyond what was counted before (`scan.recalled`: how far, by log), whoever counted it."""
        reached = {log: int(end) for log, end in scan.recalled.items() if end.isdecimal()}
        for log in logs.find_logs(self._path):
            if isinstance(log, Skipped):
                yield log
                continue
            if scan.stopped():
                return
            try:
                yield from (self._whole if self._kind.whole else self._lines)(log, scan, reached)
            except logs.UNREADABLE as error:
                yield Skipped(what=str(log.path)[:400], reason="unreadable", detail=type(error).__name__)

    def _context(self, log: logs.Log) -> Context:
        written = datetime.fromtimestamp(log.modified_ns / 1e9, UTC)
        return Context(instance=self._instance, fallback=written, environment=self._environment)

    def _key(self, log: logs.Log) -> str:
        """The log's name by what it says; a list of a moment is another one when it was written again."""
        digest = logs.known_as(log, whole=self._kind.whole)
        instance = "" if self._kind.system == "aws" else self._instance
        moment = str(log.modified_ns) if self._kind.moment else ""
        said = "\n".join((self._name, instance, moment, digest))
        return hashlib.sha256(said.encode()).hexdigest()[:32] if digest else ""

    def _whole(self, log: logs.Log, scan: Scan, reached: dict[str, int]) -> Iterator[Raw | Skipped]:
        """A file that is written once."""
        if (key := self._key(log)) in reached:
            return
        content = logs.read_whole(log)
        if isinstance(content, Skipped):
            yield content
            return
        tally = Tally()
        self._count(tally, content, self._context(log))
        reached[key] = len(content)
        yield from self._facts(tally, log, key, 0, len(content))

    def _lines(self, log: logs.Log, scan: Scan, reached: dict[str, int]) -> Iterator[Raw | Skipped]:
        """A file that grows: read from where it was counted to."""
        if not (key := self._key(log)):
            return
        start = reached.get(key, 0)
        if logs.ends_at(log, start):
            return
        tally, context, records, end = Tally(), self._context(log), 0, start
        skipped: list[Skipped] = []
        with logs.open_log(log) as stream:
            for piece in logs.pieces(stream, start, csv=self._kind.csv, tell=skipped.append):
                self._count(tally, piece.record, context)
                records, end = records + 1, piece.end
                if tally.names >= _MOST_NAMES or tally.deeds >= _MOST_DEEDS or records % _PIECE == 0:
                    yield from self._facts(tally, log, key, start, end)
                    start = reached[key] = end
                    if scan.stopped():
                        return
                if records % 20_000 == 0:
                    scan.progress(records, str(log.path))
                    yield from skipped
                    skipped.clear()
        yield from skipped
        reached[key] = end
        yield from self._facts(tally, log, key, start, end)

    def _count(self, tally: Tally, record: bytes, context: Context) -> None:
        for told in self._kind.read(record, context):
            tally.seen(told.moment)
            for use in told.uses:
                tally.add(self._judged(use))

    def _judged(self, use: Use) -> Use:
        """With the known addresses of persons."""
        if use.person or not self._people or not use.address:
            return use
        try:
            address = ip_address(use.address)
        except ValueError:
            return use
        return replace(use, person=f"from {use.address}") if any(address in each for each in self._people) else use

    def _facts(self, tally: Tally, log: logs.Log, key: str, start: int, end: int) -> Iterator[UseFact]:
        """One fact for one piece: what it tells and how far it reaches are kept together or not at all."""
        fact = tally.fact(self._kind.system, self._instance or ANY, str(log.path))
        if fact is None:
            return
        fact = replace(fact, log=key, start=start, end=end)
        if not self._instance:  # a trail may tell of several accounts
            seen = {parsed[1] for row in fact.rows if (parsed := parse_name(row.name)) and parsed[0] == "aws"}
            fact = replace(fact, others=tuple(sorted(seen)))
        yield fact

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        return (raw,)

    def close(self) -> None:
        """Nothing stays open."""


def make(source: str, options: Mapping[str, str], secret: str) -> UseConnector:
    """A connector on a log file or directory."""
    return UseConnector(
        Path(source),
        options.get("kind", ""),
        instance=options.get("instance", ""),
        environment=options.get("environment", ""),
        people=tuple(part.strip() for part in options.get("people", "").split(",") if part.strip()),
    )


def _known(kind: str) -> Kind:
    known = kinds()
    if kind not in known:
        raise Rejected(
            "inventory.use.kind-unknown",
            f"no kind of log is called `{kind[:40]}`",
            next_step="say `--set kind=…` with one of " + ", ".join(NAMES),
        )
    return known[kind]


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise Rejected(
            "inventory.use.network-unfit",
            f"`{text[:60]}` is neither an address nor a network",
            next_step="write `--set people=10.1.0.0/16,192.0.2.7`",
        ) from None
