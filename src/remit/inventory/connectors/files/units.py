"""A unit of systemd: as whom it runs, and what secrets it is given. Read alike by `files` and by `host`.

Spec: systemd.exec(5), "Credentials", "User/Group Identity"; systemd.syntax(7).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from remit.inventory.connectors.files.environment import record_settings
from remit.inventory.connectors.files.formats import Setting, decode, parse_dotenv, parse_ini
from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.record import Role
from remit.inventory.connectors.files.sheet import Sheet
from remit.inventory.model import Autonomy, CredentialKind, IdentityKind, Relation
from remit.kernel.ids import Name

_GIVEN = frozenset({"LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"})
_SECTIONS = frozenset({"Service", "Socket", "Mount", "Swap"})
_CONTINUED = re.compile(r"\\\r?\n(?:[#;][^\n]*\n)*")
_MAX_LINE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a unit file says, its drop-ins after it: the last of a single value holds, an empty one clears a list."""

    label: str
    description: str = ""
    user: Setting | None = None
    dynamic: bool = False
    commands: tuple[Setting, ...] = field(default=(), repr=False)
    given: tuple[Setting, ...] = field(default=(), repr=False)
    environment: tuple[Setting, ...] = field(default=(), repr=False)
    files: tuple[Setting, ...] = ()
    schedule: tuple[str, ...] = ()
    """When a timer fires."""
    starts: str = ""
    """The unit that a timer starts, where it names one."""

    @property
    def account(self) -> str:
        """The Unix account under which it runs; empty where only the manager knows (a specifier)."""
        if self.user is not None and self.user.value:
            return "" if "%" in self.user.value else self.user.value
        return self.label.partition(".")[0].partition("@")[0] if self.dynamic else "root"

    @property
    def declares(self) -> bool:
        """Whether it runs something."""
        return bool(self.commands or self.user or self.given or self.environment)


def unit_label(name: str, directory: str) -> str:
    """The unit's name: that of the file, or of the directory in which a drop-in lies."""
    return posixpath.basename(directory)[:-2] if directory.endswith(".d") else name


def parse_unit(data: bytes, label: str) -> Unit:
    """Read a unit file, or one with its drop-ins joined behind it; lines beyond 64 KiB are passed over.

    Raises `Malformed` for a file of more settings than the readers take.
    """
    text = _CONTINUED.sub(" ", decode(data)[: 4 * 1024 * 1024])
    bare = "\n".join(line for line in text.split("\n") if len(line) <= _MAX_LINE)
    lists: dict[str, list[Setting]] = {}
    single: dict[str, Setting] = {}
    for setting in parse_ini(bare.encode("utf-8", "replace"), separators="="):
        if setting.section not in {*_SECTIONS, "Timer", "Unit"}:
            continue
        single[setting.key] = setting
        if not setting.value:
            lists.pop(setting.key, None)
        else:
            lists.setdefault(setting.key, []).append(setting)

    def every(*keys: str) -> tuple[Setting, ...]:
        return tuple(setting for key in keys for setting in lists.get(key, ()))

    user = single.get("User")
    return Unit(
        label=label,
        description=single["Description"].value if "Description" in single else "",
        user=user if user is not None and user.value else None,
        dynamic="DynamicUser" in single and single["DynamicUser"].value.lower() in {"yes", "true", "1", "on"},
        commands=every("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop"),
        given=every(*sorted(_GIVEN)),
        environment=tuple(pair for setting in every("Environment") for pair in _pairs(setting)),
        files=every("EnvironmentFile"),
        schedule=tuple(f"{setting.key}={setting.value}" for setting in every(*_TIMES)),
        starts=single["Unit"].value if "Unit" in single and single["Unit"].section == "Timer" else "",
    )


_TIMES = ("OnCalendar", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec", "OnActiveSec")


def read_unit(sheet: Sheet) -> None:
    """Record a unit as a workload: as whom it runs, and what secrets it is given."""
    record_unit(sheet, parse_unit(sheet.file.data, unit_label(sheet.file.name, sheet.file.directory)))


def record_unit(sheet: Sheet, unit: Unit) -> Name | None:
    """Record a unit that runs something of somebody's; `None` for one of the platform, which is nobody's identity."""
    if not unit.declares:
        return None
    if sheet.file.role is Role.VENDOR and unit.user is None and not unit.given and not unit.dynamic:
        return None  # the distribution's own, running as root
    node = sheet.identity(
        sheet.name("host", sheet.file.host, "unit", unit.label),
        IdentityKind.WORKLOAD,
        unit.label,
        attributes={
            "service": unit.label.partition(".")[0].partition("@")[0], "autonomy": Autonomy.AUTONOMOUS.value,
            "purpose": unit.description, "dynamic_user": unit.dynamic or "",
            "environment_files": ", ".join(setting.value for setting in unit.files)[:200],
        },
    )  # fmt: skip
    if unit.account:
        why = f"User={unit.account}" if unit.user else "DynamicUser=yes" if unit.dynamic else "no User="
        line = unit.user.line if unit.user else None
        sheet.edge(node, Relation.RUNS_AS, sheet.account(unit.account), why, line=line)
    record_settings(sheet, unit.environment, holders=[node])
    for setting in unit.given:
        _credential(sheet, node, setting)
    return node


def credential_files(unit: Unit) -> Iterator[tuple[str, str]]:
    """Label and absolute path of each credential that the unit loads in clear."""
    for setting in unit.given:
        label, _, value = setting.value.partition(":")
        if setting.key == "LoadCredential" and value.startswith("/"):
            yield label, value


def environment_files(unit: Unit) -> Sequence[str]:
    """Absolute paths of its environment files."""
    found = [setting.value.removeprefix("-") for setting in unit.files]
    return [path for path in found if path.startswith("/") and "%" not in path and "*" not in path]


def _pairs(setting: Setting) -> list[Setting]:
    text_of = setting.value.replace('"', "\n").encode()
    if "\n" not in text_of.decode():
        text_of = setting.value.replace(" ", "\n").encode()
    return [Setting("", pair.key, pair.value, setting.line) for pair in parse_dotenv(text_of)]


def _credential(sheet: Sheet, unit: Name, setting: Setting) -> None:
    label, _, value = setting.value.partition(":")
    if setting.key == "SetCredential":
        sheet.secret(label, value, line=setting.line, holders=[unit])
        return
    sheet.credential(
        sha256(f"systemd:{sheet.file.host}:{label}:{value if setting.key == 'LoadCredential' else ''}".encode()),
        CredentialKind.SECRET,
        f"credential {label} of {sheet.file.name}",
        line=setting.line,
        manager="systemd",
        holders=[unit],
        attributes={"setting": label, "encrypted": setting.key.endswith("Encrypted"), "reference": True},
    )
