"""Which values are given to which names in a line? One grammar for code, configuration, markup and command lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from remit.inventory.secrets.engine.finder import Signal

LINE_LIMIT = 4096
"""Longer lines are read in pieces round the signal."""

_NAMES = (
    r"pass[-_. ]?(?:word|wd|wrd|phrase|code|key)|passw(?:or)?t|pwd|contrasen|mot[-_]de[-_]passe|senha|secret|token|api[-_. ]?key|"
    r"access[-_. ]?key|(?:private|signing|encryption|encrypt|crypto|master|auth|account|shared|service|storage|client|"
    r"license|session|server|admin|app|application|consumer|deploy|security|hmac|jwt|cipher|aes|des|root|write|read|"
    r"webhook|instrumentation|subscription|integration|secure|user|project|bot|routing|ingest|hash|sign|db|database)[-_. ]?key|"
    r"credential|creds|authorization|bearer|x-auth|auth[-_]?(?:token|pass|data|str|info|cookie|code)|_auth|"
    r"connection[-_]?str(?:ing)?|conn[-_]?str|salt|passcode|api[-_. ]?secret|pin[-_]?code"
)
_SHORT = r"pass|pw|pin|otp|pat|psk"
_STRONG = rf"{_NAMES}|(?:{_SHORT})(?![A-Za-z])"
_SIGNAL = rf"(?:(?:{_NAMES})[\w.\-]{{0,40}}|(?:{_SHORT})[\d_]{{0,3}})"
_WORDS = (
    "pass", "pwd", "contrasen", "mot", "senha", "secret", "token", "key", "cred", "auth", "bearer", "conn", "salt", "pin",
    "pw", "otp", "pat", "psk",
)  # fmt: skip
STRONG_QUOTED = Signal(
    pattern=rf"{_SIGNAL}(?:[\"'`\[\]\)\\ \t0-9]{{0,6}}(?:[:=(,>| \t]|<-|\w{{1,20}} ?=|: ?[\w.\[\]|? ]{{2,30}} ?=)[^\n\"'`;]{{0,24}})?[\"'`]{{0,3}}[^\n]{{0,3}}[\"'`][^\s\"'`]{{3}}",
    keywords=_WORDS,
    ignore_case=True,
    line=True,
)
STRONG_BARE = Signal(
    pattern=rf"{_SIGNAL}[\"'`\]\\]{{0,3}}(?:[ \t]{{0,20}}(?:[?+.|:]{{0,3}}=|[:>]|=>|<-)[ \t]{{0,20}}(?:!!?\w{{1,12}} )?|[ \t]{{1,4}}(?:(?:is|key|token|was) ?[:=]? ?|= ?)?)[^\s\"'`(),;\[\]{{}}<>]{{0,60}}[0-9!@#%^*~+/][^\s\"'`(),;\[\]{{}}<>]{{2}}",
    keywords=_WORDS,
    ignore_case=True,
    line=True,
)
_PLAIN = r"[^\s\"'`(),;:=\[\]{}<>]"
_ENDED = r"[ \t]{0,4}\r?(?:\n|$|</|&|\")"
_PASSED = r"(?:(?:pass|passw|pwd|contrasen|mot[-_]de[-_]passe|cred)[\w.\-]{0,40}|(?:pw|pin|otp)[\d_]{0,3})"
_LAST = (
    # What opens something that the next line goes on with, or a name whose value stands there.
    rf"{_SIGNAL}[\"'`\]]{{0,3}}[ \t]{{0,8}}(?:[:=]{{1,2}}|=>|:=|>|,|\(|\{{)[ \t]{{0,8}}(?:[|>][+-]?|\\|\(|\[)?[ \t]{{0,4}}\r?(?:\n|$)",
    rf"name[\"']?[ \t]{{0,4}}[:=][ \t]{{0,4}}[\"']?[\w.\-]{{0,40}}{_SIGNAL}[\"'`]?[ \t]{{0,4}},?[ \t]{{0,4}}\r?(?:\n|$)",
    # What `STRONG_BARE` does not see: no digit before the last two characters, or none at all; then in the midst of a line.
    rf"{_SIGNAL}[\"'`]?(?:[ \t]{{0,8}}(?:[:=>,({{]|=>|:=)[ \t]{{0,8}}|[ \t]{{1,8}})(?:{_PLAIN}{{1,60}}[0-9!@#%^*~+/]{_PLAIN}{{0,2}}|{_PLAIN}{{16,60}}){_ENDED}",
    rf"{_SIGNAL}(?:=|[ \t]{{1,4}}(?:(?:is|was)[ \t]{{1,4}})?){_PLAIN}{{8,60}}[0-9!@#%^*~+/]{_PLAIN}{{0,2}}[ \t]",
    rf"{_PASSED}[\"'`]?[ \t]{{0,8}}(?:[:=>,({{]|=>|:=)[ \t]{{0,8}}{_PLAIN}{{4,60}}{_ENDED}",
    rf"(?:--|env |set )[\w\-]{{0,20}}{_PASSED}[ \t]{{1,4}}{_PLAIN}{{4,60}}{_ENDED}",
)
STRONG_LAST = Signal(pattern="|".join(_LAST), keywords=(*_WORDS, "name"), ignore_case=True, line=True)
_RUN = r"[0-9][A-Za-z0-9+/_.=~\-]{15,}(?:[ \t\r\n;,<&\"'`]|$)"
"""The end of whatever looks random: a rare character comes first, so a blob is passed over in great steps."""
RANDOM_QUOTED = Signal(
    # Not so many more look like it where the digit comes late: a run of letters and digits, or a key by its name.
    pattern=r"[\"'`][A-Za-z+/_.=~\-]{0,24}[0-9][A-Za-z0-9+/_.=~\-]{15,512}[\"'`]|[\"'`][A-Za-z0-9]{19,44}[0-9][A-Za-z0-9]{0,20}[\"'`]"
    r"|[Kk](?:ey|EY)[\"'`\])]{0,3}[ \t]{0,4}(?:[:=(,]|:=|=>)[ \t]{0,4}[\"'`][A-Za-z_\-]{0,20}[0-9][A-Za-z0-9+/_=\-]{9,64}[\"'`]",
    keywords=('"', "'", "`"),
    line=True,
    # INVARIANT: whatever an alternative of the pattern matches, one of these ends within.
    hints=(
        _RUN,
        r"[\"'`][A-Za-z0-9]{19}",
        r"[Kk](?:ey|EY)[\"'`\])]{0,3}[ \t]{0,4}(?:[:=(,]|:=|=>)[ \t]{0,4}[\"'`][A-Za-z0-9+/_=\-]{10}",
    ),
)
RANDOM_BARE = Signal(
    pattern=r"(?:[:=>][ \t]{0,8}[A-Za-z+/_.~\-]{0,24}[0-9][A-Za-z0-9+/_.=~\-]{15,512}"
    r"|[Kk](?:ey|EY)[ \t]?[:=][ \t]?[A-Za-z]{0,20}[0-9][A-Za-z0-9_\-]{9,64})[ \t\r;,]{0,4}(?:[\n<&\"'`]|$)",
    keywords=(":", "=", ">"),
    line=True,
    hints=(_RUN, r"[Kk](?:ey|EY)[ \t]?[:=][ \t]?[A-Za-z0-9_\-]{10}"),
)
LINES = (STRONG_QUOTED, STRONG_BARE, STRONG_LAST, RANDOM_QUOTED, RANDOM_BARE)
STRONG_LINES = 3
"""How many of `LINES`, from the first, speak of names; the rest of random values."""

_KEYWORD = re.compile(_STRONG.encode())
"""Of a line in lower case: to look for it in any case takes more than twice as long."""
_BEFORE = re.compile(rb"[\w.\-$]{1,60}")
_OPEN = rb"(?P<prefix>(?:(?:[@$]{1,2}|[fFrRbBuUlL]{1,2})(?=[\"'`])|new String\(|String\(|str\(|bytes\(|SecretStr\(|Some\(|byte\[\]\(|\[\]byte\(|to_string\()?)"
_QUOTED = rb"(?:(?P<quote>\\\"|\\'|\"\"\"|'''|\"|'|`|&quot;|&#34;|&#39;)(?P<text>(?:(?!(?P=quote))(?:\\.|[^\n\\])){1,2048}?)(?:(?P=quote)|\\?$))"
_BARE = (
    rb"(?P<bare>(?:\$\{[^}\n]{0,80}\}|[^\s\0\"'`,;()\[\]{}<>|])(?:\$\{[^}\n]{0,80}\}|[^\s\0\"'`,;()\[\]{}<>|]){2,1024})"
)
_TAIL = re.compile(
    rb"(?P<rest>[\w.\-\[\]$]{0,60})"
    rb"(?P<close>(?:\\?[\"'`]|\]|\)|&quot;){0,3})"
    rb"(?:[ \t](?:api[ _-]?key|key|token|secret|password|value|code|string|default|is set to|was|is)(?=[\"'\s:=]))?"
    rb"(?P<type>\s{0,4}:\s{0,4}(?:&?'?[A-Za-z_][\w.\[\]<>|? ]{0,30}\??)\s{0,4}(?==[^=]))?"
    rb"(?P<op>\s{0,24}(?:=>|:=|::=|:::=|\?=|\+=|\.=|\|\|=|===|!==|==|!=|~=|->|<-|=|:|,|\(|>|\|)\s{0,24}|[ \t]{1,8})"
    rb"(?P<more>(?:(?:os\.)?(?:environ\.get|getenv|env|config|get|fetch|value|default|or)\([^()\n]{1,60},\s*(?:default\s*=\s*)?|[\"']?value[\"']?\s*[:=]\s*|!!?\w{1,12}\s+|\{\s*(?:\w+\s*=\s*\w+[;,]?\s+)?default\s*=\s*|\|\s+|[(\[]\s*|const\.?\s*|String\.valueOf\(|assign\(\s*)?)"
    + _OPEN
    + rb"(?:"
    + _QUOTED
    + rb"|"
    + _BARE
    + rb")"
)
_NEXT = re.compile(
    rb"[ \t]{0,80}(?:value[\"']?[ \t]*[:=][ \t]*)?" + _QUOTED + rb"|[ \t]{1,80}(?:value:[ \t]*)?" + _BARE, re.MULTILINE
)
_HANGING = re.compile(
    rb"[\w.\-]{0,40}[\"'`\]]{0,3}\s{0,8}(?:[:=]{1,2}|=>|>|,|\()\s{0,8}(?:[|>][+-]?|\\|\(|\[)?\s{0,4}$"
)
_NAMED = re.compile(rb"[\w.\-]{0,40}[\"'`]?[ \t]*,?[ \t\r]*$")
_SMART, _SMART_END = "\u201c".encode(), "\u201d".encode()
_RANDOM = re.compile(rb"(?<![A-Za-z0-9+/_.=~\-])[A-Za-z0-9+/_.=~\-]{16,512}(?![A-Za-z0-9+/_.~\-])")
_DIGIT = re.compile(rb"[0-9]")
_NAME_BACKWARDS = re.compile(
    rb"(?P<quote>[\"'`]?)[@$fFrRbBuU]{0,2}\\?[\[({]{0,2}\s{0,12}(?P<op>>=|=:|==|-<|>-|=|:|,|\(|>|\[|\s)\s{0,12}[\"'`\])]{0,3}(?P<name>[\w.\- ]{1,80})"
)
"""A name, operator and quote before a value, read from the value backwards (so that no search is needed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A value given to a name: where, and by which syntax."""

    name: bytes
    operator: bytes
    quote: bytes
    value: bytes = field(repr=False)
    start: int
    end: int
    strong: bool
    """The name itself speaks of a secret."""
    before: bytes = field(default=b"", repr=False)
    """What stands before the name in its line."""
    after: bytes = field(default=b"", repr=False)
    above: bytes = field(default=b"", repr=False)
    """The end of the line before: a log, or a comment, that says whose key follows."""


def candidates(
    data: bytes, start: int, end: int, *, core: tuple[int, int], named: bool = True, random: bool = True
) -> Iterator[Candidate]:
    """Every value that is given to a name in the line data[start:end]; the value may lie in the line after.

    `named`: names that speak of a secret are in it; `random`: values that look random are. Only what begins within
    `core` counts: the rest of a long line is another piece's.
    """
    line = data[start:end]
    taken: set[tuple[int, int]] = set()
    first, last = core[0] - start, core[1] - start
    for keyword in _KEYWORD.finditer(line.lower(), first) if named else ():
        if keyword.start() >= last:
            break
        found = _assigned(data, line, start, end, keyword, len(data))
        if found is not None and (found.start, found.end) not in taken:
            taken.add((found.start, found.end))
            yield found
    for match in _RANDOM.finditer(line) if random else ():
        if not first <= match.start() < last:
            continue
        at = (start + match.start(), start + match.end())
        if at not in taken and not any(low <= at[0] and at[1] <= high for low, high in taken):
            found = _named(data, line, start, match)
            if found is not None:
                yield found


def _assigned(data: bytes, line: bytes, start: int, end: int, keyword: re.Match[bytes], limit: int) -> Candidate | None:
    head = _BEFORE.match(line[max(0, keyword.start() - 60) : keyword.start()][::-1])
    opening = keyword.start() - (head.end() if head else 0)
    tail = _TAIL.match(line, keyword.end())
    if tail is None or not (tail["text"] or tail["bare"]):
        return _on_the_next_line(data, line, start, end, keyword, opening, limit)
    name = line[opening : keyword.end()] + tail["rest"]
    kind = "text" if tail["text"] is not None else "bare"
    low, high = tail.span(kind)
    if kind == "bare":
        low, high = _trimmed(line, low, high)
    return Candidate(
        name=name,
        operator=tail["op"],
        quote=tail["quote"] or b"",
        value=line[low:high],
        start=start + low,
        end=start + high,
        strong=True,
        before=line[max(0, opening - 40) : opening],
        after=line[tail.end() if kind == "text" else high :][:24],
    )


def _trimmed(line: bytes, low: int, high: int) -> tuple[int, int]:
    """Where a bare value lies without what closes the statement or the query string it stands in."""
    value = line[low:high]
    cut = value.find(b"&")
    if cut >= 4 and b"?" in line[:low]:
        value = value[:cut]
    value = value.rstrip(b".:\\")
    if value.startswith(_SMART):
        low, value = low + 3, value[3:]
        value = value.removesuffix(_SMART_END)
    for opening, closing in ((b"(", b")"), (b"[", b"]"), (b"{", b"}")):
        while value.endswith(closing) and value.count(closing) > value.count(opening):
            value = value[:-1]
    return low, low + len(value)


_BLOCK = re.compile(
    rb"[\w.\-]{0,40}[\"']?[ \t]*\{[ \t\r]*\n(?:[ \t]*(?:type|description|sensitive|nullable)[ \t]*=[^\n]*\n){0,4}"
    rb"[ \t]*default[ \t]*=[ \t]*\"(?P<text>[^\"\n]{1,1024})\""
)


def _on_the_next_line(
    data: bytes, line: bytes, start: int, end: int, keyword: re.Match[bytes], opening: int, limit: int
) -> Candidate | None:
    block = _BLOCK.match(data, start + keyword.end(), min(limit, end + 1200)) if line.rstrip().endswith(b"{") else None
    if block is not None:
        return Candidate(
            name=line[opening : keyword.end()],
            operator=b"=",
            quote=b'"',
            value=block["text"],
            start=block.start("text"),
            end=block.end("text"),
            strong=True,
        )
    hanging = _HANGING.match(line, keyword.end())
    if hanging is not None and hanging.group().rstrip().endswith(b",") and b"(" not in line[:opening]:
        return None
    named = _NAMED.match(line, keyword.end()) if hanging is None and b"ame" in line[:opening] else None
    if hanging is None and not (
        named is not None and re.search(rb"name[\"']?\s*[:=]\s*[\"']?$", line[:opening], re.IGNORECASE)
    ):
        return None
    below = data[end + 1 : min(limit, end + 1 + 1200)].partition(b"\n")[0]
    found = _NEXT.match(below)
    if found is None or (hanging is None and not re.match(rb"[ \t]*[\"']?value[\"']?[ \t]*[:=]", below)):
        return None
    kind = "text" if found["text"] is not None else "bare"
    low, high = found.span(kind)
    if kind == "bare" and re.match(rb"[\w.\-]+[\"']?\s*[:=]\s", below[low:]):
        return None
    rest = hanging or named
    return Candidate(
        name=line[opening : keyword.end()] + re.match(rb"[\w.\-]*", rest.group() if rest else b"").group(),  # type: ignore[union-attr]
        operator=b":",
        quote=found["quote"] or b"",
        value=below[low:high],
        start=end + 1 + low,
        end=end + 1 + high,
        strong=True,
        before=line[max(0, opening - 40) : opening],
        after=below[high : high + 24],
    )


def _named(data: bytes, line: bytes, start: int, match: re.Match[bytes]) -> Candidate | None:
    value = match.group()
    if _DIGIT.search(value) is None:
        return None
    low, high = match.span()
    if (cut := value.find(b"=")) > 0 and value.rstrip(b"=").find(b"=") > 0:
        low += cut + 1
    if high - low < 16:
        return None
    before = _NAME_BACKWARDS.match(line[max(0, low - 120) : low][::-1])
    opening = low - (before.end() if before else 0)
    glued = line[match.start() : low - 1] if low > match.start() else b""
    return Candidate(
        name=before["name"][::-1].strip() if before else glued,
        operator=before["op"][::-1] if before else b"",
        quote=before["quote"] if before else b"",
        value=line[low:high],
        start=start + low,
        end=start + high,
        strong=False,
        above=data[max(0, start - 80) : start],
        before=line[max(0, opening - 40) : opening],
        after=line[high : high + 24],
    )
