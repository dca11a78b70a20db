"""What `fetch` hands to `translate`: the bytes of one file and what the walk knew of it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from remit.inventory.owners import LineAuthor, OwnerRule


class Role(StrEnum):
    """What a path says of the purpose of a file; all but `LIVE` lower the severity of a finding."""

    LIVE = "live"
    TEST = "test"
    EXAMPLE = "example"
    DOCUMENTATION = "documentation"
    VENDOR = "vendor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The working tree of version control that a file lies in."""

    root: str
    git_dir: str
    forge: str = ""
    """Host of its first remote, `origin` before others: `github.com`; empty without one."""
    slug: str = ""
    """`owner/repository` on the forge."""
    owner_rules: tuple[OwnerRule, ...] = ()

    @property
    def system(self) -> str:
        """The forge's kind, as names have it: `github`, `gitlab`, else `git`."""
        return next((kind for kind in ("github", "gitlab") if kind in self.forge), "git")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """One file, read whole. Its bytes are kept out of `repr`: they may be a secret."""

    path: str
    """Absolute and printable: bytes that are no UTF-8 are shown as escapes."""
    reader: str
    data: bytes = field(repr=False)
    host: str
    """Stable fingerprint of the machine."""
    account: str
    """The Unix account to which it belongs: that of the home in which it lies, else its owner."""
    homes: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Home directory → account, of this machine."""
    role: Role = Role.LIVE
    open_to_all: bool = False
    """Every account can read it: the file and each directory above it allow that."""
    open_to_group: bool = False
    repository: Repository | None = None
    authors: tuple[LineAuthor, ...] = ()
    """Who last changed which line, by version control; empty when it is not tracked or was not asked."""

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def directory(self) -> str:
        return posixpath.dirname(self.path)

    @property
    def tracked(self) -> bool:
        """Version control holds it: its content is in every clone."""
        return bool(self.authors)

    @property
    def within_repository(self) -> str:
        """Its path from the root of the repository; its whole path without one."""
        return posixpath.relpath(self.path, self.repository.root) if self.repository else self.path
