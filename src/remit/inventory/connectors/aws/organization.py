"""The organisation above an account: which of its policies stand between a principal and what its own policies allow.

Each level from the root down to the account must allow (SCP); a denial at any of them is final (SCP and RCP). The
management account and service-linked roles are free of both.

Spec: AWS Organizations User Guide, "SCP evaluation", "RCP evaluation"; API Reference, ListRoots, ListPolicies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from remit.inventory.connectors.aws.policy import MalformedPolicyError, Policy, parse_document

_MAX_DEPTH: Final = 16
_OPEN: Final = ("p-FullAWSAccess", "p-RCPFullAWSAccess", "FullAWSAccess", "RCPFullAWSAccess")
_KINDS: Final = {"SERVICE_CONTROL_POLICY": "SCP", "RESOURCE_CONTROL_POLICY": "RCP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What an organisation sets for one account."""

    organization: str = ""
    path: str = ""
    """`o-…/r-…/ou-…/`, as `aws:PrincipalOrgPaths` has it."""
    levels: tuple[tuple[Policy, ...], ...] = ()
    """Service control policies, from the root to the account; empty where none apply."""
    resources: tuple[Policy, ...] = ()
    """Resource control policies of all levels: only their denials count."""


@dataclass(slots=True)
class _Tree:
    parents: dict[str, str] = field(default_factory=dict)
    attached: dict[str, list[tuple[str, Policy]]] = field(default_factory=dict)
    """(kind, policy) by the id of a root, unit or account."""


def guards_of(organization: Any, account: str) -> tuple[Guards, list[str]]:
    """What the organisation (`Organization`, `Roots`, `OrganizationalUnits`, `Accounts`, `Policies` in the words of its
    API) sets for `account`, and what of it cannot be read."""
    if not isinstance(organization, dict):
        return Guards(), []
    tree, unreadable = _tree(organization)
    about = _inner(organization, "Organization")
    number = str(about.get("Id") or "")
    way = list(_way(tree, account))
    path = "/".join((number, *reversed(way[1:]), "")) if number and len(way) > 1 else ""
    if account == str(about.get("MasterAccountId") or about.get("ManagementAccountId") or ""):
        return Guards(organization=number, path=path), unreadable
    if account not in tree.parents and account not in tree.attached:
        return Guards(organization=number), [*unreadable, f"account {account} is not in the organisation that is shown"]
    levels = [tuple(p for kind, p in tree.attached.get(node, ()) if kind == "SCP") for node in reversed(way)]
    resources = tuple(p for node in way for kind, p in tree.attached.get(node, ()) if kind == "RCP")
    # Where service control policies are on, every level has one at least; none at all means that they are off.
    on = any(levels) or any("SCP policy" in text for text in unreadable)
    return Guards(organization=number, path=path, levels=tuple(levels) if on else (), resources=resources), unreadable


def _way(tree: _Tree, account: str) -> Iterator[str]:
    """From the account up to the root."""
    node: str | None = account
    for _ in range(_MAX_DEPTH):
        if node is None:
            return
        yield node
        node = tree.parents.get(node)


def _tree(organization: Mapping[str, Any]) -> tuple[_Tree, list[str]]:
    tree, unreadable = _Tree(), []
    for key in ("Roots", "OrganizationalUnits", "Accounts"):
        for entry in _entries(organization, key):
            number, parent = entry.get("Id"), _parent(entry)
            if isinstance(number, str):
                tree.attached.setdefault(number, [])
            if isinstance(number, str) and parent:
                tree.parents[number] = parent
    for given in _entries(organization, "Policies"):
        entry = {**given, **_inner(given, "Policy")}
        about = _inner(entry, "PolicySummary")
        kind, name = _KINDS.get(str(about.get("Type"))), str(about.get("Name") or about.get("Id") or "?")
        if kind is None:
            continue
        try:
            statements = parse_document(entry.get("Content") or entry.get("Document") or _managed(about))
        except MalformedPolicyError as error:
            unreadable.append(f"{kind} policy {name}: {error}")
            statements = ()
        policy = Policy(label=f"{kind} {name}", arn=str(about.get("Arn") or "") or None, statements=statements)
        for target in _entries(entry, "Targets"):
            tree.attached.setdefault(str(target.get("TargetId") or target.get("Id") or ""), []).append((kind, policy))
        for target in entry.get("Targets") or () if isinstance(entry.get("Targets"), list) else ():
            if isinstance(target, str):
                tree.attached.setdefault(target, []).append((kind, policy))
    return tree, unreadable


def _managed(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the policies that AWS attaches itself say: listings leave it out."""
    if about.get("Id") not in _OPEN and about.get("Name") not in _OPEN:
        return None
    return {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def _parent(entry: Mapping[str, Any]) -> str:
    for key in ("ParentId", "Parent"):
        if isinstance(entry.get(key), str):
            return str(entry[key])
    parents = _entries(entry, "Parents")
    return str(parents[0].get("Id") or "") if parents else ""


def _inner(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; where the answer was unwrapped, the object itself."""
    found = of.get(key)
    return found if isinstance(found, dict) else of


def _entries(of: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = of.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
