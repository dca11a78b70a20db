"""From grants and task definitions to a segment: who may reach a target, from the places that are registered.

A place is a fact of the task: the user for whom its definition is signed, the namespace that its proof names, or the
networks and labels that a person registered. Nothing that a caller says of itself opens anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remit.access.model import Target
from remit.access.segments.model import NAMESPACE, LeftOut, Opening, Place, Segment, Source
from remit.access.tasks.model import Program, TaskDefinition

_LOOPBACK = ("127.0.0.1/32", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """A task that may have a role on the target: by a grant in force, or by policy."""

    task: TaskDefinition
    role: str
    """The group role on the target."""
    database: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a segment is built from; all of it verified by whoever read it."""

    instance: str
    target: Target
    permitted: Sequence[Permitted]
    places: Mapping[str, Place]
    uid: int
    address: str = ""
    patterns: bool = False


def build(now: Situation) -> Segment:
    """The segment of one target. The order of what is given does not matter."""
    target = now.target
    place = now.places.get(f"target:{target.name}")
    openings: list[Opening] = []
    left_out: list[LeftOut] = []
    by_task: dict[str, list[Permitted]] = {}
    for each in now.permitted:
        by_task.setdefault(each.task.name, []).append(each)
    for name, several in sorted(by_task.items()):
        task = several[0].task
        source, lacks = _source(task, now.places.get(f"task:{name}"))
        if lacks:
            left_out.append(LeftOut(task=name, why=lacks))
            continue
        openings.append(
            Opening(
                identity=task.identity,
                task=name,
                why="; ".join(sorted({each.why for each in several})),
                source=source,
                roles=tuple(sorted({(each.database, each.role) for each in several})),
            )
        )
    return Segment(
        instance=now.instance,
        target=target.name,
        system=target.system,
        networks=_networks(target, place),
        port=target.port,
        tls=_tls(target),
        admin=target.user,
        uid=now.uid,
        address=now.address,
        patterns=now.patterns,
        place=place,
        openings=tuple(openings),
        left_out=tuple(left_out),
    )


def _source(task: TaskDefinition, place: Place | None) -> tuple[Source, str]:
    networks = place.addresses if place is not None else ()
    labels = tuple(sorted(place.labels.items())) if place is not None else ()
    namespace = place.namespace if place is not None else ""
    if isinstance(task.program, Program):
        if task.uid is None and not networks:
            return Source(), "it is registered for no user: register it with `--user`"
        return Source(uid=task.uid, networks=networks, namespace=namespace, labels=labels), ""
    proved = _namespace_of(task.program.selectors)
    if proved and namespace and proved != namespace:
        return Source(), f"its proof names the namespace `{proved}`, its place another one"
    if not networks and not labels:
        return Source(), f"nobody registered its place: `remit segment place task:{task.name} --from NETWORK`"
    return Source(networks=networks, namespace=namespace or proved, labels=labels), ""


def _namespace_of(selectors: Sequence[str]) -> str:
    """The namespace that a Kubernetes task proves, from `k8s_psat:namespace:CLUSTER/NAMESPACE` and the like."""
    for selector in selectors:
        attestor, _, rest = selector.partition(":")
        key, _, value = rest.partition(":")
        parts = value.split("/")
        if attestor == "k8s_psat" and key in ("namespace", "service_account") and len(parts) > 1:
            return parts[1] if NAMESPACE.fullmatch(parts[1]) else ""
    return ""


def _networks(target: Target, place: Place | None) -> tuple[str, ...]:
    if target.host.startswith("/"):
        return ()
    if place is not None and place.addresses:
        return place.addresses
    if target.host == "localhost":
        return _LOOPBACK
    try:
        return (str(ipaddress.ip_network(target.host)),)
    except ValueError:
        return ()


def _tls(target: Target) -> bool:
    if target.host.startswith("/"):
        return False
    mode = target.options.get("sslmode", "")
    local = set(_networks(target, None)) <= set(_LOOPBACK) and bool(_networks(target, None))
    return mode != "disable" if mode else not local
