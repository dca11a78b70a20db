"""The sheet on which a reader writes what one file shows.

Readers never build facts of secrets by hand: `Sheet.secret` decides whether a value is one, turns it into a
fingerprint at once and forgets it. INVARIANT: no fact that leaves `facts()` holds a value that was given to `secret`,
even where the file repeats it in a place that is shown (a user name, a command).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any
from urllib.parse import quote

from remit.inventory.connectors.files import values
from remit.inventory.connectors.files.dsn import DATABASES, Dsn
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.record import FileRead, Role
from remit.inventory.connectors.port import Scan
from remit.inventory.model import (
    Attribute,
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    Place,
    Relation,
    ResourceFact,
    Severity,
    Skipped,
)
from remit.kernel.ids import Name, credential_name, name

_HARMLESS = {
    Role.TEST: Severity.LOW,
    Role.EXAMPLE: Severity.LOW,
    Role.DOCUMENTATION: Severity.LOW,
    Role.VENDOR: Severity.INFO,
}
_ORDER = tuple(Severity)
_LOOPBACK = frozenset({
    "localhost", "127.0.0.1", "::1", "0.0.0.0", "host.docker.internal", "db", "postgres", "mysql", "redis",  # noqa: S104
})  # fmt: skip
"""Names that mean another server on every machine."""
MAX_FACTS = 20_000
MAX_SECRETS = 1_000
"""Of one file: what has more is a dump, for the secret scan."""


def clean(text: str, limit: int = 200) -> str:
    """Make text from a file fit to be shown and stored: printable, encodable, at most `limit` characters."""
    text = text[: limit * 2].encode("utf-8", "replace").decode()
    text = "".join(mark if mark.isprintable() else " " for mark in text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Sheet:
    """Collects facts about one file, each once."""

    rules = "files"
    """The connector whose findings these are."""

    def __init__(self, file: FileRead, scan: Scan) -> None:
        self.file = file
        self.now = scan.now
        self._fingerprint = scan.fingerprint
        self._facts: dict[object, Fact] = {}
        self._secrets: set[str] = set()
        self._exposed: list[Name] = []

    # --- what is there

    def place(self, line: int | None = None) -> Place:
        return Place(system=f"host:{self.file.host}", path=self.file.path, line=line)

    def name(self, system: str, instance: str, kind: str, local: str) -> Name:
        """Name something, whatever bytes the file used for it."""
        return name(*(clean(part, 500) for part in (system, instance, kind, local)))

    def identity(
        self,
        of: Name,
        kind: IdentityKind,
        title: str,
        *,
        line: int | None = None,
        aliases: Iterable[Name] = (),
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Name:
        """Record that the file shows an identity; the first description of a name counts."""
        fact = IdentityFact(
            name=of,
            kind=kind,
            title=clean(title),
            place=self.place(line),
            aliases=tuple(aliases),
            attributes=self._attributes(attributes),
        )
        self._add(("identity", of), fact)
        return of

    def account(self, account: str = "") -> Name:
        """The Unix account `account` of this host; that to which the file belongs by default."""
        account = account or self.file.account
        of = self.name("host", self.file.host, "unix-account", account)
        return self.identity(of, IdentityKind.UNIX_ACCOUNT, account, attributes={"host": self.file.host})

    def resource(self, of: Name, kind: str, title: str, *, line: int | None = None, **attributes: Attribute) -> Name:
        """Record something that can be reached."""
        fact = ResourceFact(
            name=of, kind=kind, title=clean(title), place=self.place(line), attributes=self._attributes(attributes)
        )
        self._add(("resource", of), fact)
        return of

    def edge(
        self,
        source: Name,
        relation: Relation,
        target: Name,
        evidence: str,
        *,
        line: int | None = None,
        conditions: Iterable[str] = (),
        actions: Iterable[str] = (),
        cut: str = "",
    ) -> None:
        """Record that who has `source` has, or can get, `target`."""
        fact = EdgeFact(
            source=source,
            relation=relation,
            target=target,
            evidence=clean(evidence),
            place=self.place(line),
            conditions=tuple(clean(condition) for condition in conditions),
            actions=tuple(actions),
            cut=cut,
        )
        self._add(("edge", source, relation, target), fact)

    def credential(
        self,
        fingerprint: str,
        kind: CredentialKind,
        title: str,
        *,
        line: int | None = None,
        identity: Name | None = None,
        holders: Iterable[Name] = (),
        exposed: bool = False,
        issued: datetime | None = None,
        expires: datetime | None = None,
        last_used: datetime | None = None,
        manager: str | None = None,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Name:
        """Record a credential, who holds it and whom it proves; answers the name of its node.

        One that is `exposed` is held by the account of the file too, and by the repository where it is tracked.
        """
        node = credential_name(fingerprint)
        fact = CredentialFact(
            fingerprint=fingerprint,
            kind=kind,
            title=clean(title),
            place=self.place(line),
            identity=identity,
            issued=issued,
            expires=expires,
            last_used=last_used,
            manager=manager,
            exposed=exposed,
            attributes=self._attributes(attributes),
        )
        self._add(("credential", fingerprint, identity), fact)
        # What a line of authorized_keys opens, it opens under its own conditions: that edge is the reader's.
        if identity is not None and "opens_by" not in fact.attributes:
            self.edge(node, Relation.SECRET_OF, identity, f"{clean(title, 80)} in {self.file.name}", line=line)
        keepers = [*holders]
        if exposed:
            self._exposed.append(node)
            keepers.append(self.account())
            if self.file.tracked and (repository := self.repository()):
                keepers.append(repository)
        for keeper in keepers:
            self.edge(keeper, Relation.HOLDS, node, f"readable in {self.file.path}", line=line)
        return node

    def repository(self) -> Name | None:
        """The repository in which the file lies, where it has a remote."""
        at = self.file.repository
        if at is None or not at.slug:
            return None
        of = self.name(at.system, at.forge, "repository", at.slug)
        return self.resource(of, "repository", f"{at.forge}/{at.slug}")

    # --- secrets

    def secret(
        self,
        key: str,
        value: str,
        *,
        line: int | None = None,
        kind: CredentialKind | None = None,
        title: str = "",
        identity: Name | None = None,
        holders: Iterable[Name] = (),
        expires: datetime | None = None,
        loopback: bool = False,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Name | None:
        """Record `value` as a secret found in clear, with a finding; `None` when it is a reference or a placeholder."""
        value = value.strip()
        if values.is_placeholder(value):
            return None
        if len(self._exposed) >= MAX_SECRETS:
            self.skip("too-large", f"more than {MAX_SECRETS} secrets")
            return None
        known = values.recognise(value)
        key_id = known.attributes.get("access_key_id") if known else None
        if not key_id:
            self.hide(value)
        fingerprint = sha256(str(key_id).encode()) if key_id else self._fingerprint(value.encode("utf-8", "replace"))
        if identity is None and known and known.subject:
            identity = self._subject(known, line)
        label = clean(key, 80)
        node = self.credential(
            fingerprint,
            kind or (known.kind if known else values.kind_of_name(key)),
            title or f"{known.what if known else values.kind_of_name(key).value} `{label}`",
            line=line,
            identity=identity,
            holders=holders,
            exposed=True,
            issued=known.issued if known else None,
            expires=expires or (known.expires if known else None),
            attributes={"setting": label, **(known.attributes if known else {}), **(attributes or {})}
            | ({"provider": known.provider} if known else {}),
        )
        self._finding_of_secret(node, label, known, line, loopback)
        return node

    def hide(self, value: str) -> None:
        """Make sure that `value` leaves in no fact, if it has the look of a secret rather than of a word."""
        if len(value) >= 8 and not (value.isalpha() and value.islower() and len(value) < 16):
            self._secrets.update({value, quote(value, safe="@/._-+=,"), clean(value, 500)} - {""})

    def fingerprint(self, value: bytes) -> str:
        """Fingerprint a secret that is not text."""
        return self._fingerprint(value)

    def _subject(self, known: values.Recognised, line: int | None) -> Name:
        assert known.subject is not None
        system, instance, kind, local = known.subject
        of = self.name(system, instance, kind, local)
        what = IdentityKind.BOT if kind == "bot" else IdentityKind.SERVICE_ACCOUNT
        return self.identity(of, what, f"{local} ({system})", line=line, attributes=known.attributes)

    def _finding_of_secret(
        self, node: Name, label: str, known: values.Recognised | None, line: int | None, loopback: bool
    ) -> None:
        severity = Severity.HIGH if known or self.file.tracked else Severity.MEDIUM
        if loopback or (
            known and (known.attributes.get("checksum") == "fail" or known.attributes.get("mode") == "test")
        ):
            severity = Severity.LOW
        if known and known.expires and known.expires < self.now:
            severity = Severity.INFO
        where = "and in every clone of the repository" if self.file.tracked else "and in every backup of it"
        self.finding(
            "secret-in-config",
            severity,
            f"{known.what if known else 'secret'} `{label}` lies in clear in {self.file.name}",
            f"anyone who reads the file has it; it stays valid there {where}",
            f"see what it opens with `remit blast {node}`, give the job a credential per task with `remit run`, "
            f"then replace it where it counts, and `remit revoke {node} --dry-run`",
            subject=node,
            line=line,
        )

    def dsn(
        self, dsn: Dsn, key: str, *, line: int | None = None, holders: Iterable[Name] = ()
    ) -> tuple[Name | None, Name | None]:
        """Record where something connects and as whom, and its password; answers the identity and the credential."""
        git_token = dsn.system == "http" and dsn.user and not dsn.password and values.recognise(dsn.user)
        user, password = ("", dsn.user) if git_token else (dsn.user, dsn.password)
        if values.is_placeholder(user) and not user.isalnum():
            user = ""
        if password and not values.is_placeholder(password):
            self.hide(password)
        identity = None
        if user or dsn.system == "redis":
            identity = self._login(dsn, user or "default", line)
        node = None
        if password:
            node = self.secret(
                key,
                password,
                line=line,
                kind=None if dsn.system == "http" else CredentialKind.PASSWORD,
                title=f"{dsn.system} password of {user or 'default'} at {dsn.endpoint}" if dsn.system != "http" else "",
                identity=identity,
                holders=holders,
                loopback=dsn.host in _LOOPBACK,
                attributes={
                    "system": dsn.system,
                    "host": dsn.host,
                    "port": dsn.port,
                    "user": user,
                    "database": dsn.database,
                },
            )
        return identity, node

    def _login(self, dsn: Dsn, user: str, line: int | None) -> Name:
        kind = "role" if dsn.system == "postgres" else "user"
        instance = dsn.endpoint if dsn.system != "http" else dsn.host
        attributes: dict[str, Attribute] = {"host": dsn.host, "port": dsn.port, "user": user, "database": dsn.database}
        if dsn.host in _LOOPBACK:
            attributes["host_instance"] = self.file.host
        identity = self.identity(
            self.name(dsn.system, instance, kind, user),
            IdentityKind.DATABASE_ROLE if dsn.system in DATABASES else IdentityKind.SERVICE_ACCOUNT,
            f"{user} at {instance}",
            line=line,
            attributes=attributes,
        )
        if dsn.database:
            database = self.name(dsn.system, dsn.endpoint, "database", dsn.database)
            self.resource(database, "database", f"{dsn.database} at {dsn.endpoint}", line=line)
            self.edge(identity, Relation.CAN_REACH, database, f"connects to it by {self.file.name}", line=line)
        return identity

    # --- what is wrong, what was not seen

    def finding(
        self,
        what: str,
        severity: Severity,
        title: str,
        detail: str,
        next_step: str,
        *,
        subject: Name | None = None,
        line: int | None = None,
    ) -> None:
        """Record that something is wrong, less severe where the path says test, example, document or library."""
        ceiling = _HARMLESS.get(self.file.role)
        if ceiling is not None and _ORDER.index(severity) > _ORDER.index(ceiling):
            severity, detail = ceiling, f"{detail}; the path suggests {self.file.role} material"
        fact = FindingFact(
            rule=f"{self.rules}.{what}",
            severity=severity,
            title=clean(title),
            detail=clean(detail, 500),
            next_step=clean(next_step, 500),
            place=self.place(line),
            subject=subject,
        )
        self._add(("finding", what, subject, line if subject is None else None), fact)

    def skip(self, reason: str, detail: str = "") -> None:
        """Record that the file, or a part of it, could not be seen."""
        self._add(("skipped", reason), Skipped(what=self.file.path, reason=reason, detail=clean(detail)))

    def facts(self) -> tuple[Fact, ...]:
        """Everything on the sheet, free of the secrets that were hidden."""
        if self._exposed and self.file.open_to_all:
            self.finding(
                "world-readable-secret",
                Severity.HIGH,
                f"every account of this host can read {self.file.name}",
                f"it holds {len(set(self._exposed))} secret(s); neither it nor a directory above it keeps others out",
                f"chmod go-rwx {self.file.path}; then treat what it holds as known: "
                f"`remit revoke {self._exposed[0]} --dry-run`",
                subject=self._exposed[0],
            )
        facts = tuple(self._facts.values())
        shown = "\0".join(text for fact in facts for text in _texts(fact))
        hidden = sorted((secret for secret in self._secrets if secret in shown), key=len, reverse=True)
        return tuple(_without(fact, hidden) for fact in facts) if hidden else facts

    def _add(self, key: object, fact: Fact) -> None:
        if len(self._facts) < MAX_FACTS:
            self._facts.setdefault(key, fact)
        else:
            self._facts.setdefault(("skipped", "too-large"), Skipped(what=self.file.path, reason="too-large"))

    def _attributes(self, given: Mapping[str, Attribute] | None) -> dict[str, Attribute]:
        made = {
            key: clean(value) if isinstance(value, str) else value
            for key, value in (given or {}).items()
            if value != ""
        }
        return made if self.file.role is Role.LIVE else {**made, "role": self.file.role.value}


def _texts(value: Any) -> Iterator[str]:
    """Every string in a fact."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name))


def _without(value: Any, hidden: list[str]) -> Any:
    """`value` with each hidden text replaced, in strings however deep; our own words are left alone."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, "redacted")
        return value
    if isinstance(value, tuple):
        return tuple(_without(item, hidden) for item in value)
    if isinstance(value, Mapping):
        return {_without(key, hidden): _without(item, hidden) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (
            field.name for field in dataclasses.fields(value) if field.name not in {"rule", "reason", "fingerprint"}
        )
        return dataclasses.replace(value, **{key: _without(getattr(value, key), hidden) for key in names})
    return value
