"""Every stable error code of the source, with what it means and what to do: the tables of `docs/errors.md`.

    python tools/error_codes.py           rewrite docs/errors.md
    python tools/error_codes.py --check   exit 1 when it is not what the source says

A code is the first argument of an error class of `kernel/errors.py`, written out, or handed through a function of the
same file. The sentence and the next step are those of the source, with `…` for a value; `NOTES` adds what the source
cannot say in one line.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from remit.surface.cli.entry import COMMANDS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "remit"
PAGE = ROOT / "docs" / "errors.md"
KINDS = ("Rejected", "Denied", "NotFound", "Conflict", "Unavailable", "Misconfigured")
MEANING = {
    "Rejected": ("400", "2", "the input or the evidence failed", "correct what you sent"),
    "Denied": ("403, or 401 without proof", "1", "policy, or its absence, said no", "ask for less, or get an approval"),
    "NotFound": ("404", "2", "nothing of that name is known", "name another"),
    "Conflict": ("409", "2", "the present state does not allow it", "look again, then decide"),
    "Unavailable": ("503", "3", "something outside does not answer", "try again later"),
    "Misconfigured": ("500", "4", "the installation is wrong", "the operator mends it"),
}  # fmt: skip
TITLES = {
    "access": ("What may it do, now?", "Policies, decisions, targets, tasks, grants and leases."),
    "agent": ("The agent", "`agent.sock`: what `remit run` asks for."),
    "client": ("A program's own side", "`remit.client`, and the commands that stand on it."),
    "defense": ("What did it do, and what then?", "Incidents, responses, telemetry."),
    "demo": ("The demo", "The PostgreSQL that `remit demo` starts."),
    "governance": ("Who answers for it?", "People, owners, life cycle, exceptions."),
    "inventory": ("What exists?", "Sources, identities, connectors."),
    "kernel": ("Words that everybody speaks", "Settings, plug-ins, canonical bytes."),
    "ledger": ("How do we prove it?", "Entries, tiles, checkpoints, proofs."),
    "providers": ("The outside world", "What other systems answer, and what their clients need."),
    "storage": ("Where is it kept?", "The data directory, the database, the keys."),
    "surface": ("How is it reached?", "Listeners, the console, the command line."),
    "trust": ("Who is it, really?", "SVIDs, entries, attestation, authorities."),
    "webhook": ("Tickets over HTTP", "The receiver that `[defense] webhook` names."),
}
CODE = re.compile(r"[a-z]+(\.[a-z0-9_-]+){1,3}")
NOTES: Mapping[str, str] = {
    "access.policy.syntax": "The parser's own words: what is wrong, and on which line.",
    "access.policy.type": "The validator's own words: which attribute, entity or action the schema does not know.",
    "ledger.rolled_back": "Somebody put back an older database, or removed rows. Keep both copies: this is evidence.",
    "ledger.leaf.mismatch": "This is evidence of tampering or of a failing disk. Do not repair the copy.",
    "storage.key.missing": "Remit never makes a second key: with another one the state would be lost for good.",
    "surface.peer.governed": "A task, and what it starts, may use `agent.sock` only.",
    "access.static.protected": "It would lock you or the broker out.",
}


STEPS: Mapping[str, str] = {
    "access.policy.cases": "see [policies](policies.md#test-cases) for the form of a case",
    "access.policy.type": "see [policies](policies.md#facts) for what policies can name",
}
"""Next steps for this page, where the terminal's is not a link."""


@dataclass(frozen=True, slots=True)
class Found:
    """One place that raises a code."""

    code: str
    kind: str
    sentence: str
    next_step: str


ELSEWHERE = (
    Found(
        "surface.server.failed", "Unavailable", "the control plane answered with an error that it did not describe",
        "look at the log of `remit up`",
    ),
)  # fmt: skip
"""Codes that no error class is given in the source."""


@cache
def _walk(tree: ast.AST) -> tuple[ast.AST, ...]:
    """A tree's nodes, walked once: every function of a file asks for them again."""
    return tuple(ast.walk(tree))


@cache
def _functions(tree: ast.Module) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
    return tuple(each for each in _walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)))


@cache
def _calls(tree: ast.Module) -> Mapping[str, list[ast.Call]]:
    """A file's calls by the name that is called."""
    found: dict[str, list[ast.Call]] = defaultdict(list)
    for node in _walk(tree):
        if isinstance(node, ast.Call):
            found[_called(node)].append(node)
    return found


def codes_of(path: Path) -> Iterator[Found]:
    """The codes of one file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    inside = {id(node) for function in _functions(tree) for node in _walk(function)}
    for call in _raised(node for node in _walk(tree) if id(node) not in inside):
        yield from _read(call, {}, constants)
    for function in _functions(tree):
        yield from _of_function(tree, function, constants)


def _raised(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """The calls that make an error; a policy's problem is `Rejected` when the policy is applied."""
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "PolicyProblem":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                wanted = [given.get(name, ast.Constant("")) for name in ("code", "message", "next_step")]
                node = ast.Call(func=ast.Name("Rejected"), args=wanted, keywords=[], lineno=node.lineno)
            if isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
                yield node


def _of_function(
    tree: ast.Module, function: ast.FunctionDef | ast.AsyncFunctionDef, constants: Mapping[str, ast.expr]
) -> Iterator[Found]:
    callers = _calls(tree).get(function.name, [])
    own = {arg.arg for arg in (*function.args.args, *function.args.kwonlyargs)}
    for call in _raised(_walk(function)):
        names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
        local = {**constants, **_assigned(function, call)}
        if not names & own or not callers:
            yield from _read(call, {}, local)
            continue
        # Something of it is a parameter: what the callers of this function hand through.
        for caller in callers:
            values = _bound(function, caller)
            around = {**local, **_assigned(_around(tree, caller), caller)}
            handed = {name: values[name] for name in names & own if name in values}
            resolved = {name: around.get(v.id, v) if isinstance(v, ast.Name) else v for name, v in handed.items()}
            yield from _read(call, resolved, local)


def _around(tree: ast.Module, call: ast.Call) -> ast.AST:
    return next((each for each in reversed(_functions(tree)) if any(node is call for node in _walk(each))), tree)


def _assigned(function: ast.AST, before: ast.Call) -> dict[str, ast.expr]:
    """Local names and what they were given last before a call."""
    line = getattr(before, "lineno", 10**9)
    found = {}
    for node in sorted((n for n in _walk(function) if isinstance(n, ast.Assign)), key=lambda n: n.lineno):
        if isinstance(node.targets[0], ast.Name) and node.lineno < line:
            found[node.targets[0].id] = node.value
    return found


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _bound(function: ast.FunctionDef | ast.AsyncFunctionDef, call: ast.Call) -> dict[str, ast.expr]:
    positional = [arg.arg for arg in function.args.args if arg.arg not in ("self", "cls")]
    values = dict(zip(positional, call.args, strict=False))
    values.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
    defaults = [*function.args.defaults, *(default for default in function.args.kw_defaults if default is not None)]
    named = [*positional[len(positional) - len(function.args.defaults) :]]
    named += [a.arg for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d is not None]
    for name, default in zip(named, defaults, strict=False):
        values.setdefault(name, default)
    return values


def _read(call: ast.Call, values: Mapping[str, ast.expr], constants: Mapping[str, ast.expr]) -> Iterator[Found]:
    known = {**constants, **values}
    codes = _texts(call.args[0], known)
    sentence = _text(call.args[1], known) if len(call.args) > 1 else ""
    step = next((keyword.value for keyword in call.keywords if keyword.arg == "next_step"), None)
    if step is None and len(call.args) > 2:
        step = call.args[2]
    for code in codes:
        if CODE.fullmatch(code) and code.split(".")[0] in TITLES:
            assert isinstance(call.func, ast.Name)
            yield Found(code, call.func.id, sentence, "" if step is None else _text(step, known))


def _texts(node: ast.expr, known: Mapping[str, ast.expr]) -> list[str]:
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, known), *_texts(node.orelse, known)]
    return [_text(node, known)]


def _text(node: ast.expr, known: Mapping[str, ast.expr], depth: int = 0) -> str:
    """What a string expression says, with `…` for what only running tells."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "…"
    if isinstance(node, ast.JoinedStr):
        parts = [_text(part, known, depth) for part in node.values]
        return re.sub(r"…(?:…)+", "…", "".join(parts))
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, known, depth) if isinstance(node.value, ast.Name) else "…"
    if isinstance(node, ast.Name) and node.id in known and depth < 4:
        return _text(known[node.id], known, depth + 1)
    if isinstance(node, ast.Subscript):
        return _text(node.value, known, depth)
    if isinstance(node, ast.IfExp):
        return _text(node.body, known, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, known, depth) + _text(node.right, known, depth)
    return "…"


@cache
def collect() -> dict[str, list[Found]]:
    """Every code, with the places that raise it; the most telling first."""
    found: dict[str, list[Found]] = defaultdict(list, {one.code: [one] for one in ELSEWHERE})
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "testing.py":
            continue
        for one in codes_of(path):
            if one not in found[one.code]:
                found[one.code].append(one)
    for places in found.values():
        places.sort(key=lambda one: (not one.next_step, _vague(one), one.sentence))
    return dict(sorted(found.items()))


def _vague(one: Found) -> bool:
    return one.sentence.strip("`… ") == ""


def page() -> str:
    """The whole page."""
    found = collect()
    lines = [*_INTRODUCTION]
    for prefix, (title, about) in TITLES.items():
        codes = [code for code in found if code.split(".")[0] == prefix]
        if not codes:
            continue
        lines += ["", f"## `{prefix}` — {title}", "", about, ""]
        lines += ["| code | kind | what it means | what to do |", "|---|---|---|---|"]
        lines += [_row(code, found[code]) for code in codes]
    return "\n".join(lines) + "\n"


def _row(code: str, places: list[Found]) -> str:
    kinds = sorted({one.kind for one in places}, key=KINDS.index)
    sentences = list(dict.fromkeys(one.sentence for one in places if not _vague(one)))[:3]
    steps = list(dict.fromkeys(one.next_step for one in places if one.next_step.strip("`… ")))
    steps = [STEPS[code]] if code in STEPS else [step for step in steps if not unknown_commands(step)][:2]
    noted = [NOTES[code]] if code in NOTES else []
    means = "<br>".join([*map(_cell, sentences), *noted]) or "The message says what it is."
    what = "<br>".join(map(_cell, steps)) or _sentence(MEANING[kinds[0]][3])
    return f"| `{code}` | {', '.join(kinds)} | {means} | {what} |"


def unknown_commands(text: str) -> list[str]:
    """Commands that a next step names and that do not exist."""
    known = {path for path, *_ in COMMANDS} | {"run"}
    known |= {path.rpartition(" ")[0] for path in known if path.count(" ") > 1}  # `gateway tools` of `gateway tools ls`
    parents = {path.split()[0] for path in known if " " in path}
    named = [" ".join(match).strip() for match in re.findall(r"\bremit ([a-z][a-z0-9-]*)(?: ([a-z][a-z0-9-]*))?", text)]
    return [
        name
        for name in named
        if name.split()[0] not in known and not (name.split()[0] in parents and (name in known or " " not in name))
    ]


def _cell(text: str) -> str:
    return _sentence(" ".join(text.split()).replace("|", "\\|"))


def _sentence(text: str) -> str:
    """A sentence of the page: a capital and a full stop, which messages on a terminal do not have."""
    text = text.strip()
    head = text[:1] if text.startswith(("`", "pip ", "chmod ")) else text[:1].upper()
    tail = "" if text.endswith((".", "…", "!", "?")) else "."
    return head + text[1:] + tail


_INTRODUCTION = [
    "# Errors",
    "",
    "<!-- Made by `python tools/error_codes.py` from the source; change the source or the script, not this page. -->",
    "",
    "Every error has a stable code, one sentence, and one thing to do next. The code has the form",
    "`<capability>.<noun>.<what>`. Scripts should look at the code. The sentence may change.",
    "",
    "```console",
    "$ remit ls --data /tmp/nothing",
    "error no control plane serves `/tmp/nothing/admin.sock`  [surface.server.absent]",
    "next  start one: `remit up --data /tmp/nothing`",
    "$ echo $?",
    "3",
    "```",
    "",
    "Over HTTP the same error is a problem document (RFC 9457, `application/problem+json`) with `code`, `title` and",
    "`next_step`. `remit run` has exit codes of its own: see [commands](commands.md#remit-run).",
    "",
    "## Kinds",
    "",
    "The kind says whose move is next.",
    "",
    "| kind | HTTP | exit code | what happened | whose move |",
    "|---|---|---|---|---|",
    *(
        f"| {kind} | {MEANING[kind][0]} | {MEANING[kind][1]} | {MEANING[kind][2]} | {MEANING[kind][3]} |"
        for kind in KINDS
    ),
    "",
    "A `…` in the tables stands for a value. Where a code has several messages, the table shows up to three.",
]


def main() -> None:
    """Write the page, or hold it against the source."""
    text = page()
    for code, places in collect().items():
        for name in sorted({name for one in places for name in unknown_commands(one.next_step)}):
            print(f"left out: the next step of {code} names `remit {name}`, which does not exist", file=sys.stderr)
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            raise SystemExit("docs/errors.md is not what the source says: run python tools/error_codes.py")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
