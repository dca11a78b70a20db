"""The API server as a source: each kind that matters, listed whole, as the objects that manifests give too."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from remit.inventory.connectors.kubernetes.objects import Cluster, Object, read_objects, text
from remit.inventory.connectors.kubernetes.reading import Document
from remit.inventory.connectors.port import Permission, Scan
from remit.inventory.model import Place, Skipped
from remit.kernel.errors import Denied, Rejected
from remit.providers.kubernetes.kubeconfig import read_kubeconfig, usual_login
from remit.providers.kubernetes.reader import PAGE, ClusterReader, Login

DISCOVERY: Final = "/.well-known/openid-configuration"
_RBAC: Final = "rbac.authorization.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"
_READ: Final = "kinds read"


class Listed(NamedTuple):
    """A kind that is listed over the whole cluster."""

    group: str
    resource: str
    kind: str
    why: str

    @property
    def version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/v1/{self.resource}" if self.group else f"/api/v1/{self.resource}"


LISTED: Final = (
    Listed("", "namespaces", "Namespace", "owner, environment and pod security of each namespace"),
    Listed("", "serviceaccounts", "ServiceAccount", "the identities themselves, and the cloud identities they name"),
    Listed(_RBAC, "clusterroles", "ClusterRole", "what bindings give"),
    Listed(_RBAC, "clusterrolebindings", "ClusterRoleBinding", "who holds which rights in the cluster"),
    Listed(_RBAC, "roles", "Role", "what bindings give"),
    Listed(_RBAC, "rolebindings", "RoleBinding", "who holds which rights in a namespace"),
    Listed("", "secrets", "Secret", "names and types; values only with `secrets=values`"),
    Listed("", "pods", "Pod", "what runs as whom, with which tokens, on which node"),
    Listed("apps", "deployments", "Deployment", "workloads and their accounts"),
    Listed("apps", "statefulsets", "StatefulSet", "workloads and their accounts"),
    Listed("apps", "daemonsets", "DaemonSet", "workloads and their accounts"),
    Listed("apps", "replicasets", "ReplicaSet", "to tell whose pods they are"),
    Listed("batch", "jobs", "Job", "workloads and their accounts"),
    Listed("batch", "cronjobs", "CronJob", "workloads and their accounts"),
    Listed("networking.k8s.io", "networkpolicies", "NetworkPolicy", "which namespaces have none"),
    Listed(_ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "what admission asks"),
    Listed(_ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", "what admission changes"),
    Listed(_ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "what admission refuses"),
)


def cluster_role() -> dict[str, Any]:
    """The least rights with which everything is seen, as an object for `kubectl apply`."""
    groups: dict[str, list[str]] = {}
    for one in LISTED:
        groups.setdefault(one.group, []).append(one.resource)
    rules: list[dict[str, Any]] = [
        {"apiGroups": [group], "resources": resources, "verbs": ["list"]} for group, resources in groups.items()
    ]
    rules.append({"nonResourceURLs": [DISCOVERY], "verbs": ["get"]})
    metadata = {"name": "remit-discover"}
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def needs() -> tuple[Permission, ...]:
    """The rules of that role, one by one."""
    listed = (
        Permission(grant=f"ClusterRole rule: list {one.resource}{f'.{one.group}' if one.group else ''}", why=one.why)
        for one in LISTED
    )
    return (
        *listed,
        Permission(grant=f"ClusterRole rule: get nonResourceURL {DISCOVERY}", why="the issuer by which clouds know it"),
    )


@dataclass(slots=True)
class Server:
    """One API server. `values`: also fingerprint what Secrets hold; `without`: kinds that are left out on purpose."""

    source: str
    token: str = field(default="", repr=False)
    context: str = ""
    ca: str = ""
    values: bool = False
    without: frozenset[str] = frozenset()
    page: int = 0
    issuer: str = ""
    identity: str = ""
    """What the cluster is, whoever asks: the UID of its first namespace."""
    release: str = ""
    complete: set[str] = field(default_factory=set)
    """The kinds that were read to their end."""
    versions: dict[str, str] = field(default_factory=dict)
    _reader: ClusterReader | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Host and port, as a kubeconfig names the cluster."""
        return self._reader.url.removeprefix("https://") if self._reader else ""

    def open(self) -> None:
        """Find out which cluster it is; raises what the reader raises."""
        if strange := sorted(self.without - {one.resource for one in LISTED}):
            raise Rejected(
                "inventory.kubernetes.kind-unknown",
                f"`without` names `{strange[0][:60]}`, which is not read anyway",
                next_step="use plurals: " + ", ".join(one.resource for one in LISTED),
            )
        self._reader = ClusterReader(self._login(), page=self.page or PAGE)
        self._reader.open()
        try:
            found = self._reader.get("/api/v1/namespaces/kube-system")
        except Denied:
            found = None  # listing namespaces tells it too
        if found is None:
            listing = self._listing("namespaces")
            found = next((one for one in listing if _meta(one).get("name") == "kube-system"), None)
        self.identity = text(_meta(found or {}).get("uid"))

    def _listing(self, resource: str) -> tuple[Mapping[str, Any], ...]:
        assert self._reader is not None
        one = next(one for one in LISTED if one.resource == resource)
        try:
            listing = self._reader.list(one.path)
        except Denied:
            return ()
        return listing.items if listing else ()

    def _login(self) -> Login:
        login: Login | Path
        if self.source.startswith("https://"):
            login = Login(url=self.source, ca=_pem(self.ca), token=self.token)
            if not self.token:
                raise Rejected(
                    "inventory.kubernetes.token-missing",
                    "an address alone proves nothing",
                    next_step="give a token by `--secret-stdin`; `kubectl create token ACCOUNT` makes one",
                )
            return login
        login = usual_login(os.environ) if self.source == "api" else Path(self.source)
        return login if isinstance(login, Login) else read_kubeconfig(login, context=self.context, token=self.token)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def find_issuer(self) -> Iterator[Skipped]:
        """Read the issuer of its tokens, where that may be read."""
        assert self._reader is not None
        try:
            self.issuer = text((self._reader.get(DISCOVERY) or {}).get("issuer")).removeprefix("https://")
        except Denied as error:
            yield Skipped(what=DISCOVERY, reason="not-permitted", detail=error.message)

    def read(self, cluster: Cluster, scan: Scan, limit: int) -> Iterator[Skipped]:
        """Index every object of every kind; a kind that is forbidden is said and left out.

        Raises `Unavailable` when the server fails half-way: what it did not show then is not gone.
        """
        assert self._reader is not None
        count = 0
        for one in LISTED:
            if one.resource in self.without or scan.stopped():
                continue
            try:
                listing = self._reader.list(one.path, table=one.kind == "Secret" and not self.values)
            except Denied as error:
                yield Skipped(what=f"{one.resource} of the cluster", reason="not-permitted", detail=error.message)
                continue
            self.complete.add(one.resource)
            if listing is None:
                continue
            self.versions[one.resource] = listing.version
            for body in listing.items:
                count += 1
                if count > limit:
                    yield Skipped(what=one.resource, reason="too-large", detail=f"more than {limit} objects")
                    return
                yield from self._add(cluster, one, body)
            scan.progress(count, one.resource)

    def _add(self, cluster: Cluster, of: Listed, body: Mapping[str, Any]) -> Iterator[Skipped]:
        typed = {**body, "kind": of.kind, "apiVersion": of.version}
        for item in read_objects(Document(self.address, 1, typed)):
            if isinstance(item, Object):
                where = Place(system="kubernetes", path=f"{self.address}/{of.resource}/{item.local}")
                cluster.add(replace(item, place=where))
            else:
                yield item

    def require_whole(self, scan: Scan) -> None:
        """Remember what was read; raise where a kind that was read last time is forbidden now.

        Else its objects would be retired though they are there. Raises `Denied`
        (`inventory.kubernetes.permission-lost`), after everything else was delivered.
        """
        before = set(scan.recalled.get(_READ, "").split()) - self.without
        if lost := sorted(before - self.complete):
            raise Denied(
                "inventory.kubernetes.permission-lost",
                f"`{lost[0]}` was read last time and is forbidden now; what was known of it is kept",
                next_step=f"give the right back, or leave it out for good with `--set without={','.join(lost)}`",
            )
        scan.remember(_READ, " ".join(sorted(self.complete)))
        scan.remember("resource versions", " ".join(f"{key}={value}" for key, value in sorted(self.versions.items())))


def _meta(body: Mapping[str, Any]) -> Mapping[str, Any]:
    found = body.get("metadata")
    return found if isinstance(found, dict) else {}


def _pem(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        raise Rejected(
            "inventory.source.unreadable",
            f"the file of certificate authorities `{path[:120]}` cannot be read",
            next_step="name a PEM file, or leave `ca` out for the system's own",
        ) from None
