"""A certificate with any part changed, a graph that is too large for the time, and names that are commands."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from remit.governance.pathproof import certificate
from remit.governance.pathproof.certificate import entry_data
from remit.governance.pathproof.examine import Examiner
from remit.governance.pathproof.model import Guard, GuardKind, Policy, Report, Status, Verdict
from remit.governance.rightsizing.languages.aws import principal_of
from remit.inventory.graph import cuts
from remit.inventory.graph.access_graph import AccessGraph
from remit.inventory.graph.cuts import cheapest_cut, plain_pricing
from remit.inventory.graph.model import Category, Edge, Node
from remit.inventory.graph.paths import reaching
from remit.inventory.model import Relation
from remit.kernel.canonical import canonical
from remit.kernel.errors import Rejected, RemitError
from remit.kernel.ids import name
from remit.ledger.checkpoint import verify_checkpoint
from remit.ledger.merkle import InclusionProof, leaf_hash
from remit.ledger.note import Ed25519Signer, sign_note
from remit.ledger.proofs import inclusion_bundle
from remit.wiring.pathproof_facts import one_name_each

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
KEY = Ed25519Signer.from_seed("log.test", bytes(range(32)))


def _report(guards: int = 0) -> Report:
    verdict = Verdict(
        resources=("t",), titles=("t",), status=Status.DECIDED, decided=1, excepted=0, open=0, conditional=0
    )
    policy = Policy(digest="sha256:0", version="pv_1", proved=("path-proof: x",), failed=(), solver="z3")
    return Report(
        scope="resource:t", now=NOW, verdicts=(verdict,), policy=policy, graph={"digest": "sha256:1", "nodes": 3},
        guards=(), excuses=(), counts={each.value: int(each is Status.DECIDED) for each in Status},
    )  # fmt: skip


def _file() -> dict[str, Any]:
    import base64

    said = certificate.content(_report(), installation="i")
    entry = canonical({"type": certificate.ENTRY, "data": entry_data(said)})
    text = f"{KEY.key.name}\n1\n{base64.b64encode(leaf_hash(entry)).decode()}\n".encode()
    checkpoint = verify_checkpoint(sign_note(text, KEY), KEY.key)
    bundle = inclusion_bundle(InclusionProof(index=0, size=1, hashes=()), checkpoint)
    data = certificate.write_file(said, note=certificate.note_over(said, KEY), entry=entry, bundle=bundle.decode())
    found: dict[str, Any] = msgspec.json.decode(data)
    return found


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _places(value[key], (*path, key))


def test_a_certificate_with_any_field_changed_or_gone_does_not_verify() -> None:
    whole = _file()
    assert certificate.verify_file(msgspec.json.encode(whole), KEY.key, now=NOW)
    others: tuple[Any, ...] = (None, -1, 1.5, 2**70, "other", [], {"a": 1.5}, ...)
    for path in _places(whole):
        for other in others:
            changed = copy.deepcopy(whole)
            inside = changed
            for key in path[:-1]:
                inside = inside[key]
            if inside[path[-1]] == other:
                continue
            if other is ...:
                del inside[path[-1]]
            else:
                inside[path[-1]] = other
            with pytest.raises(RemitError):
                certificate.verify_file(msgspec.json.encode(changed), KEY.key, now=NOW)


@pytest.mark.parametrize("part", ["note", "bundle"])
def test_a_certificate_with_any_byte_of_its_proofs_changed_does_not_verify(part: str) -> None:
    whole = _file()
    for at, letter in enumerate(whole[part]):
        changed = {**whole, part: whole[part][:at] + chr((ord(letter) + 1) % 128) + whole[part][at + 1 :]}
        with pytest.raises(RemitError):
            certificate.verify_file(msgspec.json.encode(changed), KEY.key, now=NOW)


def test_a_certificate_of_another_installation_or_scope_does_not_verify() -> None:
    data, other = msgspec.json.encode(_file()), Ed25519Signer.from_seed("log.test", bytes(32))
    with pytest.raises(RemitError):
        certificate.verify_file(data, other.key, now=NOW)
    assert certificate.verify_file(data, KEY.key, now=NOW, scope="resource:t")
    with pytest.raises(Rejected) as caught:
        certificate.verify_file(data, KEY.key, now=NOW, scope="class:restricted")
    assert caught.value.code == "governance.proof.mismatch"


def test_a_certificate_that_is_nested_without_end_is_refused() -> None:
    deep = b'{"v":1,"certificate":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b',"note":"","entry":"","bundle":""}'
    with pytest.raises(Rejected):
        certificate.verify_file(deep, KEY.key, now=NOW)


def test_what_the_ledger_keeps_of_it_is_an_entry_whatever_its_guards_are_called() -> None:
    said = certificate.content(_report(), installation="i")
    said["guards"] = [{"node": "ü" * 900 + str(at), "kind": "target", "why": ""} for at in range(400)]
    assert len(canonical(entry_data(said))) < 60_000


# Too large for the time


def _graph() -> AccessGraph:
    nodes = [Node(name=f"n{at}", category=Category.IDENTITY, kind="bot", title="") for at in range(30)]
    nodes.append(Node(name="t", category=Category.RESOURCE, kind="table", title="t"))
    edges = [
        Edge(source=f"n{at}", relation=Relation.ASSUME, target=f"n{at + 1 + step}", cut=f"c{at}")
        for at in range(29) for step in (0, 1) if at + 1 + step < 30
    ]  # fmt: skip
    edges += [Edge(source=f"n{at}", relation=Relation.CAN_REACH, target="t", cut=f"REVOKE {at}") for at in (28, 29)]
    return AccessGraph.build(nodes, edges)


def _examine(**more: Any) -> tuple[Verdict, Examiner]:
    examiner = Examiner(graph=_graph(), guards=(), excuses=(), unmeasured={}, pricing=plain_pricing(), **more)
    (found,) = examiner.examine(["t"])
    return found, examiner


def test_what_there_was_no_time_for_is_unmeasured_and_said() -> None:
    found, examiner = _examine(overdue=lambda: True)
    assert found.status is Status.UNMEASURED and "no time" in examiner.cut_short


def test_without_time_for_cuts_everything_open_is_still_told() -> None:
    found, _ = _examine(hurry=lambda: True)
    assert (found.status, found.open) == (Status.OPEN, 30)
    assert found.cut is not None and not found.cut.possible and "no time" in found.cut.note
    assert found.openings


def test_a_cut_without_time_is_the_last_steps_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _graph()
    monkeypatch.setattr(cuts, "MOST_ARCS", 2)
    end = graph.position("t")
    found = cheapest_cut(graph, [graph.position("n0")], [end], pricing=plain_pricing())
    assert found.possible and not found.cheapest and "last steps" in found.note
    gone = {id(each.edge) for each in found.edges}
    left = reaching(graph, [end], barred=lambda at: id(graph.edges[at]) in gone)
    assert set(left.distance) == {end}


# Names


def test_a_name_in_a_file_is_no_part_of_a_command() -> None:
    user = {
        "UserName": "me$(reboot)", "UserId": "x", "Path": "/", "Arn": "arn:aws:iam::111122223333:user/me$(reboot)",
        "AttachedManagedPolicies": [], "GroupList": [], "UserPolicyList": [{
            "PolicyName": "p; rm -rf ~", "PolicyDocument": {"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}}],
    }  # fmt: skip
    details = {"UserDetailList": [user], "RoleDetailList": [], "GroupDetailList": [], "Policies": []}
    found = principal_of(details, user["Arn"])  # type: ignore[arg-type]
    assert found is not None
    draft, _ = found.draft([])
    for each in (*draft.commands, *draft.inverse):
        assert "rm -rf" not in each.replace("'p; rm -rf ~'", "") and "$(" not in each.replace("'me$(reboot)'", "")


# Whose login it is


class _Names:
    """A unit of work that knows names alone."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.inventory = self
        self._names = names

    def names_of_all(self, identities: set[str]) -> dict[str, list[str]]:
        return {each: self._names[each] for each in identities if each in self._names}


def test_who_was_given_the_name_of_our_login_is_not_trusted_for_it() -> None:
    names: dict[str, list[str]] = {
        "id_admin": [name("postgres", "10.0.0.5:5432", "role", "adm"), name("postgres", "sys-1", "role", "adm")],
        "id_eve": [name("postgres", "10.0.0.5:5432", "role", "adm2"), name("aws", "1", "user", "eve")],
    }
    guards = [Guard(node=each, kind=GuardKind.TARGET, why="our own login") for each in (*names, "urn:x")]
    kept, refused = one_name_each(_Names(names), guards)
    assert [each.node for each in kept] == ["id_admin", "urn:x"] and len(refused) == 1


@pytest.mark.parametrize(("kind", "status"), [(GuardKind.ENFORCER, Status.DECIDED), (GuardKind.TARGET, Status.OPEN)])
def test_who_reaches_our_own_login_asked_nobody(kind: GuardKind, status: Status) -> None:
    nodes = [Node(name=each, category=Category.IDENTITY, kind="bot", title=each) for each in ("eve", "adm")]
    nodes.append(Node(name="t", category=Category.RESOURCE, kind="table", title="t"))
    edges = [Edge(source=s, relation=Relation.CAN_REACH, target=t) for s, t in (("eve", "adm"), ("adm", "t"))]
    examiner = Examiner(
        graph=AccessGraph.build(nodes, edges), guards=[Guard(node="adm", kind=kind, why="")], excuses=(), unmeasured={},
        pricing=plain_pricing(),
    )  # fmt: skip
    assert examiner.examine(["t"])[0].status is status
