"""What the connectors of cloud exports share: the JSON files of a directory, read bounded, on one sheet each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from remit.inventory.connectors.files.host import host_fingerprint
from remit.inventory.connectors.files.record import FileRead
from remit.inventory.connectors.files.walk import printable
from remit.inventory.connectors.port import ConnectorManifest, Scan
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Rejected

MAX_FILES: Final = 2_000
MAX_BYTES: Final = 256 * 1024 * 1024
_ROWS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some objects of one file."""

    path: str
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)


class ExportConnector:
    """Reads exported JSON: one object, a list of them, or one a line. `read` understands one object, by its shape."""

    def __init__(
        self, manifest: ConnectorManifest, root: Path, read: Callable[[SystemSheet, Mapping[str, Any]], bool],
        *, lists: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.manifest = manifest
        self._root = root
        self._read = read
        self._lists = lists

    @property
    def instance(self) -> str:
        """The machine's fingerprint: an export speaks of many accounts."""
        return host_fingerprint()

    @property
    def scope(self) -> str:
        return printable(str(self._root))

    def open(self) -> None:
        """Look for the source; `Rejected` (`inventory.export.missing`)."""
        if not self._root.exists():
            raise Rejected(
                "inventory.export.missing",
                f"there is no `{self.scope[:200]}`",
                next_step="name a JSON file, or a directory of them, that the cloud's own command line wrote",
            )
        self._root = self._root.resolve()

    def fetch(self, scan: Scan) -> Iterator[Rows | Skipped]:
        """Each file in parts of 200 objects."""
        files = sorted(self._root.rglob("*.json*")) if self._root.is_dir() else [self._root]
        if len(files) > MAX_FILES:
            yield Skipped(what=self.scope, reason="too-large", detail=f"more than {MAX_FILES} files")
        for count, path in enumerate(files[:MAX_FILES]):
            scan.progress(count, printable(str(path)))
            if scan.stopped():
                yield Skipped(what=self.scope, reason="changed-while-read", detail="stopped before the end")
                return
            if path.is_file() and not path.is_symlink():
                yield from self._file(path)

    def _file(self, path: Path) -> Iterator[Rows | Skipped]:
        shown = printable(str(path))
        try:
            if path.stat().st_size > MAX_BYTES:
                yield Skipped(what=shown, reason="too-large", detail=f"more than {MAX_BYTES} bytes")
                return
            data = path.read_bytes()
        except OSError as error:
            yield Skipped(what=shown, reason="unreadable", detail=error.strerror or "")
            return
        try:
            lines = path.suffix in (".jsonl", ".ndjson")
            found = (
                [msgspec.json.decode(line) for line in data.splitlines() if line]
                if lines
                else msgspec.json.decode(data)
            )
        except (msgspec.DecodeError, RecursionError):
            yield Skipped(what=shown, reason="malformed", detail="no valid JSON")
            return
        rows = tuple(self._opened(found))
        for start in range(0, len(rows), _ROWS):
            yield Rows(path=shown, rows=rows[start : start + _ROWS])

    def _opened(self, found: Any) -> Iterator[Mapping[str, Any]]:
        """The objects of a document; those of lists that the APIs wrap (`value`, `accounts`) are taken out."""
        if isinstance(found, dict):
            inner = next((found[key] for key in self._lists if isinstance(found.get(key), list)), None)
            found = [found] if inner is None else inner
        yield from (row for row in found if isinstance(row, dict)) if isinstance(found, list) else ()

    def translate(self, raw: Rows, scan: Scan) -> Iterable[Fact]:
        """The facts of some objects; one that is not in the form of its kind becomes `Skipped`."""
        file = FileRead(path=raw.path, reader=self.manifest.id, data=b"", host=self.instance, account="export")
        sheet = SystemSheet(file, scan, rules=self.manifest.id, system=f"export:{self.manifest.id}", path=raw.path)
        for row in raw.rows:
            try:
                if not self._read(sheet, row):
                    sheet.skip("not-supported", "an object of a kind that is not known here")
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                sheet.skip("malformed", type(error).__name__)
        return sheet.facts()

    def close(self) -> None:
        """Nothing is held."""
