"""The Kubernetes connector: manifests in, facts out.

RBAC joins objects of many files, so the objects are indexed first (bounded by `MAX_OBJECTS`) and then translated one
by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from remit.inventory.connectors.kubernetes import hubs
from remit.inventory.connectors.kubernetes.accounts import implicit_account, membership_edges, translate_account
from remit.inventory.connectors.kubernetes.names import Names
from remit.inventory.connectors.kubernetes.objects import MAX_OBJECTS, WORKLOADS, Cluster, Object, read_objects
from remit.inventory.connectors.kubernetes.powers import admin_scopes, reach_edges
from remit.inventory.connectors.kubernetes.reading import find_files, read_documents
from remit.inventory.connectors.kubernetes.rules import Holding, Subject, holdings
from remit.inventory.connectors.kubernetes.secrets import translate_secret
from remit.inventory.connectors.kubernetes.workloads import account_of, controlled, translate_workload
from remit.inventory.connectors.port import Blind, ConnectorManifest, Permission, Scan
from remit.inventory.model import Fact, Place, Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name

MANIFEST = ConnectorManifest(
    id="kubernetes",
    record_of=("kubernetes", "oidc"),
    title="Kubernetes manifests",
    source="a directory or file of manifests: YAML, JSON, or what `kubectl get … -o json` wrote",
    observes=(
        "service accounts and the cloud identities that their annotations name",
        "RBAC: what each subject can reach, read, become or impersonate",
        "secrets by fingerprint, service account tokens, registry passwords, private keys",
        "workloads: as whom they run, which secrets they get, how they could leave their container",
    ),
    needs=(
        Permission(
            grant="read access to the files",
            why="to read manifests; `kubectl get sa,roles,rolebindings,secrets,deploy,… -A -o json` makes them",
        ),
    ),
    blind_to=(
        Blind(what="what runs but has no manifest", why="only files are read, not the API server"),
        Blind(
            what="Helm templates and Kustomize overlays", why="they are not rendered; render them and read the result"
        ),
        Blind(
            what="custom resources",
            why="their meaning is their operator's; ExternalSecret and SealedSecret are named as skipped",
        ),
        Blind(what="EKS Pod Identity associations", why="they live in AWS, not in the cluster"),
        Blind(what="admission policies", why="what a policy would refuse is still shown as possible"),
    ),
    hazards=("a manifest directory that holds Secrets is itself a place where secrets lie",),
)


@dataclass(frozen=True, slots=True)
class Estate:
    """The whole of what was read."""

    cluster: Cluster
    held: dict[Subject, list[Holding]]
    privileged: frozenset[Subject]


@dataclass(frozen=True, slots=True)
class One:
    """One object to translate."""

    estate: Estate = field(repr=False)
    item: Object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Holder:
    """One subject of RBAC to translate."""

    estate: Estate = field(repr=False)
    subject: Subject


@dataclass(frozen=True, slots=True)
class Whole:
    """The cluster as a whole."""

    estate: Estate = field(repr=False)


Raw: TypeAlias = One | Holder | Whole


class KubernetesConnector:
    """Reads manifests below `path`.

    `cluster` names the cluster, so that several directories of one cluster are one instance; without it the directory
    is the instance. `issuer` is the cluster's OIDC issuer without `https://`: clouds know its service accounts by it.
    """

    manifest = MANIFEST

    def __init__(self, path: str | Path, *, cluster: str | None = None, issuer: str | None = None) -> None:
        self._path = Path(path)
        resolved = str(self._path.resolve())
        self._instance = cluster or "path-" + hashlib.sha256(resolved.encode("utf-8", "replace")).hexdigest()[:12]
        self._scope = resolved
        self._issuer = (issuer or self._instance).removeprefix("https://")
        self._names = Names(self._instance)

    @property
    def instance(self) -> str:
        return self._instance

    @property
    def scope(self) -> str:
        return self._scope

    def open(self) -> None:
        """Check that there is something to read; `Rejected` (`inventory.source.missing`)."""
        if not self._path.is_dir() and not self._path.is_file():
            raise Rejected(
                "inventory.source.missing",
                f"there is no file or directory `{self._path}`",
                next_step="name a directory of manifests, or a file written by `kubectl get -A -o json`",
            )

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Read all files, then hand out objects, subjects and the cluster."""
        cluster = Cluster()
        yield from self._read(cluster, scan)
        held, unknown = holdings(cluster)
        yield from unknown
        estate = Estate(cluster, held, frozenset(s for s, rights in held.items() if admin_scopes(rights)))
        yield Whole(estate)
        for subject in held:
            yield Holder(estate, subject)
        for item in cluster.all("ServiceAccount", "Secret", *WORKLOADS):
            if scan.stopped():
                yield Skipped(what=str(self._path), reason="changed-while-read", detail="stopped before the end")
                return
            if item.kind not in WORKLOADS or not controlled(item, cluster):
                yield One(estate, item)

    def _read(self, cluster: Cluster, scan: Scan) -> Iterator[Skipped]:
        count = objects = 0
        for file in find_files(self._path.resolve(), scan.stopped):
            if isinstance(file, Skipped):
                yield file
                continue
            shown = file.name if file == self._path.resolve() else str(file.relative_to(self._path.resolve()))
            for document in read_documents(file, shown):
                for item in [document] if isinstance(document, Skipped) else read_objects(document):
                    if isinstance(item, Skipped):
                        yield item
                        continue
                    objects += 1
                    if objects > MAX_OBJECTS:
                        yield Skipped(what=shown, reason="too-large", detail=f"more than {MAX_OBJECTS} objects")
                        return
                    cluster.add(item)
            count += 1
            if count % 100 == 0:
                scan.progress(count, shown)

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of one object, subject, or the cluster."""
        match raw:
            case Whole():
                return self._whole(raw.estate)
            case Holder():
                return self._holder(raw.estate, raw.subject)
            case One():
                return self._one(raw.estate, raw.item, scan)

    def _whole(self, estate: Estate) -> Iterator[Fact]:
        cluster, names = estate.cluster, self._names
        place = Place(system="kubernetes", path=self._scope)
        workloads = [item for item in cluster.all(*WORKLOADS) if not controlled(item, cluster)]
        used: dict[tuple[str, str], Place] = {(item.namespace, account_of(item)): item.place for item in workloads}
        for subject, rights in estate.held.items():
            if subject.kind == "ServiceAccount":
                used.setdefault((subject.namespace, subject.name), rights[0].binding.place if rights else place)
        yield from hubs.translate_hubs(names, sorted({*cluster.namespaces(), *(n for n, _ in used)}), place)
        groups = [subject.name for subject in estate.held if subject.kind == "Group"]
        for (namespace, local), where in used.items():
            if not cluster.get("ServiceAccount", namespace, local):
                privileged = Subject("ServiceAccount", namespace, local) in estate.privileged
                yield implicit_account(namespace, local, names, self._issuer, where, privileged=privileged)
                yield hubs.account_edge(names, namespace, local, where)
                yield from membership_edges(namespace, local, groups, names, where)
        yield from hubs.shared_account_findings(workloads, cluster, names, estate.held)

    def _holder(self, estate: Estate, subject: Subject) -> Iterator[Fact]:
        held = estate.held[subject]
        identity = self._identity(subject)
        if held:
            yield from hubs.translate_subject(subject, identity, held[0].binding.place)
        yield from reach_edges(identity, held, self._names)
        yield from hubs.rights_findings(subject, identity, held)

    def _identity(self, subject: Subject) -> Name:
        match subject.kind:
            case "ServiceAccount":
                return self._names.account(subject.namespace, subject.name)
            case "Group":
                return self._names.group(subject.name)
            case _:
                return self._names.user(subject.name)

    def _one(self, estate: Estate, item: Object, scan: Scan) -> Iterator[Fact]:
        names = self._names
        match item.kind:
            case "ServiceAccount":
                groups = [subject.name for subject in estate.held if subject.kind == "Group"]
                privileged = Subject("ServiceAccount", item.namespace, item.name) in estate.privileged
                yield from translate_account(item, estate.cluster, names, self._issuer, privileged=privileged)
                yield hubs.account_edge(names, item.namespace, item.name, item.place)
                yield from membership_edges(item.namespace, item.name, groups, names, item.place)
            case "Secret":
                yield from translate_secret(item, estate.cluster, names, scan.fingerprint)
                yield hubs.secret_edge(names, item)
            case _:
                yield from translate_workload(item, estate.cluster, names, scan.fingerprint)
                yield hubs.workload_edge(names, item)

    def close(self) -> None:
        """Nothing stays open."""
