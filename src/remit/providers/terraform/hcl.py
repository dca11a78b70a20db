"""Evaluate the Terraform files of one directory, in a child process: a hostile file can harm nothing else.

The child (this module as a program) uses the library tfparse: variables, locals and local modules are evaluated,
nothing is downloaded. Its time, processor and answer are bounded. The library would let `file("../../etc/…")` read
whatever this process may: it gets a copy of the configuration's own files, in which no function that reads one is left.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from remit.kernel.errors import Misconfigured, Rejected

SECONDS = 30
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_FILES = 2_000
MAX_FILE_BYTES = 4 * 1024 * 1024
_SUFFIXES = (".tf", ".tf.json", ".tfvars", ".tfvars.json")
_LOCAL_MODULE = re.compile(r'"?\bsource"?\s*[=:]\s*"(\.{1,2}/[^"\n]{0,300})"')
# What stands between a name and its bracket: each part is taken once and never given back, or it would take for ever.
# More of it than this is nobody's style: it counts as a call.
_GAP = r"(?:\s++|/\*(?:[^*]|\*(?!/)){0,200}+\*/|(?:#|//)[^\n]{0,200}+\n){0,4}+"
_READS_FILES = re.compile(rf"\b(?:file\w*|templatefile)(?={_GAP}(?:\(|\s|/\*|\#|//))")


def can_evaluate() -> bool:
    """Whether the library is installed."""
    return find_spec("tfparse") is not None


def evaluate(directory: Path, *, within: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """The blocks of a directory by type, each with `__tfmeta` (file, lines, address).

    Local modules count where they lie below `within`. Raises `Misconfigured` (`providers.terraform.no_library`), and
    `Rejected` (`providers.terraform.unreadable`) for files that are no Terraform, take longer than 30 seconds, or
    answer more than 32 MiB.
    """
    if not can_evaluate():
        raise Misconfigured(
            "providers.terraform.no_library",
            "the library tfparse is not installed",
            next_step="install the extra `terraform` (the package tfparse)",
        )
    with tempfile.TemporaryDirectory(prefix="remit-hcl-") as scratch:
        # Deep enough that a module's `../../..` still ends in it.
        copy = Path(scratch, *["d"] * 24)
        return _run(_copied(directory, within or directory, copy))


def _copied(directory: Path, within: Path, copy: Path) -> Path:
    """Copy the files of `directory` and of the local modules that it calls, disarmed; answers where it now lies."""
    pending, seen, count = [directory], set[Path](), 0
    while pending:
        here = pending.pop()
        if here in seen or not here.is_relative_to(within) or not here.is_dir():
            continue
        if not here.resolve().is_relative_to(within.resolve()):  # a link leads out
            continue
        seen.add(here)
        there = copy / here.relative_to(within)
        there.mkdir(parents=True, exist_ok=True)
        for file in sorted(here.iterdir()):
            if not file.name.endswith(_SUFFIXES) or file.is_symlink() or not file.is_file():
                continue
            count += 1
            if count > MAX_FILES or file.stat().st_size > MAX_FILE_BYTES:
                raise _unreadable("they are too many or too large")
            text = disarmed(file.name, file.read_text("utf-8", "replace"))
            (there / file.name).write_text(text, "utf-8")
            pending += [Path(os.path.normpath(here / source)) for source in _LOCAL_MODULE.findall(text)]
    return copy / directory.relative_to(within)


def disarmed(called: str, text: str) -> str:
    """`text` without a call of a function that reads a file: such a value stays unknown. Lines stay where they were."""
    if called.endswith(".json"):
        try:  # an escape could hide a name
            text = json.dumps(json.loads(text), ensure_ascii=False, indent=1)
        except (ValueError, RecursionError):
            return ""
    return _READS_FILES.sub("unread", text)


def _run(directory: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, str(directory)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=SECONDS, check=False, env=_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _unreadable(f"they take longer than {SECONDS} seconds to evaluate") from None
    if done.returncode != 0:
        raise _unreadable("they are no valid Terraform, or too large")
    try:
        found = msgspec.json.decode(done.stdout)
    except (msgspec.DecodeError, RecursionError):
        raise _unreadable("their values are nested too deeply") from None
    return {
        str(kind): [block for block in blocks if isinstance(block, dict)]
        for kind, blocks in (found.items() if isinstance(found, dict) else ())
        if isinstance(blocks, list)
    }


def _environment() -> dict[str, str]:
    """Nothing of ours: `TF_VAR_*` of the operator are no part of the files."""
    kept = ("PATH", "PYTHONPATH", "LANG", "SYSTEMROOT")
    return {**{key: os.environ[key] for key in kept if key in os.environ}, "GOMEMLIMIT": "1GiB", "HOME": "/nonexistent"}


def _bound() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))


def _unreadable(why: str) -> Rejected:
    return Rejected(
        "providers.terraform.unreadable",
        f"the Terraform files cannot be read: {why}",
        next_step="run `terraform validate` there",
    )


def main(directory: str) -> int:
    """Print the blocks of `directory` as JSON; 1 when there are none, 2 when they are too many."""
    _bound()
    import tfparse  # type: ignore[import-untyped,unused-ignore]

    try:
        found = tfparse.load_from_path(directory, allow_downloads=False)
    except tfparse.ParseError:
        return 1
    answer = msgspec.json.encode(found)
    if len(answer) > MAX_ANSWER_BYTES:
        return 2
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
