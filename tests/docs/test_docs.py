"""What exists is documented, and what is documented exists."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path

import pytest

from remit.surface.cli.entry import COMMANDS, build
from remit.surface.problem import _STATUS
from remit.wiring.settings import SECTIONS

ROOT = Path(__file__).parents[2]
DOCS, SOURCE = ROOT / "docs", ROOT / "src" / "remit"
PATHS = [path for path, *_ in COMMANDS] + ["run"]
ERRORS = {kind.__name__ for kind, _, _ in _STATUS}
COMMON = {"--data", "--socket-dir", "--format", "--help", "--version"}


@cache
def page(name: str) -> str:
    """The text of a page, which must be there."""
    path = DOCS / name
    assert path.is_file(), f"docs/{name} is missing"
    return path.read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading, to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    after = text.partition(f"\n{heading}\n")[2]
    return re.split(rf"\n#{{1,{level}}} ", after, maxsplit=1)[0]


def missing(what: list[str], where: str) -> str:
    return f"not in docs/{where}: " + ", ".join(what)


# -- commands


def options(path: str) -> set[str]:
    """The options that a command's own help shows."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        build()([*path.split(), "--help"], result_action="return_value")
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown.getvalue())) - COMMON


def test_every_command_has_its_section() -> None:
    text = page("commands.md")
    absent = [f"### remit {path}" for path in PATHS if f"\n### remit {path}\n" not in text]
    assert absent == [], missing(absent, "commands.md")


@pytest.mark.parametrize("path", PATHS)
def test_every_option_of_a_command_stands_in_its_section(path: str) -> None:
    said = section(page("commands.md"), f"### remit {path}")
    if path in ("serve", "explain"):  # "as …"
        said += section(page("commands.md"), f"### remit {'up' if path == 'serve' else 'policy explain'}")
    absent = sorted(each for each in options(path) if each not in said)
    assert absent == [], missing(absent, f"commands.md under `remit {path}`")


def test_no_section_is_of_a_command_that_is_gone() -> None:
    named = re.findall(r"^### remit (.+)$", page("commands.md"), re.MULTILINE)
    assert sorted(set(named) - set(PATHS)) == []


def mentions() -> Iterator[tuple[str, str]]:
    """(place, words after `remit`) wherever a command stands in code quotes, in documents and in our own messages."""
    places = [ROOT / "README.md", *DOCS.rglob("*.md"), *SOURCE.rglob("*.py"), *SOURCE.rglob("*.html")]
    for path in places:
        if "decisions" in path.relative_to(ROOT).parts[:2] or path.name == "status.md":
            continue  # what was thought then, and what is not there yet
        text = path.read_text(encoding="utf-8")
        quoted = re.findall(r"`(?:\.venv/bin/)?remit ([^`\n]+)`", text)
        typed = re.findall(r"^\$ (?:\.venv/bin/)?remit (.+)$", text, re.MULTILINE)
        for words in (*quoted, *typed):
            yield str(path.relative_to(ROOT)), words


def test_every_command_that_is_mentioned_exists() -> None:
    tops, parents = {path.split()[0] for path in PATHS}, {path.split()[0] for path in PATHS if " " in path}
    wrong = []
    for place, words in mentions():
        parts = re.findall(r"^[a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)?", words)
        if not parts:  # an option, a value, an ellipsis
            continue
        first, _, second = parts[0].partition(" ")
        known = first in tops and (
            first not in parents or not second or any(f"{path} ".startswith(f"{first} {second} ") for path in PATHS)
        )
        if not known and "COMMAND" not in words:
            wrong.append(f"{place}: remit {words}")
    assert wrong == [], "\n".join(wrong)


# -- settings


def test_every_setting_is_told_with_its_variable_and_its_default() -> None:
    text = page("settings.md")
    absent = []
    for name, kind in SECTIONS.items():
        for each in fields(kind):
            row = next((line for line in text.splitlines() if f"`{name}.{each.name}`" in line), "")
            default = each.default if each.default is not MISSING else ""
            wanted = [f"`REMIT_{name.upper()}_{each.name.upper()}`", *([f"`{default}`"] if default else [])]
            absent += [f"{name}.{each.name} ({part})" for part in (*wanted,) if part not in row]
    assert absent == [], missing(absent, "settings.md")


def test_the_example_file_holds_every_default(tmp_path: Path) -> None:
    from remit.kernel.settings import load_settings

    (block,) = re.findall(r"```toml\n(.*?)```", page("settings.md"), re.DOTALL)
    file = tmp_path / "remit.toml"
    file.write_text(block)
    loaded = load_settings(SECTIONS, file=file, environ={}, flags={})
    assert loaded == {name: kind() for name, kind in SECTIONS.items()}
    for name, kind in SECTIONS.items():
        assert all(re.search(rf"^{each.name} = ", block, re.MULTILINE) for each in fields(kind)), name


# -- plug-ins


def test_every_plug_in_that_ships_is_told() -> None:
    from remit.defense import detections
    from remit.inventory.connectors.catalog import connector_manifests
    from remit.trust.attestors import unix
    from remit.wiring.brokers import broker_factories

    text = page("plugins.md")
    ids = [f"### {each.id}" for each in connector_manifests()]
    ids += [f"`{each.id}://" for each in broker_factories()]
    ids += [f"`{each.id}`" for each in detections.builtin()]
    ids += [f"`{name}`" for name in ("quarantine", "revoke-leases", "ticket", Path(unix.__file__).stem)]
    absent = [each for each in ids if each not in text]
    assert absent == [], missing(absent, "plugins.md")


# -- errors


def codes() -> dict[str, str]:
    """Every code that the source gives to an error as it stands, and where."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        if path.name == "testing.py":
            continue  # what fakes say
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                value = node.args[0].value
                if name in ERRORS and isinstance(value, str):
                    found[value] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


def test_every_error_code_is_well_formed_and_told() -> None:
    found, text = codes(), page("errors.md")
    assert len(found) > 100
    malformed = [
        f"{code} ({where})" for code, where in found.items() if not re.fullmatch(r"[a-z]+(\.[a-z0-9_-]+){1,3}", code)
    ]
    assert malformed == []
    absent = sorted(f"{code} ({where})" for code, where in found.items() if f"`{code}`" not in text)
    assert absent == [], missing(absent, "errors.md (run tools/error_codes.py)")


def test_the_page_of_errors_is_what_the_source_says() -> None:
    done = subprocess.run(
        [sys.executable, "tools/error_codes.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False, env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# -- the API


def test_every_operation_of_the_api_is_told() -> None:
    from remit.surface.api.routes import all_routes

    lines = page("api.md").splitlines()
    absent = sorted({route.path for route in all_routes() if not any(_tells(line, route.path) for line in lines)})
    assert absent == [], missing(absent, "api.md")


def _tells(line: str, path: str) -> bool:
    """Whether a line names a path: its beginning up to the first value, and every word after it."""
    start, _, rest = path.partition("{")
    words = [word for word in re.sub(r"\{?[^}/]*\}", "", rest).split("/") if word]
    return start.rstrip("/") in line and all(f"/{word}" in line for word in words)


def test_the_table_of_brokers_has_every_property_of_the_contract_and_nothing_that_failed() -> None:
    from remit.access.testing import BrokerContract
    from remit.wiring.brokers import broker_factories

    rows = [line.split(" | ") for line in (ROOT / "docs/brokers.md").read_text().splitlines() if line.startswith("| ")]
    properties = {row[0].removeprefix("| ") for row in rows[1:]}
    assert properties == {name[5:].replace("_", " ") for name in vars(BrokerContract) if name.startswith("test_")}
    cells = {cell.strip(" |") for row in rows[1:] for cell in row[1:]}
    assert cells <= {"held", "held *", "n/a"}
    kinds = set(rows[0][1:])
    named = {"mariadb": "Maria", "rabbitmq": "Rabbit"}
    for broker in broker_factories():
        assert any(named.get(broker.id, broker.id).lower() in kind.lower() for kind in kinds), broker.id
