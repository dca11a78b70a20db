"""SQL: privileges of a login on tables and what else is granted, by itself or through groups.

What a log of statements cannot show stays: sequences and functions beside what is used, USAGE of the schemas and
CONNECT of the databases in which something is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from remit.governance.rightsizing.model import Draft, Level, Right, Text, admitted, ratio_of
from remit.inventory.use.model import Deed
from remit.providers.postgres.script import quote_identifier

LEVELS: Final = {
    "SELECT": Level.READ, "USAGE": Level.LIST, "CONNECT": Level.LIST, "EXECUTE": Level.READ, "INSERT": Level.WRITE,
    "UPDATE": Level.WRITE, "DELETE": Level.WRITE, "TRUNCATE": Level.WRITE, "TEMPORARY": Level.LIST,
    "REFERENCES": Level.WRITE, "TRIGGER": Level.PERMISSIONS, "CREATE": Level.PERMISSIONS, "OWNER": Level.PERMISSIONS,
    "ALL": Level.PERMISSIONS, "MAINTAIN": Level.WRITE,
}  # fmt: skip
_WHOLE: Final = ("OWNER", "ALL")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Privilege:
    """One privilege. `via` is the group that the login is a member of, through which it comes; empty: its own."""

    kind: str
    """`table`, `sequence`, `schema`, `function` or `database`."""
    path: str
    """`database.schema.table`; a database by its name alone."""
    action: str
    via: str = ""
    grantable: bool = False

    @property
    def key(self) -> str:
        return f"{self.action} {self.kind} {self.path}"

    @property
    def database(self) -> str:
        return self.path.partition(".")[0]

    @property
    def object(self) -> str:
        """Quoted, as a statement names it."""
        kind = "ROUTINE" if self.kind == "function" else self.kind.upper()
        if self.kind == "database":
            return f"{kind} {quote_identifier(self.path)}"
        inner = self.path.partition(".")[2]
        if self.kind == "schema":
            return f"{kind} {quote_identifier(inner)}"
        schema, _, local = inner.partition(".")
        if self.kind == "function":
            return f"{kind} {inner}"
        return f"{kind} {quote_identifier(schema)}.{quote_identifier(local)}"

    @property
    def verb(self) -> str:
        """As `GRANT` names it: `SELECT`, or `SELECT ("amount")` of one column."""
        word, _, rest = self.action.partition("(")
        column = rest.removesuffix(")").strip()
        if len(column) > 1 and column[0] == column[-1] == '"':
            column = column[1:-1].replace('""', '"')
        return f"{word.strip()} ({quote_identifier(column)})" if column else word


def matches(deed: Deed, each: Privilege) -> bool:
    """Whether a privilege may be what an act rested on."""
    word = each.action.partition("(")[0].strip()
    if each.kind == "database" or each.kind == "schema":
        return False
    if word != deed.action and word not in _WHOLE:
        return False
    if deed.action == "EXECUTE" and each.kind != "function":
        return False
    path = each.path.partition("(")[0]
    if deed.wide:
        return path.startswith(deed.resource[:-1].replace("?.", "")) or deed.resource in ("", "*")
    parts = deed.resource.split(".", 2)
    if len(parts) == 3 and parts[1] == "?":
        return path.startswith(parts[0] + ".") and path.rpartition(".")[2] == parts[2]
    return path == deed.resource


class Login:
    """The privileges of one login; `Holding` and `Judge`."""

    language = "postgres"

    def __init__(self, login: str, privileges: Iterable[Privilege], *, blocked: Iterable[str] = ()) -> None:
        self.login = login
        self.privileges = tuple(sorted(set(privileges)))
        self.blocked = frozenset(blocked)
        """Groups that give more than privileges on objects: the membership stays."""

    def allows(self, deed: Deed) -> bool:
        fitting = [each for each in self.privileges if matches(deed, each)]
        if not fitting:
            return False
        if deed.wide or ".?." in deed.resource:
            return True
        # A privilege on columns stands for the table only beside others of it.
        return True

    def draft(self, deeds: Sequence[Deed]) -> tuple[Draft, Alone]:
        """The privileges that what was done needs; those of groups become its own where the group gives more."""
        acts = admitted(deeds)
        needed = {each for each in self.privileges for deed in acts if matches(deed, each)}
        kept = needed | self._beside(needed)
        leaving, staying = self._groups(kept)
        own = {each for each in self.privileges if not each.via}
        moved = {
            Privilege(kind=each.kind, path=each.path, action=each.action)
            for each in kept if each.via in leaving
        }  # fmt: skip
        have = {(each.kind, each.path, each.action) for each in own}
        gives = sorted(each for each in moved if (each.kind, each.path, each.action) not in have)
        takes = sorted(own - kept)
        proposed = Login(
            self.login, [*(own & kept), *moved, *(each for each in self.privileges if each.via in staying)],
            blocked=self.blocked,
        )  # fmt: skip
        who = quote_identifier(self.login)
        commands = [
            *(f"GRANT {grant} TO {who}" for grant in _joined(gives)),
            *(f"REVOKE {grant} FROM {who}" for grant in _joined(takes)),
            *(f"REVOKE {quote_identifier(group)} FROM {who}" for group in sorted(leaving)),
        ]
        inverse = [
            *(f"GRANT {quote_identifier(group)} TO {who}" for group in sorted(leaving)),
            *(f"GRANT {grant} TO {who}{option}" for option, part in _by_option(takes) for grant in _joined(part)),
            *(f"REVOKE {grant} FROM {who}" for grant in _joined(gives)),
        ]
        after = {each.key for each in proposed.privileges}
        gone = [each for each in self.privileges if each.key not in after]
        levels = {each.key: _level(each) for each in self.privileges}
        draft = Draft(
            texts=(Text(name=f"rights of {self.login}.sql", before=self.text(), after=proposed.text()),),
            removed=tuple(sorted({Right(action=each.action, resource=each.path, via=each.via) for each in gone})),
            commands=tuple(commands), inverse=tuple(inverse), notes=tuple(self._notes(kept, needed, staying)),
            granted=len(levels), used=len({each.key for each in needed}),
            ratio=ratio_of(levels, {each.key for each in needed}),
        )  # fmt: skip
        return draft, Alone(proposed)

    def text(self) -> str:
        """The rights as statements, one line each."""
        who = quote_identifier(self.login)
        groups = sorted({each.via for each in self.privileges if each.via})
        lines = [f"GRANT {quote_identifier(group)} TO {who};" for group in groups]
        for each in self.privileges:
            if not each.via:
                lines.append(
                    f"GRANT {each.verb} ON {each.object} TO {who}{' WITH GRANT OPTION' if each.grantable else ''};"
                )
        return "".join(f"{line}\n" for line in lines)

    def _beside(self, needed: set[Privilege]) -> set[Privilege]:
        """What stays though no statement shows it: how one gets there, and what defaults and triggers call."""
        databases = {each.database for each in needed}
        schemas = {".".join(each.path.split(".")[:2]) for each in needed if each.kind not in ("database", "schema")}
        writes = {
            ".".join(each.path.split(".")[:2])
            for each in needed if each.action.partition("(")[0].strip() in ("INSERT", "UPDATE", *_WHOLE)
        }  # fmt: skip
        found = set()
        for each in self.privileges:
            inside = ".".join(each.path.split(".")[:2])
            if (
                (each.kind == "database" and each.action == "CONNECT" and (each.path in databases or not needed))
                or (each.kind == "schema" and each.action == "USAGE" and each.path in schemas)
                or (each.kind == "sequence" and each.action == "USAGE" and inside in writes)
                or (each.kind == "function" and inside in schemas)
                or each.action == "OWNER"
            ):
                found.add(each)
        return found

    def _groups(self, kept: set[Privilege]) -> tuple[set[str], set[str]]:
        """The groups to leave, and those to stay in: all of it is needed, or they give what is no privilege."""
        groups: dict[str, set[Privilege]] = defaultdict(set)
        for each in self.privileges:
            if each.via:
                groups[each.via].add(each)
        staying = set()
        for group, gives in groups.items():
            whole = any(each.action in _WHOLE and each in kept for each in gives)
            columns = any("(" in each.action or each.kind == "function" for each in gives & kept)
            if gives <= kept or whole or columns or group in self.blocked:
                staying.add(group)
        return set(groups) - staying, staying

    def _notes(self, kept: set[Privilege], needed: set[Privilege], staying: set[str]) -> Iterable[str]:
        beside = len(kept - needed)
        if beside:
            yield f"{beside} rights stay that no statement shows: CONNECT, USAGE, sequences and functions beside it"
        if any(each.kind == "function" and each in needed for each in self.privileges):
            yield "it calls functions: what their bodies read is in no log of statements"
        for group in sorted(staying):
            if any(each.via == group and each not in kept for each in self.privileges):
                yield f"it stays in {group}: what it needs of it cannot be given to it alone"


class Alone:
    """Judges acts by proposed privileges."""

    def __init__(self, login: Login) -> None:
        self.proposed = login

    def allows(self, deed: Deed) -> bool:
        return self.proposed.allows(deed)


def _level(each: Privilege) -> Level:
    return LEVELS.get(each.action.partition("(")[0].strip(), Level.WRITE)


def _joined(privileges: Iterable[Privilege]) -> list[str]:
    """`SELECT, UPDATE ON TABLE "a"."b"`, one for each object."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in privileges:
        found[each.object].append(each.verb)
    return [f"{', '.join(sorted(verbs))} ON {thing}" for thing, verbs in sorted(found.items())]


def _by_option(privileges: Sequence[Privilege]) -> list[tuple[str, list[Privilege]]]:
    plain = [each for each in privileges if not each.grantable]
    passing = [each for each in privileges if each.grantable]
    return [(option, part) for option, part in (("", plain), (" WITH GRANT OPTION", passing)) if part]
