"""Policies as files: Cedar text, the links of its templates, and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from remit.kernel.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from remit.access.policy.source import TemplateLink
    from remit.surface.cli.options import Where

_LIMIT = 4 * 1024 * 1024
LINKS = "links.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFiles:
    """What lies at a path, or what another place says."""

    name: str
    """For a person: a path, a version, `the starter library`."""
    written: str
    """The Cedar text as it stands, templates included."""
    links: tuple[TemplateLink, ...] | None = None
    """None where the text can have no templates."""
    cases: str = ""
    invariants: str = ""

    @property
    def text(self) -> str:
        """The Cedar text with its links expanded. Raises `Rejected` (`access.policy.link`)."""
        from remit.access.policy.templates import expand

        return self.written if self.links is None else expand(self.written, self.links)


def read_files(path: Path) -> PolicyFiles:
    """A `.cedar` file; or a folder: every `.cedar` file below it by name, `links.json`, `*cases.yaml`, `*.invariants`.

    Raises `Rejected` (`access.policy.none`, `.too_large`, `.unreadable`, `.link`).
    """
    if not path.is_dir():
        return PolicyFiles(name=str(path), written=read_text(path), links=_links(path.parent / LINKS))
    files = sorted(path.glob("**/*.cedar"))
    if not files:
        raise Rejected("access.policy.none", f"`{path}` holds no .cedar file")
    return PolicyFiles(
        name=str(path),
        written=_joined(path, files),
        links=_links(path / LINKS),
        cases=_joined(path, sorted(path.glob("*cases.yaml"))),
        invariants=_joined(path, sorted(path.glob("*.invariants"))),
    )


def read_text(path: Path) -> str:
    """A file's text. Raises `Rejected` (`access.policy.unreadable`, `access.policy.too_large`)."""
    try:
        if path.stat().st_size > _LIMIT:
            raise _too_large(path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "it cannot be opened") if isinstance(error, OSError) else "it is no UTF-8"
        raise Rejected(
            "access.policy.unreadable", f"`{path}` cannot be read: {why}", next_step="see its name and its mode"
        ) from None


def named_files(what: str, where: Where) -> PolicyFiles:
    """`starter`, `active`, a version `pv_…`, or a path."""
    if what == "starter":
        return starter_files()
    if what == "active":
        return _of_version(where.admin.get("/api/v1/policies"))
    if what.startswith("pv_"):
        return _of_version(where.admin.get(f"/api/v1/policies/versions/{what}"))
    return read_files(Path(what))


def files_in_question(path: str, where: Where) -> PolicyFiles:
    """What is named; else the policies in force, else, where nothing is or nobody answers, the starter library."""
    if path:
        return named_files(path, where)
    try:
        active = where.admin.get("/api/v1/policies")
    except Unavailable:
        return starter_files()
    return _of_version(active) if active["text"] else starter_files()


def starter_files() -> PolicyFiles:
    """The library that ships with Remit."""
    from remit.access.policy.starter import starter_cases, starter_invariants, starter_text

    return PolicyFiles(
        name="the starter library", written=starter_text(), cases=starter_cases(), invariants=starter_invariants()
    )


def _of_version(version: dict[str, str]) -> PolicyFiles:
    if not version["text"]:
        raise Rejected(
            "access.policy.none", "no policies are in force", next_step="put some in force with `remit policy apply`"
        )
    return PolicyFiles(
        name=f"version {version['id']}", written=version["text"], cases=version["cases"],
        invariants=version["invariants"],
    )  # fmt: skip


def _joined(path: Path, files: Sequence[Path], read: Callable[[Path], str] = read_text) -> str:
    text = "\n".join(read(file) for file in files)
    if len(text) > _LIMIT:
        raise _too_large(path)
    return text


def _links(path: Path) -> tuple[TemplateLink, ...]:
    from remit.access.policy.cedar import read_links

    return tuple(read_links(read_text(path))) if path.is_file() else ()


def _too_large(path: Path) -> Rejected:
    return Rejected("access.policy.too_large", f"`{path}` holds more than {_LIMIT} bytes of policies")
