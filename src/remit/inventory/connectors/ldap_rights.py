"""Who reaches which part of an OpenLDAP database, and whose password may be set: edges from the evaluated rules.

A class of accessors (a group, everybody logged in) has an edge without conditions where every one of its members has
the right, whatever the rules say of some of them by name; where only some may have it the edge is conditional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.inventory.connectors.files.sheet import clean
from remit.inventory.connectors.ldap_access import (
    EVERYTHING,
    MANAGE,
    MOST_RULES,
    READ,
    WRITE,
    AccessRule,
    By,
    Dn,
    Entry,
    Groups,
    Subject,
    Verdict,
    covers,
    dn_of,
    evaluate,
    spelt,
    under,
)
from remit.inventory.model import (
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Severity,
    Skipped,
)
from remit.kernel.ids import Name

EVERYBODY: Final = "everybody logged in"
ANONYMOUS: Final = "anonymous"
PASSWORD: Final = "userpassword"
UNSURE: Final = "a rule that names somebody, or is not evaluated in full, may hold instead"
_ANYTHING: Final = "*"
_MOST_SUBJECTS: Final = 300
_MOST_BASES: Final = 200
_MOST_ATTRIBUTES: Final = 30
_MOST_EDGES: Final = 100_000
_MOST_WORK: Final = 3_000_000
"""Clauses looked at for one database: some ten seconds."""
_LEVELS: Final = (("manage", MANAGE | WRITE), ("write", WRITE), ("read", READ))


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database of cn=config: its rules with those of the frontend after them, and what is known of its entries."""

    name: str
    suffix: str
    root: str
    rules: tuple[AccessRule, ...]
    groups: Groups
    accounts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How the connector calls things."""

    entry: Callable[[str], Name]
    named: Callable[[str, str], Name]
    place: Place


class DatabaseRights:
    """The edges of one database."""

    def __init__(self, database: Database, naming: Naming, *, work: int = _MOST_WORK) -> None:
        """`work` bounds the clauses that are looked at, once for subtrees and once for passwords."""
        self._database = database
        self._naming = naming
        self._suffix = dn_of(database.suffix) or ()
        self._subjects: dict[Name, Subject] = {}
        self._titles: dict[Name, str] = {}
        self._attributes = self._listed_attributes()
        self._most = self._work = work

    def facts(self) -> Iterator[Fact]:
        """Nodes of the classes and subtrees, edges, findings, and what was left out."""
        yield from self._collect()
        if len(self._database.rules) >= MOST_RULES:
            yield Skipped(what=f"access rules of {clean(self._database.suffix)}", reason="too-large",
                          detail=f"after {MOST_RULES} rules")  # fmt: skip
        for node, title in self._titles.items():
            yield IdentityFact(name=node, kind=IdentityKind.GROUP, title=f"{title} of the directory",
                               place=self._naming.place)  # fmt: skip
        yield from self._classes()
        for base, entry in self._bases():
            if self._work < 0:
                break
            target = self._tree(base)
            yield target
            yield from self._below(base, entry, target)
        yield from self._passwords()

    # Who and what

    def _collect(self) -> Iterator[Fact]:
        """The subjects that the rules tell apart."""
        self._subject(self._naming.named("group", ANONYMOUS), Subject(anonymous=True), ANONYMOUS)
        self._subject(self._naming.named("group", EVERYBODY), Subject(), EVERYBODY)
        for rule in self._database.rules:
            for by in rule.bys:
                for term in by.terms:
                    if not term.dn:
                        continue
                    if len(self._subjects) >= _MOST_SUBJECTS:
                        yield Skipped(what=f"names in the rules of {clean(self._database.suffix)}", reason="too-large",
                                      detail=f"after {_MOST_SUBJECTS}")  # fmt: skip
                        return
                    text = spelt(term.dn)
                    if term.kind == "group":
                        self._subject(self._naming.entry(text), Subject(group=term.dn))
                    elif term.kind == "dn" and term.style == "exact":
                        self._subject(self._naming.entry(text), Subject(dn=term.dn))
                    elif term.kind == "dn":
                        title = f"entries below {clean(text, 200)}"
                        self._subject(self._naming.named("group", title), Subject(below=term.dn), title)

    def _subject(self, node: Name, subject: Subject, title: str = "") -> None:
        self._subjects.setdefault(node, subject)
        if title:
            self._titles[node] = title

    def _listed_attributes(self) -> list[str]:
        found = dict.fromkeys(
            each for rule in self._database.rules for each in rule.attributes or ()
            if each[:1] not in ("@", "!") and each not in ("entry", "children", "*", PASSWORD)
        )  # fmt: skip
        return [_ANYTHING, PASSWORD, *list(found)[:_MOST_ATTRIBUTES]]

    def _bases(self) -> Iterator[tuple[str, Entry]]:
        """The suffix, and every part of the database that a rule names."""
        seen: set[tuple[Dn, bool]] = {(self._suffix, True)}
        yield self._database.suffix, Entry(dn=self._suffix, generic=True)
        for rule in self._database.rules:
            generic = rule.style != "exact"
            if rule.dn and under(rule.dn, self._suffix) and (rule.dn, generic) not in seen and len(seen) < _MOST_BASES:
                seen.add((rule.dn, generic))
                yield rule.base, Entry(dn=rule.dn, generic=generic)

    def _classes(self) -> Iterator[EdgeFact]:
        """Who belongs to a class: everybody who logs in, and every account below a base."""
        everybody = self._naming.named("group", EVERYBODY)
        yield self._edge(everybody, Relation.ASSUME, self._naming.named("group", ANONYMOUS),
                         "whoever logs in can also ask without")  # fmt: skip
        for node, subject in self._subjects.items():
            if node != everybody and not subject.anonymous:
                yield self._edge(node, Relation.MEMBER_OF, everybody, "it logs in")
        below = [(node, subject.below) for node, subject in self._subjects.items() if subject.below is not None]
        for account in self._database.accounts:
            dn, node = dn_of(account), self._naming.entry(account)
            if node not in self._subjects:
                yield self._edge(node, Relation.MEMBER_OF, everybody, "it logs in")
            for group, base in below:
                if dn is not None and under(dn, base):
                    yield self._edge(node, Relation.MEMBER_OF, group, "where its entry stands")

    def _tree(self, base: str) -> ResourceFact:
        text = base or "the whole directory"
        node = self._naming.named("subtree", clean(spelt(dn_of(base) or ()), 500) or text)
        return ResourceFact(name=node, kind="subtree", title=clean(text), place=self._naming.place)

    # Rights

    def _about(self, entry: Entry, attribute: str) -> tuple[AccessRule, ...]:
        """The rules that are, or may be, about this attribute of this entry."""
        self._work -= len(self._database.rules)
        return tuple(rule for rule in self._database.rules if covers(rule, entry, attribute) is not False)

    def _ask(self, subject: Subject, entry: Entry, attribute: str, rules: Sequence[AccessRule]) -> Verdict:
        if subject.dn is not None and subject.dn == dn_of(self._database.root):
            return Verdict(outcomes={EVERYTHING: None})
        self._work -= 1 + sum(1 + len(rule.bys) for rule in rules)
        if not rules and self._database.rules:
            return Verdict(outcomes={0: None})
        return evaluate(rules, subject, entry, attribute, self._database.groups)

    def _below(self, base: str, entry: Entry, target: ResourceFact) -> Iterator[EdgeFact | FindingFact | Skipped]:
        about = {each: self._about(entry, each) for each in ("entry", *self._attributes)}
        for node, subject in self._subjects.items():
            if self._work < 0:
                yield Skipped(what=f"access below {clean(base)}", reason="too-large",
                              detail=f"after {self._most:,} clauses")  # fmt: skip
                return
            verdicts = {each: self._ask(subject, entry, each, rules) for each, rules in about.items()}
            yield from self._reach(node, target, verdicts)
            if subject.anonymous:
                yield from self._open(verdicts, base, node)

    def _reach(self, node: Name, target: ResourceFact, verdicts: Mapping[str, Verdict]) -> Iterator[EdgeFact]:
        certain = _actions({key: each.certain for key, each in verdicts.items()})
        possible = _actions({key: each.possible for key, each in verdicts.items()})
        attributes = [each for key, each in verdicts.items() if key != "entry"]
        if certain:
            clause = _clause_of(attributes, certain=True)
            yield self._edge(node, Relation.CAN_REACH, target.name, _evidence(clause), actions=certain,
                             cut=self._cut(clause))  # fmt: skip
        if more := [each for each in possible if each not in certain]:
            clause = _clause_of(attributes, certain=False)
            yield self._edge(node, Relation.CAN_REACH, target.name, _evidence(clause), actions=more,
                             conditions=[UNSURE], cut=self._cut(clause))  # fmt: skip

    def _open(self, verdicts: Mapping[str, Verdict], base: str, node: Name) -> Iterator[FindingFact]:
        certain = _actions({key: each.certain for key, each in verdicts.items()})
        writes = any(each.split()[0] in ("write", "manage") for each in certain)
        reads = verdicts[PASSWORD].certain & READ
        if writes or reads:
            yield FindingFact(
                rule="ldap.open-access", severity=Severity.CRITICAL, place=self._naming.place, subject=node,
                title=clean(f"anybody may {'write' if writes else 'read passwords of'} {base}"),
                detail=clean(", ".join(certain), 500), next_step="name who may: by dn.exact=… write by * none",
            )  # fmt: skip

    def _passwords(self) -> Iterator[Fact]:
        """Who may set the password of an account is the account; who reads its hash may guess it."""
        told: dict[tuple[tuple[int, str, bool | None], ...], dict[Name, Verdict]] = {}
        count = 0
        self._work = self._most
        for account in self._database.accounts:
            dn = dn_of(account)
            if dn is None or not under(dn, self._suffix):
                continue
            # Accounts that the same rules cover are alike for everybody but themselves.
            entry = Entry(dn=dn)
            about = self._about(entry, PASSWORD)
            # A rule that holds is not like one that may: the numbers of both tell accounts apart.
            alike = tuple((rule.number, rule.source, covers(rule, entry, PASSWORD)) for rule in about)
            if alike not in told:
                told[alike] = {node: self._ask(who, entry, PASSWORD, about) for node, who in self._others(dn)}
            mine = self._naming.entry(account)
            for node, verdict in told[alike].items():
                if node == mine:
                    continue
                for edge in self._password(node, mine, verdict):
                    count += 1
                    yield edge
            if count > _MOST_EDGES or self._work < 0:
                yield Skipped(what="who may set which password", reason="too-large",
                              detail=f"after {count:,} edges")  # fmt: skip
                return

    def _others(self, account: Dn) -> Iterator[tuple[Name, Subject]]:
        """Everybody; an account asked in another's place would be itself, and is asked as nobody in particular."""
        for node, subject in self._subjects.items():
            yield node, Subject(below=subject.dn) if subject.dn == account else subject

    def _password(self, node: Name, account: Name, verdict: Verdict) -> Iterator[EdgeFact]:
        if verdict.possible & WRITE == WRITE:
            certain = verdict.certain & WRITE == WRITE
            clause = verdict.clause(WRITE)
            yield self._edge(node, Relation.IMPERSONATE, account, f"may set its password: {_evidence(clause)}",
                             actions=["write userPassword"], conditions=[] if certain else [UNSURE],
                             cut=self._cut(clause))  # fmt: skip
        elif verdict.possible & READ:
            conditions = ["the password is guessed from its hash"]
            clause = verdict.clause(READ)
            yield self._edge(node, Relation.IMPERSONATE, account, f"may read its password's hash: {_evidence(clause)}",
                             actions=["read userPassword"], cut=self._cut(clause),
                             conditions=conditions if verdict.certain & READ else [*conditions, UNSURE])  # fmt: skip

    # Words

    def _cut(self, clause: tuple[AccessRule, By] | None) -> str:
        """LDIF, its lines parted by ` | `, that takes the clause out of its rule."""
        if clause is None:
            return ""
        rule, by = clause
        lines = (
            f"dn: {rule.source or self._database.name}", "changetype: modify", "delete: olcAccess",
            f"olcAccess: {{{rule.number}}}", "-", "add: olcAccess", f"olcAccess: {rule.without(by)}",
        )  # fmt: skip
        return " | ".join(lines)

    def _edge(
        self, source: Name, relation: Relation, target: Name, evidence: str, *, actions: Iterable[str] = (),
        conditions: Iterable[str] = (), cut: str = "",
    ) -> EdgeFact:  # fmt: skip
        return EdgeFact(
            source=source, relation=relation, target=target, evidence=clean(evidence, 500), place=self._naming.place,
            actions=tuple(clean(each) for each in actions), conditions=tuple(conditions), cut=clean(cut, 4_000),
        )  # fmt: skip


def _actions(masks: Mapping[str, int]) -> list[str]:
    """`read`, `write` and `manage` of everything, then of attributes that differ; reading takes sight of the entry."""
    seen = masks["entry"]
    general = _level(masks[_ANYTHING], seen)
    found = [general] if general else []
    for attribute, mask in masks.items():
        level = _level(mask, seen)
        if attribute not in (_ANYTHING, "entry") and level and level != general:
            found.append(f"{level} {attribute}")
    return found


def _level(mask: int, seen: int) -> str:
    for word, bits in _LEVELS:
        if mask & bits == bits and (word != "read" or seen & READ):
            return word
    return ""


def _clause_of(verdicts: Iterable[Verdict], *, certain: bool) -> tuple[AccessRule, By] | None:
    listed = list(verdicts)
    for _, bits in _LEVELS:
        for verdict in listed:
            has = verdict.certain if certain else verdict.possible
            if has & bits == bits and (clause := verdict.clause(bits)):
                return clause
    return None


def _evidence(clause: tuple[AccessRule, By] | None) -> str:
    if clause is None:
        return "no rule forbids it"
    rule, by = clause
    return f"olcAccess {{{rule.number}}}to {rule.what} {by.text}"
