"""Where what is granted comes from: the target itself, or the file from which the registry read it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.governance.rightsizing.languages.postgres import LEVELS, Login, Privilege
from remit.governance.rightsizing.model import Draft, Holding, Judge, Replay
from remit.inventory.graph.model import Edge
from remit.inventory.model import Relation, Skipped
from remit.inventory.records import EdgeRecord, IdentityRecord
from remit.inventory.use.model import Deed
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound, Rejected, RemitError
from remit.kernel.ids import Name, name, parse_name

if TYPE_CHECKING:
    from remit.access.model import Decision, Target
    from remit.providers.postgres.client import Connection
    from remit.wiring.control import ControlPlane

_LARGEST: Final = 128 * 1024 * 1024
_MOST_OBJECTS: Final = 200_000
_MOST_DECISIONS: Final = 10_000
Keep = Callable[[Edge], bool]
Kept = tuple[Keep, tuple[Name, ...], Mapping[str, str]]
"""Which edges stay, what is reached besides, and resources that the proposal names, with their sensitivity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What one identity holds, and which of its edges a proposal leaves."""

    holding: Holding
    source: str
    """Where it was read."""
    notes: tuple[str, ...] = ()
    target: str = ""
    """The target on which Remit can change it; empty: a person applies the proposal."""
    login: str = ""
    unread: Callable[[Deed], bool] = lambda deed: False
    """Acts of which it is not known which right they need."""
    deeds: tuple[Deed, ...] | None = None
    """What it did, where not logs but our own decisions say so; `since` is then the oldest that was looked at."""
    since: datetime | None = None
    replayed: Callable[[Draft], Replay] | None = None
    """The language's own replay of more than actions and resources."""
    keeps: Callable[[Judge], Kept | None] = field(default=lambda judge: None)
    """Of a proposal: which edges stay, and nodes that are reached by what comes in the place of others."""


class Sources:
    """Reads what is granted to one identity."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._files: dict[tuple[str, int, int], Any] = {}

    async def granted(
        self, record: IdentityRecord, names: Sequence[str], *, source: str = "", data_events: bool = False
    ) -> Granted:
        """By the identity's system, else by what policies of Cedar decided of it.

        Raises `Rejected` (`governance.rightsizing.system`) for one without a language here.
        """
        parsed = [found for each in names if (found := parse_name(each)) is not None]
        if record.attributes.get("arn"):
            return await self._aws(record, source, data_events=data_events)
        for system, instance, kind, local in parsed:
            if system == "kubernetes" and kind in ("serviceaccount", "user", "group"):
                return await self._kubernetes(instance, kind, local, source)
            if system == "postgres" and kind == "role":
                return await self._postgres(record, parsed, local)
            if system == "redis" and kind == "user":
                return await self._redis(local, source)
        return await self._cedar(record)

    # -- AWS

    async def _aws(self, record: IdentityRecord, source: str, *, data_events: bool) -> Granted:
        from remit.governance.rightsizing.languages.aws import missing_policies, principal_of

        arn = str(record.attributes["arn"])
        path = source or await self._read_from("aws", arn.split(":")[4])
        details = await self._json(path)
        try:
            found = await asyncio.to_thread(principal_of, details, arn, data_events=data_events)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise Rejected(
                "governance.rightsizing.malformed",
                f"a policy of `{arn[:200]}` is not in the form that the API gives",
                next_step="`remit discover aws FILE` says what of it could not be read",
            ) from None
        if found is None:
            raise NotFound(
                "governance.rightsizing.granted", f"`{arn[:200]}` is not in `{path[:200]}`",
                next_step="write the file anew: `aws iam get-account-authorization-details > account.json`",
            )  # fmt: skip
        unseen = missing_policies(details, arn)
        missing = [f"{each} is attached, and its document is not shown: it stays" for each in unseen]

        def keeps(judge: Judge) -> Kept:
            return _aws_keeps(judge, found.account)

        return Granted(holding=found, source=path, notes=tuple(missing), keeps=keeps, unread=_unknown_to_aws)

    # -- Kubernetes

    async def _kubernetes(self, instance: str, kind: str, local: str, source: str) -> Granted:
        path = source or await self._read_from("kubernetes", instance)
        return await asyncio.to_thread(_kubernetes_held, path, kind, local)

    # -- PostgreSQL

    async def _postgres(
        self, record: IdentityRecord, parsed: Sequence[tuple[str, str, str, str]], login: str
    ) -> Granted:
        from remit.providers.postgres.rightsizing import rights_of

        instances = {instance for system, instance, _, _ in parsed if system == "postgres"}
        target = await self.target_of(instances)
        if target is None:
            edges = await self._control.store.read(lambda unit: _edges_of(unit, record.id))
            return _from_edges(record, login, edges, sorted(instances))
        async with self.connected(target) as connection:
            rights = await rights_of(connection, login)
        if rights is None:
            raise NotFound(
                "governance.rightsizing.granted", f"`{login[:63]}` is no role of the server (any more)",
                next_step="read the server again: `remit discover postgres`",
            )  # fmt: skip
        if "." in rights.database:
            raise Rejected(
                "governance.rightsizing.name", f"the database `{rights.database[:63]}` has a dot in its name",
                next_step="look at its rights by hand: a path of names would not tell which part is which",
            )  # fmt: skip
        inside = (
            Privilege(
                kind=each.kind, action=each.action, via=each.via, grantable=each.grantable,
                path=f"{rights.database}.{each.path}" if each.path else rights.database,
            )
            for each in rights.held
        )  # fmt: skip
        notes = ["it is a superuser: no privilege matters until `ALTER ROLE … NOSUPERUSER`"] if rights.superuser else []
        notes.append(f"of the database {rights.database} alone: what it holds in others is not looked at")
        holding = Login(login, inside, blocked=rights.blocked)
        return Granted(
            holding=holding, source=f"target {target.name}", notes=tuple(notes), target=target.name, login=login,
            keeps=_postgres_keeps(holding, sorted(instances)),
        )  # fmt: skip

    async def target_of(self, instances: set[str]) -> Target | None:
        """The target that is one of these servers."""
        for target in await self._control.targets.list():
            if target.system != "postgres":
                continue
            at = {target.instance, f"{target.host}:{target.port}"}
            if not at & instances:
                try:
                    broker = await self._control.brokers.broker(target.name)
                except RemitError:
                    continue
                if getattr(broker, "instance", None) not in instances:
                    continue
            found: Target = await self._control.targets.get(target.name)
            return found
        return None

    @asynccontextmanager
    async def connected(self, target: Target) -> AsyncIterator[Connection]:
        """A connection by the target's own credential."""
        from remit.providers.postgres.address import Address
        from remit.providers.postgres.client import connected, translated_errors

        _, secret = await self._control.targets.credential(target.name)
        address = Address(
            host=target.host, port=target.port, user=target.user, database=target.database,
            ssl_mode=target.options.get("sslmode", ""), ssl_root=target.options.get("sslrootcert", ""),
        )  # fmt: skip
        async with connected(address, secret) as connection:
            with translated_errors(address):
                yield connection

    # -- Redis

    async def _redis(self, user: str, source: str) -> Granted:
        from remit.governance.rightsizing.languages.redis import User

        if not source:
            raise Rejected(
                "governance.rightsizing.source", "the rules of a Redis user are not kept: only what they reach is",
                next_step="write them with `redis-cli ACL LIST > users.acl`, then `--from users.acl`",
            )  # fmt: skip
        text = (await asyncio.to_thread(_bytes, source)).decode("utf-8", "replace")
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["user"] and words[1:2] == [user]:
                rules = words[2:]
                return Granted(
                    holding=User(
                        user,
                        [each for each in rules if each[:1] in "+-" or each in ("allcommands", "nocommands")],
                        [each for each in rules if each[:1] in "~%" or each == "allkeys"],
                        [each for each in rules if each[:1] == "&" or each == "allchannels"],
                    ),
                    source=source,
                )
        raise NotFound("governance.rightsizing.granted", f"`{user[:60]}` is not in `{source[:200]}`")

    # -- Cedar

    async def _cedar(self, record: IdentityRecord) -> Granted:
        from remit.governance.rightsizing.languages.cedar import Decided, acts_in, replayed

        records = await self._control.latest_decisions(limit=_MOST_DECISIONS)
        mine = [_decision(each) for each in records if _principal(each) == record.id]
        version = await self._control.store.read(lambda unit: unit.access.active_policy_version())
        if not mine or version is None:
            raise Rejected(
                "governance.rightsizing.system",
                f"rights of `{record.system[:40]}` are not right-sized, and no decision of ours is about it",
                next_step="AWS users and roles, Kubernetes subjects, PostgreSQL logins and Redis users are",
            )
        entities = self._control.feed.cell.current()
        oldest = min(parse_rfc3339(each["time"]) for each in records)
        return Granted(
            holding=Decided(record.id, version.text), source=f"policies {version.id}",
            deeds=tuple(acts_in(mine, Name(record.name))), since=oldest,
            replayed=lambda draft: replayed(mine, draft.texts[0].after, entities),
        )  # fmt: skip

    # -- files

    async def _read_from(self, connector: str, instance: str) -> str:
        """The file or directory from which an instance was read last."""

        def work(unit: Any) -> str:
            for source in unit.inventory.sources():
                if source.connector == connector and source.instance == instance:
                    reading = unit.discovery.reading(source.id)
                    asked = reading.asked.source if reading is not None else ""
                    if asked and Path(asked).exists():
                        return str(asked)
            return ""

        path: str = await self._control.store.read(work)
        if not path:
            raise NotFound(
                "governance.rightsizing.source",
                f"what `{instance[:100]}` grants was not read from a file that is still there",
                next_step=_WRITE[connector],
            )
        return path

    async def _json(self, path: str) -> dict[str, Any]:
        """A JSON object from a file, remembered while the file is the same."""
        status = await asyncio.to_thread(_status, path)
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in self._files:
            raw = await asyncio.to_thread(_bytes, path)
            try:
                found = await asyncio.to_thread(msgspec.json.decode, raw)
            except (msgspec.DecodeError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise Rejected("governance.rightsizing.source", f"`{path[:200]}` holds no JSON object")
            self._files = {key: found}
        return dict(self._files[key])


_WRITE: Final = {
    "aws": "write it with `aws iam get-account-authorization-details > account.json`, then `--from account.json`",
    "kubernetes": "write `kubectl get -A -o json roles,clusterroles,rolebindings,clusterrolebindings`, then `--from`",
}


def _principal(record: dict[str, Any]) -> str:
    return str(((record.get("facts") or {}).get("principal") or {}).get("id", ""))


def _decision(record: dict[str, Any]) -> Decision:
    """A recorded decision, as policies can be asked about it again."""
    from remit.access.model import Decision, Effect, Entity, Obligation, Reason, Request

    asked = record["request"]
    return Decision(
        id=record["id"], time=parse_rfc3339(record["time"]), allowed=record["allowed"], facts=record["facts"],
        request=Request(
            subject=Entity(**asked["subject"]), action=asked["action"], resource=Entity(**asked["resource"]),
            claimed=asked["claimed"], proven=asked["proven"],
        ),
        reasons=tuple(Reason(id=r["id"], effect=Effect(r["effect"]), text=r["text"]) for r in record["reasons"]),
        obligations=tuple(Obligation(**each) for each in record["obligations"]),
    )  # fmt: skip


def _status(path: str) -> os.stat_result:
    try:
        status = Path(path).stat()
    except OSError:
        raise NotFound("governance.rightsizing.source", f"there is no file `{path[:200]}`") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        raise Rejected("governance.rightsizing.source", f"`{path[:200]}` is no file of at most {_LARGEST} bytes")
    return status


def _bytes(path: str) -> bytes:
    _status(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Rejected("governance.rightsizing.source", f"`{path[:200]}` cannot be read: {error.strerror}") from None


def _unknown_to_aws(deed: Deed) -> bool:
    """An event whose name is no action of the reference: the right that it needs may be called otherwise."""
    from remit.governance.rightsizing.languages.aws_levels import reference

    known = reference()
    return bool(known) and deed.action.lower() not in known


def _aws_keeps(judge: Judge, account: str) -> Kept:
    from remit.governance.rightsizing.languages.aws import Proposed
    from remit.inventory.connectors.aws.naming import account_name, resource_of
    from remit.inventory.connectors.aws.reach import sensitivity_of

    assert isinstance(judge, Proposed)
    said = list(judge.proposed.allowing())
    found = (resource_of(pattern, account) for each in said for pattern in each.resources if not each.not_resources)
    reached = {named: kind for named, kind, _ in found}
    wide = [each for each in said if each.not_resources or any("*" in one.split("/")[0] for one in each.resources)]

    def keep(edge: Edge) -> bool:
        if edge.relation is Relation.MEMBER_OF:
            return False
        actions = [action.lower() for action in edge.actions]
        if not actions:
            return True
        if edge.relation is Relation.CAN_REACH:
            among = said if edge.target in reached else wide
            return any(each.meets_action(action) for action in actions for each in among)
        named = [action for action in actions if ":" in action or action == "*"]
        return all(any(each.meets_action(action) for each in said) for action in named)

    whole = account_name(account)
    known = {named: sensitivity_of(kind) for named, kind in reached.items() if named != whole and "%2A" not in named}
    return keep, (), {named: level.value if level else "unknown" for named, level in known.items()}


def _kubernetes_held(path: str, kind: str, local: str) -> Granted:
    from remit.governance.rightsizing.languages.kubernetes import Account, grants_of
    from remit.inventory.connectors.kubernetes.objects import Cluster, read_objects
    from remit.inventory.connectors.kubernetes.reading import find_files, read_documents
    from remit.inventory.connectors.kubernetes.rules import Roles, Subject, grants

    cluster, count = Cluster(), 0
    for file in find_files(Path(path).resolve()):
        for document in [] if isinstance(file, Skipped) else read_documents(file, str(file)):
            for item in [] if isinstance(document, Skipped) else read_objects(document):
                if not isinstance(item, Skipped):
                    count += 1
                    cluster.add(item)
        if count > _MOST_OBJECTS:
            raise Rejected("governance.rightsizing.source", f"`{path[:200]}` holds more than {_MOST_OBJECTS} objects")
    words = {"serviceaccount": "ServiceAccount", "user": "User", "group": "Group"}
    namespace, _, plain = local.partition("/") if kind == "serviceaccount" else ("", "", local)
    held = grants(cluster, Roles(cluster))[0].get(Subject(words[kind], namespace, plain), [])
    if not held:
        raise NotFound(
            "governance.rightsizing.granted", f"no binding of `{path[:200]}` names `{local[:100]}`",
            next_step="write the bindings anew, and name them with `--from`",
        )  # fmt: skip
    rules = [(each.namespace, rule) for each in held for rule in each.rules]
    roles = sorted({f"{each.binding.kind} {each.binding.local}" for each in held})
    return Granted(holding=Account(words[kind], namespace, plain, grants_of(rules), roles), source=path)


def _edges_of(unit: Any, identity: str) -> list[EdgeRecord]:
    names = set(unit.inventory.names_of(identity)) | {identity}
    return [each for each in unit.inventory.edges() if each.tail in names]


def _from_edges(record: IdentityRecord, login: str, edges: Sequence[EdgeRecord], instances: list[str]) -> Granted:
    """Its own privileges as the registry has them; what comes by groups is not known here, and stays."""
    found = []
    for edge in edges:
        parsed = parse_name(edge.head)
        if edge.relation != Relation.CAN_REACH.value or parsed is None or not edge.cut.startswith("REVOKE "):
            continue
        # What a source says is no statement yet: a word that is no privilege, or a signature, is not put into one.
        if parsed[2] not in ("table", "sequence", "schema", "database"):
            continue
        found += [
            Privilege(kind=parsed[2], path=parsed[3], action=action, grantable="WITH GRANT OPTION" in edge.evidence)
            for action in edge.actions
            if action.partition("(")[0].strip() in LEVELS
        ]
    holding = Login(login, found)
    note = "no target is this server: the registry's own grants alone are looked at, and groups stay as they are"
    return Granted(holding=holding, source="the registry", notes=(note,), keeps=_postgres_keeps(holding, instances))


def _postgres_keeps(holding: Login, instances: Sequence[str]) -> Callable[[Judge], Kept | None]:
    groups = {each.via for each in holding.privileges if each.via}

    def keeps(judge: Judge) -> Kept:
        login = getattr(judge, "proposed", holding)
        own = [each for each in login.privileges if not each.via]
        proposed = {(each.path, each.action.partition("(")[0].strip()) for each in own}
        staying = {each.via for each in login.privileges if each.via}
        before = {each.path for each in holding.privileges}

        def keep(edge: Edge) -> bool:
            parsed = parse_name(edge.target)
            if parsed is None:
                return True
            if edge.relation is Relation.CAN_REACH and parsed[3] in before:
                return any((parsed[3], action) in proposed for action in edge.actions)
            return not (parsed[3] in groups and parsed[3] not in staying)

        moved = {each.path for each in own if each.kind == "table"}
        heads = [name("postgres", instance, "table", path) for instance in instances for path in sorted(moved)]
        return keep, tuple(heads), {}

    return keeps
