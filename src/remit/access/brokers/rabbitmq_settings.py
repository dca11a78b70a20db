"""What a RabbitMQ target can be told: options, and roles in RabbitMQ's own language of rights."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from remit.access.brokers.options import bad_option, number_of, require_known
from remit.access.brokers.port import BrokerManifest
from remit.access.model import Target
from remit.kernel.errors import Misconfigured

MANIFEST = BrokerManifest(
    id="rabbitmq",
    title="RabbitMQ 3.10 and later",
    needs=(
        "rabbitmq-plugins enable rabbitmq_management",
        "rabbitmqctl add_user remit_broker && rabbitmqctl set_user_tags remit_broker administrator",
        "-- no permission on any virtual host is needed",
    ),
    fail_safe=False,
    native_expiry=False,
    hazards=(
        "users of RabbitMQ know no expiry: with a dead Remit a lease goes on until the next start of Remit",
        "only the tag `administrator` may make users: guard the broker's password as an administrator's",
        "a queue does not say who declared it: those that came while the lease lived and that its role could have "
        "declared are reported; `queues=delete` removes them where they are empty and unused",
        "messages that a lease published stay where they were routed",
        "other ways in (MQTT, STOMP, streams) are closed the same way, but a refusal is shown on AMQP 0-9-1 alone",
    ),
)

_OPTIONS = frozenset({"management", "tls", "ca", "connections", "channels", "queues"})
_RIGHTS = ("configure", "write", "read")
_NOTHING = "^$"
_BROAD = frozenset({"", ".*", "^.*", ".*$", "^.*$", ".+", "^.+$"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """A role, decoded: regular expressions on names of a virtual host; what is not said is nothing."""

    permissions: Mapping[str, str]
    topics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Exchange → `write` and `read` of routing keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A target's options, decoded: unknown keys are errors."""

    management: str
    tls: bool
    ca: str
    connections: int
    channels: int
    delete_queues: bool


def decode_options(target: Target) -> Settings:
    """Read options and roles; `Misconfigured` (`access.target.option`, `access.rabbitmq.role`) names what is wrong."""
    options = target.options
    require_known(options, _OPTIONS)
    if options.get("tls", "false") not in ("true", "false"):
        raise bad_option("tls", "use `true` or `false`")
    if options.get("queues", "report") not in ("report", "delete"):
        raise bad_option("queues", "use `report` or `delete`")
    for role in target.roles.values():
        decode_role(role)
    tls = options.get("tls") == "true"
    host = f"[{target.host}]" if ":" in target.host else target.host
    management = options.get("management") or (f"https://{host}:15671" if tls else f"http://{host}:15672")
    _check_management(management)
    return Settings(
        management=management,
        tls=tls,
        ca=options.get("ca", ""),
        connections=number_of(options, "connections", default=10, most=99999),
        channels=number_of(options, "channels", default=100, most=99999),
        delete_queues=options.get("queues") == "delete",
    )


def decode_role(role: str) -> Rights:
    """Read `configure=RE write=RE read=RE topic:EXCHANGE:write=RE topic:EXCHANGE:read=RE`, in any order."""
    permissions = dict.fromkeys(_RIGHTS, _NOTHING)
    topics: dict[str, dict[str, str]] = {}
    for word in role.split():
        key, sign, pattern = word.partition("=")
        if not sign or pattern in _BROAD:
            raise _bad_role(word, "name what tasks in this role need, as `read=^tasks$`")
        try:
            re.compile(pattern)
        except re.error:
            raise _bad_role(word, "its pattern is no regular expression") from None
        kind, _, rest = key.partition(":")
        if key in _RIGHTS:
            permissions[key] = pattern
        elif kind == "topic" and rest.rpartition(":")[0] and rest.rpartition(":")[2] in ("write", "read"):
            exchange, _, right = rest.rpartition(":")
            topics.setdefault(exchange, {"write": _NOTHING, "read": _NOTHING})[right] = pattern
        else:
            raise _bad_role(word, "use configure=, write=, read=, topic:EXCHANGE:write=, topic:EXCHANGE:read=")
    if all(pattern == _NOTHING for pattern in permissions.values()):
        raise _bad_role(role, "a role needs at least one of configure=, write=, read=")
    return Rights(permissions=permissions, topics=topics)


def _check_management(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise bad_option("management", "write it as https://HOST:15671")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise bad_option("management", "an administrator's password goes over https, or to this machine")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bad_role(word: str, next_step: str) -> Misconfigured:
    return Misconfigured("access.rabbitmq.role", f"a role cannot be `{word[:64]}`", next_step=next_step)
