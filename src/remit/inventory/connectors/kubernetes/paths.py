"""Who gets to administer the cluster by some path, though no binding says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from remit.inventory.connectors.kubernetes.names import EVERY
from remit.inventory.model import EdgeFact, FindingFact, Place, Relation, Severity, Skipped
from remit.kernel.ids import Name, parse_name

MAX_EDGES = 2_000_000
_MAX_FINDINGS = 2_000
_SHOWN = 8


def admin_findings(
    edges: Iterable[EdgeFact], admin: Name, subjects: Mapping[Name, str], place: Place
) -> Iterator[FindingFact | Skipped]:
    """One finding for each of `subjects` (title by name) with a path to `admin` of more than one step.

    Paths without conditions are searched first; the search ends after `MAX_EDGES` edges, and says so.
    """
    into: dict[Name, list[EdgeFact]] = {}
    for count, edge in enumerate(edges):
        if count >= MAX_EDGES:
            detail = f"paths to {admin} were searched in the first {MAX_EDGES} edges"
            yield Skipped(what="paths to administration", reason="too-large", detail=detail)
            break
        into.setdefault(edge.target, []).append(edge)
    step: dict[Name, EdgeFact] = {}
    certain = _search(into, deque([admin]), step, admin, conditional=False)
    yield from _findings(certain - {admin}, step, admin, subjects, sure=True)
    found = _search(into, deque([admin, *step]), step, admin, conditional=True)
    yield from _findings(found - certain - {admin}, step, admin, subjects, sure=False)


def _search(
    into: Mapping[Name, list[EdgeFact]],
    queue: deque[Name],
    step: dict[Name, EdgeFact],
    admin: Name,
    *,
    conditional: bool,
) -> set[Name]:
    """Everything from which `admin` is reached; `step` gets the next edge on a shortest way from each."""
    while queue:
        for edge in into.get(queue.popleft(), ()):
            if edge.source != admin and edge.source not in step and (conditional or not edge.conditions):
                step[edge.source] = edge
                queue.append(edge.source)
    return set(step)


def _findings(
    found: set[Name], step: Mapping[Name, EdgeFact], admin: Name, subjects: Mapping[Name, str], *, sure: bool
) -> Iterator[FindingFact | Skipped]:
    shown = 0
    for subject, title in subjects.items():
        if subject not in found:
            continue
        path = list(_path(subject, step, admin))
        if len(path) < 2 and path[0].actions == ("*",):
            continue  # it is administrator already, and another finding says so
        if path[0].relation is Relation.RUNS_AS:
            continue  # its account has the finding
        shown += 1
        if shown > _MAX_FINDINGS:
            detail = f"more than {_MAX_FINDINGS} identities get to administer the cluster"
            yield Skipped(what="paths to administration", reason="too-large", detail=detail)
            return
        yield _finding(subject, title, path, sure=sure)


def _path(start: Name, step: Mapping[Name, EdgeFact], admin: Name) -> Iterator[EdgeFact]:
    while start != admin:
        yield step[start]
        start = step[start].target


def _finding(subject: Name, title: str, path: list[EdgeFact], *, sure: bool) -> FindingFact:
    conditions = list(dict.fromkeys(text for edge in path for text in edge.conditions))
    hops = " → ".join([_short(subject), *(_short(edge.target) for edge in path[:_SHOWN])])
    more = f" … ({len(path)} steps)" if len(path) > _SHOWN else ""
    given = "" if sure else f"; if {' and '.join(conditions[:3])}"
    return FindingFact(
        rule="kubernetes.path-to-cluster-admin" if sure else "kubernetes.possible-path-to-cluster-admin",
        severity=Severity.HIGH if sure else Severity.MEDIUM,
        title=f"{title} {'gets' if sure else 'may get'} to administer the cluster",
        detail=f"{hops}{more}{given}; {path[0].evidence}"[:2_000],
        next_step=next((edge.cut for edge in path if edge.cut), "take one of the steps away")[:500],
        place=path[0].place,
        subject=subject,
    )


def _short(name: Name) -> str:
    parts = parse_name(name)
    if parts is None:
        return name
    kind, local = parts[2].replace("-", " "), parts[3]
    return f"{kind} of the cluster" if local == EVERY else f"{kind} {local}"
