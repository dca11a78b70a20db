"""The Kubernetes connector: manifests or the API in, facts out.

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
from remit.inventory.connectors.kubernetes.escapes import escape_edges, openings
from remit.inventory.connectors.kubernetes.estate import Estate
from remit.inventory.connectors.kubernetes.exposure import translate_exposure
from remit.inventory.connectors.kubernetes.issuer import stated_issuer
from remit.inventory.connectors.kubernetes.machines import translate_machines
from remit.inventory.connectors.kubernetes.names import EVERY, Names
from remit.inventory.connectors.kubernetes.objects import MAX_OBJECTS, WORKLOADS, Cluster, Object, read_objects
from remit.inventory.connectors.kubernetes.paths import admin_findings
from remit.inventory.connectors.kubernetes.reach import large_grants, subject_facts
from remit.inventory.connectors.kubernetes.reading import find_files, read_documents
from remit.inventory.connectors.kubernetes.rules import Subject
from remit.inventory.connectors.kubernetes.secrets import translate_secret
from remit.inventory.connectors.kubernetes.server import Server, needs
from remit.inventory.connectors.kubernetes.workloads import (
    account_of,
    containers_of,
    controlled,
    pod_spec,
    references,
    runs_as,
    token_mounted,
    translate_workload,
)
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import EdgeFact, Fact, Place, Relation, ResourceFact, Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name

MANIFEST = ConnectorManifest(
    id="kubernetes",
    record_of=("kubernetes", "oidc"),
    title="Kubernetes",
    source="the API (`api`, a kubeconfig, an https address), or manifests: what `kubectl get … -o json` wrote too",
    observes=(
        "service accounts and the cloud identities that their annotations name",
        "RBAC: what each subject can reach, read, become or impersonate",
        "secrets by fingerprint, service account tokens, registry passwords, private keys",
        "workloads: as whom they run, which secrets they get, how they could leave their container",
        "admission, pod security and network policies (API)",
    ),
    options=(
        Option(name="cluster", help="name of the cluster: manifests and API of one cluster get the same"),
        Option(
            name="issuer", help="OIDC issuer of the cluster: joins service accounts with cloud roles; the API tells"
        ),
        Option(name="context", help="context of a kubeconfig, else its current one"),
        Option(name="ca", help="PEM file of certificate authorities, with an https address"),
        Option(name="secrets", help="`values`: also fingerprint what Secrets hold; else names and types (API)"),
        Option(name="without", help="kinds to leave out, as plurals with commas: `secrets,pods` (API)"),
    ),
    needs=(
        Permission(
            grant="manifests: read access to the files",
            why="`kubectl get sa,roles,rolebindings,secrets,deploy,… -A -o json` makes them",
        ),
        *needs(),
    ),
    blind_to=(
        Blind(what="what runs but has no manifest (manifests)", why="only files are read then, not the API server"),
        Blind(
            what="users and groups without a binding (API)",
            why="Kubernetes keeps none: a certificate or OIDC names them",
        ),
        Blind(
            what="Helm templates and Kustomize overlays", why="they are not rendered; render them and read the result"
        ),
        Blind(
            what="custom resources",
            why="their meaning is their operator's; ExternalSecret and SealedSecret are named as skipped",
        ),
        Blind(what="EKS Pod Identity associations", why="they live in AWS, not in the cluster"),
        Blind(
            what="what admission policies and webhooks decide",
            why="pod security labels are evaluated; what another controller may refuse is shown with a condition",
        ),
    ),
    hazards=(
        "a manifest directory that holds Secrets is itself a place where secrets lie",
        "RBAC knows no right to names alone: who may `list` secrets may read their values, though a table is asked",
    ),
)


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
    """Reads manifests below `path`, or the API of `server`.

    `cluster` names the cluster, so that several directories of one cluster are one instance; without it the directory
    is the instance. `issuer` is the cluster's OIDC issuer without `https://`: clouds know its service accounts by it.
    """

    manifest = MANIFEST

    def __init__(
        self,
        path: str | Path,
        *,
        cluster: str | None = None,
        issuer: str | None = None,
        server: Server | None = None,
    ) -> None:
        self._path = Path(path)
        self._server = server
        resolved = str(self._path.resolve())
        self._instance = cluster or "path-" + hashlib.sha256(resolved.encode("utf-8", "replace")).hexdigest()[:12]
        self._scope = resolved
        self._cluster = cluster
        self._given_issuer = (issuer or "").removeprefix("https://")
        self._issuer = self._given_issuer or self._instance
        self._names = Names(self._instance)

    @property
    def instance(self) -> str:
        return self._instance

    @property
    def scope(self) -> str:
        return self._scope

    def open(self) -> None:
        """Check that there is something to read; `Rejected` (`inventory.source.missing`), or what the API answers."""
        if self._server is not None:
            self._server.open()
            self._instance = self._cluster or self._server.identity or self._server.address
            self._scope = "api"
            self._names = Names(self._instance)
            self._issuer = self._given_issuer or self._instance
            return
        if not self._path.is_dir() and not self._path.is_file():
            raise Rejected(
                "inventory.source.missing",
                f"there is no file or directory `{self._path}`",
                next_step="name a directory of manifests, or a file written by `kubectl get -A -o json`",
            )

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Read all files, then hand out objects, subjects and the cluster."""
        cluster = Cluster()
        if self._server is not None:
            yield from self._server.find_issuer()
            self._issuer = self._given_issuer or self._server.issuer or self._instance
            yield from self._server.read(cluster, scan, MAX_OBJECTS)
        else:
            yield from self._read(cluster, scan)
            self._issuer = self._given_issuer or stated_issuer(cluster) or self._instance
        estate = Estate(cluster, self._names, self._server.complete if self._server is not None else ())
        yield from estate.skipped
        yield Whole(estate)
        for subject in estate.held:
            yield Holder(estate, subject)
        for item in cluster.all("ServiceAccount", "Secret", *WORKLOADS):
            if scan.stopped():
                yield Skipped(what=str(self._path), reason="changed-while-read", detail="stopped before the end")
                return
            if item.kind not in WORKLOADS or not controlled(item, cluster):
                yield One(estate, item)
        if self._server is not None and not scan.stopped():
            self._server.require_whole(scan)

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
        shared = [
            *hubs.translate_hubs(estate, sorted({*cluster.namespaces(), *(n for n, _ in used)}), place),
            *translate_machines(estate, place),
            *large_grants(estate),
        ]
        yield from shared
        for (namespace, local), where in used.items():
            if not cluster.get("ServiceAccount", namespace, local):
                privileged = estate.is_privileged(namespace, local)
                yield implicit_account(namespace, local, names, self._issuer, where, privileged=privileged)
                yield hubs.account_edge(names, namespace, local, where)
                yield from membership_edges(namespace, local, estate.groups, names, where)
        yield from hubs.shared_account_findings(workloads, cluster, names, estate.held)
        yield from self._administration(estate, shared, used, workloads, place)
        if self._server is not None:
            yield self._itself(self._server, place)
            yield from translate_exposure(cluster, names, self._server.complete, place)

    def _administration(
        self,
        estate: Estate,
        shared: list[Fact],
        used: dict[tuple[str, str], Place],
        workloads: list[Object],
        place: Place,
    ) -> Iterator[Fact]:
        """Who gets to administer the cluster, by a search over the edges of the cluster itself."""
        names, cluster = self._names, estate.cluster
        accounts = {**{(item.namespace, item.name): item.place for item in cluster.all("ServiceAccount")}, **used}
        subjects = {
            **{names.account(*each): f"service account {'/'.join(each)}" for each in accounts},
            **{
                estate.identity(each): f"{each.kind.lower()} {each.name}"
                for each in estate.held
                if each.kind != "ServiceAccount"
            },
            **{names.of(each.kind.lower(), each.local): f"{each.kind.lower()} {each.local}" for each in workloads},
        }
        for subject in [each for each in estate.held if estate.is_bootstrap(each)]:
            subjects.pop(estate.identity(subject), None)

        def edges() -> Iterator[Fact]:
            yield from shared
            for subject in estate.held:
                yield from self._reach(estate, subject)
            for (namespace, local), where in accounts.items():
                yield hubs.account_edge(names, namespace, local, where)
                yield from membership_edges(namespace, local, estate.groups, names, where)
            for secret in cluster.all("Secret"):
                yield hubs.secret_edge(names, secret)
                if edge := hubs.token_edge(names, secret):
                    yield edge
            for item in workloads:
                yield from _steps(estate, item)

        found = (edge for edge in edges() if isinstance(edge, EdgeFact))
        yield from admin_findings(found, names.admin(EVERY), subjects, place)

    def _reach(self, estate: Estate, subject: Subject) -> list[Fact]:
        if subject not in estate.reached:
            estate.reached[subject] = list(subject_facts(estate, subject))
        return estate.reached[subject]

    def _itself(self, server: Server, place: Place) -> ResourceFact:
        return ResourceFact(
            name=self._names.of("cluster", self._instance),
            kind="cluster",
            title=f"Kubernetes at {server.address}",
            place=place,
            attributes={
                "server": server.address,
                "issuer": self._issuer,
                "resource_version": max(server.versions.values(), key=_number, default=""),
                "network_policies": "networkpolicies" in server.complete,
            },
        )

    def _holder(self, estate: Estate, subject: Subject) -> Iterator[Fact]:
        held = estate.held[subject]
        identity = estate.identity(subject)
        if held:
            yield from hubs.translate_subject(subject, identity, held[0].binding.place, self._elsewhere(subject))
        yield from self._reach(estate, subject)
        yield from hubs.rights_findings(subject, identity, held)

    def _elsewhere(self, subject: Subject) -> tuple[Name, ...]:
        """What a kubeconfig calls a user or group of this cluster: by the server's address."""
        if self._server is None or subject.kind == "ServiceAccount" or self._server.address == self._instance:
            return ()
        names = Names(self._server.address)
        return (names.group(subject.name) if subject.kind == "Group" else names.user(subject.name),)

    def _one(self, estate: Estate, item: Object, scan: Scan) -> Iterator[Fact]:
        names = self._names
        match item.kind:
            case "ServiceAccount":
                privileged = estate.is_privileged(item.namespace, item.name)
                yield from translate_account(item, estate.cluster, names, self._issuer, privileged=privileged)
                yield hubs.account_edge(names, item.namespace, item.name, item.place)
                yield from membership_edges(item.namespace, item.name, estate.groups, names, item.place)
            case "Secret":
                yield from translate_secret(
                    item, estate.cluster, names, scan.fingerprint, live=self._server is not None
                )
                yield hubs.secret_edge(names, item)
                if edge := hubs.token_edge(names, item):
                    yield edge
            case _:
                yield from translate_workload(item, estate, scan.fingerprint)
                yield hubs.workload_edge(names, item)

    def close(self) -> None:
        """Close the connections to the API; of files nothing stays open."""
        if self._server is not None:
            self._server.close()


def _steps(estate: Estate, item: Object) -> Iterator[EdgeFact]:
    """The edges that leave a workload inside the cluster."""
    identity, spec = estate.names.of(item.kind.lower(), item.local), pod_spec(item)
    yield hubs.workload_edge(estate.names, item)
    if token_mounted(item, estate.cluster):
        yield runs_as(item, identity, estate.names, estate.cluster)
    yield from escape_edges(item, identity, list(openings(spec, list(containers_of(spec)))), estate)
    for use in references(item, estate.cluster):
        yield EdgeFact(
            source=identity,
            relation=Relation.CAN_REACH,
            target=estate.names.secret(item.namespace, use.secret),
            evidence=f"{use.how} of {item.kind} {item.local}",
            place=item.place,
            conditions=(use.condition,) if use.condition else (),
        )


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else 0, version)
