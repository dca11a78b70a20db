"""Access rules of OpenLDAP, evaluated as slapd evaluates them, in three values: what is not known stays unknown.

`slapacl` is the judge of this file (`tests/conformance/ldap`). Never raises on a rule: what it does not understand
(sets, dynamic rules, addresses, strength of protection, patterns) may hold or may not, and both worlds are followed.

Spec: slapd.access(5), slapd-config(5); servers/slapd/acl.c of OpenLDAP 2.4 to 2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from remit.kernel.errors import Rejected
from remit.providers.ldap.names import Rdn, escape_value, same_name

MOST_RULES: Final = 500
_MOST_LINE: Final = 16_384
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*")+')

DISCLOSE, AUTH, COMPARE, SEARCH, READ, MANAGE, _WRITES, _ADDS, _DELETES = (1 << bit for bit in range(9))
# As in slapd adding and deleting share a bit: `-a` takes both away, and leaves what `+z` would bring back.
ADD: Final = _WRITES | _ADDS
DELETE: Final = _WRITES | _DELETES
WRITE: Final = ADD | DELETE
_LETTERS: Final = {"d": DISCLOSE, "x": AUTH, "c": COMPARE, "s": SEARCH, "r": READ, "a": ADD, "z": DELETE, "w": WRITE,
                   "m": MANAGE, "0": 0}  # fmt: skip
_BELOW_READ: Final = DISCLOSE | AUTH | COMPARE | SEARCH | READ
_LEVELS: Final = {
    "none": 0, "disclose": DISCLOSE, "auth": DISCLOSE | AUTH, "compare": DISCLOSE | AUTH | COMPARE,
    "search": DISCLOSE | AUTH | COMPARE | SEARCH, "read": _BELOW_READ, "write": _BELOW_READ | WRITE,
    "add": _BELOW_READ | ADD, "delete": _BELOW_READ | DELETE, "manage": _BELOW_READ | WRITE | MANAGE,
}  # fmt: skip
EVERYTHING: Final = _LEVELS["manage"]
DEFAULT: Final = _LEVELS["read"]
"""What everybody has where no rule is written at all."""

Dn: TypeAlias = tuple[Rdn, ...]
_NAMES: Final = frozenset({"cn", "sn", "givenname", "ou", "o", "l", "c", "st", "street", "title", "initials",
                           "generationqualifier", "dmdname", "knowledgeinformation"})  # fmt: skip
"""The subtypes of `name` that the usual schemas have."""
_SAME: Final = {"commonname": "cn", "surname": "sn", "gn": "givenname", "userid": "uid", "rfc822mailbox": "mail",
                "organizationname": "o", "organizationalunitname": "ou", "localityname": "l", "fax":
                "facsimiletelephonenumber", "domaincomponent": "dc", "countryname": "c"}  # fmt: skip
_CLASSES: Final = frozenset({"person", "organizationalperson", "inetorgperson", "posixaccount", "shadowaccount",
                             "groupofnames", "groupofuniquenames", "posixgroup", "top", "organizationalrole",
                             "simplesecurityobject", "account", "device", "organizationalunit"})  # fmt: skip


@lru_cache(maxsize=65_536)
def dn_of(text: str) -> Dn | None:
    """A name as slapd compares it: () for the empty one, `None` for what is no name."""
    if not text.strip():
        return ()
    try:
        return same_name(text)
    except Rejected:
        return None


def spelt(dn: Dn) -> str:
    """A name as text, in the form in which names are compared."""
    return ",".join("+".join(f"{kind}={escape_value(value)}" for kind, value in rdn) for rdn in dn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One thing that a `by` asks of the accessor."""

    kind: str
    """`any`, `anonymous`, `users`, `self`, `dn`, `group`, `dnattr` or `unknown`."""
    style: str = "exact"
    dn: Dn = ()
    attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who gets what: `mode` is `=`, `+` or `-`."""

    terms: tuple[Term, ...]
    mode: str
    mask: int
    control: str
    own: bool
    """Whether it holds for the accessor's own name as a value alone (`selfwrite`)."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """One `to … by … by …`."""

    style: str
    """`any`, `exact`, `one`, `subtree`, `children` or `regex`."""
    dn: Dn
    base: str
    """The name as it is written; empty where none is."""
    attributes: tuple[str, ...] | None
    filtered: bool
    valued: bool
    bys: tuple[By, ...]
    what: str
    number: int
    source: str = ""
    """The entry of cn=config that has it."""

    def without(self, by: By) -> str:
        """The rule as text without one of its clauses."""
        kept = [each.text for each in self.bys if each is not by] or ["by * none"]
        return " ".join([f"{{{self.number}}}to", self.what, *kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who asks: a name, nobody in particular below a base or in a group, or (`anonymous`) somebody without login."""

    dn: Dn | None = None
    anonymous: bool = False
    group: Dn | None = None
    below: Dn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is asked for; `generic` stands for every entry below `dn` that no rule names."""

    dn: Dn
    generic: bool = False
    attributes: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The privileges that may come out, each with the clause (rule, by) that gives them."""

    outcomes: Mapping[int, tuple[AccessRule, By] | None] = field(default_factory=dict)

    @property
    def certain(self) -> int:
        masks = iter(self.outcomes)
        found = next(masks, 0)
        for mask in masks:
            found &= mask
        return found

    @property
    def possible(self) -> int:
        found = 0
        for mask in self.outcomes:
            found |= mask
        return found

    def clause(self, mask: int) -> tuple[AccessRule, By] | None:
        """A clause that gives these privileges."""
        return next((clause for has, clause in self.outcomes.items() if has & mask == mask and clause), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Who is in which group; `complete` says that a group which is not here has nobody."""

    members: Mapping[Dn, frozenset[Dn]] = field(default_factory=dict)
    complete: bool = False

    def has(self, group: Dn, member: Dn) -> bool | None:
        found = self.members.get(group)
        if found is None:
            return False if self.complete else None
        return member in found


# Reading


def rules_of(values: Sequence[str], source: str = "") -> Iterator[AccessRule]:
    """The rules in their order, at most `MOST_RULES`; text that is no rule is left out."""
    for number, text in enumerate(values[:MOST_RULES]):
        text = re.sub(r"^\{-?\d+\}", "", text[:_MOST_LINE]).strip()
        words = _WORD.findall(text)
        if words[:1] != ["to"]:
            continue
        parts: list[list[str]] = [[]]
        for word in words[1:]:
            if word == "by":
                parts.append([])
            else:
                parts[-1].append(word)
        yield _rule(parts[0], tuple(_by(part) for part in parts[1:]), number, source)


def _rule(words: Sequence[str], bys: tuple[By, ...], number: int, source: str) -> AccessRule:
    style, base = "any", ""
    dn: Dn = ()
    attributes: tuple[str, ...] | None = None
    filtered = valued = False
    for word in words:
        key, sign, value = word.partition("=")
        value = value.strip('"')
        name, _, given = key.partition(".")
        if name == "dn" and sign:
            style, dn, base = _target(given, value)
        elif key in ("attrs", "attr"):
            attributes = tuple(_attribute(each) for each in value.split(",")[:500])
        elif key == "filter":
            filtered = value.replace(" ", "") not in ("(objectClass=*)", "(objectclass=*)")
        elif name.partition("/")[0] == "val":
            valued = True
    return AccessRule(
        style=style, dn=dn, base=base, attributes=attributes, filtered=filtered, valued=valued, bys=bys,
        what=" ".join(words), number=number, source=source,
    )  # fmt: skip


def _target(given: str, value: str) -> tuple[str, Dn, str]:
    if value == "*":
        return "any", (), ""
    style = _style(given)
    found = dn_of(value) if style != "regex" else ()
    return (style, found, value) if found is not None else ("regex", (), value)


def _style(given: str) -> str:
    known = {"": "exact", "exact": "exact", "base": "exact", "baseobject": "exact", "one": "one", "onelevel": "one",
             "sub": "subtree", "subtree": "subtree", "children": "children"}  # fmt: skip
    return known.get(given.lower(), "regex")


def _attribute(text: str) -> str:
    lower = text.strip().lower()
    return _SAME.get(lower, lower)


def _by(words: Sequence[str]) -> By:
    terms: list[Term] = []
    mode, mask, control, own = "+", 0, "stop", False
    for number, word in enumerate(words):
        if number and word in ("stop", "continue", "break"):
            control = word
        elif number and (access := _access(word)) is not None:
            mode, mask, own = access
        else:
            terms.append(_term(word))
    return By(terms=tuple(terms), mode=mode, mask=mask, control=control, own=own, text=" ".join(["by", *words])[:2000])


def _access(word: str) -> tuple[str, int, bool] | None:
    lower = word.lower()
    own = False
    for prefix in ("realself", "self"):
        if not own and lower != prefix and lower.startswith(prefix):
            lower, own = lower.removeprefix(prefix), True
    if lower in _LEVELS:
        return "=", _LEVELS[lower], own
    if lower[:1] in ("=", "+", "-") and set(lower[1:]) <= _LETTERS.keys():
        mask = 0
        for letter in lower[1:]:
            mask |= _LETTERS[letter]
        return lower[0], mask, own
    return None


def _term(word: str) -> Term:
    key, sign, value = word.partition("=")
    value = value.strip('"')
    key = key.removeprefix("real")
    name, _, given = key.partition(".")
    if not sign:
        if key in ("*", "anonymous", "users", "self"):
            return Term(kind={"*": "any"}.get(key, key))
        return Term(kind="unknown")
    if name == "dn":
        if value == "*" and given != "regex":
            return Term(kind="users")
        style, dn = _style(given), dn_of(value)
        if style == "exact" and dn == ():
            return Term(kind="anonymous")
        return Term(kind="dn", style=style, dn=dn) if style != "regex" and dn else Term(kind="unknown")
    if name == "dnattr":
        return Term(kind="dnattr", attribute=_attribute(value))
    if name.partition("/")[0] == "group" and given in ("", "exact", "base") and (dn := dn_of(value)):
        return Term(kind="group", dn=dn)
    return Term(kind="unknown")


# Evaluating


def evaluate(
    rules: Iterable[AccessRule], subject: Subject, entry: Entry, attribute: str, groups: Groups | None = None
) -> Verdict:
    """What `subject` may do with `attribute` (or `entry`, `children`) of `entry`."""
    known = groups if groups is not None else Groups()
    # INVARIANT: privileges fit nine bits, so there are at most 512 worlds however many rules are unknown.
    live: dict[int, tuple[AccessRule, By] | None] = {0: None}
    done: dict[int, tuple[AccessRule, By] | None] = {}
    any_rule = False
    for rule in rules:
        any_rule = True
        holds = covers(rule, entry, _attribute(attribute))
        if holds is False:
            continue
        broken = _walk(rule, subject, entry, known, dict(live), done)
        live = broken if holds else {**broken, **live}
        if not live:
            break
    if not any_rule:
        return Verdict(outcomes={DEFAULT: None})
    if live:
        done.setdefault(0, None)
    return Verdict(outcomes=done)


def _walk(
    rule: AccessRule, subject: Subject, entry: Entry, groups: Groups,
    within: dict[int, tuple[AccessRule, By] | None], done: dict[int, tuple[AccessRule, By] | None],
) -> dict[int, tuple[AccessRule, By] | None]:  # fmt: skip
    """Play the clauses of one rule; what ends here goes to `done`, what breaks out is returned."""
    broken: dict[int, tuple[AccessRule, By] | None] = {}
    for by in rule.bys:
        holds = _fits(by, subject, entry, groups)
        if holds is False:
            continue
        given = {_given(by, mask): (rule, by) if by.mask else clause for mask, clause in within.items()}
        remaining = {} if holds else within
        if by.control == "continue":
            within = {**remaining, **given}
            continue
        (broken if by.control == "break" else done).update(given)
        within = remaining
        if not within:
            return broken
    # Every list of clauses ends in `by * none stop`.
    done.setdefault(0, None)
    return broken


def _given(by: By, mask: int) -> int:
    return by.mask if by.mode == "=" else mask | by.mask if by.mode == "+" else mask & ~by.mask


def _all(values: Iterable[bool | None]) -> bool | None:
    found: bool | None = True
    for value in values:
        if value is False:
            return False
        found = None if value is None else found
    return found


def covers(rule: AccessRule, entry: Entry, attribute: str) -> bool | None:
    """Whether a rule is about this attribute of this entry; `None` where that is not known."""
    unknown: list[bool | None] = [None] if rule.filtered or rule.valued else []
    return _all((_placed(rule.style, rule.dn, entry), _named(rule.attributes, attribute), *unknown))


def _placed(style: str, dn: Dn, entry: Entry) -> bool | None:
    if style == "any":
        return True
    if style == "regex":
        return None
    if not entry.generic:
        return _related(style, dn, entry.dn)
    if not under(entry.dn, dn) or style == "exact":
        return False
    return None if style == "one" and entry.dn == dn else style != "one"


def under(dn: Dn, base: Dn) -> bool:
    """Whether `dn` is `base` or lies below it."""
    return len(dn) >= len(base) and dn[len(dn) - len(base) :] == base


def _related(style: str, base: Dn, dn: Dn) -> bool:
    if style == "exact":
        return dn == base
    if not under(dn, base):
        return False
    return {"one": len(dn) == len(base) + 1, "children": len(dn) > len(base)}.get(style, True)


def _named(listed: tuple[str, ...] | None, attribute: str) -> bool | None:
    if listed is None:
        return True
    found: bool | None = False
    for each in listed:
        if each == attribute or each in ("*", "@extensibleobject") or (each == "name" and attribute in _NAMES):
            return True
        if each[:1] in ("@", "!") or each in _CLASSES:
            found = None
    return found


def _fits(by: By, subject: Subject, entry: Entry, groups: Groups) -> bool | None:
    found = _all(_holds(term, subject, entry, groups) for term in by.terms)
    return None if by.own and found is not False else found


def _holds(term: Term, subject: Subject, entry: Entry, groups: Groups) -> bool | None:
    match term.kind:
        case "any":
            return True
        case "anonymous":
            return subject.anonymous
        case "users":
            return not subject.anonymous
        case _ if subject.anonymous:
            return None if term.kind == "unknown" else False
        case "self":
            # Who is nobody in particular asks for somebody else's entry.
            return subject.dn is not None and not entry.generic and subject.dn == entry.dn
        case "dn":
            return _is(term, subject)
        case "group":
            return _in_group(term.dn, subject, groups)
        case "dnattr":
            return _listed_in(term.attribute, subject, entry)
    return None


def _is(term: Term, subject: Subject) -> bool | None:
    if subject.dn is not None:
        return _related(term.style, term.dn, subject.dn)
    if subject.below is None:
        return None
    if under(subject.below, term.dn) and (term.style == "subtree" or term.style == "children"):
        return True
    return None if under(term.dn, subject.below) or under(subject.below, term.dn) else False


def _in_group(group: Dn, subject: Subject, groups: Groups) -> bool | None:
    if subject.dn is not None:
        return groups.has(group, subject.dn)
    return True if subject.group == group else None


def _listed_in(attribute: str, subject: Subject, entry: Entry) -> bool | None:
    if subject.dn is None or entry.attributes is None:
        return None
    return any(dn_of(value) == subject.dn for value in entry.attributes.get(attribute, ()))
