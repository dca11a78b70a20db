"""AWS policies: what the statements of one user or role allow, and the least that what it did needs.

Denials, the boundary and the trust policy stay as they are, so that only what is allowed makes a difference. A
resource is narrowed to the observed ARNs, within the statement that allowed it and under its conditions; where the
trail does not say on what, the statement's own resources stay.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from remit.governance.rightsizing.languages.aws_levels import (
    DATA,
    HANDS_OVER,
    all_but,
    expanded,
    level_of,
    shown,
)
from remit.governance.rightsizing.model import Draft, Right, Text, admitted, ratio_of
from remit.inventory.connectors.aws.account import read_account
from remit.inventory.connectors.aws.patterns import covers, meets
from remit.inventory.connectors.aws.permissions import Permissions
from remit.inventory.connectors.aws.policy import Statement, parse_document
from remit.inventory.use.deeds import folded
from remit.inventory.use.model import Deed

NAME: Final = "remit-right-sized"
MOST_ARNS: Final = 20
"""Of one action within one statement; beyond it they are joined under the longest pattern of their container."""
_INLINE: Final = {"user": 2048, "role": 10240}
_MANAGED: Final = 6144
_VARIABLE: Final = re.compile(r"\$\{([^}]{0,300})\}")
_OBJECT: Final = re.compile(r"arn:[a-z-]+:s3:::[^/]+/.+")
"""Keys of objects are data, and others tomorrow: they are narrowed to their bucket, within what is granted."""
_BESIDE: Final = {"s3:getobject": "s3:listbucket", "s3:putobject": "s3:listbucket"}
"""Without the second, a missing object is refused instead of missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One policy of a principal: `inline`, `managed`, or of a group (`group`, then `owner` is its name)."""

    kind: str
    name: str
    document: Mapping[str, Any]
    arn: str = ""
    owner: str = ""

    @property
    def statements(self) -> list[Mapping[str, Any]]:
        listed = self.document.get("Statement", [])
        return [listed] if isinstance(listed, dict) else list(listed)


@dataclass(frozen=True, slots=True)
class _Said:
    """One Allow: as it was written, and as it is evaluated."""

    raw: Mapping[str, Any]
    statement: Statement
    conditions: str
    """Of the raw statement, canonical; empty: none."""
    label: str

    def allows(self, action: str, resource: str) -> bool:
        return self.statement.covers_action(action) and self.statement.covers_resource(resource)

    def about(self, action: str, resource: str) -> bool:
        return self.statement.meets_action(action) and self.statement.meets_resource(resource)


class Principal:
    """The policies of one user or role; `Holding` and `Judge`."""

    language = "aws"

    def __init__(self, kind: str, name: str, account: str, sources: Sequence[Source], *, data_events: bool = False,
                 details: Mapping[str, Any] | None = None) -> None:  # fmt: skip
        self.kind, self.name, self.account, self.sources = kind, name, account, tuple(sources)
        self._data_events, self._details = data_events, details
        self._asked: list[Permissions | None] = []
        self._speaking: dict[str, list[_Said]] = {}
        self._whole: dict[tuple[str, str], list[_Said]] = {}
        self._allows = [
            said for source in self.sources for raw in source.statements if (said := self._read(raw, source.name))
        ]

    def _read(self, raw: Mapping[str, Any], label: str) -> _Said | None:
        if raw.get("Effect") != "Allow":
            return None
        statement = parse_document({"Statement": [_filled(raw, self.kind, self.name)]})[0]
        conditions = json.dumps(raw["Condition"], sort_keys=True) if raw.get("Condition") else ""
        return _Said(raw, statement, conditions, label)

    # -- judging

    def speaking(self, action: str) -> list[_Said]:
        """What speaks of an action (lower case), found once: many acts are of the same."""
        if action not in self._speaking:
            self._speaking[action] = [said for said in self._allows if said.statement.meets_action(action)]
        return self._speaking[action]

    def allows(self, deed: Deed) -> bool:
        """Whether a statement allows it; of an act without a resource, whether one allows it on anything."""
        action = deed.action.lower()
        if not deed.resource:
            return bool(self.speaking(action))
        if self.whole(action, deed.resource):
            return True
        return deed.wide and any(said.about(action, deed.resource) for said in self.speaking(action))

    def whole(self, action: str, resource: str) -> list[_Said]:
        """What allows an action on all that a resource (or pattern) stands for, found once."""
        key = (action, resource)
        if key not in self._whole:
            self._whole[key] = [said for said in self.speaking(action) if said.statement.covers_resource(resource)]
        return self._whole[key]

    def allowing(self) -> Iterator[Statement]:
        """The statements that allow something."""
        return (said.statement for said in self._allows)

    def permissions_cached(self) -> Permissions | None:
        """`permissions`, made once."""
        if not self._asked:
            self._asked.append(self.permissions())
        return self._asked[0]

    def permissions(self) -> Permissions | None:
        """The effective permissions by the connector's own evaluator, boundary and denials applied."""
        details = self.details()
        if details is None:
            return None
        account, _ = read_account(details)
        found = (account.users if self.kind == "user" else account.roles).get(self.name)
        return None if found is None else Permissions(account, found)

    def details(self) -> dict[str, Any] | None:
        """The account's details with this principal's policies in the place of those that it has there."""
        if self._details is None:
            return None
        key = "UserDetailList" if self.kind == "user" else "RoleDetailList"
        inline = "UserPolicyList" if self.kind == "user" else "RolePolicyList"
        name = "UserName" if self.kind == "user" else "RoleName"
        entries = []
        for entry in self._details.get(key) or []:
            if isinstance(entry, dict) and entry.get(name) == self.name:
                policies = [
                    {"PolicyName": f"{source.kind}-{at}", "PolicyDocument": dict(source.document)}
                    for at, source in enumerate(self.sources)
                ]
                entry = {**entry, inline: policies, "AttachedManagedPolicies": [], "GroupList": []}
            entries.append(entry)
        return {**self._details, key: entries}

    def rights(self) -> dict[str, Any]:
        """Every action that is allowed anywhere (lower case) → its level."""
        found: set[str] = set()
        for said in self._allows:
            if said.statement.not_actions:
                found |= all_but(said.statement.actions)
            else:
                for pattern in said.statement.actions:
                    found |= expanded(pattern)
        return {action: level_of(action) for action in found}

    # -- proposing

    def draft(self, deeds: Sequence[Deed]) -> tuple[Draft, Proposed]:
        """The least policy, as one document in the place of all."""
        acts = admitted(deeds)
        needs = _Needs()
        notes: list[str] = []
        for deed in acts:
            self._need(needs, deed)
        notes += self._unseen(needs, acts)
        document = self._document(needs)
        before = {"Version": "2012-10-17", "Statement": [dict(raw) for s in self.sources for raw in s.statements]}
        same = _canonical(before) == _canonical(document)
        after = before if same else document
        # What is kept of several policies is one: judged as such.
        source = Source(kind="inline", name=NAME, document=after)
        proposed = Principal(self.kind, self.name, self.account, [source], data_events=self._data_events,
                             details=self._details)  # fmt: skip
        granted, kept = self.rights(), proposed.rights()
        used = {deed.action.lower() for deed in acts}
        gone = sorted(set(granted) - set(kept))
        size = len(json.dumps(after, separators=(",", ":")))
        if not same and size > _INLINE[self.kind]:
            notes.append(
                f"the policy has {size} characters: more than an inline policy of a {self.kind} may have"
                + ("; make a managed policy of it" if size <= _MANAGED else "; split it over several managed policies")
            )
        draft = Draft(
            texts=(Text(name=f"policies of {self.kind} {self.name}.json", before=_text(before), after=_text(after)),),
            removed=tuple(Right(action=shown(action), resource="*") for action in gone),
            commands=() if same else tuple(self._commands()), inverse=() if same else tuple(self._inverse()),
            notes=tuple(notes), granted=len(granted), used=len(used & set(granted)),
            ratio=ratio_of(granted, used),
        )  # fmt: skip
        return draft, Proposed(self, proposed)

    def _need(self, needs: _Needs, deed: Deed) -> None:
        action = deed.action.lower()
        if not deed.resource:
            for said in self.speaking(action):
                needs.as_granted(said, deed.action)
            return
        whole = self.whole(action, deed.resource)
        free = [said for said in whole if not said.conditions]
        for said in free[:1] or whole:
            container = deed.resource.partition("/")[0] + "/*"
            if not _OBJECT.fullmatch(deed.resource) or deed.wide:
                needs.on(said, deed.action, deed.resource)
            elif said.allows(action, container):
                needs.on(said, deed.action, container)
            else:
                needs.as_granted(said, deed.action, within=deed.resource)
        if not whole and deed.wide:
            for said in self.speaking(action):
                if said.about(action, deed.resource):
                    needs.as_granted(said, deed.action, within=deed.resource)
        beside = _BESIDE.get(action)
        if beside and (free or whole):
            bucket = deed.resource.partition("/")[0]
            for said in self.whole(beside, bucket)[:1]:
                needs.on(said, shown(beside), bucket)

    def _unseen(self, needs: _Needs, acts: Sequence[Deed]) -> Iterator[str]:
        """What stays because no trail, or not this one, would have shown it."""
        used = {deed.action.lower() for deed in acts}
        if not acts:
            return
        for service, actions in DATA.items():
            if self._data_events or any(action.lower() in used for action in actions if action != "s3:ListBucket"):
                continue
            kept = [action for action in actions if self._keep(needs, action)]
            if kept:
                yield (
                    f"{len(kept)} data actions of {service} stay: the trail shows no data event of it"
                    " (`--data-events` says that it would)"
                )
        if used & HANDS_OVER and "iam:passrole" not in used and self._keep(needs, "iam:PassRole"):
            yield "iam:PassRole stays: no event tells of it, and what was done hands roles over"

    def _keep(self, needs: _Needs, action: str) -> bool:
        fitting = self.speaking(action.lower())
        for said in fitting:
            needs.as_granted(said, action)
        return bool(fitting)

    def _document(self, needs: _Needs) -> dict[str, Any]:
        denies = [dict(raw) for source in self.sources for raw in source.statements if raw.get("Effect") == "Deny"]
        return {"Version": "2012-10-17", "Statement": [*needs.statements(), *denies]}

    def _commands(self) -> Iterator[str]:
        me = shlex.quote(self.name)
        who = f"--{self.kind}-name {me}"
        yield f"aws iam put-{self.kind}-policy {who} --policy-name {NAME} --policy-document file://{NAME}.json"
        for source in self.sources:
            if source.kind == "inline" and source.name != NAME:
                yield f"aws iam delete-{self.kind}-policy {who} --policy-name {shlex.quote(source.name)}"
            elif source.kind == "managed":
                yield f"aws iam detach-{self.kind}-policy {who} --policy-arn {shlex.quote(source.arn)}"
        for group in sorted({source.owner for source in self.sources if source.kind == "group"}):
            yield f"aws iam remove-user-from-group --user-name {me} --group-name {shlex.quote(group)}"

    def _inverse(self) -> Iterator[str]:
        me = shlex.quote(self.name)
        who = f"--{self.kind}-name {me}"
        for source in self.sources:
            if source.kind == "inline":
                text = shlex.quote(json.dumps(dict(source.document), separators=(",", ":")))
                named = shlex.quote(source.name)
                yield f"aws iam put-{self.kind}-policy {who} --policy-name {named} --policy-document {text}"
            elif source.kind == "managed":
                yield f"aws iam attach-{self.kind}-policy {who} --policy-arn {shlex.quote(source.arn)}"
        for group in sorted({source.owner for source in self.sources if source.kind == "group"}):
            yield f"aws iam add-user-to-group --user-name {me} --group-name {shlex.quote(group)}"
        if not any(source.kind == "inline" and source.name == NAME for source in self.sources):
            yield f"aws iam delete-{self.kind}-policy {who} --policy-name {NAME}"


class Proposed:
    """Judges acts by a proposal: it must allow what the rights of now do, under no more conditions."""

    def __init__(self, now: Principal, proposed: Principal) -> None:
        self.proposed = proposed
        self._now = now

    def allows(self, deed: Deed) -> bool:
        action = deed.action.lower()
        return (
            all(
                any(said.conditions in (was.conditions, "") for said in self.proposed.whole(action, asked))
                for was, asked in self._asked(action, deed)
            )
            and self.proposed.allows(deed)
            and self._by_connector(deed)
        )

    def _asked(self, action: str, deed: Deed) -> Iterator[tuple[_Said, str]]:
        """What each statement of now allowed of it; a statement without conditions speaks for all others."""
        if deed.resource and not deed.wide:
            whole = self._now.whole(action, deed.resource)
            free = [said for said in whole if not said.conditions]
            yield from ((said, deed.resource) for said in free[:1] or whole)
            return
        for said in self._now.speaking(action):
            if said.statement.not_resources:
                continue
            if deed.resource and said.allows(action, deed.resource):
                yield said, deed.resource
                continue
            for pattern in said.statement.resources:
                if not deed.resource or meets(pattern, deed.resource):
                    yield said, pattern

    def _by_connector(self, deed: Deed) -> bool:
        """The same question to the connector's evaluator, which knows denials and the boundary."""
        if not deed.resource or deed.wide:
            return True
        now, then = self._now.permissions_cached(), self.proposed.permissions_cached()
        if now is None or then is None or now.may(deed.action, deed.resource) is None:
            return True
        return then.may(deed.action, deed.resource) is not None


class _Needs:
    """Actions with the resources on which they are needed, by the statement that allows them."""

    def __init__(self) -> None:
        self._on: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        """(conditions, kind) → action → resources."""
        self._limits: dict[tuple[str, str, str], list[_Said]] = defaultdict(list)

    def on(self, said: _Said, action: str, resource: str) -> None:
        self._on[said.conditions, "Resource"][action].add(resource)
        self._limits[said.conditions, "Resource", action].append(said)

    def as_granted(self, said: _Said, action: str, *, within: str = "") -> None:
        key = "NotResource" if said.statement.not_resources else "Resource"
        raw = _values(said.raw.get(key))
        kept = [each for each, filled in zip(raw, said.statement.resources, strict=True)
                if not within or key == "NotResource" or meets(filled, within)]  # fmt: skip
        if key == "NotResource":
            key += " " + "\n".join(_uncovered(set(raw)))
        self._on[said.conditions, key][action].update(kept)
        self._limits[said.conditions, key, action].append(said)

    def statements(self) -> Iterator[dict[str, Any]]:
        """One for each set of resources and conditions, in a stable order."""
        for (conditions, kind), actions in sorted(self._on.items()):
            by_resources: dict[tuple[str, ...], list[str]] = defaultdict(list)
            for action, resources in actions.items():
                limits = self._limits[conditions, kind, action]
                by_resources[_narrowed(action.lower(), resources, limits)].append(action)
            for listed, names in sorted(by_resources.items()):
                made: dict[str, Any] = {"Effect": "Allow", "Action": sorted(names)}
                made[kind.partition(" ")[0]] = list(listed)
                if conditions:
                    made["Condition"] = json.loads(conditions)
                yield made


def _narrowed(action: str, resources: set[str], limits: Sequence[_Said]) -> tuple[str, ...]:
    """The resources without what another covers; too many are joined where the statement allows the whole container."""
    if len(resources) > MOST_ARNS:
        wider = {folded(each) for each in resources}
        if all(any(said.allows(action, each) for said in limits) for each in wider):
            resources = wider
    return _uncovered(resources)


def _uncovered(resources: set[str]) -> tuple[str, ...]:
    """Those that no other of them covers, in order."""
    found = sorted(resources)
    return tuple(
        each for each in found
        if not any(other != each and covers(other, each) and not covers(each, other) for other in found)
    )  # fmt: skip


def _filled(raw: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    """The statement with the variables that are known of a principal; what a request fills in may be anything."""

    def value(match: re.Match[str]) -> str:
        key = match[1].partition(",")[0].strip().lower()
        return name if kind == "user" and key == "aws:username" else key if key in ("*", "?", "$") else "*"

    made = dict(raw)
    for key in ("Resource", "NotResource"):
        if key in raw:
            made[key] = [_VARIABLE.sub(value, each) for each in _values(raw[key])]
    return made


def _values(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value or ()]


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _canonical(document: Mapping[str, Any]) -> list[str]:
    def plain(raw: Mapping[str, Any]) -> str:
        made = {key: value for key, value in raw.items() if key != "Sid"}
        for key in ("Action", "NotAction", "Resource", "NotResource"):
            if key in made:
                made[key] = sorted(_values(made[key]))
        return json.dumps(made, sort_keys=True)

    return sorted(plain(raw) for raw in document["Statement"])


def principal_of(details: Mapping[str, Any], arn: str, *, data_events: bool = False) -> Principal | None:
    """The user or role of an ARN in the details of an account, with all of its policies; `None` where it is not."""
    managed = {
        str(entry.get("Arn")): _default(entry) for entry in details.get("Policies") or [] if isinstance(entry, dict)
    }
    groups = {
        str(entry.get("GroupName")): entry for entry in details.get("GroupDetailList") or [] if isinstance(entry, dict)
    }
    for kind, key in (("user", "UserDetailList"), ("role", "RoleDetailList")):
        for entry in details.get(key) or []:
            if isinstance(entry, dict) and entry.get("Arn") == arn:
                name = str(entry["UserName" if kind == "user" else "RoleName"])
                sources = list(_sources(entry, "UserPolicyList" if kind == "user" else "RolePolicyList", managed))
                for group in entry.get("GroupList") or ():
                    of = groups.get(str(group), {})
                    sources += [
                        Source(kind="group", name=each.name, document=each.document, arn=each.arn, owner=str(group))
                        for each in _sources(of, "GroupPolicyList", managed)
                    ]
                return Principal(kind, name, arn.split(":")[4], sources, data_events=data_events, details=details)
    return None


def _sources(entry: Mapping[str, Any], inline: str, managed: Mapping[str, Any]) -> Iterator[Source]:
    for item in entry.get(inline) or ():
        yield Source(kind="inline", name=str(item["PolicyName"]), document=_decoded(item["PolicyDocument"]))
    for item in entry.get("AttachedManagedPolicies") or ():
        arn = str(item["PolicyArn"])
        document = managed.get(arn)
        if document is None and arn.endswith(":iam::aws:policy/AdministratorAccess"):
            document = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        if document is not None:
            yield Source(kind="managed", name=str(item.get("PolicyName", arn)), document=document, arn=arn)


def missing_policies(details: Mapping[str, Any], arn: str) -> Iterable[str]:
    """Managed policies of a principal whose documents are not shown: what it may do could be more."""
    account, _ = read_account(details)
    found = account.by_arn(arn)
    return found.incomplete if found else ()


def _default(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = [each for each in entry.get("PolicyVersionList") or () if each.get("IsDefaultVersion")]
    return _decoded(versions[0]["Document"]) if versions else {}


def _decoded(document: Any) -> Mapping[str, Any]:
    from urllib.parse import unquote

    if isinstance(document, str):
        document = json.loads(document if document.lstrip().startswith("{") else unquote(document))
    parse_document(document)
    return dict(document)
