"""A statement of SQL → which privileges on which tables it needs, read without a parser of all of SQL.

Cautious: a word that is no table may be told as one (a name in a `WITH`, a column after `extract(… FROM`), which only
keeps a right that could go; what could hide a table is told as unclear, and never left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from remit.inventory.use.model import UNCLEAR, Act

_LONGEST: Final = 65_536
_MOST: Final = 64
_MOST_STEPS: Final = 2_000_000
"""Words after which the rest of a statement is looked through, times its words: a second at most."""
_SEARCHED: Final = frozenset({"from", "join", "using", "into", "table"})
_TOKEN: Final = re.compile(
    r"(?P<skip>\s+|--[^\n]*|/\*.*?\*/)|(?P<text>[eE]?'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
    r"|(?P<quoted>\"(?:[^\"]|\"\")+\")|(?P<word>[^\W\d][\w$]*)|(?P<mark>.)",
    re.DOTALL,
)
_HARMLESS: Final = frozenset({
    "set", "show", "begin", "commit", "rollback", "start", "end", "abort", "reset", "discard", "listen", "unlisten",
    "notify", "deallocate", "savepoint", "release", "fetch", "close", "move", "checkpoint",
})  # fmt: skip
_READS: Final = frozenset({"select", "with", "values", "table", "insert", "update", "delete", "merge"})
_BEFORE: Final = frozenset({"only", "lateral", "table"})
_NO_TABLE: Final = frozenset({"select", "values", "unnest", "generate_series", "with"})
_BUILT_IN: Final = frozenset({
    "from", "join", "on", "by", "select", "where", "having", "only", "tablesample", "bernoulli", "system",
    "lateral", "using", "with", "set", "in", "values", "as", "exists", "any", "all", "some", "not", "and", "or",
    "when", "then", "case", "else", "over", "partition", "filter", "within", "interval", "row", "array", "count",
    "sum", "min", "max", "avg", "coalesce", "nullif", "greatest", "least", "now", "lower", "upper", "length",
    "substring", "extract", "cast", "trim", "round", "abs", "date_trunc", "to_char", "to_date", "to_timestamp",
    "concat", "string_agg", "array_agg", "json_agg", "jsonb_agg", "json_build_object", "jsonb_build_object",
    "row_number", "rank", "dense_rank", "lag", "lead", "generate_series", "unnest", "random", "position", "replace",
    "split_part", "nextval", "setval", "currval", "lastval", "floor", "ceil", "md5", "age", "date_part",
    "current_setting", "set_config", "version", "pg_sleep", "numeric", "varchar", "char", "decimal", "timestamp",
    "time",
})  # fmt: skip
"""Words that a parenthesis may follow, and functions that everybody may execute."""
_AFTER: Final = frozenset({
    "where", "group", "order", "having", "limit", "offset", "union", "except", "intersect", "set", "returning",
    "fetch", "window", "for",
})  # fmt: skip


def acts_in(statement: str, database: str) -> tuple[Act, ...]:
    """The acts of one message's statements; `Act("?")` for what could not be read."""
    if len(statement) > _LONGEST:
        return (Act(action=UNCLEAR, resource=database),)
    found: dict[tuple[str, str], None] = {}
    for tokens in _split(statement):
        for action, name in _acts(tokens):
            found[action, f"{database}.{name}" if name else database] = None
            if len(found) > _MOST:
                return (Act(action=UNCLEAR, resource=database),)
    return tuple(Act(action=action, resource=resource) for action, resource in found)


def _split(statement: str) -> Iterator[list[str]]:
    tokens: list[str] = []
    for match in _TOKEN.finditer(statement):
        kind = match.lastgroup
        if match["skip"] is not None:
            continue
        if match["text"] is not None:
            tokens.append("'" + match["text"].strip("'"))
        elif kind == "quoted":
            tokens.append('"' + match["quoted"][1:-1].replace('""', '"'))
        elif kind == "word":
            tokens.append(match["word"].lower())
        elif match["mark"] == ";":
            if tokens:
                yield tokens
            tokens = []
        else:
            tokens.append(match["mark"])
    if tokens:
        yield tokens


def _acts(tokens: list[str]) -> Iterator[tuple[str, str]]:
    head = tokens[0]
    if head == "explain":
        tokens = tokens[next((at for at, word in enumerate(tokens) if word in _READS), len(tokens)) :]
        head = tokens[0] if tokens else "set"
    elif head in ("declare", "prepare"):
        tokens = tokens[next((at for at, word in enumerate(tokens) if at and word in _READS), len(tokens)) :]
        head = tokens[0] if tokens else "?"
    elif head == "(":
        tokens = [word for word in tokens if word != "("] if "select" in tokens else tokens
        head = tokens[0]
    if head in _HARMLESS:
        return
    if head == "truncate":
        yield from (("TRUNCATE", name) for name in _list(tokens, 1))
    elif head == "copy":
        yield from _copy(tokens)
    elif head in _READS:
        yield from _read(tokens)
    else:
        yield UNCLEAR, ""


def _copy(tokens: list[str]) -> Iterator[tuple[str, str]]:
    if len(tokens) > 1 and tokens[1] == "(":
        yield from _read(tokens[2:])
        return
    name, at = _name(tokens, 1)
    if name:
        yield ("INSERT" if "from" in tokens[at:] else "SELECT"), name


def _read(tokens: list[str]) -> Iterator[tuple[str, str]]:
    if sum(word in _SEARCHED for word in tokens) * len(tokens) > _MOST_STEPS:
        yield UNCLEAR, ""
        return
    locks = any(word == "for" and after in ("update", "share", "no", "key") for word, after in pairwise(tokens))
    at = 0
    while at < len(tokens):
        word, before = tokens[at], tokens[at - 1] if at else ""
        if word == "using" and tokens[at + 1 : at + 2] == ["("]:
            pass  # columns of a join
        elif word in ("from", "join", "using") and before not in ("delete", "distinct"):
            for name in _list(tokens, at + 1):
                yield "SELECT", name
                if locks:
                    yield "UPDATE", name
        elif word == "table" and at == 0:
            yield from (("SELECT", name) for name in _list(tokens, 1))
        elif word == "into" and before in ("insert", "merge"):
            yield from _written(tokens, at + 1, merges=before == "merge")
        elif word == "into":
            yield UNCLEAR, ""
        elif word == "delete" and tokens[at + 1 : at + 2] == ["from"]:
            name, _ = _name(tokens, at + 2)
            if name:
                yield "DELETE", name
                yield "SELECT", name
        elif word == "update" and before not in ("for", "do", "key", "then") and tokens[at + 1 : at + 2] != ["set"]:
            name, _ = _name(tokens, at + 1)
            if name:
                yield "UPDATE", name
                yield "SELECT", name
        elif word == "(" and at and _is_name(before) and before not in _AFTER:
            yield from _called(tokens, at)
        at += 1


def _written(tokens: list[str], at: int, *, merges: bool) -> Iterator[tuple[str, str]]:
    name, after = _name(tokens, at)
    if not name:
        return
    yield "INSERT", name
    rest = tokens[after:]
    if merges or "conflict" in rest:
        yield "UPDATE", name
        yield "SELECT", name
    if merges:
        yield "DELETE", name
    if "returning" in rest:
        yield "SELECT", name


def _called(tokens: list[str], at: int) -> Iterator[tuple[str, str]]:
    name, start = tokens[at - 1].lstrip('"'), at - 1
    schema = "?"
    if start >= 2 and tokens[start - 1] == ".":
        schema = tokens[start - 2].lstrip('"')
    elif start >= 1 and tokens[start - 1] in ("into", "update", "from", "join", "as", "with"):
        return
    if schema != "pg_catalog" and not (schema == "?" and name in _BUILT_IN):
        yield "EXECUTE", f"{schema}.{name}"
    if name in ("nextval", "setval", "currval") and tokens[at + 1 : at + 2] and tokens[at + 1].startswith("'"):
        parts = [part.strip('"') for part in tokens[at + 1][1:].split(".")]
        yield "USAGE", ".".join(parts if len(parts) == 2 else ["?", parts[-1]])


def _list(tokens: list[str], at: int) -> Iterator[str]:
    """The first name of each item of a list that begins at a token; names of joins are found by their `JOIN`."""
    depth = 0
    while at < len(tokens):
        while tokens[at : at + 1] == ["("] and tokens[at + 1 : at + 2] and tokens[at + 1] not in _READS:
            at, depth = at + 1, depth + 1  # a join in parentheses
        name, at = _name(tokens, at)
        if name and tokens[at : at + 1] != ["("]:
            yield name
        while at < len(tokens) and tokens[at] not in _AFTER and tokens[at] != ",":
            if tokens[at] == ")":
                depth -= 1
                if depth < 0:
                    return
            at = _closed(tokens, at) if tokens[at] == "(" else at + 1
        if tokens[at : at + 1] != [","]:
            return
        at += 1


def _closed(tokens: list[str], at: int) -> int:
    """Where what opens at a token is closed; what is within is looked at by itself."""
    depth = 0
    while at < len(tokens):
        depth += (tokens[at] == "(") - (tokens[at] == ")")
        at += 1
        if not depth:
            break
    return at


def _name(tokens: list[str], at: int) -> tuple[str, int]:
    """A name, and where it ends; without a schema it is told with `?` for one."""
    start = at
    while at < len(tokens) and (tokens[at] in _BEFORE or (tokens[at] == "(" and tokens[at - 1] == "only")):
        at += 1
    closes = tokens[start:at][-1:] == ["("]
    if at >= len(tokens) or not _is_name(tokens[at]) or tokens[at] in _NO_TABLE:
        return "", at
    parts = [tokens[at].lstrip('"')]
    at += 1
    while tokens[at : at + 1] == ["."] and at + 1 < len(tokens) and _is_name(tokens[at + 1]):
        parts.append(tokens[at + 1].lstrip('"'))
        at += 2
    if closes and tokens[at : at + 1] == [")"]:
        at += 1
    return ".".join(parts[-2:] if len(parts) > 1 else ["?", parts[0]]), at


def _is_name(token: str) -> bool:
    return token.startswith('"') or token[:1].isalpha() or token[:1] == "_"
