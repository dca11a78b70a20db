"""Kinds of logs: one record → the uses that it tells of. Pure; what is no such record tells nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from remit.inventory.use.model import Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a record does not say of itself."""

    instance: str
    """Of the system, as names have it."""
    fallback: datetime
    """The moment of a record without one: when its file was last written."""
    environment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a record says: its moment, and uses (often none)."""

    moment: datetime
    uses: tuple[Use, ...] = ()


Read = Callable[[bytes, Context], Iterable[Told]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of log: `whole` is read at once (a JSON file), else record by record."""

    system: str
    read: Read
    whole: bool = False
    csv: bool = False
    """Records in which quoted fields may go on over several lines."""
    moment: bool = False
    """A list of who is connected at the moment in which it was written."""


def kinds() -> Mapping[str, Kind]:
    """Every kind by name."""
    from remit.inventory.use.readers import cloudtrail, kubernetes, openbao, postgres, rabbitmq, redis, sshd

    return MappingProxyType({
        "cloudtrail": Kind(system="aws", read=cloudtrail.read, whole=True),
        "postgres-csv": Kind(system="postgres", read=postgres.read_csv, csv=True),
        "postgres-json": Kind(system="postgres", read=postgres.read_json),
        "redis-clients": Kind(system="redis", read=redis.read),
        "rabbitmq-connections": Kind(system="rabbitmq", read=rabbitmq.read, whole=True, moment=True),
        "kubernetes-audit": Kind(system="kubernetes", read=kubernetes.read),
        "openbao-audit": Kind(system="openbao", read=openbao.read),
        "sshd": Kind(system="host", read=sshd.read),
    })  # fmt: skip


NAMES: Final = (
    "cloudtrail", "postgres-csv", "postgres-json", "redis-clients", "rabbitmq-connections", "kubernetes-audit",
    "openbao-audit", "sshd",
)  # fmt: skip
