"""The command line of `remit run`. Reads words, opens nothing, and imports next to nothing."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

REFUSED = 125
HANDOVERS = ("file", "env", "socket", "socket-once")
TREES = ("kill", "wait")
PROOFS = ("github", "gitlab", "k8s_psat", "oidc")
AUDIENCE = "spiffe://remit.local"
MAX_JOBS = 64
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,63})=(?=[a-z][a-z0-9+.-]*://)")
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    task: str
    needs: tuple[str, ...]
    argv: tuple[str, ...]
    socket: Path
    names: tuple[str, ...] = ()
    """What the needs are called, in their order; empty where one has no name."""
    env: bool | frozenset[str] = False
    """Whose secrets go into the environment too: all, none, or those of these labels."""
    handover: str = "file"
    lazy: bool = False
    tree: str = "kill"
    dry_run: bool = False
    quiet: bool = False
    json: bool = False
    life_seconds: int = 0
    reason: str = ""
    matrix: tuple[str, ...] = ()
    jobs: int = 0
    """Cells at the same time; 0 is one for each processor."""
    fail_fast: bool = False
    proof: str = ""
    """How the job that this is proves itself besides: `github`, `gitlab`, `k8s_psat`, `oidc`."""
    proof_file: str = ""
    audience: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """How each need is asked for: by its name, or `TARGET-ROLE`."""
        names = self.names or ("",) * len(self.needs)
        return tuple(name or _label(need) for name, need in zip(names, self.needs, strict=True))


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; a usage error ends the process with code 125, as every refusal of ours does."""
    head, tail = split(argv)
    parser = Parser(prog="remit run", allow_abbrev=False, add_help=False)
    parser.add_argument("--task", required=True)
    parser.add_argument("--need", action="append", default=[])
    parser.add_argument("--env", action="append", nargs="?", const="")
    parser.add_argument("--handover", choices=HANDOVERS, default="file")
    parser.add_argument("--lazy", action="store_true")
    parser.add_argument("--tree", choices=TREES, default="kill")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--ttl", type=seconds, default=0)
    parser.add_argument("--reason", default="")
    parser.add_argument("--matrix", action="append", default=[])
    parser.add_argument("--jobs", type=jobs, default=0)
    parser.add_argument("--fail-fast", action="store_true")
    parser.add_argument("--proof", choices=("none", *PROOFS), default=proof_here(os.environ))
    parser.add_argument("--proof-file", default="")
    parser.add_argument("--audience", default=AUDIENCE)
    add_places(parser)
    said = parser.parse_args(head)
    if not tail:
        parser.error("no command: write it after `--`")
    if said.lazy and not said.handover.startswith("socket"):
        parser.error("`--lazy` goes with `--handover socket`: a file or a variable cannot be asked for")
    named = [_NAMED.match(need) for need in said.need]
    options = Options(
        task=said.task,
        needs=tuple(need[found.end() :] if found else need for need, found in zip(said.need, named, strict=True)),
        names=tuple(found[1] if found else "" for found in named),
        argv=tuple(tail),
        socket=socket_of(said, head),
        env=said.handover == "env" or _shown(said.env),
        handover=said.handover,
        lazy=said.lazy,
        tree=said.tree,
        dry_run=said.dry_run,
        quiet=said.quiet,
        json=said.format == "json",
        life_seconds=said.ttl,
        reason=said.reason,
        matrix=tuple(said.matrix),
        jobs=said.jobs,
        fail_fast=said.fail_fast,
        proof="" if said.proof == "none" else said.proof,
        proof_file=said.proof_file,
        audience=said.audience,
    )
    if len(set(options.labels)) < len(options.labels) and not said.matrix:
        parser.error("two needs have the same name: `--need NAME=SYSTEM://TARGET?role=ROLE` names one")
    if not isinstance(options.env, bool) and (unknown := options.env - {*options.labels}):
        parser.error(f"`--env {min(unknown)}` is no need: there is {', '.join(options.labels) or 'none'}")
    return options


def proof_here(environ: Mapping[str, str]) -> str:
    """`github` inside of a GitHub Actions job that may have tokens (`permissions: id-token: write`), else `none`."""
    here = environ.get("GITHUB_ACTIONS") == "true" and environ.get("ACTIONS_ID_TOKEN_REQUEST_URL")
    return "github" if here else "none"


class Parser(argparse.ArgumentParser):
    """Says what is wrong and what is right, in two lines."""

    usage_line = "remit run --task NAME --need SYSTEM://TARGET?role=ROLE -- CMD"

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"remit: {message}\n  → {self.usage_line}\n")
        sys.stderr.flush()
        raise SystemExit(REFUSED)


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where the installation is."""
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("REMIT_DATA") or ".remit"))
    parser.add_argument("--socket-dir", type=Path)


def socket_of(said: argparse.Namespace, head: Sequence[str]) -> Path:
    """The agent's socket: where the options say, else `REMIT_AGENT_SOCK`, else beside the data."""
    named = os.environ.get("REMIT_AGENT_SOCK", "")
    given = any(word.split("=")[0] in ("--data", "--socket-dir") for word in head)
    return Path(named) if named and not given else (said.socket_dir or said.data) / "agent.sock"


def split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What is before the first `--`, and what is after it."""
    if "--" not in argv:
        return argv, ()
    at = list(argv).index("--")
    return argv[:at], argv[at + 1 :]


def seconds(text: str) -> int:
    """`90`, `90s`, `30m`, `2h`."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not number.isdecimal() or not 0 < int(number) * _UNITS[unit] <= 43_200:
        raise argparse.ArgumentTypeError(f"`{text}` is no time between 1s and 12h")
    return int(number) * _UNITS[unit]


def jobs(text: str) -> int:
    """How many at once."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_JOBS:
        raise argparse.ArgumentTypeError(f"`{text}` is no number between 1 and {MAX_JOBS}")
    return int(text)


def _shown(said: list[str] | None) -> bool | frozenset[str]:
    if said is None:
        return False
    return True if "" in said else frozenset(said)


def _label(need: str) -> str:
    """`orders-read` for `postgres://orders/db?role=read`."""
    place, _, query = need.partition("://")[2].partition("?")
    role = next((value for key, _, value in (one.partition("=") for one in query.split("&")) if key == "role"), "")
    return f"{place.partition('/')[0]}-{role}"
