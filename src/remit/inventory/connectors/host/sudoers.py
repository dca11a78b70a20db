"""The rules of sudo and of doas, read as far as they say who may become whom. Never raises; every loop has an end.

Spec: sudoers(5), "SUDOERS FILE FORMAT"; doas.conf(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from remit.inventory.connectors.files.formats import decode

MOST_FILES = 256
_MOST_DEPTH = 16
_MOST_LINE = 65_536
_MOST_RULES = 5_000
_MOST_MEMBERS = 2_000
_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*")
_TAG = re.compile(r"((?:NO)?(?:EXEC|PASSWD|SETENV|LOG_INPUT|LOG_OUTPUT|MAIL|FOLLOW|INTERCEPT))\s*:\s*", re.IGNORECASE)
_OPTION = re.compile(
    r"(?:ROLE|TYPE|APPARMOR_PROFILE|PRIVS|LIMITPRIVS|TIMEOUT|NOTBEFORE|NOTAFTER|CWD|CHROOT|D)\s*=\s*\S+\s*"
)
_DIGEST = re.compile(r"sha(?:224|256|384|512)\s*:\s*\S+\s+")
_KEEPS_COLON = re.compile(
    r"(?:(?:NO)?(?:EXEC|PASSWD|SETENV|LOG_INPUT|LOG_OUTPUT|MAIL|FOLLOW|INTERCEPT)|sha(?:224|256|384|512))\s*$",
    re.IGNORECASE,
)
_INCLUDE = re.compile(r"[#@](include|includedir)[ \t]+(\S.*)")
_ALIASES = re.compile(r"(User_Alias|Runas_Alias|Host_Alias|Cmnd_Alias|Cmd_Alias)\s+(.*)", re.DOTALL)
_COMMENT = re.compile(r"(?<!\\)#(?![0-9]|include)[^\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who may run what as whom."""

    users: tuple[str, ...]
    """Names, `%group`, `#uid`, `%#gid`, `+netgroup` or `ALL`; after their aliases."""
    hosts: tuple[str, ...]
    runas: tuple[str, ...]
    groups: tuple[str, ...] = ()
    asks: bool = True
    """It asks for the caller's password."""
    command: str = "ALL"
    negated: bool = False
    path: str = ""
    line: int = 0


@dataclass(slots=True)
class Rules:
    """What the files grant, in the order in which sudo reads them: the last that fits holds."""

    grants: list[Grant] = field(default_factory=list)
    broken: list[tuple[str, int]] = field(default_factory=list)
    """Path and line of what could not be read."""
    asks: bool = True
    unasked: set[str] = field(default_factory=set)
    """Who is never asked for a password, by a `Defaults` of theirs."""
    asks_target: bool = False
    """It is the target's password that is asked for (`targetpw`, `rootpw`, `runaspw`)."""


Part = tuple[str, bytes, int]
"""A file, or what of it lies between two includes: its path, the text, and the number of its first line."""


def gather(
    first: str, read: Callable[[str], bytes | None], names: Callable[[str], Sequence[str]], host: str = ""
) -> tuple[list[Part], list[str]]:
    """Every file from `first` on, cut where it includes another, in sudo's order; and includes that were not followed.

    At most 256 files, sixteen deep; a file that includes itself is read once.
    """
    parts: list[Part] = []
    left_out: list[str] = []
    opened = 0

    def visit(path: str, above: tuple[str, ...]) -> None:
        nonlocal opened
        if path in above or len(above) >= _MOST_DEPTH or opened >= MOST_FILES:
            left_out.extend([path] if len(left_out) < MOST_FILES else [])
            return
        opened += 1
        data = read(path)
        if data is None:
            return
        lines, start = data.split(b"\n"), 0
        for at, line in enumerate(lines):
            found = _INCLUDE.fullmatch(line[:4096].decode("utf-8", "replace").strip()) if line[:1] in b"#@" else None
            if found is None or not line or opened >= MOST_FILES:
                continue
            parts.append((path, b"\n".join(lines[start:at]), start + 1))
            start = at + 1
            for each in _included(path, found.group(1), found.group(2), names, host):
                visit(each, (*above, path))
        parts.append((path, b"\n".join(lines[start:]), start + 1))

    visit(first, ())
    return parts, left_out


def _included(path: str, verb: str, word: str, names: Callable[[str], Sequence[str]], host: str) -> Iterator[str]:
    target = word.strip().strip('"').replace("\\ ", " ").replace("%h", host)
    if not target.startswith("/"):
        target = f"{path.rpartition('/')[0]}/{target}"
    if verb == "include":
        yield target
        return
    for name in names(target):
        if not name.endswith("~") and "." not in name:
            yield f"{target.rstrip('/')}/{name}"


def parse_sudoers(parts: Iterable[Part]) -> Rules:
    """Read the files in their order; what is no rule is listed in `broken`, and the rest still counts."""
    rules = Rules()
    lines = [(path, number, text) for path, data, first in parts for number, text in _logical(data, first)]
    aliases = _aliases(lines, rules)
    for path, number, text in lines:
        if len(rules.grants) >= _MOST_RULES:
            rules.broken.append((path, number))
            break
        if _ALIASES.match(text):
            continue
        if text.startswith("Defaults"):
            _defaults(text, rules, aliases)
            continue
        if len(text) > _MOST_LINE or not _grant(text, path, number, rules, aliases):
            rules.broken.append((path, number))
    return rules


def _logical(data: bytes, first: int = 1) -> Iterator[tuple[int, str]]:
    """Lines with their continuations joined, comments gone; each with the number of its first."""
    pending, start = "", 0
    for number, line in enumerate(decode(data).split("\n"), first):
        line = line.rstrip("\r")
        start = start or number
        if line.endswith("\\") and not line.endswith("\\\\") and len(pending) < _MOST_LINE:
            pending += line[:-1] + " "
            continue
        whole = _COMMENT.sub("", pending + line, count=1).strip() if "#" in pending + line else (pending + line).strip()
        if whole:
            yield start, whole
        pending, start = "", 0
    if pending.strip():
        yield start, pending.strip()


def _aliases(lines: Iterable[tuple[str, int, str]], rules: Rules) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {"User": {}, "Runas": {}, "Host": {}, "Cmnd": {}}
    for path, number, text in lines:
        said = _ALIASES.match(text)
        if said is None:
            continue
        kind = {"Cmd": "Cmnd"}.get(said.group(1).partition("_")[0], said.group(1).partition("_")[0])
        for part in _split(said.group(2)[:_MOST_LINE], ":"):
            name, sign, members = part.partition("=")
            if not sign or not _ALIAS.fullmatch(name.strip()):
                rules.broken.append((path, number))
                continue
            found[kind][name.strip()] = [member.strip() for member in _split(members, ",")][:_MOST_MEMBERS]
    return found


def _expand(words: Iterable[str], known: dict[str, list[str]]) -> tuple[str, ...]:
    """Words after their aliases; what is taken out by `!` is left out where it is named alike."""
    kept: dict[str, None] = {}
    pending = [(word.strip(), False, 0) for word in reversed(list(words))]
    budget = _MOST_MEMBERS
    while pending and budget:
        budget -= 1
        word, negative, depth = pending.pop()
        while word.startswith("!"):
            word, negative = word[1:].strip(), not negative
        if word in known and word != "ALL":
            if depth < _MOST_DEPTH:
                pending.extend((member, negative, depth + 1) for member in reversed(known[word]))
        elif negative:
            kept.pop(_plain(word), None)
            if word == "ALL":
                kept.clear()
        elif word:
            kept[_plain(word)] = None
    return tuple(kept)


def _plain(word: str) -> str:
    word = word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word
    return re.sub(r"\\(.)", r"\1", word)


def _split(text: str, at: str) -> list[str]:
    """Cut at a mark that is neither escaped, quoted, in brackets nor part of a tag or digest."""
    parts, start, depth, quoted, here = [], 0, 0, False, 0
    while here < len(text):
        mark = text[here]
        if mark == "\\":
            here += 1
        elif mark == '"':
            quoted = not quoted
        elif quoted:
            pass
        elif mark == "(":
            depth += 1
        elif mark == ")":
            depth = max(0, depth - 1)
        elif mark == at and not depth and not (at == ":" and _KEEPS_COLON.search(text, max(start, here - 24), here)):
            parts.append(text[start:here])
            start = here + 1
        here += 1
    return [*parts, text[start:]]


_FLAGS = {"targetpw": "asks_target", "rootpw": "asks_target", "runaspw": "asks_target"}


def _defaults(text: str, rules: Rules, aliases: dict[str, dict[str, list[str]]]) -> None:
    head = re.match(r"Defaults(?:([@:!>])\s*(\S+))?\s+(.*)", text, re.DOTALL)
    if head is None:
        return
    for word in (part.strip() for part in _split(head.group(3), ",")):
        if word.lstrip("! ") == "authenticate":
            if head.group(1) is None:
                rules.asks = not word.startswith("!")
            elif head.group(1) == ":":
                users = set(_expand(_split(head.group(2), ","), aliases["User"]))
                rules.unasked = rules.unasked | users if word.startswith("!") else rules.unasked - users
        elif word in _FLAGS and head.group(1) is None:
            rules.asks_target = True


def _grant(text: str, path: str, line: int, rules: Rules, aliases: dict[str, dict[str, list[str]]]) -> bool:
    """Read one rule; `False` when it is none."""
    text = re.sub(r"!\s+", "!", text)
    parts = _split(text, ":")
    head, sign, _ = _at_equals(parts[0])
    who = ",".join(word.strip() for word in _split(head, ",")).rsplit(None, 1)
    if not sign or len(who) != 2:
        return False
    users = _expand(_split(who[0], ","), aliases["User"])
    specs = [who[1] + "=" + parts[0][len(head) + 1 :], *parts[1:]]
    for spec in specs:
        where, sign, commands = _at_equals(spec)
        if not sign:
            return False
        hosts = _expand(_split(where, ","), aliases["Host"])
        blank = Grant(users=users, hosts=hosts, runas=("root",), path=path, line=line)
        for grant in _commands(commands, blank, rules, aliases):
            if len(rules.grants) >= _MOST_RULES:
                return False
            rules.grants.append(grant)
    return True


def _at_equals(text: str) -> tuple[str, str, str]:
    parts = _split(text, "=")
    return parts[0], "=" if len(parts) > 1 else "", text[len(parts[0]) + 1 :]


def _commands(text: str, blank: Grant, rules: Rules, aliases: dict[str, dict[str, list[str]]]) -> Iterator[Grant]:
    """The commands of one specification; whom they run as, and tags, last until the next says otherwise."""
    current = replace(blank, asks=rules.asks and not rules.unasked & {*blank.users, "ALL"})
    for part in _split(text, ","):
        word = part.strip()
        if word.startswith("("):
            inner, _, word = word[1:].partition(")")
            users, _, groups = inner.partition(":")
            named = _expand(_split(users, ","), aliases["Runas"]) if users.strip() else ()
            current = replace(
                current, runas=named or (() if groups.strip() else ("root",)),
                groups=_expand(_split(groups, ","), aliases["Runas"]) if groups.strip() else (),
            )  # fmt: skip
            word = word.strip()
        while found := (_TAG.match(word) or _OPTION.match(word)):
            tag = (found.group(1) or "").upper() if found.re is _TAG else ""
            if tag in {"PASSWD", "NOPASSWD"}:
                current = replace(current, asks=tag == "PASSWD")
            word = word[found.end() :]
        word = _DIGEST.sub("", word, count=4)
        negated = False
        while word.startswith("!"):
            word, negated = word[1:].strip(), not negated
        if not word:
            continue
        for command in _expand([word], aliases["Cmnd"]) if _ALIAS.fullmatch(word) and word != "ALL" else (word,):
            yield replace(current, command=" ".join(command.split())[:500], negated=negated)


def parse_doas(data: bytes) -> tuple[list[Grant], list[int]]:
    """The rules of doas.conf(5) as grants, and the numbers of lines that are none."""
    grants: list[Grant] = []
    broken: list[int] = []
    for number, text in _logical(data):
        try:
            words = shlex.split(re.sub(r"\{[^}]*\}", " ", text[:_MOST_LINE]), comments=True)
        except ValueError:
            broken.append(number)
            continue
        grant = _doas(words, number) if words else None
        if grant is None:
            broken.append(number)
        elif len(grants) < _MOST_RULES:
            grants.append(grant)
    return grants, broken


def _doas(words: list[str], line: int) -> Grant | None:
    verb, rest = words[0], words[1:]
    asks = True
    while rest and rest[0] in {"nopass", "persist", "keepenv", "setenv", "nolog"}:
        asks = asks and rest[0] != "nopass"
        rest = rest[1:]
    if verb not in {"permit", "deny"} or not rest:
        return None
    user, rest = rest[0], rest[1:]
    target, command = "root", "ALL"
    if rest[:1] == ["as"] and len(rest) > 1:
        target, rest = rest[1], rest[2:]
    if rest[:1] == ["cmd"] and len(rest) > 1:
        after = rest[2:]
        command = " ".join([rest[1], *(after[1:] if after[:1] == ["args"] else ())]) or "ALL"
        command += ' ""' if after == ["args"] else ""
        rest = []
    if rest:
        return None
    users = ("%" + user[1:] if user.startswith(":") else user,)
    return Grant(
        users=users, hosts=("ALL",), runas=(target,), asks=asks, command=command, negated=verb == "deny", line=line
    )


_SHELLS = frozenset(
    [
        "sh",
        "bash",
        "dash",
        "zsh",
        "ksh",
        "fish",
        "csh",
        "tcsh",
        "su",
        "sudo",
        "env",
        "vi",
        "vim",
        "nvim",
        "nano",
        "emacs",
        "less",
        "more",
        "man",
        "ed",
        "sed",
        "awk",
        "gawk",
        "mawk",
        "perl",
        "python",
        "python3",
        "ruby",
        "node",
        "php",
        "lua",
        "find",
        "xargs",
        "tar",
        "zip",
        "rsync",
        "scp",
        "ssh",
        "git",
        "gdb",
        "strace",
        "ltrace",
        "tee",
        "cp",
        "mv",
        "dd",
        "install",
        "ln",
        "chmod",
        "chown",
        "setfacl",
        "docker",
        "podman",
        "nerdctl",
        "ctr",
        "lxc",
        "incus",
        "kubectl",
        "systemctl",
        "systemd-run",
        "journalctl",
        "crontab",
        "at",
        "mount",
        "chroot",
        "nsenter",
        "unshare",
        "screen",
        "tmux",
        "script",
        "watch",
        "nice",
        "nohup",
        "time",
        "timeout",
        "flock",
        "ionice",
        "taskset",
        "setarch",
        "stdbuf",
        "visudo",
        "apt",
        "apt-get",
        "dpkg",
        "rpm",
        "yum",
        "dnf",
        "snap",
        "pip",
        "pip3",
        "npm",
        "make",
        "gcc",
        "openssl",
        "curl",
        "wget",
        "mysql",
        "psql",
        "sqlite3",
        "passwd",
        "usermod",
        "useradd",
        "adduser",
        "gpasswd",
        "chpasswd",
        "insmod",
        "modprobe",
        "sysctl",
        "ansible-playbook",
        "terraform",
        "busybox",
        "socat",
        "nc",
        "ncat",
        "nmap",
        "tcpdump",
        "iptables",
        "ip",
    ]
)
"""Programs from which, with arguments of one's own choice, a shell or any file is one step away."""


def gives_everything(command: str) -> bool:
    """Whether who may run `command` may do anything: it is `ALL`, or a program with a way out and free arguments."""
    if command == "ALL":
        return True
    path, _, arguments = command.partition(" ")
    program = re.sub(r"[0-9.]+$", "", path.rpartition("/")[2])
    if path.endswith("/") or "*" in path:
        return True
    return (program in _SHELLS or path.rpartition("/")[2] in _SHELLS) and (not arguments or arguments.strip() == "*")
