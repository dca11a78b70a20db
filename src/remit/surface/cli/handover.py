"""How credentials reach a task: private files that end with it, and an environment that points at them.

What a system's own clients read is said by its broker (`Presentation`); nothing here knows a system by name.
Every need has a `LABEL.json` beside: its own name, or `TARGET-ROLE`. Only with `--env` is a secret in the environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from remit.access.brokers.presentation import DIRECTORY, Presentation
from remit.kernel.errors import Rejected

_PREFIX = "remit-run-"
_MINE = re.compile(r"remit-run-([0-9]+)-[A-Za-z0-9_]+")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SECTION = re.compile(r"(?m)^(?=\[)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One credential as the agent handed it over."""

    need: str
    lease: str
    system: str
    target: str
    role: str
    settings: Mapping[str, str]
    secret: str
    fail_safe: bool
    presentation: Presentation = field(default_factory=Presentation)
    name: str = ""
    """What the caller called the need; empty where it has no name of its own."""

    @property
    def label(self) -> str:
        """How it is asked for: its name, or `TARGET-ROLE`."""
        return self.name or f"{self.target}-{self.role}"

    def document(self) -> dict[str, object]:
        """What `LABEL.json` says: a secret."""
        return {"need": self.need, "lease": self.lease, "settings": dict(self.settings), "secret": self.secret}

    def __repr__(self) -> str:
        return f"Handed(lease={self.lease!r})"


class Handover:
    """A private directory of one run, removed with `close`."""

    def __init__(self, *, pid: int) -> None:
        parent = _parent()
        _remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{pid}-", dir=parent))

    def write(self, credentials: Sequence[Handed]) -> None:
        """Write every credential in the forms that its clients read, 0600 each."""
        for name in sorted({name for one in credentials for name in one.presentation.files}):
            texts = [one.presentation.files[name] for one in credentials if name in one.presentation.files]
            self._file(name, _joined(texts).replace(DIRECTORY, str(self.path)))
        for one in credentials:
            self._file(f"{one.label}.json", json.dumps(one.document()))

    def file(self, one: Handed, name: str = "") -> str:
        """The path of one file of a credential, written when it is first asked for; without a name its document."""
        text = one.presentation.files.get(name) if name else json.dumps(one.document())
        if text is None:
            raise Rejected(
                "surface.handover.file",
                f"the credential `{one.label}` has no file `{name[:64]}`",
                next_step="it has " + (", ".join(f"`{each}`" for each in one.presentation.files) or "none"),
            )
        folder = self.path / one.lease
        folder.mkdir(mode=0o700, exist_ok=True)
        if not (folder / (name or "credential.json")).exists():
            self._file(name or "credential.json", text.replace(DIRECTORY, str(folder)), folder)
        return str(folder / (name or "credential.json"))

    def link(self, path: str, handle: int) -> str:
        """A name for an open script, under which an interpreter opens that very file; its last part is the script's.

        Programs look at their own last name (`$0`), which a bare descriptor would hide from them.
        """
        folder = self.path / "script"
        folder.mkdir(mode=0o700)
        link = folder / os.path.basename(path)  # noqa: PTH119
        link.symlink_to(f"/proc/self/fd/{handle}")
        return str(link)

    def environment(
        self,
        credentials: Sequence[Handed],
        base: Mapping[str, str],
        *,
        secrets: bool | Collection[str] = False,
        files: bool = True,
    ) -> dict[str, str]:
        """The task's environment: what the caller's had, without stale credentials, with pointers to these.

        `secrets` says which labels come with their secret: all, none, or those named. Raises `Rejected`
        (`surface.handover.environment`) for one that has no form there, while `files` says that there is no other way.
        """
        stale = {name for one in credentials for name in one.presentation.stale}
        env = {name: value for name, value in base.items() if name not in stale}
        env["REMIT_CREDENTIALS"] = str(self.path)
        if files:
            env |= {name: str(self.path / file) for name, file in _agreed(credentials).items()}
        of_system = Counter(one.system for one in credentials)
        for one, variable in zip(credentials, _variables(credentials), strict=True):
            shown, asked = one.presentation, secrets if isinstance(secrets, bool) else one.label in secrets
            alone = of_system[one.system] == 1
            env |= shown.variables if alone else {}
            if not asked:
                continue
            env |= shown.secrets if alone else {}
            if shown.url and (one.name or len(credentials) > 1 or not shown.secrets):
                env[variable] = shown.url
            elif not files and not (alone and shown.secrets):
                raise _no_variable(one.label)
        return env

    def close(self) -> None:
        """Remove the directory and what is in it; works twice."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, name: str, text: str, folder: Path | None = None) -> None:
        if not _FILE.fullmatch(name):
            raise Rejected("surface.handover.file", f"`{name[:64]}` is no plain name of a file")
        handle = os.open((folder or self.path) / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)


def _parent() -> Path:
    """The user's own runtime directory (memory, private) where there is one, else that of temporary files."""
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/"):
        with suppress(OSError):
            seen = Path(named).stat()
            if seen.st_uid == os.getuid() and not seen.st_mode & 0o077:
                return Path(named)
    return Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    """Directories of supervisors that were killed: their credentials are dead, their files need not stay."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            match = _MINE.fullmatch(entry.name)
            if match is None or not entry.is_dir(follow_symlinks=False):
                continue
            if entry.stat(follow_symlinks=False).st_uid == os.getuid() and not Path(f"/proc/{match[1]}").exists():
                shutil.rmtree(entry.path, ignore_errors=True)


def _joined(texts: Sequence[str]) -> str:
    """One file of what several credentials say; of two sections with the same head the first stays."""
    parts: list[str] = []
    heads: set[str] = set()
    for text in texts:
        for part in _SECTION.split(text):
            head = part.partition("\n")[0]
            if not head.startswith("[") or head not in heads:
                parts.append(part)
            heads.add(head)
    return "".join(parts)


def _agreed(credentials: Sequence[Handed]) -> dict[str, str]:
    """Variable → file, without those variables for which two credentials name different files."""
    files: dict[str, set[str]] = {}
    for one in credentials:
        for name, file in one.presentation.pointers.items():
            files.setdefault(name, set()).add(file)
    return {name: file for name, (file, *others) in files.items() if not others}


def _variables(credentials: Sequence[Handed]) -> list[str]:
    """`ORDERS_URL`; `ORDERS_READ_URL` where a target is needed in more than one role; `NAME_URL` where it is named."""
    targets = [one.target for one in credentials]
    stems = [
        one.name or (one.target if targets.count(one.target) == 1 else f"{one.target}_{one.role}")
        for one in credentials
    ]
    return [re.sub(r"[^A-Z0-9]", "_", stem.upper()) + "_URL" for stem in stems]


def _no_variable(label: str) -> Rejected:
    return Rejected(
        "surface.handover.environment",
        f"the credential `{label[:80]}` cannot be handed over in the environment alone: its clients read files",
        next_step="hand it over by `--handover file` or `--handover socket`",
    )
