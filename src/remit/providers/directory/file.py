"""A directory in a file: CSV with a head line, or JSON or YAML with `people` and `teams`.

    email,name,manager,teams,active
    ann@example.org,Ann,,payments;platform,true

JSON and YAML: `{"people": [{"email", "name", "manager", "teams": [..], "active"}], "teams": {"payments": ["ann@…"]}}`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from remit.kernel.errors import Misconfigured
from remit.providers.directory.records import MOST_PEOPLE, Human, Shown, address_of, clean

MOST_BYTES: Final = 64 * 1024 * 1024
_COLUMNS: Final = frozenset({"email", "name", "manager", "teams", "active"})
_NO: Final = frozenset({"false", "no", "0", "inactive", "left"})


def read_file(path: Path) -> Shown:
    """Read a directory. Raises `Misconfigured` (`providers.directory.file`, `.malformed`) with the line or entry."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Misconfigured("providers.directory.file", f"`{path}` is larger than {MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise Misconfigured(
            "providers.directory.file", f"`{path}` cannot be read as UTF-8", next_step="check the path and its mode"
        ) from None
    rows, teams = _csv(text) if path.suffix.lower() == ".csv" else _document(text, path.suffix.lower())
    return _shown(rows, teams)


def _csv(text: str) -> tuple[list[Mapping[str, Any]], dict[str, list[str]]]:
    reader = csv.DictReader(io.StringIO(text))
    strange = sorted(set(reader.fieldnames or ()) - _COLUMNS)
    if strange or "email" not in (reader.fieldnames or ()):
        raise _malformed("line 1", f"columns are {', '.join(sorted(_COLUMNS))}; `email` must be there")
    rows: list[Mapping[str, Any]] = []
    try:
        for row in reader:
            if None in row:
                raise _malformed(f"line {reader.line_num}", "it has more fields than the head line")
            rows.append({**row, "teams": [each for each in (row.get("teams") or "").split(";") if each.strip()]})
    except csv.Error as error:
        raise _malformed(f"line {reader.line_num}", str(error)) from None
    return rows, {}


def _document(text: str, suffix: str) -> tuple[list[Mapping[str, Any]], dict[str, list[str]]]:
    import yaml

    try:
        found = msgspec.json.decode(text) if suffix == ".json" else yaml.safe_load(text)
    except (msgspec.DecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise _malformed("the file", str(error).replace("\n", " ")[:200]) from None
    if not isinstance(found, dict) or not isinstance(found.get("people"), list) or set(found) - {"people", "teams"}:
        raise _malformed("the file", "it has a list `people`, a mapping `teams`, and nothing else")
    teams = found.get("teams") or {}
    if not isinstance(teams, dict) or not all(isinstance(each, list) for each in teams.values()):
        raise _malformed("teams", "each is a name and a list of addresses")
    return found["people"], {clean(name, 128): [str(each)[:254] for each in members] for name, members in teams.items()}


def _shown(rows: Iterable[Any], teams: dict[str, list[str]]) -> Shown:
    people: list[Human] = []
    without = 0
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or set(row) - _COLUMNS:
            raise _malformed(f"entry {number}", f"its fields are {', '.join(sorted(_COLUMNS))}")
        email = address_of(row.get("email"))
        if str(row.get("active", "")).strip().lower() in _NO:
            continue
        if not email:
            without += 1
            continue
        people.append(
            Human(email=email, display=clean(row.get("name") or email, 200), manager=address_of(row.get("manager")))
        )
        if len(people) > MOST_PEOPLE:
            raise _malformed(f"entry {number}", f"there are more than {MOST_PEOPLE}")
        for team in row["teams"] if isinstance(row.get("teams"), list) else ():
            teams.setdefault(clean(team, 128), []).append(email)
    return Shown(people=tuple(people), teams={name: tuple(m) for name, m in teams.items()}, without_address=without)


def _malformed(where: str, why: str) -> Misconfigured:
    return Misconfigured(
        "providers.directory.malformed",
        f"the directory cannot be read: {where}: {why}",
        next_step="docs/owners.md has the format; nothing was changed",
    )
