"""What `CLIENT LIST` and `ACL LOG` of Redis showed → uses of its users.

Spec: Redis commands, CLIENT LIST, ACL LOG (`client-info`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from remit.inventory.use.model import Act, Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.words import address_of, environment_in, person_of
from remit.kernel.ids import name

_FIELD = re.compile(r"(?<![a-z-])([a-z-]+)=(\S*)")


def read(record: bytes, context: Context) -> Iterator[Told]:
    """One line of `CLIENT LIST`; or the `client-info` of one entry of `ACL LOG`, its line beginning with `denied`."""
    line = record.decode("utf-8", "replace")
    found = dict(_FIELD.findall(line))
    if "addr" not in found or not found.get("user"):
        return
    program = found.get("name") or found.get("lib-name") or ""
    use = Use(
        name=name("redis", context.instance, "user", found["user"]),
        moment=context.fallback,
        address=address_of(found["addr"]),
        program=program,
        environment=context.environment or environment_in(program),
        admitted=not line.startswith("denied"),
        person=person_of(program),
        acts=(Act(action=found["cmd"].lower()),) if found.get("cmd", "NULL") != "NULL" else (),
    )
    yield Told(moment=context.fallback, uses=(use,))
