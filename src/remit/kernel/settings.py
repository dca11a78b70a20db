"""Settings: sections declared by capabilities, filled from a flag, else the environment, else a file.

`REMIT_<SECTION>_<KEY>` in the environment (lists with commas), `[section] key = …` in TOML. A section's name has no
underscore.
Unknown keys are errors wherever they stand: a misspelt setting is never silently ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import msgspec

from remit.kernel.errors import Misconfigured

RESERVED = frozenset(
    {
        "REMIT_DATA",
        "REMIT_CONFIG",
        "REMIT_DATABASE",
        "REMIT_NATS",
        "REMIT_AGENT_SOCK",
        "REMIT_PERSON_KEY",
        "REMIT_ID_TOKEN",
        # What `remit run` says to a task, and workflows to `remit run`: a task may call `remit` itself.
        "REMIT_TASK",
        "REMIT_GRANT",
        "REMIT_CREDENTIALS",
        "REMIT_SCRIPT",
        "REMIT_SOCKET",
        "REMIT_NEEDS",
        "REMIT_HANDOVER",
        "REMIT_RUN",
        "REMIT_SSH_CONFIG",
        "REMIT_SSH_LEASE",
        "REMIT_X509_CA",
        "REMIT_X509_CERT",
        "REMIT_X509_CURL",
        "REMIT_X509_KEY",
        "REMIT_X509_URL",
        # Which control plane the commands of a workload ask.
        "REMIT_SERVER",
    }
)
"""Variables that name no setting."""


def load_settings(
    sections: Mapping[str, type[Any]], *, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Fill each section's dataclass. `flags` are keyed `section.key`; a `None` flag was not given.

    Raises `Misconfigured` (`kernel.settings.unknown`, `kernel.settings.invalid`) naming the key and where it stands.
    """
    values: dict[str, dict[str, Any]] = {name: {} for name in sections}
    _from_file(values, sections, file)
    _from_environ(values, sections, environ)
    for key, value in flags.items():
        if value is not None:
            section, _, setting = key.partition(".")
            values[section][setting] = value
    return {name: _convert(name, kind, values[name]) for name, kind in sections.items()}


def _from_file(values: dict[str, dict[str, Any]], sections: Mapping[str, type[Any]], file: Path | None) -> None:
    if file is None or not file.exists():
        return
    try:
        document = msgspec.toml.decode(file.read_bytes())
    except (msgspec.DecodeError, ValueError, OSError) as error:
        raise Misconfigured(
            "kernel.settings.invalid", f"`{file}` is no valid TOML: {error}", next_step="correct it or remove it"
        ) from None
    for section, content in document.items():
        if section not in sections or not isinstance(content, dict):
            raise _unknown(f"[{section}]", str(file), sections)
        for key, value in content.items():
            _check(sections[section], section, key, str(file))
            values[section][key] = value


def _from_environ(
    values: dict[str, dict[str, Any]], sections: Mapping[str, type[Any]], environ: Mapping[str, str]
) -> None:
    for variable, value in environ.items():
        if not variable.startswith("REMIT_") or variable in RESERVED:
            continue
        section, _, key = variable.removeprefix("REMIT_").lower().partition("_")
        if section not in sections:
            raise _unknown(variable, "the environment", [f"REMIT_{name.upper()}_…" for name in sections])
        _check(sections[section], section, key, "the environment")
        several = get_origin(get_type_hints(sections[section])[key]) is tuple
        values[section][key] = [part.strip() for part in value.split(",") if part.strip()] if several else value


def _check(kind: type[Any], section: str, key: str, where: str) -> None:
    known = [field.name for field in fields(kind)]
    if key not in known:
        raise _unknown(f"{section}.{key}", where, known)


def _convert(name: str, kind: type[Any], values: dict[str, Any]) -> Any:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Misconfigured(
            "kernel.settings.invalid", f"section `{name}`: {error}", next_step="run `remit doctor` for what each takes"
        ) from None


def _unknown(what: str, where: str, known: Any) -> Misconfigured:
    near = difflib.get_close_matches(what.strip("[]").rpartition(".")[2], [str(each) for each in known], n=1)
    hint = f"did you mean `{near[0]}`?" if near else "known: " + ", ".join(sorted(map(str, known)))
    return Misconfigured("kernel.settings.unknown", f"`{what}` in {where} is no setting of Remit", next_step=hint)
