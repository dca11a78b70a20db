"""Laboratories: one small cluster for each way up, and beside it the same cluster where the way is closed.

`bot` of namespace ci is who was compromised; namespace shop holds what it wants. A way is *sure* without conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent, indent

import pytest

from remit.inventory.graph import AccessGraph, Blast, blast, graph_from_facts
from remit.inventory.model import EdgeFact, Fact, FindingFact, IdentityFact, Skipped
from remit.kernel.ids import Name, name

Discover = Callable[..., list[Fact]]


def _name(kind: str, local: str) -> Name:
    return name("kubernetes", "c1", kind, local)


_BOT = _name("serviceaccount", "ci/bot")
_VICTIM = _name("serviceaccount", "shop/victim")
_SECRET = _name("secret", "shop/db")
_API = _name("deployment", "shop/api")
_ADMIN = _name("admin", "*")
_NODES = _name("every-node", "*")
_RBAC = "rbac.authorization.k8s.io"
_ESTATE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {LABELS}}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: bot, namespace: ci}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: victim, namespace: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData: {password: pw-of-shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec: {template: {spec: {serviceAccountName: victim, containers: [{name: a}]}}}
---
"""


def _rule(group: str, resource: str, verbs: str, names: str = "") -> str:
    limited = f", resourceNames: [{names}]" if names else ""
    return f'- {{apiGroups: ["{group}"], resources: [{resource}], verbs: [{verbs}]{limited}}}\n'


def _grant(*rules: str, namespace: str = "shop", number: int = 1, whom: str = "") -> str:
    """A role with these rules, bound to `bot`: in `namespace`, or everywhere where it is empty."""
    kind = "Role" if namespace else "ClusterRole"
    within = f", namespace: {namespace}" if namespace else ""
    who = whom or "{kind: ServiceAccount, name: bot, namespace: ci}"
    return (
        f"apiVersion: {_RBAC}/v1\nkind: {kind}\nmetadata: {{name: r{number}{within}}}\n"
        f"rules:\n{indent(''.join(rules), '  ')}---\n"
        f"apiVersion: {_RBAC}/v1\nkind: {kind}Binding\nmetadata: {{name: b{number}{within}}}\n"
        f"roleRef: {{kind: {kind}, name: r{number}}}\nsubjects: [{who}]\n---\n"
    )


def _bound(role: str, *, namespace: str = "", number: int = 9, whom: str = "") -> str:
    kind, within = ("RoleBinding", f", namespace: {namespace}") if namespace else ("ClusterRoleBinding", "")
    who = whom or "{kind: ServiceAccount, name: bot, namespace: ci}"
    return (
        f"apiVersion: {_RBAC}/v1\nkind: {kind}\nmetadata: {{name: b{number}{within}}}\n"
        f"roleRef: {{kind: ClusterRole, name: '{role}'}}\nsubjects: [{who}]\n---\n"
    )


class Lab:
    """The cluster as `bot` sees it."""

    def __init__(self, facts: list[Fact], start: Name = _BOT) -> None:
        self.facts = facts
        self.graph: AccessGraph = graph_from_facts(facts)
        self.found: Blast = blast(self.graph, start)

    def reaches(self, target: Name) -> str:
        """`sure`, `maybe` or `no`."""
        step = next((one for one in self.found if one.node.name == target), None)
        return "no" if step is None else "maybe" if step.conditional else "sure"


Enter = Callable[..., Lab]


@pytest.fixture
def enter(discover: Discover) -> Enter:
    def run(*texts: str, labels: str = "", start: Name = _BOT) -> Lab:
        return Lab(discover(_ESTATE.replace("LABELS", labels) + "".join(map(dedent, texts))), start)

    return run


_RESTRICTED = "pod-security.kubernetes.io/enforce: restricted"
_BASELINE = "pod-security.kubernetes.io/enforce: baseline"
_PRIVILEGED = "pod-security.kubernetes.io/enforce: privileged"


def _space(local: str, label: str) -> str:
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {local}, labels: {{{label}}}}}\n---\n"


# --- pods and nodes


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", "sure"),
        (_PRIVILEGED, "sure"),
        ("pod-security.kubernetes.io/warn: restricted", "sure"),
        (_BASELINE, "no"),
        (_RESTRICTED, "no"),
    ],
)
def test_a_pod_of_ones_own_gets_to_the_node_unless_pod_security_refuses(
    enter: Enter, labels: str, expected: str
) -> None:
    lab = enter(_grant(_rule("", "pods", "create")), labels=labels)
    assert lab.reaches(_NODES) == expected
    assert lab.reaches(_VICTIM) == "sure", "pod security says nothing of service accounts"


def test_a_pod_anywhere_goes_where_pod_security_lets_it(enter: Enter) -> None:
    anywhere = _grant(_rule("", "pods", "create"), namespace="")
    assert enter(anywhere).reaches(_NODES) == "sure"
    closed = "".join(_space(each, _BASELINE) for each in ("ci", "default"))
    lab = enter(anywhere, closed, labels=_RESTRICTED)
    assert _edges(lab, _NODES) == []


def test_a_namespace_that_nobody_showed_is_a_condition(enter: Enter) -> None:
    assert enter(_grant(_rule("", "pods", "create"), namespace="dark")).reaches(_NODES) == "maybe"


_HOOK = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: gate}
webhooks: [{name: g.x.io, rules: [{operations: [CREATE], apiGroups: [""], resources: [WHAT]}], namespaceSelector: {WHERE}}]
---
"""


@pytest.mark.parametrize(
    ("what", "where", "expected"),
    [
        ("pods", "", "maybe"),
        ("'*/*'", "", "maybe"),
        ("services", "", "sure"),
        ("pods", "matchLabels: {kubernetes.io/metadata.name: web}", "sure"),
    ],
)
def test_what_a_webhook_would_say_of_the_pod_is_a_condition(enter: Enter, what: str, where: str, expected: str) -> None:
    hook = _HOOK.replace("WHAT", what).replace("WHERE", where)
    assert enter(_grant(_rule("", "pods", "create")), hook).reaches(_NODES) == expected


@pytest.mark.parametrize("kind", ["kyverno.io/v1\nkind: ClusterPolicy", "constraints.gatekeeper.sh/v1\nkind: K8sPSP"])
def test_what_a_policy_engine_would_say_is_a_condition(enter: Enter, kind: str) -> None:
    policy = f"apiVersion: {kind}\nmetadata: {{name: p}}\nspec: {{}}\n---\n"
    assert enter(_grant(_rule("", "pods", "create")), policy).reaches(_NODES) == "maybe"


def test_who_may_relabel_the_namespace_takes_pod_security_away(enter: Enter) -> None:
    pods, label = _grant(_rule("", "pods", "create")), _grant(_rule("", "namespaces", "patch"), number=2)
    assert enter(pods, label, labels=_RESTRICTED).reaches(_NODES) == "sure"
    other = _grant(_rule("", "namespaces", "patch", "web"), namespace="", number=2)
    assert enter(pods, other, labels=_RESTRICTED).reaches(_NODES) == "no"


def test_a_volume_of_the_host_passes_pod_security(enter: Enter) -> None:
    run = _grant(_rule("", "pods", "create"), _rule("", "persistentvolumeclaims", "create"))
    volume = _grant(_rule("", "persistentvolumes", "create"), namespace="", number=2)
    in_vain = _grant(_rule("", "persistentvolumes", "create"), number=2)
    assert enter(run, volume, labels=_BASELINE).reaches(_NODES) == "sure"
    assert enter(run, volume, labels=_RESTRICTED).reaches(_NODES) == "maybe"
    assert enter(run, in_vain, labels=_BASELINE).reaches(_NODES) == "no", "volumes belong to no namespace"


@pytest.mark.parametrize(
    ("verbs", "names", "expected"),
    [
        ("patch", "", "sure"),
        ("update", "api", "sure"),
        ("create", "", "sure"),
        ("create", "api", "no"),
        ("patch", "elsewhere", "maybe"),
        ("delete, get", "", "no"),
    ],
)
def test_templates_of_deployments(enter: Enter, verbs: str, names: str, expected: str) -> None:
    lab = enter(_grant(_rule("apps", "deployments", verbs, names)))
    assert lab.reaches(_VICTIM) == expected
    assert lab.reaches(_NODES) == expected


def test_a_pod_in_another_namespace_gives_nothing_here(enter: Enter) -> None:
    lab = enter(_grant(_rule("", "pods", "create"), namespace="web"), _space("web", _BASELINE))
    assert lab.reaches(_VICTIM) == "no"


def test_a_kind_of_which_there_is_none_is_a_condition_for_who_may_only_change(enter: Enter) -> None:
    assert enter(_grant(_rule("apps", "daemonsets", "patch"))).reaches(_VICTIM) == "maybe"


# --- into running pods

_POD = """
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop}
spec: {nodeName: n1, serviceAccountName: victim, containers: [{name: a}]}
---
"""
_RUNNING = _name("pod", "shop/one")


@pytest.mark.parametrize(
    ("resource", "verbs", "names", "expected"),
    [
        ("pods/exec", "create", "", "sure"),
        ("pods/exec", "get", "", "sure"),
        ("pods/exec", "create", "one", "sure"),
        ("pods/exec", "create", "two", "no"),
        ("pods/exec", "delete", "", "no"),
        ("'*/exec'", "create", "", "sure"),
        ("pods/attach", "create", "", "maybe"),
        ("pods/ephemeralcontainers", "patch", "", "sure"),
        ("pods/ephemeralcontainers", "patch", "two", "no"),
        ("pods/portforward", "create", "", "no"),
        ("pods/log", "get", "", "no"),
        ("pods", "patch", "", "sure"),
        ("pods", "patch", "two", "no"),
        ("pods", "get, list, delete", "", "no"),
    ],
)
def test_ways_into_a_running_pod(enter: Enter, resource: str, verbs: str, names: str, expected: str) -> None:
    assert enter(_POD, _grant(_rule("", resource, verbs, names))).reaches(_RUNNING) == expected


def test_the_kubelet_is_reached_through_a_cluster_role_alone(enter: Enter) -> None:
    rule = _rule("", "nodes/proxy", "get")
    assert enter(_POD, _grant(rule, namespace="")).reaches(_RUNNING) == "sure"
    assert enter(_POD, _grant(rule)).reaches(_RUNNING) == "no"
    named = _rule("", "nodes/proxy", "get", "n2")
    assert enter(_POD, _grant(named, namespace="")).reaches(_RUNNING) == "no"
    assert enter(_POD, _grant(named.replace("n2", "n1"), namespace="")).reaches(_RUNNING) == "sure"


def test_draining_nodes_needs_a_node_of_ones_own(enter: Enter) -> None:
    assert enter(_POD, _grant(_rule("", "nodes", "patch"), namespace="")).reaches(_RUNNING) == "maybe"


def test_a_debug_container_gets_to_the_node_unless_pod_security_refuses(enter: Enter) -> None:
    debug = _grant(_rule("", "pods/ephemeralcontainers", "patch"))
    assert enter(_POD, debug).reaches(_name("node", "n1")) == "sure"
    assert enter(_POD, debug, labels=_BASELINE).reaches(_name("node", "n1")) == "no"


# --- tokens and secrets

_TOKEN = """
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: t, namespace: shop, annotations: {kubernetes.io/service-account.name: victim}}
---
"""


@pytest.mark.parametrize(("names", "expected"), [("", "sure"), ("t", "sure"), ("db", "no")])
def test_a_secret_with_a_token_is_its_account(enter: Enter, names: str, expected: str) -> None:
    assert enter(_TOKEN, _grant(_rule("", "secrets", "get", names))).reaches(_VICTIM) == expected


def test_a_name_in_a_cluster_role_is_that_name_in_every_namespace_and_no_other(enter: Enter) -> None:
    assert enter(_grant(_rule("", "secrets", "get", "db"), namespace="")).reaches(_SECRET) == "sure"
    assert enter(_grant(_rule("", "secrets", "get", "other"), namespace="")).reaches(_SECRET) == "no"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (_rule("", "secrets", "create"), _rule("", "secrets", "get"), "sure"),
        (_rule("", "secrets", "create"), _rule("", "secrets", "list"), "sure"),
        (_rule("", "secrets", "create"), _rule("", "secrets", "get", "mine"), "maybe"),
        (_rule("", "secrets", "create"), _rule("", "secrets", "delete"), "no"),
        (_rule("", "secrets", "create", "mine"), _rule("", "secrets", "get"), "no"),
    ],
)
def test_a_token_secret_of_ones_own_making(enter: Enter, first: str, second: str, expected: str) -> None:
    assert enter(_grant(first), _grant(second, number=2)).reaches(_VICTIM) == expected


def test_making_here_and_reading_there_makes_no_token(enter: Enter) -> None:
    read = _grant(_rule("", "secrets", "get"), namespace="web", number=2)
    assert enter(_grant(_rule("", "secrets", "create")), read).reaches(_VICTIM) == "no"


@pytest.mark.parametrize(("names", "expected"), [("", "sure"), ("victim", "sure"), ("other", "no")])
def test_tokens_by_request(enter: Enter, names: str, expected: str) -> None:
    assert enter(_grant(_rule("", "serviceaccounts/token", "create", names))).reaches(_VICTIM) == expected


# --- impersonation


@pytest.mark.parametrize(
    ("rules", "namespace", "expected"),
    [
        ([_rule("", "users", "impersonate")], "", "sure"),
        ([_rule("", "users", "impersonate")], "shop", "no"),
        ([_rule("", "users", "impersonate", "ann")], "", "no"),
        ([_rule("", "groups", "impersonate")], "", "no"),
        ([_rule("", "users", "impersonate", "ann"), _rule("", "groups", "impersonate")], "", "sure"),
        ([_rule("", "users", "impersonate", "ann"), _rule("", "groups", "impersonate", "devs")], "", "no"),
        ([_rule("", "users", "impersonate", "a"), _rule("", "groups", "impersonate", "'system:masters'")], "", "sure"),
        ([_rule("authentication.k8s.io", "uids, userextras", "impersonate")], "", "no"),
    ],
)
def test_impersonation(enter: Enter, rules: list[str], namespace: str, expected: str) -> None:
    assert enter(_grant(*rules, namespace=namespace)).reaches(_ADMIN) == expected


def test_an_impersonated_user_has_its_rights(enter: Enter) -> None:
    ann = _bound("cluster-admin", whom="{kind: User, name: ann}")
    assert enter(_grant(_rule("", "users", "impersonate", "ann"), namespace=""), ann).reaches(_ADMIN) == "sure"


# --- roles and bindings


@pytest.mark.parametrize(
    ("bind", "change", "expected"),
    [
        (_rule(_RBAC, "clusterroles", "bind"), _rule(_RBAC, "clusterrolebindings", "create"), "sure"),
        (_rule(_RBAC, "clusterroles", "bind", "cluster-admin"), _rule(_RBAC, "clusterrolebindings", "create"), "sure"),
        (_rule(_RBAC, "clusterroles", "bind"), _rule(_RBAC, "clusterrolebindings", "patch"), "sure"),
        (_rule(_RBAC, "clusterroles", "bind"), _rule(_RBAC, "clusterrolebindings", "patch", "cluster-admin"), "sure"),
        (_rule(_RBAC, "clusterroles", "bind", "view"), _rule(_RBAC, "clusterrolebindings", "create"), "no"),
        (_rule(_RBAC, "clusterroles", "bind"), _rule(_RBAC, "clusterrolebindings", "create", "x"), "no"),
        (_rule(_RBAC, "clusterroles", "bind"), _rule(_RBAC, "clusterrolebindings", "get"), "no"),
        (_rule(_RBAC, "clusterroles", "get"), _rule(_RBAC, "clusterrolebindings", "create"), "no"),
        (_rule(_RBAC, "roles", "bind"), _rule(_RBAC, "clusterrolebindings", "create"), "no"),
    ],
)
def test_binding_oneself(enter: Enter, bind: str, change: str, expected: str) -> None:
    assert enter(_grant(bind, change, namespace="")).reaches(_ADMIN) == expected


def test_a_role_that_one_may_bind_gives_what_it_has(enter: Enter) -> None:
    bind = _grant(_rule(_RBAC, "clusterroles", "bind", "edit"), _rule(_RBAC, "rolebindings", "create"))
    assert enter(bind).reaches(_SECRET) == "sure"
    assert enter(bind.replace("edit", "view")).reaches(_SECRET) == "no"


def test_writing_bindings_and_roles_without_bind_or_escalate_gains_nothing(enter: Enter) -> None:
    rights = _rule(_RBAC, "roles, rolebindings, clusterroles, clusterrolebindings", "create, update, patch, delete")
    lab = enter(_grant(rights, namespace=""))
    assert {lab.reaches(_ADMIN), lab.reaches(_SECRET), lab.reaches(_VICTIM)} == {"no"}


@pytest.mark.parametrize(
    ("rules", "namespace", "expected"),
    [
        ([_rule(_RBAC, "clusterroles", "escalate, update")], "", "sure"),
        ([_rule(_RBAC, "clusterroles", "escalate, update", "r1")], "", "sure"),
        ([_rule(_RBAC, "clusterroles", "escalate, update", "another")], "", "no"),
        ([_rule(_RBAC, "clusterroles", "escalate, create")], "", "no"),
        ([_rule(_RBAC, "clusterroles", "escalate, update")], "shop", "no"),
        ([_rule(_RBAC, "clusterroles", "escalate")], "", "no"),
    ],
)
def test_writing_rights_into_ones_own_role(enter: Enter, rules: list[str], namespace: str, expected: str) -> None:
    assert enter(_grant(*rules, namespace=namespace)).reaches(_ADMIN) == expected


def test_rights_of_a_group_and_of_a_member_add_up(enter: Enter) -> None:
    bind = _grant(_rule(_RBAC, "clusterroles", "bind"), namespace="")
    group = "{kind: Group, name: 'system:serviceaccounts:ci'}"
    change = _rule(_RBAC, "clusterrolebindings", "create")
    assert enter(bind, _grant(change, namespace="", number=2, whom=group)).reaches(_ADMIN) == "sure"
    others = group.replace(":ci", ":web")
    assert enter(bind, _grant(change, namespace="", number=2, whom=others)).reaches(_ADMIN) == "no"


# --- certificates, webhooks, the cloud's mapping

_CSR = "certificates.k8s.io"
_REQUEST = _rule(_CSR, "certificatesigningrequests", "create")
_APPROVE = _rule(_CSR, "certificatesigningrequests/approval", "update")
_SIGNER = _rule(_CSR, "signers", "approve", "kubernetes.io/kube-apiserver-client")
_MANAGER = """
apiVersion: v1
kind: Pod
metadata: {name: kcm, namespace: kube-system}
spec: {containers: [{name: c, command: [kube-controller-manager, --cluster-signing-key-file=/k]}]}
---
"""


def test_a_certificate_that_one_asks_for_and_approves(enter: Enter) -> None:
    assert enter(_grant(_REQUEST, _APPROVE, _SIGNER, namespace="")).reaches(_ADMIN) == "maybe"
    assert enter(_MANAGER, _grant(_REQUEST, _APPROVE, _SIGNER, namespace="")).reaches(_ADMIN) == "sure"
    for missing in (_REQUEST, _APPROVE, _SIGNER):
        rest = [rule for rule in (_REQUEST, _APPROVE, _SIGNER) if rule != missing]
        assert enter(_MANAGER, _grant(*rest, namespace="")).reaches(_ADMIN) == "no"
    other = _SIGNER.replace("kubernetes.io/kube-apiserver-client", "example.com/mine")
    assert enter(_MANAGER, _grant(_REQUEST, _APPROVE, other, namespace="")).reaches(_ADMIN) == "no"


def test_changing_what_others_write_is_possible_administration(enter: Enter) -> None:
    hooks = _rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "create")
    assert enter(_grant(hooks, namespace="")).reaches(_ADMIN) == "maybe"
    assert enter(_grant(hooks)).reaches(_ADMIN) == "no"


def test_the_mapping_of_cloud_identities_matters_where_there_is_one(enter: Enter) -> None:
    mapping = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: aws-auth, namespace: kube-system}\n---\n"
    write = _grant(_rule("", "configmaps", "patch", "aws-auth"), namespace="kube-system")
    assert enter(mapping, write).reaches(_ADMIN) == "maybe"
    assert enter(write).reaches(_ADMIN) == "no"
    assert enter(mapping, _grant(_rule("", "configmaps", "patch"))).reaches(_ADMIN) == "no"


# --- what is said of an edge, and of who gets to administer


def _edges(lab: Lab, target: Name) -> list[EdgeFact]:
    return [fact for fact in lab.facts if isinstance(fact, EdgeFact) and fact.target == target and fact.source == _BOT]


def test_evidence_names_binding_role_and_rule(enter: Enter) -> None:
    (edge,) = _edges(enter(_grant(_rule("", "secrets", "get", "db"))), _SECRET)
    assert "RoleBinding shop/b1 gives Role r1 (rules[0]: get secrets named db)" in edge.evidence
    assert edge.cut == "kubectl delete rolebinding b1 -n shop"


def test_the_cut_takes_out_one_subject_of_several(enter: Enter) -> None:
    both = "{kind: User, name: ann}, {kind: ServiceAccount, name: bot, namespace: ci}"
    (edge,) = _edges(enter(_grant(_rule("", "secrets", "get", "db"), whom=both)), _SECRET)
    assert (
        '{"op": "test", "path": "/subjects/1/name", "value": "bot"}, {"op": "remove", "path": "/subjects/1"}'
        in edge.cut
    )


def _findings(lab: Lab) -> dict[str, str]:
    """By subject: `sure` or `maybe`."""
    rules = {"kubernetes.path-to-cluster-admin": "sure", "kubernetes.possible-path-to-cluster-admin": "maybe"}
    return {str(f.subject): rules[f.rule] for f in lab.facts if isinstance(f, FindingFact) and f.rule in rules}


def test_a_path_to_administration_is_a_finding_for_its_first_step(enter: Enter) -> None:
    admin = _bound("cluster-admin", whom="{kind: ServiceAccount, name: victim, namespace: shop}")
    found = _findings(enter(_grant(_rule("", "pods", "create")), admin))
    assert found[_BOT] == "sure"
    assert _VICTIM not in found, "it is administrator, and another finding says so"
    assert _findings(enter(_grant(_rule("", "pods", "create"), namespace="web"), admin)).get(_BOT, "no") != "sure"


def test_a_path_under_conditions_is_a_finding_of_its_own(enter: Enter) -> None:
    hooks = _rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "create")
    assert _findings(enter(_grant(hooks, namespace="")))[_BOT] == "maybe"


def test_no_path_is_no_finding(enter: Enter) -> None:
    assert _findings(enter(_grant(_rule("", "secrets", "get")))) == {}


@pytest.mark.parametrize(("namespace", "expected"), [("", True), ("shop", False)])
def test_privileged_is_who_administers_the_cluster_by_a_binding(enter: Enter, namespace: str, expected: bool) -> None:
    lab = enter(_bound("cluster-admin", namespace=namespace))
    assert (
        next(f for f in lab.facts if isinstance(f, IdentityFact) and f.name == _BOT).attributes["privileged"]
        is expected
    )


# --- very many rules, holders and circles


def test_a_role_with_very_many_rules_is_shown_once_and_loses_nothing(enter: Enter) -> None:
    many = "".join(_rule("x.io", f"kind{number}", "get") for number in range(300))
    second = _grant(_rule("", "pods", "get"), number=2).replace("name: r2}", "name: r1}")
    lab = enter(_grant(many, _rule("", "secrets", "get", "db")), second)
    assert lab.reaches(_SECRET) == "sure"
    assert lab.reaches(_name("api", "shop/kind299.x.io")) == "sure"
    assert len([fact for fact in lab.facts if isinstance(fact, EdgeFact) and fact.source == _BOT]) < 10


def test_a_role_with_very_many_holders_is_shown_once_and_gives_all_of_them_everything(enter: Enter) -> None:
    whom = ", ".join(f"{{kind: User, name: u{number}}}" for number in range(50))
    bot = "{kind: ServiceAccount, name: bot, namespace: ci}"
    lab = enter(_grant(_rule("", "pods", "create"), whom=f"{whom}, {bot}"))
    assert lab.reaches(_VICTIM) == "sure"
    assert len([fact for fact in lab.facts if isinstance(fact, EdgeFact) and fact.target == _NODES]) < 10


def test_a_large_role_that_may_be_bound_gives_what_it_has_too(enter: Enter) -> None:
    large = "".join(_rule("x.io", f"kind{number}", "get") for number in range(100)) + _rule("", "secrets", "get")
    role = f"apiVersion: {_RBAC}/v1\nkind: ClusterRole\nmetadata: {{name: large}}\nrules:\n{indent(large, '  ')}---\n"
    bind = _grant(_rule(_RBAC, "clusterroles", "bind", "large"), _rule(_RBAC, "rolebindings", "create"))
    assert enter(role, bind).reaches(_SECRET) == "sure"


@pytest.mark.parametrize("bound", ["binding._MAX_DERIVED", "reach._MAX_SHARED", "reach._MAX_PLAIN", "paths.MAX_EDGES"])
def test_what_is_cut_short_is_said(enter: Enter, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(f"remit.inventory.connectors.kubernetes.{bound}", 1)
    many = "".join(_rule("x.io", f"kind{number}", "get") for number in range(100))
    bind = _rule(_RBAC, "clusterroles", "bind", "view, edit") + _rule(_RBAC, "rolebindings", "create")
    monkeypatch.setattr("remit.inventory.connectors.kubernetes.reach._LARGE", 0)
    lab = enter(_grant(many, bind))
    assert "too-large" in [fact.reason for fact in lab.facts if isinstance(fact, Skipped)]
