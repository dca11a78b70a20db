"""What was found becomes facts: one credential however many places hold it, a finding for each place.

Made of `Found`, which has no secret: whatever is said here can say none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remit.inventory.connectors.files.record import Repository, Role
from remit.inventory.model import (
    Attribute,
    CredentialFact,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Place,
    Relation,
    ResourceFact,
    Severity,
)
from remit.inventory.owners import LineAuthor, author_of, propose
from remit.inventory.secrets.binding.model import known, printable
from remit.inventory.secrets.found import Found
from remit.kernel.ids import Name, credential_name, name


class Reach(StrEnum):
    """Who can still come by a secret, as far as version control says."""

    TREE = "in the working tree"
    HISTORY = "only in history"
    UNREACHABLE = "unreachable"
    """No branch or tag leads to it, but the repository still has it, and so have clones made before."""
    COLUMN = "in a column of a database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where one secret lies, and what is known of that place."""

    place: Place
    host: str
    account: str = ""
    """The Unix account whose file it is; empty in history."""
    role: Role = Role.LIVE
    repository: Repository | None = None
    within: str = ""
    """The path from the root of the repository."""
    reach: Reach = Reach.TREE
    tracked: bool = False
    commit: str = ""
    """The commit that brought it in, where history was read."""
    author: str = ""
    committed: datetime | None = None
    open_to_all: bool = False


_ORDER = tuple(Severity)
_CEILING = {
    Role.TEST: Severity.LOW,
    Role.EXAMPLE: Severity.LOW,
    Role.DOCUMENTATION: Severity.LOW,
    Role.VENDOR: Severity.INFO,
}
_SURE = 60
"""Below this confidence nobody is woken."""


def facts_of(found: Found, spot: Spot, *, now: datetime) -> Iterator[Fact]:
    """The facts of one secret at one place."""
    node = credential_name(found.fingerprint)
    who = found.binding.subject
    if who is not None:
        yield IdentityFact(
            name=who.name, kind=who.kind, title=who.title, place=spot.place, aliases=who.aliases,
            attributes=who.attributes, confidence=found.confidence,
        )  # fmt: skip
    yield CredentialFact(
        fingerprint=found.fingerprint,
        kind=found.kind,
        title=title_of(found),
        place=spot.place,
        identity=who.name if who else None,
        issued=found.binding.issued,
        expires=found.binding.expires,
        exposed=not found.binding.encrypted and not found.binding.harmless,
        attributes=_attributes(found, spot),
        confidence=found.confidence,
    )
    if who is not None:
        yield EdgeFact(
            source=node, relation=Relation.SECRET_OF, target=who.name, evidence=found.binding.method,
            place=spot.place, confidence=found.confidence,
        )  # fmt: skip
    yield from _reached(found, spot)
    yield from _holders(found, spot, node)
    yield from _owners(found, spot)
    yield finding_of(found, spot, now=now)


def title_of(found: Found) -> str:
    """For people: what it is, and to which name it is assigned."""
    named = found.variable and found.binding.subject is None
    return printable(f"{found.what} `{found.variable}`" if named else found.what, 200)


def _attributes(found: Found, spot: Spot) -> dict[str, Attribute]:
    about: dict[str, Attribute] = {
        "setting": found.variable,
        "provider": found.binding.provider,
        "checksum": found.checksum,
        "bound_by": found.binding.method,
        "harmless": found.binding.harmless,
        "reach": spot.reach.value,
        "first_commit": spot.commit,
        "object_id": found.object_id,
        "live": found.live,
        "decoded": ", ".join(found.decoded),
        "role": "" if spot.role is Role.LIVE else spot.role.value,
    }
    if found.keyed != found.fingerprint:
        about["secret_fingerprint"] = found.keyed
    return known({**found.attributes, **found.binding.attributes, **about})


def _reached(found: Found, spot: Spot) -> Iterator[Fact]:
    who = found.binding.subject
    for each in found.binding.reached:
        yield ResourceFact(name=each.name, kind=each.kind, title=each.title, place=spot.place)
        if who is not None:
            yield EdgeFact(
                source=who.name, relation=Relation.CAN_REACH, target=each.name,
                evidence=f"named beside a secret of it ({found.binding.method})", place=spot.place,
                confidence=found.confidence,
            )  # fmt: skip


def _holders(found: Found, spot: Spot, node: Name) -> Iterator[Fact]:
    """The account whose file it is, and the repository that gives it to whoever clones it."""
    if spot.account:
        holder = name("host", spot.host, "unix-account", printable(spot.account, 200))
        yield IdentityFact(
            name=holder, kind=IdentityKind.UNIX_ACCOUNT, title=printable(spot.account, 200), place=spot.place,
            attributes={"host": spot.host},
        )  # fmt: skip
        yield EdgeFact(
            source=holder, relation=Relation.HOLDS, target=node, evidence="readable in the file", place=spot.place,
            cut=f"remove it from {spot.place.path}, and give the job a credential per task: remit run",
        )  # fmt: skip
    at = spot.repository
    if at is not None and at.slug and (spot.tracked or spot.reach is not Reach.TREE):
        repository = name(at.system, at.forge, "repository", at.slug)
        yield ResourceFact(name=repository, kind="repository", title=f"{at.forge}/{at.slug}", place=spot.place)
        yield EdgeFact(
            source=repository, relation=Relation.HOLDS, target=node, evidence=f"in its {_where(spot)}",
            place=spot.place, cut="replace the secret first: a history that is rewritten is still in every clone",
        )  # fmt: skip


def _where(spot: Spot) -> str:
    return "history" if spot.reach is not Reach.TREE else "files"


def unbound_name(fingerprint: str) -> Name:
    """The identity that the registry gives to a credential of nobody."""
    algorithm, _, digest = fingerprint.partition(":")
    return name("credential", algorithm, "unbound", digest)


def _owners(found: Found, spot: Spot) -> Iterator[OwnerFact]:
    """Who first committed it, and who owns the path: of the identity, weaker where others use it as well."""
    if spot.repository is None:
        return
    who = found.binding.subject
    identity, weight = (who.name, 60) if who else (unbound_name(found.fingerprint), 100)
    yield from propose(
        identity,
        rules=spot.repository.owner_rules,
        path=spot.within.partition("!")[0],
        authors=(),
        comments=(),
        place=spot.place,
        weight=weight,
    )
    mail = printable(spot.author.rpartition("<")[2].rstrip("> ") or spot.author, 150)
    first = LineAuthor(first=1, last=1, author=mail, commit=spot.commit[:12])
    if mail and author_of((first,), None) is not None:  # no bot
        yield OwnerFact(
            identity=identity, owner=mail, method="git", evidence=f"first committed the secret in {spot.commit[:12]}",
            confidence=60 * weight // 100, place=spot.place,
        )  # fmt: skip


def severity_of(found: Found, spot: Spot, *, now: datetime) -> tuple[Severity, str]:
    """How bad it is, and the reason for which it is less than it could be."""
    level, why = Severity.HIGH, ""
    if found.binding.attributes.get("class") in {"admin01", "admin"} or found.binding.provider == "google-root":
        level = Severity.CRITICAL
    if not found.binding.provider and found.confidence < 80:
        level = Severity.MEDIUM

    def at_most(ceiling: Severity, reason: str) -> None:
        nonlocal level, why
        if _ORDER.index(level) > _ORDER.index(ceiling):
            level, why = ceiling, reason

    if found.confidence < _SURE:
        at_most(Severity.MEDIUM, f"it may be no secret (confidence {found.confidence} of 100)")
    if spot.role in _CEILING:
        at_most(_CEILING[spot.role], f"the path suggests {spot.role.value} material")
    if found.checksum == "fail":
        at_most(Severity.LOW, "its checksum is wrong: it was invented, or cut")
    if found.binding.encrypted:
        at_most(Severity.LOW, "a passphrase protects it")
    if found.binding.harmless:
        at_most(Severity.LOW, found.binding.harmless)
    if found.expires is not None and found.expires < now:
        at_most(Severity.INFO, f"it ended {found.expires:%Y-%m-%d} by its own word")
    return level, why


def finding_of(found: Found, spot: Spot, *, now: datetime) -> FindingFact:
    """What is wrong, why, and what to do next."""
    level, why = severity_of(found, spot, now=now)
    file = spot.place.path.rpartition("/")[2]
    said = [_detail(found, spot)]
    if found.checksum == "pass":
        said.append("its checksum is right: it was issued")
    if found.decoded:
        said.append(f"seen after undoing {', '.join(found.decoded)}")
    if spot.author:
        when = f" on {spot.committed:%Y-%m-%d}" if spot.committed else ""
        said.append(f"brought in by {printable(spot.author, 100)}{when} ({spot.commit[:12]})")
    if why:
        said.append(why)
    if found.ignore is not None:
        until = f" until {found.ignore.until}" if found.ignore.until else ""
        said.append(f"a comment beside it asks to ignore it{until} ({found.ignore.reason or 'no reason'}): a proposal")
    return FindingFact(
        rule=f"secrets.{found.rule}",
        severity=level,
        title=printable(f"{title_of(found)} lies in clear in {file}", 200),
        detail=printable("; ".join(said), 500),
        next_step=printable(_next_step(found, spot, now), 500),
        place=spot.place,
        subject=credential_name(found.fingerprint),
    )


def _detail(found: Found, spot: Spot) -> str:
    match spot.reach:
        case Reach.HISTORY:
            return "it is gone from the files, but in the history of the repository, and so in every clone"
        case Reach.UNREACHABLE:
            return "no branch leads to it any more, but the repository still has it, and so have earlier clones"
        case Reach.COLUMN:
            return "whoever may read the table has it, and whoever has a copy of the database"
        case Reach.TREE if spot.tracked:
            return "whoever can read the file has it, and whoever cloned the repository"
        case Reach.TREE if spot.open_to_all:
            return "every account of this host can read the file"
        case _:
            return "whoever can read the file, or a backup of it, has it"


def _next_step(found: Found, spot: Spot, now: datetime) -> str:
    node = credential_name(found.fingerprint)
    if found.binding.encrypted:
        return f"see what it opens with `remit blast {node}`; keep the passphrase elsewhere than the file"
    if found.ignore is not None and not found.ignore.problem(now.date()):
        asked = (found.ignore.until or now.date()) - now.date()
        return (
            f"replace it; or let somebody else approve what the comment asks for: `remit exception request --control "
            f"secrets.{found.rule} "
            f"--days {min(180, max(1, asked.days))} --resource '{spot.place.path[:150]}' --identity ID …`"
        )
    owner = f" and who answers for it with `remit show {found.binding.subject.name}`" if found.binding.subject else ""
    end = "then replace it at its issuer and revoke the old one; deleting the line takes it back from nobody"
    if spot.reach is Reach.COLUMN:
        end = "then replace it at its issuer, and keep a hash or a reference in the table; its backups keep the old one"
    if spot.reach is Reach.TREE and not spot.tracked:
        end = "then replace it, and give the job a credential per task with `remit run`"
    return f"see what it opens with `remit blast {node}`{owner}; {end}: `remit leak drive {node}`"
