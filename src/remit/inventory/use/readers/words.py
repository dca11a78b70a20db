"""Words that logs of every kind share: moments, addresses, programs, environments, and what only people use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_ENVIRONMENTS: Final = {
    "prod": "production", "production": "production", "prd": "production", "live": "production",
    "stage": "staging", "staging": "staging", "stg": "staging", "preprod": "staging",
    "dev": "development", "development": "development", "test": "test", "qa": "test", "sandbox": "sandbox",
}  # fmt: skip
_INTERACTIVE: Final = re.compile(
    r"(?i)(?:psql|pgadmin|dbeaver|datagrip|tableplus|navicat|heidisql|mysql workbench|redis-cli|redisinsight|kubectl"
    r"|k9s|lens|openlens|console\.amazonaws\.com|signin\.amazonaws\.com|aws-cli|mozilla|jupyter|ipython)\b.*"
)
_LONGEST: Final = 100


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def loaded(record: bytes) -> Mapping[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        return mapping(msgspec.json.decode(record))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {}


def moment_of(value: str) -> datetime | None:
    """RFC 3339 and what is near to it; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(re.sub(r" (UTC|GMT)$", "+00:00", value.strip()).replace("Z", "+00:00"))
    except ValueError:
        return None
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def address_of(value: str) -> str:
    """An address without its port; a Unix socket is `local`."""
    plain = value.strip()
    if plain in ("", "[local]") or plain.startswith(("/", "unix:")):
        return "local"
    if plain.startswith("["):
        return plain[1:].partition("]")[0][:_LONGEST]
    return plain.rpartition(":")[0][:_LONGEST] if plain.count(":") == 1 else plain[:_LONGEST]


def program_of(agent: str) -> str:
    """The first word of a user agent with its version, which tells programs apart and not their every build."""
    return " ".join(agent.split())[:_LONGEST].partition(" ")[0]


def person_of(program: str) -> str:
    """The interactive program, where it is one."""
    return program[:_LONGEST] if _INTERACTIVE.fullmatch(program) else ""


def environment_in(value: str) -> str:
    """The environment that a name tells, if any: `orders-prod` is production."""
    parts = re.split(r"[^a-z0-9]+", value.lower()[:200])
    return next((_ENVIRONMENTS[part] for part in parts if part in _ENVIRONMENTS), "")
