"""What `/api/connections` of RabbitMQ showed → uses of its users.

Spec: RabbitMQ management HTTP API, `/api/connections`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from remit.inventory.use.model import Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.words import address_of, environment_in, mapping, text
from remit.kernel.ids import name


def read(record: bytes, context: Context) -> Iterator[Told]:
    """The whole list."""
    try:
        entries = json.loads(record)
    except (ValueError, RecursionError):
        return
    for entry in entries if isinstance(entries, list) else ():
        one = mapping(entry)
        if not (user := text(one.get("user"))):
            continue
        client = mapping(one.get("client_properties"))
        program = text(client.get("connection_name")) or text(client.get("product"))
        use = Use(
            name=name("rabbitmq", context.instance, "user", user),
            moment=context.fallback,
            address=address_of(text(one.get("peer_host"))),
            program=program,
            environment=context.environment or environment_in(text(one.get("vhost"))),
        )
        yield Told(moment=context.fallback, uses=(use,))
