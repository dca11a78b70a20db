"""Lines of `pg_hba.conf` that trust, and what an earlier line does to them."""

from __future__ import annotations

import pytest

from remit.inventory.connectors.postgres_nodes import Nodes
from remit.inventory.connectors.postgres_paths import Roles, Standing
from remit.inventory.model import EdgeFact
from remit.providers.postgres.access_lists import Cluster, RoleRow, Thing
from remit.providers.postgres.catalogue import HbaRule

APP = RoleRow(oid=20_000, name="app", superuser=False, inherits=True, create_role=False, can_login=True,
              replication=False, bypass_rls=False, system=False)  # fmt: skip
DATABASE = Thing(kind="database", oid=5, name="orders", owner=20_000, acl=None, facts={"connect": True})
CLUSTER = Cluster(version=160000, roles=(APP,), memberships=(), databases=(DATABASE,))


def rule(line: int, method: str, address: str, user: str = "all", database: str = "all", type: str = "host") -> HbaRule:
    return HbaRule(line=line, type=type, databases=(database,), users=(user,), address=address, method=method)


def admitted(*rules: HbaRule) -> list[EdgeFact]:
    facts = Roles(Nodes("i"), CLUSTER).facts(Standing(cluster=CLUSTER, rules=rules))
    return [fact for fact in facts if isinstance(fact, EdgeFact) and "pg_hba.conf admits" in fact.evidence]


TRUST = rule(2, "trust", "10.0.0.0/255.0.0.0")


@pytest.mark.parametrize(
    ("earlier", "conditional"),
    [
        (rule(1, "reject", "10.1.0.0/255.255.0.0"), True),
        (rule(1, "reject", "all"), True),
        (rule(1, "reject", "192.168.0.0/255.255.0.0"), False),
        (rule(1, "reject", "", type="local"), False),
        (rule(1, "reject", "all", database="replication"), False),
    ],
)
def test_an_earlier_line_that_may_hold_makes_it_conditional(earlier: HbaRule, conditional: bool) -> None:
    [edge] = admitted(earlier, TRUST)
    assert bool(edge.conditions) is conditional
    assert edge.source.endswith("anyone%20from%2010.0.0.0/8") or "10.0.0.0" in edge.source


def test_a_line_for_another_role_admits_nobody_else() -> None:
    assert admitted(rule(1, "trust", "all", user="other")) == []


def test_a_database_that_does_not_exist_admits_nobody() -> None:
    assert admitted(rule(1, "trust", "all", database="elsewhere")) == []
