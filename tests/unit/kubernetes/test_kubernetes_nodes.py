"""Out of a container, to the node on which it runs, and to what runs beside it there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remit.inventory.graph import blast, graph_from_facts
from remit.inventory.model import Fact, FindingFact, IdentityFact
from remit.kernel.ids import Name, name

Discover = Callable[..., list[Fact]]


def _name(kind: str, local: str) -> Name:
    return name("kubernetes", "c1", kind, local)


def _pod(local: str, spec: str, *, kind: str = "Pod", more: str = "") -> str:
    body = spec if kind == "Pod" else f"{{template: {{spec: {spec}}}}}"
    return f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {local}, namespace: shop{more}}}\nspec: {body}\n---\n"


_PRIVILEGED = "containers: [{name: c, securityContext: {privileged: true}}]"
_NEIGHBOUR = _pod("victim", "{nodeName: n1, serviceAccountName: v, automountServiceAccountToken: false}")


def _reach(facts: list[Fact], target: Name, start: Name | None = None) -> str:
    found = blast(graph_from_facts(facts), start or _name("pod", "shop/p"))
    step = next((one for one in found if one.node.name == target), None)
    return "no" if step is None else "maybe" if step.conditional else "sure"


@pytest.mark.parametrize(("node", "expected"), [("n1", "sure"), ("n2", "no")])
def test_the_pods_of_the_same_node_are_reached_and_no_others(discover: Discover, node: str, expected: str) -> None:
    facts = discover(_NEIGHBOUR + _pod("p", f"{{nodeName: {node}, {_PRIVILEGED}}}"))
    assert _reach(facts, _name("pod", "shop/victim")) == expected
    assert _reach(facts, _name("serviceaccount", "shop/v")) == expected, "the kubelet asks for its token"


def test_where_nobody_says_on_which_node_it_runs_the_neighbours_are_a_condition(discover: Discover) -> None:
    facts = discover(_NEIGHBOUR + _pod("p", f"{{{_PRIVILEGED}}}"))
    assert _reach(facts, _name("nodes", "*")) == "sure"
    assert _reach(facts, _name("pod", "shop/victim")) == "maybe"


def test_the_pods_of_a_controller_tell_its_nodes(discover: Discover) -> None:
    owner = ", ownerReferences: [{kind: ReplicaSet, name: r, controller: true}]"
    facts = discover(
        _pod("r", f"{{{_PRIVILEGED}}}", kind="ReplicaSet")
        + _pod("r-1", f"{{nodeName: n2, {_PRIVILEGED}}}", more=owner)
        + _NEIGHBOUR
    )
    start = _name("replicaset", "shop/r")
    assert _reach(facts, _name("node", "n2"), start) == "sure"
    assert _reach(facts, _name("pod", "shop/victim"), start) == "no"


def test_a_node_reads_the_pull_secrets_of_its_pods(discover: Discover) -> None:
    pull = _pod("q", "{nodeName: n1, imagePullSecrets: [{name: pull}]}")
    facts = discover(pull + _pod("p", f"{{nodeName: n1, {_PRIVILEGED}}}"))
    assert _reach(facts, _name("secret", "shop/pull")) == "sure"


_CONTROL = (
    "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {node-role.kubernetes.io/control-plane: ''}}\n---\n"
)


def test_a_node_of_the_control_plane_is_the_cluster(discover: Discover) -> None:
    out = _pod("p", f"{{nodeName: n1, {_PRIVILEGED}}}")
    facts = discover(_CONTROL + out)
    assert _reach(facts, _name("admin", "*")) == "sure"
    assert "kubernetes.path-to-cluster-admin" in {fact.rule for fact in facts if isinstance(fact, FindingFact)}
    assert _reach(discover(_CONTROL + out.replace("nodeName: n1", "nodeName: n2")), _name("admin", "*")) == "no"


def _mount(path: str, *, read_only: bool = False, context: str = "") -> str:
    ro = ", readOnly: true" if read_only else ""
    return (
        f"containers: [{{name: c, volumeMounts: [{{name: v, mountPath: /h{ro}}}]{context}}}], "
        f"volumes: [{{name: v, hostPath: {{path: '{path}'}}}}]"
    )


_USER = ", securityContext: {runAsUser: 1000}"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (_PRIVILEGED, "sure"),
        ("hostPID: true, " + _PRIVILEGED, "sure"),
        ("containers: [{name: c, securityContext: {privileged: true, runAsUser: 1000}}]", "maybe"),
        ("securityContext: {runAsNonRoot: true}, " + _PRIVILEGED, "maybe"),
        ("hostPID: true, containers: [{name: c}]", "maybe"),
        ("hostNetwork: true, containers: [{name: c}]", "no"),
        ("shareProcessNamespace: true, containers: [{name: c}]", "no"),
        ("containers: [{name: c, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]", "sure"),
        ("containers: [{name: c, securityContext: {capabilities: {add: [CAP_SYS_MODULE]}}}]", "sure"),
        ("containers: [{name: c, securityContext: {capabilities: {add: [SYS_PTRACE]}}}]", "no"),
        ("hostPID: true, containers: [{name: c, securityContext: {capabilities: {add: [SYS_PTRACE]}}}]", "sure"),
        ("hostUsers: false, containers: [{name: c, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]", "no"),
        ("containers: [{name: c, securityContext: {capabilities: {add: [NET_BIND_SERVICE]}}}]", "no"),
        (_mount("/"), "sure"),
        (_mount("/", read_only=True), "sure"),
        (_mount("/", context=_USER), "maybe"),
        (_mount("//"), "sure"),
        (_mount("/var/run/docker.sock", read_only=True), "sure"),
        (_mount("/run/containerd/containerd.sock"), "sure"),
        (_mount("/var/lib/kubelet"), "sure"),
        (_mount("/etc"), "sure"),
        (_mount("/etc", read_only=True), "no"),
        (_mount("/etc/ssl/certs", read_only=True), "no"),
        (_mount("/proc"), "sure"),
        (_mount("/proc", read_only=True), "no"),
        (_mount("/var/log"), "maybe"),
        (_mount("/var/log", read_only=True), "no"),
        (_mount("/data"), "no"),
        ("containers: [{name: c}], volumes: [{name: v, hostPath: {path: /}}]", "no"),
    ],
)
def test_ways_out_of_a_container(discover: Discover, spec: str, expected: str) -> None:
    assert _reach(discover(_pod("p", f"{{nodeName: n1, {spec}}}")), _name("node", "n1")) == expected


def test_a_template_that_pod_security_refuses_reaches_its_node_only_if_admitted_before(discover: Discover) -> None:
    labels = "{pod-security.kubernetes.io/enforce: baseline}"
    space = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {labels}}}\n---\n"
    facts = discover(space + _pod("p", f"{{{_PRIVILEGED}}}", kind="Deployment"))
    assert _reach(facts, _name("nodes", "*"), _name("deployment", "shop/p")) == "maybe"


@pytest.mark.parametrize(
    ("audience", "automount", "expected"),
    [("", "false", "sure"), (", audience: sts.amazonaws.com", "false", "maybe"), (", audience: vault", "true", "sure")],
)
def test_a_token_for_somebody_else_is_not_taken_by_the_api_server(
    discover: Discover, audience: str, automount: str, expected: str
) -> None:
    volume = f"volumes: [{{name: t, projected: {{sources: [{{serviceAccountToken: {{path: t{audience}}}}}]}}}}]"
    facts = discover(_pod("p", f"{{serviceAccountName: a, automountServiceAccountToken: {automount}, {volume}}}"))
    assert _reach(facts, _name("serviceaccount", "shop/a")) == expected


# --- the issuer that the cluster itself states


def _issuers(facts: list[Fact]) -> set[str]:
    return {alias.split(":")[3] for fact in facts if isinstance(fact, IdentityFact) for alias in fact.aliases}


_ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: shop}\n---\n"
_KUBEADM = "apiVersion: kubeadm.k8s.io/{0}\nkind: ClusterConfiguration\napiServer:\n  extraArgs: {1}\n---\n"


@pytest.mark.parametrize(
    "stated",
    [
        _KUBEADM.format("v1beta3", "{service-account-issuer: 'https://oidc.example.com'}"),
        _KUBEADM.format("v1beta4", "[{name: service-account-issuer, value: 'https://oidc.example.com'}]"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubeadm-config, namespace: kube-system}\ndata:\n"
        "  ClusterConfiguration: |\n    apiServer: {extraArgs: {service-account-issuer: 'https://oidc.example.com'}}\n---\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: k, namespace: kube-system}\nspec: {containers: [{name: k, command: "
        "[kube-apiserver, '--service-account-issuer=https://oidc.example.com', "
        "'--service-account-issuer=https://old.example.com']}]}\n---\n",
        "issuer: https://oidc.example.com\njwks_uri: https://oidc.example.com/openid/v1/jwks\n"
        "response_types_supported: [id_token]\n---\n",
    ],
)
def test_accounts_are_known_by_the_issuer_that_the_cluster_states(discover: Discover, stated: str) -> None:
    assert _issuers(discover(stated + _ACCOUNT)) == {"oidc.example.com"}


def test_two_issuers_are_none(discover: Discover) -> None:
    one, two = (
        _KUBEADM.format("v1beta3", f"{{service-account-issuer: 'https://{each}.example.com'}}") for each in "ab"
    )
    assert _issuers(discover(one + two + _ACCOUNT)) == {"c1"}


def test_an_issuer_that_is_given_wins(discover: Discover) -> None:
    stated = _KUBEADM.format("v1beta3", "{service-account-issuer: 'https://oidc.example.com'}")
    assert _issuers(discover(stated + _ACCOUNT, issuer="https://mine.example.com")) == {"mine.example.com"}
