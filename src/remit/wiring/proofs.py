"""The proof attestors of one installation, as its attestors file has them, and the desk that they stand at.

The file is TOML: a table for each attestor, a list of tables where there can be several of a sort. It says whom we
believe, so that it is the operator's: what it does not name is not believed, what it names wrongly stops the start.
"""

from __future__ import annotations

import asyncio
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured
from remit.kernel.unit import Attester
from remit.trust.ports import ProofAttestor
from remit.trust.proofs import ProofDesk
from remit.trust.refusals import EVERY, RefusalLog, SourceLimit
from remit.trust.spiffe import TrustDomain
from remit.wiring.issuers import (
    ClusterConfig,
    GitHubConfig,
    GitLabConfig,
    OidcConfig,
    make_github,
    make_gitlab,
    make_kubernetes,
    make_oidc,
)
from remit.wiring.possession import (
    AwsIidConfig,
    AwsStsConfig,
    JoinTokenConfig,
    SshPopConfig,
    TpmConfig,
    X509PopConfig,
    make_aws_iid,
    make_aws_sts,
    make_join_token,
    make_ssh_pop,
    make_tpm,
    make_x509_pop,
)

if TYPE_CHECKING:
    from remit.storage.database import Database
    from remit.wiring.settings import Settings

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_OF_A_SORT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofContext:
    """What makers of proof attestors need of the installation."""

    trust_domain: TrustDomain
    clock: Clock
    folder: Path
    """Where relative paths of the file begin: its own folder."""
    store: Any = None
    """The database, for attestors that keep something there."""
    attester: Attester | None = None
    """Signs and verifies the rows that carry authority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """One sort of proof attestor: how its table is read, and how it is made of one or several."""

    config: type[msgspec.Struct]
    """Unknown keys are refused: `forbid_unknown_fields=True`."""
    make: Callable[[Sequence[Any], ProofContext], ProofAttestor]
    several: bool = False
    """Whether the file has a list of tables (`[[name]]`)."""
    always: bool = False
    """Whether it is there without a table as well: then `make` gets none."""


SORTS: Final[Mapping[str, Sort]] = {
    "github": Sort(config=GitHubConfig, make=make_github),
    "gitlab": Sort(config=GitLabConfig, make=make_gitlab),
    "kubernetes": Sort(config=ClusterConfig, make=make_kubernetes, several=True),
    "oidc": Sort(config=OidcConfig, make=make_oidc, several=True),
    "x509pop": Sort(config=X509PopConfig, make=make_x509_pop),
    "sshpop": Sort(config=SshPopConfig, make=make_ssh_pop),
    "tpm": Sort(config=TpmConfig, make=make_tpm),
    "aws_sts": Sort(config=AwsStsConfig, make=make_aws_sts),
    "aws_iid": Sort(config=AwsIidConfig, make=make_aws_iid),
    "join_token": Sort(config=JoinTokenConfig, make=make_join_token, always=True),
}
"""By the name of the table in the file."""


def proof_attestors(settings: Settings, *, clock: Clock, store: Any, attester: Attester) -> tuple[ProofAttestor, ...]:
    """The proof attestors that the settings name; without a file that of join tokens alone.

    Raises `Misconfigured` (`trust.attestors.file`, `.unknown`, `.invalid`, and what each sort refuses).
    """
    named = settings.attestors.file
    path = settings.data.root / named if named else None
    context = ProofContext(
        trust_domain=TrustDomain.parse(settings.trust.domain),
        clock=clock,
        folder=path.parent if path else settings.data.root,
        store=store,
        attester=attester,
    )
    content = _read(path) if path else {}
    for name in content.keys() - SORTS.keys():
        raise Misconfigured(
            "trust.attestors.unknown",
            f"`{name[:80]}` in the attestors file is no sort of proof attestor",
            next_step=f"use one of: {', '.join(SORTS)}",
        )
    return tuple(
        sort.make(_tables(name, sort, content.get(name)), context)
        for name, sort in SORTS.items()
        if name in content or sort.always
    )


class Proofs:
    """The desk, with what belongs to it: limits, and the ledger's account of what was refused."""

    def __init__(self, store: Database, attestors: Sequence[ProofAttestor], *, clock: Clock) -> None:
        self.refusals = RefusalLog(store, clock=clock)
        self.desk = ProofDesk(
            store,
            attestors,
            clock=clock,
            new_session=lambda: secrets.token_urlsafe(32),
            refused=self.refusals,
            admit=SourceLimit(clock),
        )

    async def run(self) -> None:
        """Keep house until cancelled: one task of the composition root."""
        while True:
            await asyncio.sleep(EVERY.total_seconds())
            await self.refusals.tend()
            await self.desk.tend()

    async def close(self) -> None:
        """Tell the ledger what was counted and not told yet."""
        await self.refusals.tend()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        status = path.stat()
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _bad_file(path, f"it cannot be read: {error.strerror}") from None
    if status.st_mode & stat.S_IWOTH:
        raise _bad_file(path, "everybody may write to it")
    if len(raw) > MAX_FILE_BYTES:
        raise _bad_file(path, "it is larger than 1 MiB")
    try:
        content = msgspec.toml.decode(raw)
    except (msgspec.DecodeError, ValueError) as error:
        raise _bad_file(path, f"it is no TOML: {error}") from None
    assert isinstance(content, dict)
    return content


def _tables(name: str, sort: Sort, found: Any) -> Sequence[Any]:
    tables = [] if found is None else found if sort.several else [found]
    if not isinstance(tables, list) or len(tables) > MAX_OF_A_SORT:
        raise _invalid(name, f"write it as a list of tables, `[[{name}]]`, of at most {MAX_OF_A_SORT}")
    try:
        return [msgspec.convert(table, sort.config) for table in tables]
    except msgspec.ValidationError as error:
        raise _invalid(name, str(error)) from None


def _invalid(name: str, why: str) -> Misconfigured:
    return Misconfigured(
        "trust.attestors.invalid",
        f"the table `{name}` of the attestors file cannot be used: {why}",
        next_step="correct it as the page on plug-ins has it",
    )


def _bad_file(path: Path, why: str) -> Misconfigured:
    return Misconfigured(
        "trust.attestors.file",
        f"the attestors file `{path}` cannot be used: {why}",
        next_step="correct the file, or take `attestors.file` out of the settings",
    )
