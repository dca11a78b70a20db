"""What a hostile list of access rules costs, and what the evaluator makes of rules that it does not understand."""

from __future__ import annotations

from remit.inventory.connectors.ldap_access import READ, WRITE, Entry, Groups, Subject, dn_of, evaluate, rules_of
from remit.inventory.connectors.ldap_rights import Database, DatabaseRights, Naming
from remit.inventory.model import Place, Skipped
from remit.kernel.ids import name

TOP = "dc=example,dc=org"


def test_hundreds_of_unknown_clauses_stay_within_few_worlds() -> None:
    rules = list(rules_of([f'to * by set="{n}" {"+r" if n % 2 else "-w"} break' for n in range(500)]))
    verdict = evaluate(rules, Subject(), Entry(dn=dn_of(TOP) or ()), "cn")
    assert len(verdict.outcomes) <= 512


def test_too_many_rules_are_cut_short_and_that_is_said() -> None:
    text = [
        f'to dn.subtree="ou=u{n},{TOP}" attrs=a{n} '
        + " ".join(f'by dn.exact="cn=w{n}-{k},{TOP}" write' for k in range(60))
        for n in range(500)
    ]
    database = Database(
        name="db", suffix=TOP, root="", rules=tuple(rules_of(text)), groups=Groups(),
        accounts=tuple(f"cn=a{n},{TOP}" for n in range(2_000)),
    )  # fmt: skip
    naming = Naming(
        entry=lambda dn: name("ldap", "i", "entry", dn), named=lambda kind, local: name("ldap", "i", kind, local),
        place=Place(system="ldap:i", path="db"),
    )  # fmt: skip
    said = [fact.what for fact in DatabaseRights(database, naming, work=60_000).facts() if isinstance(fact, Skipped)]
    assert any(each.startswith("names in the rules") for each in said)
    assert any(each.startswith("access below") for each in said)


def test_a_directory_without_a_rule_lets_everybody_read_and_nobody_write() -> None:
    verdict = evaluate([], Subject(anonymous=True), Entry(dn=dn_of(TOP) or ()), "cn")
    assert verdict.certain & READ and not verdict.possible & WRITE
