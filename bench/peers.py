"""The peers that are no part of `.venv`: `python -m bench.peers` installs them below `.bench/peers`.

    OPA, regorus   their engines as Python packages, from `requirements/peers/python.lock`: versions and hashes
    scanners       kingfisher, betterleaks, gitleaks, detect-secrets, from `requirements/peers/scanners.lock`: the same
    graphs         rustworkx, igraph, networkx, from `requirements/peers/graphs.lock`: the same
    Cerbos         its server as an npm package, from `requirements/peers/package-lock.json`: versions and hashes

The ordinary clients fetch them (uv or pip; npm), from wherever they are configured to. `make bench` runs this itself
where something is missing. What cannot be installed is missing from the result, with the reason.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(".bench/peers")
_LOCKS: Final = Path(__file__).parents[1] / "requirements" / "peers"
_SECONDS: Final = 300
_NEWER_PYTHON: Final = "3.14"
"""What OPA's wheel says that it needs; its library is loaded by ctypes, and runs on ours."""


class NotThere(Exception):
    """A peer cannot be had here; the message says why."""


def engines() -> Path:
    """The folder of the Rego engines, which is on `sys.path` from now on. Raises `NotThere`."""
    folder = _installed("python", ("python.lock",), _install_engines)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return folder


def scanners() -> Path:
    """The folder of the secret scanners, which is on nobody's path. Raises `NotThere`."""
    return _installed("scanners", ("scanners.lock",), _install_scanners)


def graphs() -> Path:
    """The folder of the graph libraries, which is on `sys.path` from now on. Raises `NotThere`."""
    folder = _installed("graphs", ("graphs.lock",), _install_graphs)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return folder


def cerbos() -> Path:
    """The binary of Cerbos. Raises `NotThere`."""
    folder = _installed("node", ("package.json", "package-lock.json"), _install_servers)
    found = next(folder.glob("node_modules/@cerbos/*/cerbos-*"), None)
    if found is None:
        raise NotThere("the package of Cerbos has no binary for this machine")
    return found


def _installed(name: str, locks: tuple[str, ...], install: Callable[[Path], None]) -> Path:
    """The folder as its locks describe it, installed now unless it already is."""
    folder = (FOLDER / name).absolute()
    wanted = hashlib.sha256(b"".join((_LOCKS / lock).read_bytes() for lock in locks)).hexdigest()
    mark = folder / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for lock in locks:
        shutil.copy(_LOCKS / lock, folder)
    print(f"installing what {', '.join(locks)} name below {FOLDER / name}", file=sys.stderr)
    install(folder)
    mark.write_text(wanted)
    return folder


def _install_engines(folder: Path) -> None:
    _install_wheels(folder, "python.lock", "--python-version", _NEWER_PYTHON)


def _install_scanners(folder: Path) -> None:
    _install_wheels(folder, "scanners.lock")


def _install_graphs(folder: Path) -> None:
    _install_wheels(folder, "graphs.lock")


def _install_wheels(folder: Path, lock: str, *more: str) -> None:
    options = [
        "--target", str(folder), *more, "--only-binary", ":all:", "--no-deps", "--require-hashes", "-r",
        str(folder / lock),
    ]  # fmt: skip
    own = Path(sys.prefix) / "tools/bin/uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is not None:
        _run([uv, "pip", "install", "--quiet", "--python", sys.executable, *options])
    else:
        _run([sys.executable, "-m", "pip", "install", "--quiet", *options])


def _install_servers(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotThere("npm is not installed")
    _run([npm, "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThere(f"`{Path(command[0]).name}` did not end: {error}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise NotThere(f"`{Path(command[0]).name}` ended with {done.returncode}: {said[:300]}")


PEERS: Final[Mapping[str, Callable[[], Path]]] = {
    "OPA and regorus": engines,
    "Cerbos": cerbos,
    "scanners": scanners,
    "graphs": graphs,
}


def main() -> int:
    """Install all; 1 when one cannot be had."""
    code = 0
    for name, find in PEERS.items():
        try:
            print(f"{name}: {find()}")
        except NotThere as why:
            print(f"{name}: {why}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
