"""The Docker connector: files below a directory, an image archive, or an engine's socket."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from remit.inventory.connectors.docker.facts import read_container, read_dockerfile, read_image
from remit.inventory.connectors.files.formats import Malformed
from remit.inventory.connectors.files.host import host_fingerprint
from remit.inventory.connectors.files.readers.workloads import read_compose
from remit.inventory.connectors.files.record import FileRead, Repository
from remit.inventory.connectors.files.walk import printable, repository_above
from remit.inventory.connectors.port import Blind, ConnectorManifest, Permission, Scan
from remit.inventory.connectors.sheets import SystemSheet
from remit.inventory.model import Fact, Skipped
from remit.kernel.errors import Denied, Rejected
from remit.providers.docker.engine import Engine, image_configs

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_DOCKERFILE: Final = re.compile(
    r"(?:Dockerfile|Containerfile)(?:\.[\w.-]{1,60})?|.{1,60}\.(?:[Dd]ockerfile|[Cc]ontainerfile)"
)
_COMPOSE: Final = re.compile(r"(?:docker-)?compose(?:[.-][\w-]{1,60})?\.ya?ml")
_IGNORED: Final = frozenset({".git", "node_modules", ".venv", "site-packages"})
MANIFEST = ConnectorManifest(
    id="docker",
    title="Docker: definitions, image archives, engines",
    source="a directory, a Dockerfile, a compose file, an archive of `docker save`, or unix:///var/run/docker.sock",
    observes=(
        "containers that run: their user, the names of their settings, mounts, networks, privileges",
        "secrets in settings of images and containers, and in ENV and ARG of Dockerfiles",
        "services of compose files",
        "who can become root of the host: the engine's socket, privileged containers, host mounts",
    ),
    needs=(
        Permission(grant="read access to the files", why="definitions and archives"),
        Permission(
            grant="read access to /var/run/docker.sock, best through a proxy that lets GET /containers pass",
            why="an engine's socket gives root to whoever may write to it: only GET is sent",
        ),
    ),
    blind_to=(
        Blind(what="files in layers", why="the secret scan reads them"),
        Blind(what="secrets of a swarm", why="the engine shows their names to managers alone"),
        Blind(what="registries", why="an image's name is read, its registry is not asked"),
    ),
    hazards=("access to the engine's socket is root on its host, also for this reader",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A file, an image or a container."""

    kind: str
    path: str
    data: bytes = field(default=b"", repr=False)
    value: Mapping[str, Any] = field(default_factory=dict, repr=False)
    repository: Repository | None = None
    """The working tree in which the file lies."""


class DockerConnector:
    """Reads one source."""

    manifest = MANIFEST

    def __init__(self, source: str, *, instance: str = "") -> None:
        self._source = source
        self._path = Path(source.removeprefix("unix://"))
        self._instance = instance
        self._engine: Engine | None = None
        self._repository: Repository | None = None

    @property
    def instance(self) -> str:
        """The machine's fingerprint: an engine's containers become root of this host."""
        self._instance = self._instance or host_fingerprint()
        return self._instance

    @property
    def scope(self) -> str:
        return printable(self._source)

    def open(self) -> None:
        """Look at the source; `Rejected` (`inventory.docker.nothing-there`), or what a silent engine raises."""
        try:
            mode = self._path.stat().st_mode
        except (OSError, ValueError):
            raise Rejected(
                "inventory.docker.nothing-there",
                f"there is no `{self.scope[:200]}`",
                next_step="name a directory, a file, an archive or a socket",
            ) from None
        if stat.S_ISSOCK(mode):
            self._engine = Engine(self._path)
            self._engine.get("/version")
        else:
            self._path = self._path.resolve()
            self._repository = repository_above(str(self._path if self._path.is_dir() else self._path.parent))

    def fetch(self, scan: Scan) -> Iterator[Raw | Skipped]:
        """Containers one by one, images of an archive, or the definitions below a directory."""
        if self._engine is not None:
            yield from self._containers(self._engine, scan)
        elif self._path.is_file():
            yield from self._file(self._path, asked=True)
        else:
            for count, (where, directories, names) in enumerate(os.walk(self._path, followlinks=False)):
                directories[:] = sorted(each for each in directories if each not in _IGNORED)
                scan.progress(count, printable(where))
                if scan.stopped():
                    yield Skipped(what=self.scope, reason="changed-while-read", detail="stopped before the end")
                    return
                for called in sorted(names):
                    yield from self._file(Path(where) / called)

    def _containers(self, engine: Engine, scan: Scan) -> Iterator[Raw | Skipped]:
        listed = engine.get("/containers/json?all=1")
        for count, each in enumerate(listed if isinstance(listed, list) else ()):
            container = str(each.get("Id", "")) if isinstance(each, dict) else ""
            scan.progress(count, container[:12])
            try:
                found = engine.inspect(container)
            except Denied:
                yield Skipped(what=f"container {container[:12]}", reason="changed-while-read", detail="it is gone")
                continue
            if isinstance(found, dict):
                yield Raw(kind="container", path=f"container {container[:12]}", value=found)

    def _file(self, path: Path, *, asked: bool = False) -> Iterator[Raw | Skipped]:
        kind = "dockerfile" if _DOCKERFILE.fullmatch(path.name) else "compose" if _COMPOSE.fullmatch(path.name) else ""
        shown = printable(str(path))
        if path.is_symlink() or not path.is_file():
            return
        if not kind and (asked or path.name.endswith((".tar", ".tar.gz", ".tgz"))):
            try:
                for tag, config in image_configs(path):
                    yield Raw(kind="image", path=f"{shown}#{tag}", value={"tag": tag, **config})
            except Rejected as error:
                if asked:
                    yield Skipped(what=shown, reason="malformed", detail=error.message)
            return
        if not kind:
            return
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                yield Skipped(what=shown, reason="too-large")
                return
            yield Raw(kind=kind, path=shown, data=path.read_bytes(), repository=repository_above(str(path)))
        except OSError as error:
            yield Skipped(what=shown, reason="unreadable", detail=error.strerror or "")

    def translate(self, raw: Raw, scan: Scan) -> Iterable[Fact]:
        """The facts of one definition, image or container."""
        file = FileRead(
            path=raw.path,
            reader="docker",
            data=raw.data,
            host=self.instance,
            account="root",
            repository=raw.repository or self._repository,
        )
        sheet = SystemSheet(file, scan, rules="docker")
        try:
            match raw.kind:
                case "dockerfile":
                    read_dockerfile(sheet)
                case "compose":
                    read_compose(sheet)
                case "image":
                    read_image(sheet, raw.value)
                case _:
                    read_container(sheet, raw.value)
        except (Malformed, ValueError, TypeError, KeyError, AttributeError) as error:
            sheet.skip("malformed", type(error).__name__)
        return sheet.facts()

    def close(self) -> None:
        """Nothing is held between requests."""
