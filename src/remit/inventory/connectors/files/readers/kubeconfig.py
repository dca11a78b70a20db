"""kubeconfig: who connects to which cluster, by certificate, token, password or program.

Spec: Kubernetes documentation, "kubeconfig (v1)".
"""

from __future__ import annotations

import base64

from remit.inventory.connectors.files.choose import Pattern, Reader
from remit.inventory.connectors.files.environment import record_settings, settings_of
from remit.inventory.connectors.files.formats import Document, Malformed, Tree, mapping, sequence, text
from remit.inventory.connectors.files.keys import PemBlock, pem_blocks, read_private_pem
from remit.inventory.connectors.files.pem import load_certificate, record_certificate, record_private
from remit.inventory.connectors.files.sheet import Sheet, clean
from remit.inventory.connectors.files.yamldoc import parse_yaml
from remit.inventory.model import CredentialKind, IdentityKind, Relation, Severity
from remit.kernel.ids import Name


def read(sheet: Sheet) -> None:
    """Record clusters as resources, users as identities, and what proves them."""
    for document in parse_yaml(sheet.file.data):
        root = mapping(document.value)
        if text(root.get("kind")) == "Config" or ("clusters" in root and "users" in root):
            _read_config(sheet, document, root)


def _read_config(sheet: Sheet, document: Document, root: dict[str, Tree]) -> None:
    clusters = {
        text(mapping(entry).get("name")): mapping(mapping(entry).get("cluster"))
        for entry in sequence(root.get("clusters"))
    }
    cluster_of = {
        text(context.get("user")): text(context.get("cluster"))
        for context in (mapping(mapping(entry).get("context")) for entry in sequence(root.get("contexts")))
    }
    for index, entry in enumerate(sequence(root.get("users"))):
        label = text(mapping(entry).get("name"))
        cluster = clusters.get(cluster_of.get(label, ""), {})
        server = text(cluster.get("server")).removeprefix("https://").removeprefix("http://") or "unknown"
        line = document.line("users", index)
        _read_user(sheet, document, ("users", index, "user"), mapping(mapping(entry).get("user")), label, server, line)
    for cluster_name, cluster in clusters.items():
        if cluster.get("insecure-skip-tls-verify") is True:
            sheet.finding(
                "unverified-server",
                Severity.MEDIUM,
                f"cluster {clean(cluster_name, 60)} is used without verifying its certificate",
                "whoever stands between gets the credential",
                "remove `insecure-skip-tls-verify` and set `certificate-authority-data`",
            )


def _read_user(
    sheet: Sheet,
    document: Document,
    path: tuple[str | int, ...],
    user: dict[str, Tree],
    label: str,
    server: str,
    line: int | None,
) -> None:
    who: Name | None = None
    if block := _block(user.get("client-certificate-data")):
        certificate = load_certificate(block.text, pem=True)
        holder = record_certificate(sheet, certificate, line=line)
        who = _certificate_user(sheet, certificate, server, line)
        sheet.edge(holder, Relation.SECRET_OF, who, "client certificate in a kubeconfig", line=line)
    if (block := _block(user.get("client-key-data"))) and (private := read_private_pem(block)):
        record_private(sheet, private, raw=block.text, line=line)
    if token := text(user.get("token")):
        node = sheet.secret("token", token, line=line, kind=CredentialKind.TOKEN, title=f"Kubernetes token of {label}")
        if node:
            _standing(sheet, node, label, line)
    if password := text(user.get("password")):
        who = _user(sheet, server, text(user.get("username")) or label, line)
        sheet.secret("password", password, line=line, kind=CredentialKind.PASSWORD, identity=who)
    if program := mapping(user.get("exec")):
        who = _user(sheet, server, label, line, how=f"exec {clean(text(program.get('command')), 80)}")
        pairs = [mapping(item) for item in sequence(program.get("env"))]
        listed = {text(pair.get("name")): pair.get("value") for pair in pairs}
        record_settings(sheet, settings_of(Document(listed, document.lines)), holders=[who])
    provider = mapping(mapping(user.get("auth-provider")).get("config"))
    record_settings(sheet, settings_of(Document(provider)))
    if who:
        cluster = sheet.resource(
            sheet.name("kubernetes", server, "cluster", server), "cluster", f"Kubernetes at {server}"
        )
        sheet.edge(who, Relation.CAN_REACH, cluster, "kubeconfig", line=line)


def _block(encoded: Tree) -> PemBlock | None:
    try:
        data = base64.b64decode(text(encoded), validate=False)
    except ValueError:
        raise Malformed("no base64") from None
    return next(pem_blocks(data), None)


def _user(sheet: Sheet, server: str, user: str, line: int | None, *, how: str = "") -> Name:
    of = sheet.name("kubernetes", server, "user", user)
    return sheet.identity(of, IdentityKind.SERVICE_ACCOUNT, f"{user} at {server}", line=line, attributes={"login": how})


def _certificate_user(sheet: Sheet, certificate: object, server: str, line: int | None) -> Name:
    from cryptography.x509.oid import NameOID

    subject = certificate.subject  # type: ignore[attr-defined]
    common = [str(entry.value) for entry in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(entry.value) for entry in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    who = _user(sheet, server, common[0] if common else "unknown", line, how="client certificate")
    for group in groups[:20]:
        of = sheet.identity(
            sheet.name("kubernetes", server, "group", group), IdentityKind.GROUP, f"{group} at {server}", line=line
        )
        sheet.edge(who, Relation.MEMBER_OF, of, "organisation of the client certificate", line=line)
        if group == "system:masters":
            sheet.finding(
                "cluster-admin-certificate",
                Severity.HIGH,
                f"a client certificate of system:masters at {server}",
                "it passes every check of the cluster, cannot be revoked, and lives until it expires",
                f"see who holds it with `remit show {who}`; use a token bound to a service account instead",
                subject=who,
                line=line,
            )
    return who


def _standing(sheet: Sheet, node: Name, label: str, line: int | None) -> None:
    sheet.finding(
        "static-kubernetes-token",
        Severity.MEDIUM,
        f"the token of {clean(label, 60)} lies in a kubeconfig",
        "a token in a file is good for whoever copies it",
        "use an exec plug-in, or `kubectl create token` for a bounded one",
        subject=node,
        line=line,
    )


KUBECONFIG = Reader(
    id="kubeconfig",
    reads="kubeconfig: clusters, users and what proves them",
    patterns=(
        Pattern(regex=r"config|.*\.ya?ml|.*\.conf|.*kubeconfig.*", under=(".kube", ".kube/configs", ".kube/config.d")),
        Pattern(
            regex=r"(?:[\w.-]*[._-])?kubeconfig(?:[_-][\w-]+)?(?:\.(?:ya?ml|conf|config|json))?|k3s\.yaml|rke2\.yaml"
        ),
        Pattern(
            names=("admin.conf", "super-admin.conf", "kubelet.conf", "controller-manager.conf", "scheduler.conf"),
            under=("etc/kubernetes",),
        ),
    ),
    read=read,
)
