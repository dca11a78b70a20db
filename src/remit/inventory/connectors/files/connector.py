"""The files connector: what a directory tree shows of machine identities and their credentials."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from remit.inventory.connectors.files.choose import Chooser, Reader, role_of
from remit.inventory.connectors.files.formats import decode
from remit.inventory.connectors.files.host import account_of, host_fingerprint, parse_passwd
from remit.inventory.connectors.files.readers import READERS
from remit.inventory.connectors.files.record import FileRead, Role
from remit.inventory.connectors.files.repository import small_file
from remit.inventory.connectors.files.secret_record import MIN_CONFIDENCE, SecretOptions, SecretRead
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.connectors.files.walk import Candidate, Walk, printable
from remit.inventory.connectors.port import Blind, ConnectorManifest, Option, Permission, Scan
from remit.inventory.model import CredentialFact, Fact, FindingFact, IdentityFact, IdentityKind, Skipped
from remit.inventory.owners import owner_comments, parse_blame, propose
from remit.kernel.errors import Rejected, Unavailable
from remit.providers.git import GitHistory

MANIFEST = ConnectorManifest(
    id="files",
    title="Files of this machine",
    source="a directory: a home, a repository, a server's /etc, or /",
    observes=(
        *sorted({reader.reads for reader in READERS}),
        "secrets in every file, in what is packed in files, and in the history of repositories",
    ),
    needs=(
        Permission(grant="read access to the tree", why="a directory that cannot be listed is reported as skipped"),
    ),
    blind_to=(
        Blind(what="secrets that look like words", why="a password of a dictionary is told by its name alone"),
        Blind(what="what is encrypted", why="an archive or store under a password is reported, and not opened"),
        Blind(
            what="libraries: node_modules, site-packages, virtual environments, package caches",
            why="their keys are test keys",
        ),
        Blind(what="the distribution's trust store", why="it says whom to trust, not who one is"),
        Blind(what="other file systems mounted below the root", why="discover them by their own path"),
        Blind(what="what symbolic links point to", why="it is read where it lies, if that is below the root"),
    ),
    options=(
        Option(name="secrets", help="`no`: read known kinds of files only, and scan for no secrets"),
        Option(name="history", help="`no`: leave the history of repositories alone"),
        Option(name="min_confidence", help="0 to 100 (50): how sure the scan must be to tell"),
    ),
    hazards=("it reads private keys and tokens: their values become fingerprints at once and go nowhere else",),
)
_MAX_BLAMED_LINES = 20_000


class FilesConnector:
    """Reads the tree at `root`; outside it only `/etc/passwd`, the machine id and the repository around it."""

    manifest = MANIFEST

    def __init__(
        self,
        root: Path,
        *,
        instance: str | None = None,
        history: GitHistory | None = None,
        secrets: SecretOptions | None = None,
    ) -> None:
        self._root = Path(root)
        self._instance = instance
        self._history = history or GitHistory()
        self._chooser = Chooser(READERS)
        self._readers = {reader.id: reader for reader in READERS}
        self._accounts: dict[int, str] = {}
        self._homes: dict[str, str] = {}
        self._secrets = secrets or SecretOptions(enabled=False)
        self._told: set[tuple[str, str]] = set()
        self.files = 0
        """Files walked past in the last run, opened or not."""

    @property
    def instance(self) -> str:
        """The machine's fingerprint."""
        if self._instance is None:
            self._instance = host_fingerprint()
        return self._instance

    @property
    def scope(self) -> str:
        return printable(str(self._root))

    def open(self) -> None:
        """Resolve the root; `Rejected` (`inventory.files.no_directory`), or `Unavailable` when it is closed to us."""
        try:
            resolved = self._root.resolve(strict=True)
            os.close(os.open(resolved, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except PermissionError:
            raise Unavailable(
                "inventory.files.unreadable",
                f"`{self.scope}` cannot be read",
                next_step="run as an account that may list it, or name a directory that you own",
            ) from None
        except (OSError, RuntimeError, ValueError):
            raise Rejected(
                "inventory.files.no_directory",
                f"`{self.scope}` is no directory",
                next_step="name a directory: remit discover files DIR",
            ) from None
        self._root = resolved
        # A mounted image has its own accounts; the machine's count for everything else.
        own = small_file(str(resolved / "etc/passwd")) or small_file("/etc/passwd") or b""
        self._accounts, self._homes = parse_passwd(own)
        if str(resolved) != "/" and (resolved / "etc/passwd").is_file():
            self._homes |= {f"{resolved}{home}": account for home, account in self._homes.items()}

    def fetch(self, scan: Scan) -> Iterator[FileRead | SecretRead | Skipped]:
        """Walk the tree and yield each file that a reader understands; then scan all of it for secrets."""
        walk = Walk(str(self._root), self._chooser, wanted=self._wanted(), stopped=scan.stopped, progress=scan.progress)
        for found in walk.run():
            if isinstance(found, Skipped):
                yield found
                continue
            yield self._with_history(self._file(found), scan)
        self.files = walk.files
        yield from self._summary(walk)
        scan.progress(walk.files, self.scope)
        if self._secrets.enabled:
            # The scan binds what it finds by readers of this package: it is imported when all of them are there.
            from remit.inventory.connectors.files.secrets import SecretScan

            yield from SecretScan(
                str(self._root),
                self._secrets,
                host=self.instance,
                accounts=self._accounts,
                homes=self._homes,
                told=lambda path, found: not self._told.isdisjoint({(path, found.fingerprint), (path, found.keyed)}),
            ).run(scan)

    def _wanted(self) -> Callable[[str, str, Reader], bool]:
        """Library code is read only when the root lies in it: somebody asked for just that."""
        root = str(self._root)
        if role_of(root, "", root) is Role.VENDOR:
            return lambda directory, name, reader: True
        return lambda directory, name, reader: reader.system or role_of(directory, name, root) is not Role.VENDOR

    def _file(self, found: Candidate) -> FileRead:
        root = str(self._root)
        return FileRead(
            path=printable(f"{found.directory.rstrip('/')}/{found.name}"),
            reader=found.reader.id,
            data=found.data,
            host=self.instance,
            account=account_of(found.directory, found.seen.st_uid, self._accounts, self._homes),
            homes=self._homes,
            role=role_of(found.directory, found.name, root),
            open_to_all=found.open_to_all,
            open_to_group=found.open_to_group,
            repository=found.repository,
        )

    def _with_history(self, file: FileRead, scan: Scan) -> FileRead:
        """Ask version control who wrote a file that shows something; every other file is not worth the question."""
        at = file.repository
        if at is None or file.data.count(b"\n") > _MAX_BLAMED_LINES or file.path.startswith(at.git_dir + "/"):
            return file
        if not any(isinstance(fact, IdentityFact | FindingFact) for fact in self._read(file, scan)):
            return file
        answer = self._history.blame(git_dir=at.git_dir, root=at.root, path=file.within_repository, contents=file.data)
        return replace_authors(file, answer)

    def _summary(self, walk: Walk) -> Iterator[Skipped]:
        where = printable(str(self._root))
        if walk.pruned:
            detail = "libraries, caches, virtual environments and trust stores"
            yield Skipped(what=f"{walk.pruned} directories and files under {where}", reason="pruned", detail=detail)
        if walk.links:
            detail = "symbolic links are not followed; a target below the root is read where it lies"
            yield Skipped(what=f"{walk.links} links under {where}", reason="not-supported", detail=detail)
        if self._history.unasked:
            detail = "no git, or the time for it was used up: owners of these were not looked up"
            yield Skipped(
                what=f"history of {self._history.unasked} files under {where}", reason="unreachable", detail=detail
            )

    def translate(self, raw: FileRead | SecretRead, scan: Scan) -> Iterable[Fact]:
        """The facts of one file, and who seems to own what it declares; what breaks a reader becomes `Skipped`."""
        if isinstance(raw, SecretRead):
            from remit.inventory.secrets.facts import facts_of

            return facts_of(raw.found, raw.spot, now=scan.now)
        facts = self._read(raw, scan)
        self._remember(facts)
        if raw.repository is None and b"wner" not in raw.data and b"aint" not in raw.data:
            return facts
        comments = owner_comments(decode(raw.data)) if not raw.data.startswith(b"\0") else ()
        owners = [
            owner
            for fact in facts
            if isinstance(fact, IdentityFact) and (weight := ownership_weight(fact))
            for owner in propose(
                fact.name,
                rules=raw.repository.owner_rules if raw.repository else (),
                path=raw.within_repository,
                authors=raw.authors,
                comments=comments,
                place=fact.place,
                weight=weight,
            )
        ]
        return (*facts, *owners)

    def _remember(self, facts: Iterable[Fact]) -> None:
        """Which secrets are told already, and where: the scan of everything does not tell them twice."""
        for fact in facts:
            if isinstance(fact, CredentialFact):
                self._told.add((fact.place.path, fact.fingerprint))
                if (second := fact.attributes.get("secret_fingerprint")) is not None:
                    self._told.add((fact.place.path, str(second)))

    def _read(self, raw: FileRead, scan: Scan) -> tuple[Fact, ...]:
        sheet = Sheet(raw, scan)
        try:
            self._readers[raw.reader].read(sheet)
        except Exception as error:
            sheet.skip("malformed", type(error).__name__)
        return sheet.facts()

    def close(self) -> None:
        """Nothing is held between files."""


def make(source: str, options: Mapping[str, str], secret: str) -> FilesConnector:
    """A connector on a directory."""
    return FilesConnector(Path(source), secrets=_options(options))


def _options(given: Mapping[str, str]) -> SecretOptions:
    """How to scan for secrets; `Rejected` (`inventory.files.option-malformed`) for what is no such setting."""
    sure = given.get("min_confidence", str(MIN_CONFIDENCE))
    switches = {key: given.get(key, "yes") for key in ("secrets", "history")}
    if not sure.isdigit() or int(sure) > 100 or not {*switches.values()} <= {"yes", "no"}:
        raise Rejected(
            "inventory.files.option-malformed",
            "the options of the secret scan are not understood",
            next_step="give `secrets` and `history` as yes or no, `min_confidence` as a number from 0 to 100",
        )
    return SecretOptions(
        enabled=switches["secrets"] == "yes", history=switches["history"] == "yes", min_confidence=int(sure)
    )


def ownership_weight(fact: IdentityFact) -> int:
    """How much, in percent, the owner of a file says of an identity in it: all when the file brings it into being."""
    match fact.kind:
        case IdentityKind.PIPELINE | IdentityKind.WORKLOAD | IdentityKind.AI_AGENT | IdentityKind.CERTIFICATE_HOLDER:
            return 100
        case IdentityKind.DATABASE_ROLE | IdentityKind.SERVICE_ACCOUNT | IdentityKind.BOT:
            return 60
        case _:
            return 0


def replace_authors(file: FileRead, porcelain: str) -> FileRead:
    """`file` with what a blame said of it."""
    return replace(file, authors=parse_blame(porcelain)) if porcelain else file
