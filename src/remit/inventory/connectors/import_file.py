"""A file in Remit's own form, for every system that has no connector: JSON, JSON lines, YAML or CSV.

Each row is a struct of `import_rows`; a field that it does not have, or a value of another type, makes the row
`Skipped` with its line and field, and the next row is read. A file speaks for its own system alone: it can name
nothing of another.

The form is documented in docs/import.md; docs/schema/import.schema.json is made from the structs.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from remit.inventory.connectors.catalog import CATALOG
from remit.inventory.connectors.files.formats import Malformed, Tree
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.connectors.import_rows import KINDS, Row, facts_of_row
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Rejected

MAX_FILE_BYTES: Final = 512 * 1024 * 1024
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
MAX_LINE_BYTES: Final = 1024 * 1024
_SYSTEM: Final = re.compile(r"[a-z][a-z0-9-]{1,39}")
_OWN: Final = frozenset({"credential", "host", "remit", "oidc", "spiffe"})
"""Systems whose names no file may give: they join what others saw."""

MANIFEST = ConnectorManifest(
    id="import",
    title="A file in Remit's own form",
    source="a file: .json, .jsonl, .yaml or .csv, as docs/import.md describes",
    observes=("identities, credentials, resources, entitlements and owners of any system",),
    needs=(Permission(grant="read access to the file", why="nothing else is asked"),),
    blind_to=(
        Blind(what="whether it is true", why="the file is believed for its own system, and for no other"),
        Blind(what="what the file leaves out", why="an identity that is no longer in it is retired"),
    ),
    hazards=("a secret in the file becomes a fingerprint, but the file itself still holds it: prefer fingerprints",),
    options=(
        Option(name="system", help="name of the system of which a CSV or JSON-lines file speaks"),
        Option(name="instance", help="which installation of it; `default` otherwise"),
        Option(name="kind", help="of the rows of a CSV file: identity, credential, resource, entitlement or owner"),
        Option(name="dry-run", help="`true`: say what is wrong with the file, and keep nothing of it"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One row that is sound, and where it stood."""

    row: Row = field(repr=False)
    line: int | None = None


class ImportConnector:
    """Reads one file."""

    def __init__(
        self, path: Path, *, system: str = "", instance: str = "", kind: str = "", dry_run: bool = False
    ) -> None:
        self._path = path
        self._system = system
        self._called = instance
        self._kind = kind
        self._dry = dry_run
        self._document: Any = None
        self._opened = False

    @property
    def manifest(self) -> ConnectorManifest:
        """After `open` the file is the record of its own system: the aliases that it gives there count."""
        return replace(MANIFEST, record_of=(self._system,)) if self._opened else MANIFEST

    @property
    def instance(self) -> str:
        """`SYSTEM/INSTANCE`, as the file or the options say; known after `open`."""
        return f"{self._system}/{self._called}"

    @property
    def scope(self) -> str:
        """A trial covers nothing that a real run does: it retires nothing."""
        return f"{self._path.name} (trial)" if self._dry else self._path.name

    def open(self) -> None:
        """Look at the file and learn its system; `Rejected` (`inventory.import.*`)."""
        try:
            size = self._path.stat().st_size if self._path.is_file() else -1
        except OSError:
            size = -1
        if size < 0:
            raise _wrong("missing", f"there is no file `{str(self._path)[:200]}`", "name a file that can be read")
        limit = MAX_FILE_BYTES if self._path.suffix in (".jsonl", ".ndjson", ".csv") else MAX_DOCUMENT_BYTES
        if size > limit:
            raise _wrong("too-large", f"the file has more than {limit} bytes", "write it as JSON lines, or in parts")
        if self._path.suffix in (".json", ".yaml", ".yml"):
            self._document = self._whole()
            self._system = self._system or str(self._document.get("system") or "")
            self._called = self._called or str(self._document.get("instance") or "")
        self._called = self._called or "default"
        if self._system in CATALOG or self._system in _OWN:
            raise _wrong(
                "of-another", f"`{self._system}` is read by a connector of its own, or joins what others saw",
                "give the file's system another name",
            )  # fmt: skip
        if not _SYSTEM.fullmatch(self._system) or not re.fullmatch(r"[\w.:-]{1,100}", self._called):
            raise _wrong(
                "no-system", "the file does not name a system of its own",
                "give `system` (small letters, digits and hyphens) in the file, or with `--set system=NAME`",
            )  # fmt: skip
        if self._path.suffix == ".csv" and self._kind not in KINDS:
            raise _wrong("no-kind", "a CSV file holds rows of one kind", f"give `--set kind=`: {', '.join(KINDS)}")

        self._opened = True

    def _whole(self) -> dict[str, Any]:
        data = self._path.read_bytes()
        try:
            if self._path.suffix == ".json":
                found = msgspec.json.decode(data)
            else:
                documents = parse_yaml(data)
                found = _plain(documents[0].value) if documents else None
        except (msgspec.DecodeError, RecursionError, Malformed):
            raise _wrong("malformed", "the file cannot be parsed", "look at it with another program") from None
        if not isinstance(found, dict):
            raise _wrong("malformed", "the file holds no object at its top", "see docs/import.md for its form")
        if strange := sorted(set(found) - {"system", "instance", "$schema"} - set(_LISTS.values())):
            raise _wrong("unknown-field", f"`{strange[0][:60]}` is no field of the file", "see docs/import.md")
        return found

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Each sound row; what is wrong with one is said with its line and field, and the next is read."""
        for count, (where, line, kind, value) in enumerate(self._rows()):
            if count % 1000 == 0:
                scan.progress(count, self._path.name)
            if scan.stopped():
                yield Skipped(what=self._path.name, reason="changed-while-read", detail="stopped before the end")
                return
            if isinstance(value, str):
                yield Skipped(what=where, reason="malformed", detail=value)
                continue
            try:
                yield Raw(row=msgspec.convert(value, KINDS[kind], strict=self._path.suffix != ".csv"), line=line)
            except KeyError:
                detail = f"`row` is none of {', '.join(KINDS)}"
                yield Skipped(what=where, reason="malformed", detail=detail)
            except msgspec.ValidationError as error:
                yield Skipped(what=where, reason="malformed", detail=_said(error))

    def _rows(self) -> Iterator[tuple[str, int | None, str, Any]]:
        """(place for a person, line, kind, the row or what is wrong with it)."""
        if self._document is not None:
            for kind in KINDS:
                found = self._document.get(_LISTS[kind])
                for index, value in enumerate(found if isinstance(found, list) else ()):
                    yield f"{self._path.name}: {_LISTS[kind]}[{index}]", None, kind, value
            return
        with self._path.open("rb") as file:
            yield from self._table(file) if self._path.suffix == ".csv" else self._lines(file)

    def _lines(self, file: io.BufferedReader) -> Iterator[tuple[str, int | None, str, Any]]:
        number, rest = 0, False
        while data := file.readline(MAX_LINE_BYTES):
            where, begun = f"{self._path.name}:{number + (not rest)}", rest
            number += not rest
            rest = len(data) >= MAX_LINE_BYTES and not data.endswith(b"\n")
            if rest or begun:
                if not begun:
                    yield where, number, "", f"the line has more than {MAX_LINE_BYTES} bytes"
                continue
            if not data.strip():
                continue
            try:
                value = msgspec.json.decode(data)
            except (msgspec.DecodeError, RecursionError):
                yield where, number, "", "the line is no JSON"
                continue
            if not isinstance(value, dict):
                yield where, number, "", "the line is no object"
                continue
            yield where, number, str(value.pop("row", "")), value

    def _table(self, file: io.BufferedReader) -> Iterator[tuple[str, int | None, str, Any]]:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
        reader = csv.DictReader(text, restkey="")
        try:
            for row in reader:
                where = f"{self._path.name}:{reader.line_num}"
                if "" in row:
                    yield where, reader.line_num, "", "the row has more fields than the header"
                    continue
                yield where, reader.line_num, self._kind, _unfolded(row)
        except csv.Error as error:
            yield f"{self._path.name}:{reader.line_num}", None, "", f"the table ends here: {error}"
        finally:
            text.detach()

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of one row; none in a trial but what cannot be."""
        where = f"{self._path.name}"
        try:
            facts = tuple(facts_of_row(raw.row, self._system, self._called, where, raw.line, scan.fingerprint))
        except (ValueError, TypeError) as error:
            what = f"{where}:{raw.line}" if raw.line else where
            return (Skipped(what=what, reason="malformed", detail=str(error)[:200]),)
        return () if self._dry else facts

    def close(self) -> None:
        """Forget what was read."""
        self._document = None


_LISTS: Final = {
    "identity": "identities", "credential": "credentials", "resource": "resources",
    "entitlement": "entitlements", "owner": "owners",
}  # fmt: skip


def make(source: str, options: Mapping[str, str], secret: str) -> ImportConnector:
    """A connector on a file."""
    path = Path(source)
    if path.suffix not in (".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".csv"):
        raise _wrong("unknown-form", "the file's ending says no form", "call it .json, .jsonl, .yaml or .csv")
    return ImportConnector(
        path, system=options.get("system", ""), instance=options.get("instance", ""), kind=options.get("kind", ""),
        dry_run=options.get("dry-run", "").lower() in ("true", "yes", "1"),
    )  # fmt: skip


def _unfolded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table: an empty cell is absent, a list is separated by `;`, `attributes.x` is an attribute."""
    made: dict[str, Any] = {}
    for key, cell in row.items():
        if not key or cell is None or cell == "":
            continue
        if key.startswith("attributes."):
            made.setdefault("attributes", {})[key.removeprefix("attributes.")] = cell
        else:
            made[key] = (
                [part.strip() for part in cell.split(";")] if key in ("aliases", "actions", "conditions") else cell
            )
    return made


def _plain(value: Tree) -> Any:
    """YAML's values, whose numbers are text: as the structs want them."""
    if isinstance(value, dict):
        return {key: int(str(item)) if key == "confidence" and str(item).isdigit() else _plain(item)
                for key, item in value.items()}  # fmt: skip
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _said(error: msgspec.ValidationError) -> str:
    """What the decoder says, without the values it quotes: the field, and what it should be."""
    text = str(error)
    return re.sub(r"Invalid enum value '[^']*'|Invalid value '[^']*'", "not one of the known values", text)[:300]


def _wrong(what: str, message: str, next_step: str) -> Rejected:
    return Rejected(f"inventory.import.{what}", message, next_step=next_step)
