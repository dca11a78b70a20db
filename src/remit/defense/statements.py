"""What sort of SQL statement this is, and what it touches: read from hostile text, without keeping it.

A statement is read as tokens, so that comments, string literals and dollar quotes cannot hide or forge a keyword.
What is not understood is `OTHER`; text after the first 64 KiB is not read, and then nothing is called harmless.

Spec: PostgreSQL 15, chapter 4.1 "Lexical Structure".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from remit.defense.model import QueryClass

MAX_TEXT: Final = 65_536
MAX_OBJECTS: Final = 32
_MAX_STATEMENTS = 64

_TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<dollar>\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$)
    | (?P<escape>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<string>[uU]&'(?:[^']|'')*(?:'|\Z)|[bBxXnN]?'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
    | (?P<number>\d[\w.]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"/\*|\*/")
_READ_FROM: Final = frozenset({"from", "join", "table", "copy", "only"})
_WRITE_TO: Final = frozenset({"into", "update", "truncate"})
_CREATES: Final = frozenset(
    {
        "table", "function", "procedure", "view", "trigger", "schema", "role", "user", "extension", "rule", "type",
        "domain", "sequence", "index", "aggregate", "operator", "cast", "event", "foreign", "server", "publication",
        "subscription", "database", "policy", "materialized", "language", "tablespace", "group", "collation",
        "recursive",
    }
)  # fmt: skip
_ROLE_SETTINGS: Final = frozenset({"role", "session_authorization"})
_SETTINGS: Final = frozenset(
    {
        "begin", "start", "commit", "rollback", "end", "abort", "savepoint", "release", "set", "reset", "show", "fetch",
        "move", "close", "discard", "deallocate", "listen", "unlisten", "checkpoint", "lock",
    }
)  # fmt: skip
_SERVER_SIDE: Final = frozenset(
    {
        "pg_read_file",
        "pg_read_binary_file",
        "pg_ls_dir",
        "pg_stat_file",
        "lo_import",
        "lo_export",
        "dblink",
        "dblink_exec",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """`kind` is `word`, `quoted`, `string`, `number` or `other`; `text` is folded as the server folds it."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one statement does. `objects` are `schema.name` or `name`, or a role for `SET_ROLE`; at most 32."""

    query_class: QueryClass
    objects: tuple[str, ...] = ()


def classify(text: str) -> tuple[Statement, ...]:
    """Say what each statement of `text` does, in order; at most 64, and `OTHER` for what was cut off."""
    cut = len(text) > MAX_TEXT
    found: list[Statement] = []
    for tokens in _statements(text[:MAX_TEXT]):
        if len(found) == _MAX_STATEMENTS:
            cut = True
            break
        found.extend(_classify(tokens))
    if cut:
        found.append(Statement(query_class=QueryClass.OTHER))
    return tuple(found)


def tokenize(text: str) -> Iterator[Token]:
    """Read the tokens that mean something; comments and space are left out, nested comments included."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None, "every character is a token"
        at, kind, value = match.end(), match.lastgroup or "other", match.group()
        if kind == "comment":
            at = _end_of_comment(text, at)
        elif kind == "dollar":
            close = text.find(value, at)
            end = len(text) if close < 0 else close
            yield Token(kind="string", text=text[at:end][:200])
            at = end + len(value)
        elif kind in ("string", "escape"):
            yield Token(kind="string", text=value.partition("'")[2].removesuffix("'").replace("''", "'"))
        elif kind == "quoted":
            yield Token(kind="quoted", text=value[1:].removesuffix('"').replace('""', '"'))
        elif kind == "word":
            yield Token(kind="word", text=value.lower())
        elif kind != "space":
            yield Token(kind=kind, text=value)


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    for mark in _COMMENT.finditer(text, at):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)


def _statements(text: str) -> Iterator[list[Token]]:
    current: list[Token] = []
    for token in tokenize(text):
        if token.kind == "other" and token.text == ";":
            if current:
                yield current
            current = []
        else:
            current.append(token)
    if current:
        yield current


def _classify(tokens: Sequence[Token]) -> Iterator[Statement]:
    words = [token.text if token.kind == "word" else "" for token in tokens]
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first == "explain" or (first == "prepare" and "as" in words):
        inner = _inner(words)
        if inner:
            yield from _classify(tokens[inner:])
        return
    yield from _within(tokens, words)
    role = _role_change(tokens)
    if role is not None:
        yield Statement(query_class=QueryClass.SET_ROLE, objects=(role,))
    elif first in ("create", "import"):
        yield _created(tokens, words)
    elif first in ("alter", "comment", "security", "reassign", "cluster", "refresh", "reindex"):
        yield Statement(query_class=QueryClass.ALTER, objects=_named(tokens))
    elif first == "drop":
        yield Statement(query_class=QueryClass.DROP, objects=_named(tokens))
    elif first in ("grant", "revoke"):
        yield Statement(query_class=QueryClass.GRANT, objects=_named(tokens))
    elif first in ("do", "call", "load"):
        yield Statement(query_class=QueryClass.CODE)
    elif first == "copy":
        yield _copied(tokens, words)
    elif first in ("select", "with", "table", "values", "insert", "update", "delete", "merge", "truncate", "declare"):
        yield _queried(tokens, words, first)
    elif first in _SETTINGS and (first, second) != ("set", "role"):
        yield Statement(query_class=QueryClass.SESSION)
    elif not (first == "" and tokens[0].text == "("):
        yield Statement(query_class=QueryClass.OTHER)
    else:
        yield _queried(tokens, words, "select")


def _inner(words: Sequence[str]) -> int:
    starts = (
        "select",
        "with",
        "insert",
        "update",
        "delete",
        "merge",
        "create",
        "execute",
        "table",
        "values",
        "declare",
    )
    return next((i for i, word in enumerate(words) if i and word in starts), 0)


def _within(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[Statement]:
    # Functions that do, inside a harmless-looking query, what a statement of their own would.
    for at, token in enumerate(tokens[:-1]):
        if token.kind not in ("word", "quoted") or not _is(tokens, at + 1, "("):
            continue
        if token.text in _SERVER_SIDE:
            yield Statement(query_class=QueryClass.PROGRAM, objects=(token.text,))
        elif token.text == "set_config" and _sets_role(tokens, at + 2):
            role = tokens[at + 4].text if at + 4 < len(tokens) and tokens[at + 4].kind == "string" else "?"
            yield Statement(query_class=QueryClass.SET_ROLE, objects=(role,))
    if words[0] == "update" and "pg_settings" in _after(tokens, words, _WRITE_TO):
        # A rule of that view calls set_config.
        yield Statement(query_class=QueryClass.SET_ROLE, objects=("?",))


def _sets_role(tokens: Sequence[Token], at: int) -> bool:
    # A name that is put together, escaped or passed by keyword is not read: it counts as the worst it could be.
    plain = (
        at < len(tokens) and tokens[at].kind == "string" and "\\" not in tokens[at].text and _is(tokens, at + 1, ",")
    )
    return not plain or tokens[at].text.lower() in _ROLE_SETTINGS


def _is(tokens: Sequence[Token], at: int, sign: str) -> bool:
    return at < len(tokens) and tokens[at].kind == "other" and tokens[at].text == sign


def _role_change(tokens: Sequence[Token]) -> str | None:
    names = [token.text.lower() if token.kind in ("word", "quoted") else "" for token in tokens[:6]]
    if names[0] != "set" or tokens[0].kind != "word":
        return None
    at = 2 if names[1:2] in (["local"], ["session"]) and names[2:3] != ["authorization"] else 1
    if names[at : at + 1] and names[at] in _ROLE_SETTINGS:
        return _target(tokens, at + 1)
    if names[at : at + 2] == ["session", "authorization"]:
        return _target(tokens, at + 2)
    return None


def _target(tokens: Sequence[Token], at: int) -> str:
    while at < len(tokens) and (tokens[at].text in ("=", "to") and tokens[at].kind in ("other", "word")):
        at += 1
    if at >= len(tokens):
        return "?"
    return tokens[at].text


def _created(tokens: Sequence[Token], words: Sequence[str]) -> Statement:
    head = words[:6]
    if "temporary" in head or "temp" in head:
        return Statement(query_class=QueryClass.CREATE_TEMPORARY, objects=_named(tokens))
    return Statement(query_class=QueryClass.CREATE, objects=(*_named(tokens), *_after(tokens, words, _READ_FROM)))


def _copied(tokens: Sequence[Token], words: Sequence[str]) -> Statement:
    way = _way(tokens, words)
    if way + 1 < len(tokens) and (words[way + 1] == "program" or tokens[way + 1].kind == "string"):
        return Statement(query_class=QueryClass.PROGRAM)
    inward = words[way : way + 1] == ["from"]
    return Statement(
        query_class=QueryClass.WRITE if inward else QueryClass.READ, objects=_after(tokens, words, _READ_FROM)
    )


def _way(tokens: Sequence[Token], words: Sequence[str]) -> int:
    # The `TO` or `FROM` that is COPY's own, not one inside its query or column list.
    depth = 0
    for at, token in enumerate(tokens):
        if token.kind == "other":
            depth += (token.text == "(") - (token.text == ")")
        elif depth == 0 and words[at] in ("to", "from"):
            return at
    return len(tokens)


def _queried(tokens: Sequence[Token], words: Sequence[str], first: str) -> Statement:
    objects = _after(tokens, words, _READ_FROM | _WRITE_TO | {"using"})
    writes = {"insert", "update", "delete", "merge", "truncate"}
    if first in writes or (first == "with" and writes & set(words)):
        return Statement(query_class=QueryClass.WRITE, objects=objects)
    if first == "select" and "into" in words:
        # SELECT … INTO makes a table.
        return Statement(query_class=QueryClass.CREATE, objects=objects)
    return Statement(query_class=QueryClass.READ, objects=objects)


def _after(tokens: Sequence[Token], words: Sequence[str], keywords: frozenset[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for at, word in enumerate(words):
        if word not in keywords:
            continue
        # A list of tables: `FROM a.b AS x, c.d`.
        for name in _list_of_names(tokens, at + 1):
            found[name] = None
    return tuple(found)[:MAX_OBJECTS]


def _list_of_names(tokens: Sequence[Token], at: int) -> Iterator[str]:
    for _ in range(MAX_OBJECTS):
        for _ in range(3):
            if at < len(tokens) and tokens[at].kind == "word" and tokens[at].text in _BEFORE_NAME:
                at += 1
        name, at = _dotted(tokens, at)
        if not name or _is(tokens, at, "("):
            return
        yield name
        for _ in range(3):  # AS alias, `*`
            if (
                at < len(tokens)
                and tokens[at].text not in _STOP
                and tokens[at].text != ","
                and not _is(tokens, at, ")")
            ):
                at += 1
        if not _is(tokens, at, ","):
            return
        at += 1


_BEFORE_NAME: Final = frozenset({"only", "lateral", "into", "table"})
_STOP: Final = frozenset(
    {"where", "join", "on", "group", "order", "limit", "set", "values", "select", "to", "from", "using"}
)


def _dotted(tokens: Sequence[Token], at: int) -> tuple[str, int]:
    parts: list[str] = []
    while len(parts) < 4 and at < len(tokens) and tokens[at].kind in ("word", "quoted"):
        parts.append(tokens[at].text)
        at += 1
        if not _is(tokens, at, "."):
            break
        at += 1
    return ".".join(parts[-2:]), at


def _named(tokens: Sequence[Token]) -> tuple[str, ...]:
    # The object of CREATE, ALTER, DROP and GRANT … ON: the first name after the words that say what it is.
    fillers = _CREATES | {
        "create", "alter", "drop", "grant", "revoke", "or", "replace", "if", "not", "exists", "temp", "temporary",
        "unlogged", "global", "local", "constraint", "concurrently", "unique", "all", "privileges", "on", "in",
        "tables", "comment", "reassign", "owned", "by", "refresh", "reindex", "trusted", "procedural", "default",
    }  # fmt: skip
    for at, token in enumerate(tokens):
        if token.kind == "quoted" or (token.kind == "word" and token.text not in fillers):
            name, _ = _dotted(tokens, at)
            return (name,) if name else ()
    return ()
