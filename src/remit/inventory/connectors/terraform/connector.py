"""The Terraform connector: states, plans and configurations below a directory, or one file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from remit.inventory.connectors.files.choose import role_of
from remit.inventory.connectors.files.environment import flatten, record_settings
from remit.inventory.connectors.files.formats import Document, Malformed, Setting, Tree
from remit.inventory.connectors.files.host import account_of, host_fingerprint, parse_passwd
from remit.inventory.connectors.files.record import FileRead, Repository
from remit.inventory.connectors.files.repository import small_file
from remit.inventory.connectors.files.values import is_placeholder
from remit.inventory.connectors.files.walk import printable, repository_above
from remit.inventory.connectors.port import Blind, ConnectorManifest, Permission, Scan
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.connectors.terraform.backends import kept_at, remote_state, state_of
from remit.inventory.connectors.terraform.documents import Contents, Item, from_blocks, parse_document
from remit.inventory.connectors.terraform.resources import READERS, Known, Page
from remit.inventory.model import Autonomy, Fact, IdentityKind, Relation, Severity, Skipped
from remit.kernel.errors import Misconfigured, Rejected
from remit.kernel.ids import Name
from remit.providers.terraform.hcl import evaluate

MAX_FILE_BYTES: Final = 128 * 1024 * 1024
MAX_DIRECTORIES: Final = 20_000
MAX_CONFIGURATIONS: Final = 400
_CHUNK: Final = 100
_STATE: Final = re.compile(
    r".*\.tfstate(?:\.\d+)?(?:\.backup)?|.*\.tfstate\.json|.*tfplan.*\.json|.*plan\.json|show\.json"
)
_IGNORED: Final = frozenset({".git", ".terraform", "node_modules", ".venv", "site-packages"})
_LOCAL_MODULE: Final = re.compile(rb'\bsource\s*=\s*"(\.{1,2}/[^"\n]{0,300})"')

MANIFEST = ConnectorManifest(
    id="terraform",
    record_of=(),
    title="Terraform state, plans and configurations",
    source="a directory, a state (`terraform.tfstate`), or what `terraform show -json` wrote",
    observes=(
        "identities that Terraform makes: AWS, Google, Azure, Kubernetes, databases, OpenBao, GitHub, GitLab",
        "secrets in clear in states, plans, outputs, variables, providers and backends",
        "key pairs and certificates of the `tls` provider, by the fingerprint of their key",
        "who is let in by OpenID Connect (trust policies, federated credentials)",
        "where state is kept, and so who can read all of it; states that read other states",
    ),
    needs=(
        Permission(grant="read access to the files", why="the working directory, and a copy of the state"),
        Permission(grant="terraform state pull > terraform.tfstate", why="for state that is kept elsewhere"),
    ),
    blind_to=(
        Blind(what="remote state", why="only its place is read: pull it, or read its bucket's own system"),
        Blind(what="modules of registries and of git", why="nothing is downloaded; local modules are evaluated"),
        Blind(what="old versions of a state", why="a bucket with versions keeps every secret that was ever in it"),
        Blind(what="the server of a database login", why="a state does not say where its provider connects"),
    ),
    hazards=("a state holds every secret in clear: their values become fingerprints at once",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some items of one document, with what the whole of it told."""

    file: FileRead
    directory: str
    items: tuple[Item, ...] = field(repr=False)
    form: str
    lineage: str = ""
    account: str = "unknown"
    organisation: str = "unknown"
    backend: Item | None = field(default=None, repr=False)


class TerraformConnector:
    """Reads what lies at `root`."""

    manifest = MANIFEST

    def __init__(self, root: Path, *, instance: str = "") -> None:
        self._root = root
        self._instance = instance
        self._repository: Repository | None = None
        self._accounts: dict[int, str] = {}
        self._homes: dict[str, str] = {}

    @property
    def instance(self) -> str:
        """The machine's fingerprint."""
        self._instance = self._instance or host_fingerprint()
        return self._instance

    @property
    def scope(self) -> str:
        return printable(str(self._root))

    def open(self) -> None:
        """Resolve the path; `Rejected` (`inventory.terraform.nothing-there`)."""
        try:
            self._root = self._root.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise Rejected(
                "inventory.terraform.nothing-there",
                f"there is no `{self.scope[:200]}`",
                next_step="name a directory with Terraform files, or a state file",
            ) from None
        self._repository = repository_above(str(self._root if self._root.is_dir() else self._root.parent))
        self._accounts, self._homes = parse_passwd(small_file("/etc/passwd") or b"")

    def fetch(self, scan: Scan) -> Iterator[Part | Skipped]:
        """Documents first by directory; each in parts of a hundred items."""
        if self._root.is_file():
            yield from self._document(self._root, None)
            return
        called: set[str] = set()
        configurations: list[Path] = []
        for count, (directory, names) in enumerate(self._directories()):
            if count >= MAX_DIRECTORIES:
                yield Skipped(what=self.scope, reason="too-large", detail=f"more than {MAX_DIRECTORIES} directories")
                break
            scan.progress(count, printable(str(directory)))
            backend = self._backend(directory)
            if backend is not None:
                yield from self._document(directory / ".terraform/terraform.tfstate", None)
            for each in names:
                if _STATE.fullmatch(each):
                    yield from self._document(directory / each, backend)
            if any(each.endswith((".tf", ".tf.json")) for each in names):
                configurations.append(directory)
                called |= _called_from(directory, names)
        roots = [each for each in configurations if str(each) not in called]
        for directory in roots[:MAX_CONFIGURATIONS]:
            if scan.stopped():
                yield Skipped(what=self.scope, reason="changed-while-read", detail="stopped before the end")
                return
            yield from self._configuration(directory)
        if len(roots) > MAX_CONFIGURATIONS:
            yield Skipped(what=self.scope, reason="too-large", detail=f"more than {MAX_CONFIGURATIONS} configurations")

    def _directories(self) -> Iterator[tuple[Path, list[str]]]:
        """Each directory with its files, links not followed; `.terraform` for its record of the backend only."""
        for where, directories, names in os.walk(self._root, followlinks=False):
            directories[:] = sorted(each for each in directories if each not in _IGNORED)
            yield Path(where), sorted(names)

    def _backend(self, directory: Path) -> Item | None:
        data = small_file(str(directory / ".terraform/terraform.tfstate"))
        try:
            found = parse_document(data) if data else None
        except Malformed:
            return None
        return found.items[0] if found and found.form == "backend" and found.items else None

    def _document(self, path: Path, backend: Item | None) -> Iterator[Part | Skipped]:
        shown = printable(str(path))
        try:
            status = path.lstat()
            if not os.path.isfile(path) or path.is_symlink():  # noqa: PTH113
                return
            if status.st_size > MAX_FILE_BYTES:
                yield Skipped(what=shown, reason="too-large", detail=f"more than {MAX_FILE_BYTES} bytes")
                return
            data = path.read_bytes()
        except OSError as error:
            yield Skipped(what=shown, reason="unreadable", detail=error.strerror or "")
            return
        if data[:1] == b"P":
            detail = "a plan in Terraform's own form: `terraform show -json PLAN > plan.json`"
            yield Skipped(what=shown, reason="not-supported", detail=detail)
            return
        if not data.strip():
            return
        try:
            contents = parse_document(data)
        except Malformed as error:
            yield Skipped(what=shown, reason="malformed", detail=str(error))
            return
        if contents is None:
            return
        if contents.too_deep:
            what = f"{contents.too_deep} resources of {shown}"
            yield Skipped(what=what, reason="too-large", detail="nested too deep, or too many values")
        yield from self._parts(path, status, data, contents, backend)

    def _parts(
        self, path: Path, status: os.stat_result, data: bytes, contents: Contents, backend: Item | None
    ) -> Iterator[Part]:
        accounts = Counter(re.findall(rb"arn:aws[\w-]*:[a-z0-9-]+:[a-z0-9-]*:(\d{12}):", data)).most_common(1)
        owners = Counter(
            item.text("full_name").partition("/")[0] for item in contents.items if item.type == "github_repository"
        ).most_common(1)
        file = self._file(path, status)
        for start in range(0, max(1, len(contents.items)), _CHUNK):
            yield Part(
                file=file, directory=str(path.parent), items=contents.items[start : start + _CHUNK],
                form=contents.form, lineage=contents.lineage, backend=backend,
                account=accounts[0][0].decode() if accounts else "unknown",
                organisation=owners[0][0] if owners and owners[0][0] else "unknown",
            )  # fmt: skip

    def _file(self, path: Path, status: os.stat_result | None) -> FileRead:
        directory, root = str(path.parent), str(self._root)
        return FileRead(
            path=printable(str(path)), reader="terraform", data=b"", host=self.instance,
            account=account_of(directory, status.st_uid if status else 0, self._accounts, self._homes),
            homes=self._homes, role=role_of(directory, path.name, root), repository=self._repository,
            open_to_all=bool(status and status.st_mode & 0o004 and path.parent.stat().st_mode & 0o001),
        )  # fmt: skip

    def _configuration(self, directory: Path) -> Iterator[Part | Skipped]:
        shown = printable(str(directory))
        try:
            items = tuple(from_blocks(evaluate(directory, within=self._root)))
        except Misconfigured as error:
            yield Skipped(what=f"*.tf in {shown}", reason="not-supported", detail=f"{error.message}: {error.next_step}")
            return
        except Rejected as error:
            yield Skipped(what=f"*.tf in {shown}", reason="malformed", detail=error.message)
            return
        by_file: dict[str, list[Item]] = {}
        for item in items:
            by_file.setdefault(item.file or "main.tf", []).append(item)
        backend = next((item for item in items if item.kind == "backend"), None)
        for relative, found in by_file.items():
            path = directory / relative
            status = path.stat() if path.is_file() else None
            for start in range(0, len(found), _CHUNK):
                yield Part(
                    file=self._file(path, status), directory=str(directory), form="configuration", backend=backend,
                    items=tuple(found[start : start + _CHUNK]),
                )  # fmt: skip

    def translate(self, raw: Part, scan: Scan) -> Iterable[Fact]:
        """The facts of some items of a document."""
        sheet = SystemSheet(raw.file, scan, rules="terraform")
        configuration = _configuration(sheet, raw.directory)
        holders: list[Name] = []
        if raw.form in ("state", "plan", "show"):
            state = state_of(sheet, raw.lineage)
            sheet.edge(configuration, Relation.CAN_REACH, state, f"keeps its state in {raw.file.name}")
            holders.append(state)
            if raw.backend is not None:
                kept = kept_at(sheet, raw.backend.type, raw.backend.values, account=raw.account)
                holders += [kept] if kept else []
        page = Page(
            sheet=sheet, holders=tuple(holders) or (configuration,), account=raw.account,
            organisation=raw.organisation, server=raw.lineage[:36] or "unknown",
        )  # fmt: skip
        for item in raw.items:
            try:
                _read(page, item, configuration, declared=raw.form == "configuration")
            except (Malformed, ValueError, TypeError, AttributeError) as error:
                sheet.skip("malformed", f"{item.address[:100]}: {type(error).__name__}")
        return sheet.facts()

    def close(self) -> None:
        """Nothing is held."""


def _called_from(directory: Path, names: list[str]) -> set[str]:
    """The directories that local modules of these files lie in."""
    found: set[str] = set()
    for each in names:
        if each.endswith(".tf") and (data := small_file(str(directory / each))):
            for source in _LOCAL_MODULE.findall(data):
                found.add(os.path.normpath(directory / os.fsdecode(source)))
    return found


def _configuration(sheet: SystemSheet, directory: str) -> Name:
    """The configuration of a directory as an identity: what runs Terraform there may change all that it makes."""
    directory = re.sub(r"/(?:\.terraform|terraform\.tfstate\.d/[^/]+)$", "", printable(directory))
    at = sheet.file.repository
    if at and at.slug:
        local = f"{at.slug}/{os.path.relpath(directory, at.root)}".removesuffix("/.")
        of, title = sheet.name(at.system, at.forge, "terraform", local), f"Terraform in {local}"
    else:
        of, title = sheet.name("host", sheet.file.host, "terraform", directory), f"Terraform in {directory}"
    return sheet.identity(of, IdentityKind.PIPELINE, title, attributes={"autonomy": Autonomy.PIPELINE.value})


def _read(page: Page, item: Item, configuration: Name, *, declared: bool) -> None:
    sheet = page.sheet
    if item.kind == "backend":
        kept = kept_at(sheet, item.type, item.values, account=page.account, line=item.line)
        if kept is not None:
            why = f"backend {item.type}: its state lies there"
            sheet.edge(configuration, Relation.CAN_REACH, kept, why, line=item.line, actions=["read", "write"])
        _secrets(page, item, Known())
        return
    if item.type == "terraform_remote_state":
        backend, config = remote_state(item)
        kept = kept_at(sheet, backend, config, account=page.account, line=item.line)
        if kept is not None:
            why = f"{item.address} reads the state of another configuration"
            sheet.edge(configuration, Relation.CAN_REACH, kept, why, line=item.line, actions=["read"])
    known = READERS[item.type](page, item) if item.type in READERS and item.kind == "resource" else Known()
    if known.identity is not None and item.kind == "resource":
        why = f"{item.address} {'declares' if declared else 'made'} it"
        sheet.edge(configuration, Relation.DEPLOYS, known.identity, why, line=item.line)
    _secrets(page, item, known)


def _secrets(page: Page, item: Item, known: Known) -> None:
    """What is left: by name and shape, and what Terraform marks as sensitive whatever its name."""
    sheet = page.sheet
    rest: dict[str, Tree] = {key: value for key, value in item.values.items() if key not in known.used}
    settings = [
        Setting("", setting.key, setting.value, item.line or 1)
        for setting in flatten(Document(rest))
        if 3 <= len(setting.value) <= 100_000
    ]
    found = record_settings(sheet, settings, holders=page.holders)
    if item.kind in ("provider", "backend", "variable") and found:
        sheet.finding(
            "inline-credential", Severity.HIGH, f"{item.address} holds a credential in clear in {sheet.file.name}",
            "it goes into every plan, state and clone of the configuration",
            "take it from the environment or from a manager: leave the argument out", subject=found[0], line=item.line,
        )  # fmt: skip
    if item.type == "random_password" and (value := item.text("result")):
        sheet.secret(item.address, value, line=item.line, holders=page.holders)
    for key in item.sensitive - known.used:
        for setting in flatten(Document({key: item.values.get(key)})):
            if _is_opaque(setting.value):
                sheet.secret(f"{item.address}.{setting.key}", setting.value, line=item.line, holders=page.holders)


def _is_opaque(value: str) -> bool:
    """True of what may be a secret by itself; URLs and keys were read as what they are."""
    return len(value) >= 8 and not is_placeholder(value) and "://" not in value and "PRIVATE KEY-----" not in value
