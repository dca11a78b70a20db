"""`bind` and `escalate` against an attacker who tries everything: what it gets to administer is what the edges say.

The attacker knows RBAC's own guard alone (upstream's `policybased` storages of roles and bindings): who writes a
binding needs `bind` on its role, who writes a role needs `escalate`; a role of a binding cannot be changed.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.names import EVERY, Names
from remit.inventory.connectors.kubernetes.objects import Cluster, Object, read_objects
from remit.inventory.connectors.kubernetes.reach import subject_facts
from remit.inventory.connectors.kubernetes.reading import Document
from remit.inventory.connectors.kubernetes.rules import Subject
from remit.inventory.model import EdgeFact

_RBAC = "rbac.authorization.k8s.io"
_SPACES = ("kube-system", "shop", "web")
_ALL = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
_VERBS = ("bind", "escalate", "create", "update", "patch", "get")
_KINDS = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
_PLURALS = {"Role": "roles", "ClusterRole": "clusterroles"}
_BOT = {"kind": "ServiceAccount", "name": "bot", "namespace": "ci"}
_OTHER = {"kind": "User", "name": "ann"}


class Attacker:
    """Holds bindings as (space, kind of role, its name); an empty space is the whole cluster."""

    def __init__(self, manifests: list[dict[str, Any]]) -> None:
        self.roles = {(_space(m), m["metadata"]["name"]): list(m["rules"]) for m in manifests if "rules" in m}
        self.roles["", "cluster-admin"] = [_ALL]
        self.bindings = [(_space(m), m["metadata"]["name"], m["roleRef"]) for m in manifests if "roleRef" in m]
        self.bindings.append(("", "cluster-admin", {"kind": "ClusterRole", "name": "cluster-admin"}))
        self.held = {
            (_space(m), m["roleRef"]["kind"], m["roleRef"]["name"])
            for m in manifests
            if "roleRef" in m and _BOT in m["subjects"]
        }

    def rules(self, space: str, kind: str, local: str) -> list[dict[str, Any]]:
        return self.roles.get(("" if kind == "ClusterRole" else space, local), [])

    def may(self, verb: str, resource: str, space: str, local: str) -> bool:
        for where, kind, role in self.held:
            if where in ("", space):
                for rule in self.rules(where, kind, role):
                    named = rule.get("resourceNames")
                    if {verb, "*"} & set(rule["verbs"]) and {resource, "*"} & set(rule["resources"]):
                        if not named or local in named:
                            return True
        return False

    def try_everything(self) -> None:
        before = None
        while before != (len(self.held), repr(self.roles)):
            before = (len(self.held), repr(self.roles))
            for space in ("", *_SPACES):
                self.bind(space)
                self.escalate(space)

    def bind(self, space: str) -> None:
        resource = "rolebindings" if space else "clusterrolebindings"
        for where, local in list(self.roles):
            kind = "Role" if where else "ClusterRole"
            if where in ("", space) and self.may("bind", _PLURALS[kind], space, local):
                new = self.may("create", resource, space, "")
                old = any(
                    at == space and ref == {"kind": kind, "name": local} and self.changes(resource, space, name)
                    for at, name, ref in self.bindings
                )
                if new or old:
                    self.held.add((space, kind, local))

    def escalate(self, space: str) -> None:
        resource = "roles" if space else "clusterroles"
        for where, local in list(self.roles):
            if where == space and self.may("escalate", resource, space, local) and self.changes(resource, space, local):
                self.roles[where, local] = [_ALL]
        if space and self.may("escalate", "roles", space, "new") and self.may("create", "roles", space, ""):
            self.roles[space, "new"] = [_ALL]

    def changes(self, resource: str, space: str, local: str) -> bool:
        return self.may("update", resource, space, local) or self.may("patch", resource, space, local)

    def administers(self) -> set[str]:
        self.try_everything()
        return {space for space, kind, local in self.held if _ALL in self.rules(space, kind, local)}


def _space(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"].get("namespace", ""))


def _rule(dice: random.Random, names: list[str]) -> dict[str, Any]:
    verbs = dice.sample(_VERBS, dice.randint(1, 3))
    rule = {"apiGroups": [_RBAC], "resources": dice.sample(_KINDS, dice.randint(1, 2)), "verbs": verbs}
    return {**rule, "resourceNames": dice.sample(names, 2)} if dice.random() < 0.35 else rule


def _manifests(dice: random.Random) -> list[dict[str, Any]]:
    names = ["c0", "c1", "c2", "r0", "r1", "cluster-admin", "b0", "b1", "b2"]
    made: list[dict[str, Any]] = []
    for space in ("", *_SPACES):
        for number in range(dice.randint(1, 3)):
            meta = {"name": f"{'r' if space else 'c'}{number}", **({"namespace": space} if space else {})}
            rules = [_rule(dice, names) for _ in range(dice.randint(1, 3))]
            made.append({"kind": "Role" if space else "ClusterRole", "metadata": meta, "rules": rules})
    for number in range(dice.randint(2, 6)):
        space = dice.choice(("", *_SPACES))
        kind = "Role" if space and dice.random() < 0.5 else "ClusterRole"
        made.append(
            {
                "kind": "RoleBinding" if space else "ClusterRoleBinding",
                "metadata": {"name": f"b{number}", **({"namespace": space} if space else {})},
                "roleRef": {"kind": kind, "name": f"{'r' if kind == 'Role' else 'c'}{dice.randint(0, 2)}"},
                "subjects": [dice.choice((_BOT, _BOT, _OTHER))],
            }
        )
    return made


def _said(manifests: list[dict[str, Any]]) -> set[str]:
    cluster = Cluster()
    for body in manifests:
        for item in read_objects(Document("all.yaml", 1, {"apiVersion": f"{_RBAC}/v1", **body})):
            assert isinstance(item, Object)
            cluster.add(item)
    names = Names("c1")
    scopes = {names.admin(space): space for space in (EVERY, *_SPACES)}
    facts = subject_facts(Estate(cluster, names), Subject("ServiceAccount", "ci", "bot"))
    return {
        scopes[fact.target]
        for fact in facts
        if isinstance(fact, EdgeFact) and fact.target in scopes and not fact.conditions
    }


@pytest.mark.parametrize("block", range(10))
def test_the_edges_say_what_the_attacker_gets(block: int) -> None:
    some = none = 0
    for seed in range(block * 100, block * 100 + 100):
        manifests = _manifests(random.Random(seed))
        gets, said = Attacker(manifests).administers(), _said(manifests)
        everywhere = "" in gets or gets >= set(_SPACES)
        spaces = set(_SPACES) if everywhere else gets
        told = set(_SPACES) if EVERY in said else said - {EVERY}
        assert told == spaces, (seed, gets, said)
        assert EVERY in said or "" not in gets, (seed, gets, said)
        some, none = some + bool(gets), none + (not gets)
    assert some > 10, "an attacker who never gets anything proves nothing"
    assert none > 10
