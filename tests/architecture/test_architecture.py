"""The shape that DESIGN fixes, held by reading the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "remit"
GENERATED = ("wire", "tasks_wire", "sds_wire", "versions")
LONGEST_MODULE = 600


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of ours that a person wrote, by its path below `remit`."""
    paths = [path for path in sorted(SOURCE.rglob("*.py")) if not set(path.parts) & set(GENERATED)]
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def places(found: Iterator[tuple[str, ast.AST]], *allowed: str) -> list[str]:
    """Where something stands, but for the files in which it may."""
    return [f"{name}:{getattr(node, 'lineno', 0)}" for name, node in found if not name.startswith(allowed or ("\0",))]


@cache
def _imported() -> list[tuple[str, ast.Import | ast.ImportFrom, tuple[str, ...]]]:
    """Every import, by the names of the modules that it names; looked for once."""
    found: list[tuple[str, ast.Import | ast.ImportFrom, tuple[str, ...]]] = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.append((name, node, tuple(each.name for each in node.names)))
            elif isinstance(node, ast.ImportFrom):
                found.append((name, node, (node.module or "",)))
    return found


@cache
def _called() -> list[tuple[str, ast.Call, str | None]]:
    """Every call, with the last word of what is called where that is a name; looked for once."""
    found: list[tuple[str, ast.Call, str | None]] = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                last = getattr(node.func, "attr", getattr(node.func, "id", None))
                found.append((name, node, last))
    return found


def imports(*names: str) -> Iterator[tuple[str, ast.AST]]:
    for name, node, imported in _imported():
        if any(each == wanted or each.startswith(f"{wanted}.") for each in imported for wanted in names):
            yield name, node


def calls(*names: str) -> Iterator[tuple[str, ast.AST]]:
    lasts = {None, *(each.rpartition(".")[2] for each in names)}
    for name, node, last in _called():
        if last in lasts:
            called = ast.unparse(node.func)
            if any(called == each or called.endswith(f".{each}") for each in names):
                yield name, node


# -- imports


def test_imports_point_down() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_kernel_imports_nothing_of_remit() -> None:
    below = [node for name, node in imports("remit") if name.startswith("kernel/")]
    assert [each for each in map(ast.unparse, below) if "remit.kernel" not in each] == []


def test_sql_on_our_own_state_is_in_storage_and_drivers_are_in_providers() -> None:
    assert places(imports("sqlalchemy", "alembic"), "storage/") == []
    assert places(imports("sqlite3"), "storage/") == []
    assert places(imports("asyncpg"), "storage/", "providers/") == []
    assert places(imports("boto3", "botocore"), "providers/") == []


def test_statements_are_written_in_storage_and_providers_alone() -> None:
    statement = re.compile(r"\s*(SELECT .+ FROM |INSERT INTO |UPDATE \S+ SET |DELETE FROM |CREATE TABLE |DROP TABLE )")

    def found() -> Iterator[tuple[str, ast.AST]]:
        for name, tree in modules().items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.match(node.value):
                    yield name, node

    # The demo plays an application and its attacker, who speak SQL of their own; a connector's texts are advice.
    assert places(found(), "storage/", "providers/", "surface/cli/demo/") == []


def test_listeners_are_in_surface_alone() -> None:
    names = ("create_server", "create_unix_server", "start_server", "start_unix_server")
    assert places(calls(*names), "surface/") == []
    assert places(imports("uvicorn", "grpclib.server"), "surface/") == []
    # A middleware runs in the user's own framework, and answers by its exception.
    assert places(imports("starlette"), "surface/", "client/enforce/") == []


def test_outbound_connections_are_in_providers_alone() -> None:
    names = ("open_connection", "create_connection", "open_unix_connection", "create_unix_connection", "urlopen")
    # `client/` runs in the programs of users, and the command line is a client of its own control plane.
    assert places(calls(*names), "providers/", "client/") == []
    clients = imports("http.client", "urllib.request", "httpx2", "requests")
    assert places(clients, "providers/", "client/", "surface/cli/client.py") == []


def test_the_clock_and_randomness_are_arguments() -> None:
    """Below the composition root nobody reads the machine's clock; its edges to the world may."""
    clocks = [*calls("datetime.now", "datetime.utcnow", "time.time")]
    found = places(iter(clocks), "kernel/clock.py", "providers/", "surface/", "wiring/", "client/")
    assert [each for each in found if "testing.py" not in each] == []
    # A jitter between two tries is no randomness that anything rests on.
    assert (
        places(
            imports("random"),
            "access/leases/revoker.py",
            "access/leases/testing.py",
            "ledger/testing.py",
            "client/",
            "surface/schedule.py",
        )
        == []
    )


def test_importing_the_command_line_loads_almost_nothing() -> None:
    heavy = (
        "sqlalchemy",
        "starlette",
        "uvicorn",
        "cryptography",
        "rich.table",
        "cedarpy",
        "grpclib",
        "yaml",
        "asyncpg",
        "jinja2",
    )
    code = f"import sys, remit.surface.cli.entry; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_any_module_does_nothing_but_define() -> None:
    """No file, socket, thread or process comes of an import: the audit hook of the interpreter would tell."""
    code = """
import importlib, pkgutil, sys, threading
import remit
told = []
def hook(event, args):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "sqlite3.connect", "os.mkdir", "os.remove"):
        told.append((event, str(args)[:200]))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        told.append((event, str(args)[:200]))
sys.dont_write_bytecode = True
sys.addaudithook(hook)
for module in pkgutil.walk_packages(remit.__path__, "remit."):
    if not any(part in module.name for part in ("migrations", "regenerate")):
        importlib.import_module(module.name)
print(told, threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code], cwd=ROOT / "src", capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] 1"


# -- what no module does


def test_no_module_is_a_hall() -> None:
    long = {}
    for name in modules():
        lines = len((SOURCE / name).read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_MODULE:
            long[name] = lines
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    assert [name for name, tree in modules().items() if not ast.get_docstring(tree)] == []


def _handlers() -> Iterator[tuple[str, ast.ExceptHandler]]:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                yield name, node


def test_no_error_is_swallowed_unseen() -> None:
    def found() -> Iterator[tuple[str, ast.AST]]:
        for name, node in _handlers():
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(each, ast.Pass | ast.Continue) for each in node.body):
                yield name, node
        for name, node in calls("suppress"):
            if {ast.unparse(each) for each in node.args} & {"Exception", "BaseException"}:  # type: ignore[attr-defined]
                yield name, node

    assert places(found()) == []


def test_who_catches_everything_raises_it_again_tells_it_or_is_a_supervisor() -> None:
    def found() -> Iterator[tuple[str, ast.AST]]:
        for name, node in _handlers():
            if node.type is None or ast.unparse(node.type) not in ("Exception", "BaseException"):
                continue
            inside = [each for part in node.body for each in ast.walk(part)]
            raises = any(isinstance(each, ast.Raise) for each in inside)
            told = node.name is not None and any(isinstance(each, ast.Name) and each.id == node.name for each in inside)
            logged = any(isinstance(each, ast.Attribute) and each.attr in ("exception", "error") for each in inside)
            if not (raises or told or logged):
                yield name, node

    assert places(found(), "access/testing.py") == []


@pytest.mark.parametrize("name", ["pickle", "marshal", "shelve", "dill", "telnetlib", "ftplib", "xmlrpc"])
def test_no_module_reads_what_could_run(name: str) -> None:
    assert places(imports(name)) == []


def test_no_shell_and_no_text_is_run_as_code() -> None:
    def shells() -> Iterator[tuple[str, ast.AST]]:
        for name, tree in modules().items():
            for node in ast.walk(tree):
                if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) != "False":
                    yield name, node

    assert places(shells()) == []
    assert places(calls("os.system", "os.popen", "create_subprocess_shell", "getoutput")) == []
    # z3's models have a method of that name.
    assert [each for each, node in calls("eval") if ast.unparse(node.func) == "eval"] == []  # type: ignore[attr-defined]
    # Cedar becomes syntax-tree nodes, never source text: see the module's docstring.
    assert places(calls("exec"), "access/policy/codegen.py") == []


def test_yaml_is_read_by_the_safe_loader_alone() -> None:
    def found() -> Iterator[tuple[str, ast.AST]]:
        for name, node in calls("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
            if len(getattr(node, "args", ())) < 2:
                yield name, node

    assert places(found()) == []
    for name, node in calls("yaml.load"):
        loader = ast.unparse(node.args[1])  # type: ignore[attr-defined]
        classes = [each for each in ast.walk(modules()[name]) if isinstance(each, ast.ClassDef) and each.name == loader]
        assert any("SafeLoader" in ast.unparse(base) for each in classes for base in each.bases), name


def test_no_weak_hash_protects_anything() -> None:
    # Key identifiers of certificates are SHA-1 by RFC 5280 §4.2.1.2, and names of what others made keep their hash.
    # A TPM and a CMS signature name their digest: it comes from a list without weak ones.
    named = ("trust/attestors/cms.py", "trust/attestors/tpm.py", "trust/attestors/tpm_structures.py")
    assert places(calls("hashlib.new"), *named) == []
    weak = calls("hashlib.md5", "hashlib.sha1")
    assert places(weak, "inventory/connectors/", "inventory/secrets/", "providers/", "trust/authority/x509.py") == []


def test_no_work_is_left_as_a_note() -> None:
    note = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{name}:{number}"
        for name in modules()
        for number, line in enumerate((SOURCE / name).read_text(encoding="utf-8").splitlines(), 1)
        if note.search(line)
    ]
    assert found == []
