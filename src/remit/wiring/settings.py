"""The settings of one installation, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit.kernel.errors import Misconfigured
from remit.kernel.settings import load_settings
from remit.storage.datadir import DataDir


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """`[server]`"""

    listen: str = "127.0.0.1:8420"
    """HOST:PORT of the console and the API; loopback only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """`[trust]`"""

    domain: str = "remit.local"
    """SPIFFE trust domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """`[access]`"""

    shadow_percent: int = 0
    """Share of decisions that the reference engine checks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenseSettings:
    """`[defense]`"""

    webhook: str = ""
    """URL that gets a ticket for each incident (https, or http on loopback)."""
    never_contain: tuple[str, ...] = ()
    """Identities that are never contained automatically."""
    contain_share: int = 20
    """Never contain automatically more than this share (percent) of an environment at once."""


SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "trust": TrustSettings,
    "access": AccessSettings,
    "defense": DefenseSettings,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of them, and where the state lies."""

    data: DataDir
    database: str
    server: ServerSettings
    trust: TrustSettings
    access: AccessSettings
    defense: DefenseSettings


def settings_from(
    root: Path,
    *,
    config: Path | None = None,
    database: str | None = None,
    socket_dir: Path | None = None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
) -> Settings:
    """Load the settings of the installation at `root`: flag, else environment, else file, else default."""
    data = DataDir.at(root, socket_dir)
    if config is not None and not config.is_file():
        raise Misconfigured("kernel.settings.missing", f"the settings file `{config}` does not exist")
    loaded = load_settings(SECTIONS, file=config or data.config, environ=environ, flags=flags)
    return Settings(data=data, database=database or f"sqlite:///{data.database}", **loaded)
