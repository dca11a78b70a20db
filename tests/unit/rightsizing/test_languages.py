"""Proposals in single languages: what goes, what stays though no log shows it, and what is said."""

from __future__ import annotations

from datetime import UTC, datetime

from remit.governance.rightsizing.languages.kubernetes import Account, Grant
from remit.governance.rightsizing.languages.postgres import Login, Privilege
from remit.governance.rightsizing.languages.redis import User
from remit.governance.rightsizing.replay import replay
from remit.inventory.use.model import UNCLEAR, Deed
from remit.kernel.ids import name

_NOW = datetime(2026, 11, 1, tzinfo=UTC)


def _deed(action: str, resource: str = "", *, count: int = 1, refused: int = 0, wide: bool = False) -> Deed:
    me = name("postgres", "x", "role", "app")
    return Deed(
        name=me, action=action, resource=resource, count=count, refused=refused, first=_NOW, last=_NOW, wide=wide
    )


def _privilege(action: str, path: str, kind: str = "table", via: str = "") -> Privilege:
    return Privilege(kind=kind, path=path, action=action, via=via)


def test_a_group_that_gives_too_much_is_left_and_what_is_used_given() -> None:
    login = Login("app", [_privilege(action, "db.s.t", via="rw") for action in ("SELECT", "DELETE")])
    draft, _ = login.draft([_deed("SELECT", "db.s.t")])
    assert draft.commands == ('GRANT SELECT ON TABLE "s"."t" TO "app"', 'REVOKE "rw" FROM "app"')
    assert draft.inverse == ('GRANT "rw" TO "app"', 'REVOKE SELECT ON TABLE "s"."t" FROM "app"')


def test_a_group_that_gives_more_than_privileges_is_not_left() -> None:
    login = Login(
        "app", [_privilege("SELECT", "db.s.t", via="rw"), _privilege("DELETE", "db.s.t", via="rw")], blocked=["rw"]
    )
    assert login.draft([_deed("SELECT", "db.s.t")])[0].commands == ()


def test_sequences_beside_what_is_written_stay() -> None:
    login = Login("app", [_privilege("INSERT", "db.s.t"), _privilege("USAGE", "db.s.t_id_seq", "sequence"),
                          _privilege("USAGE", "db.s", "schema"), _privilege("USAGE", "db.other", "schema")])  # fmt: skip
    draft, _ = login.draft([_deed("INSERT", "db.s.t")])
    assert draft.commands == ('REVOKE USAGE ON SCHEMA "other" FROM "app"',)


def test_hostile_names_are_quoted() -> None:
    login = Login('a"; --', [_privilege("SELECT", 'db.s.t"; DROP TABLE x; --'), _privilege("SELECT", "db.s.u")])
    draft, _ = login.draft([_deed("SELECT", "db.s.u")])
    assert draft.commands == ('REVOKE SELECT ON TABLE "s"."t""; DROP TABLE x; --" FROM "a""; --"',)


def test_what_could_not_be_read_is_not_proven() -> None:
    login = Login("app", [_privilege("SELECT", "db.s.t")])
    deeds = [_deed("SELECT", "db.s.t", count=5), _deed(UNCLEAR, "db", count=2)]
    done = replay(deeds, login, login.draft(deeds)[1], beyond=3)
    assert not done.proven
    assert done.said == (
        "0 of 5 observed calls would be refused; 3 were beyond the bound and are not replayed;"
        " 2 could not be read and are not replayed: not proven"
    )


def test_a_proposal_that_takes_too_much_is_caught_by_the_replay() -> None:
    login = Login("app", [_privilege("SELECT", "db.s.t"), _privilege("DELETE", "db.s.t")])
    done = replay([_deed("SELECT", "db.s.t", count=7)], login, Login("app", [_privilege("DELETE", "db.s.t")]))
    assert (done.refusals, done.proven) == (7, False)


def test_a_cluster_wide_right_becomes_roles_where_it_is_used() -> None:
    holding = Account("ServiceAccount", "shop", "web", [Grant(namespace="*", group="*", resource="*", verb="*")])
    deeds = [_deed("get core/configmaps", "shop/settings"), _deed("list core/pods", "shop/")]
    draft, judge = holding.draft(deeds)
    assert {(each.namespace, each.resource, each.verb, each.name) for each in judge.grants} == {
        ("shop", "configmaps", "get", "settings"), ("shop", "pods", "get", ""), ("shop", "pods", "list", ""),
        ("shop", "pods", "watch", ""),
    }  # fmt: skip
    assert "kind: Role\n" in draft.texts[0].after and "ClusterRole" not in draft.texts[0].after


def test_a_user_of_redis_keeps_the_commands_that_it_was_seen_with() -> None:
    user = User("cache", ["+@all"], ["~*"], ["&*"])
    draft, judge = user.draft([_deed("get"), _deed("config|get")])
    assert judge.allows(_deed("get")) and not judge.allows(_deed("flushall"))
    assert "+@all" not in draft.texts[0].after


def test_what_was_joined_keeps_every_grant_that_it_may_have_rested_on() -> None:
    grants = [Grant(namespace=space, group="", resource="secrets", verb="get", name=local)
              for space in ("a", "b") for local in ("x", "y")]  # fmt: skip
    holding = Account("ServiceAccount", "a", "web", grants)
    _, judge = holding.draft([_deed("get core/secrets", "a/*", wide=True)])
    assert {(each.namespace, each.name) for each in judge.grants} == {("a", "x"), ("a", "y")}
    assert holding.draft([_deed("get core/secrets", "*", wide=True)])[1].grants == holding.grants
