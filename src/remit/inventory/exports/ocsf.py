"""Identities as OCSF events, one for each: User Inventory Info (class 5003), collected.

Spec: OCSF 1.8.0, category Discovery (5), class `user_inventory`, objects `user`, `account`, `programmatic_credential`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from remit.inventory.model import IdentityKind, State
from remit.inventory.records import CredentialRecord, IdentityRecord

VERSION: Final = "1.8.0"
_CLASS: Final = 5003
_COLLECT: Final = 2
_SYSTEM, _SERVICE, _OTHER = 3, 4, 99
_TYPES: Final = {
    IdentityKind.SERVICE_ACCOUNT: _SERVICE,
    IdentityKind.UNIX_ACCOUNT: _SYSTEM,
    IdentityKind.DATABASE_ROLE: _SERVICE,
    IdentityKind.CLOUD_USER: _SERVICE,
    IdentityKind.CLOUD_ROLE: _SERVICE,
    IdentityKind.BOT: _SERVICE,
}
_OUT: Final = frozenset({State.QUARANTINED, State.SUSPENDED, State.RETIRED})


def user_inventory(
    record: IdentityRecord, credentials: Sequence[CredentialRecord], now: datetime, *, product: str
) -> dict[str, Any]:
    """The event of one identity. Times are milliseconds since 1970; what is not known is left out."""
    user: dict[str, Any] = {
        "uid": record.id,
        "uid_alt": record.name,
        "name": record.title or record.name,
        "domain": f"{record.system}/{record.instance}".rstrip("/"),
        "type_id": _TYPES.get(record.kind, _OTHER),
        "type": record.kind.value,
        "account": {
            "uid": record.id,
            "name": record.title or record.name,
            "is_disabled": record.state in _OUT,
            "labels": _labels(record),
        },
    }
    if credentials:
        user["programmatic_credentials"] = [_credential(each) for each in credentials]
    return {
        "activity_id": _COLLECT,
        "activity_name": "Collect",
        "category_uid": 5,
        "category_name": "Discovery",
        "class_uid": _CLASS,
        "class_name": "User Inventory Info",
        "type_uid": _CLASS * 100 + _COLLECT,
        "severity_id": 1,
        "time": _milliseconds(now),
        "metadata": {"version": VERSION, "product": {"name": "Remit", "vendor_name": "Remit", "version": product}},
        "user": user,
        "unmapped": {
            "owner": record.owner or "",
            "environment": record.environment or "",
            "state": record.state.value,
            "first_seen": _milliseconds(record.first_seen),
            "last_seen": _milliseconds(record.last_seen),
        },
    }


def _labels(record: IdentityRecord) -> list[str]:
    pairs = (
        ("owner", record.owner),
        ("environment", record.environment),
        ("service", record.service),
        ("tier", record.tier),
        ("privileged", "yes" if record.privileged else None),
    )
    return [f"{key}:{value}" for key, value in pairs if value is not None]


def _credential(record: CredentialRecord) -> dict[str, Any]:
    found: dict[str, Any] = {"uid": record.fingerprint, "type": record.kind}
    if record.last_used is not None:
        found["last_used_time"] = _milliseconds(record.last_used)
    return found


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
