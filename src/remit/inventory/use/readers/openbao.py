"""The audit log of OpenBao (or Vault) → uses of entities.

Values in it are keyed hashes under the server's key, so tokens are known by their entity alone.

Spec: OpenBao documentation, "Audit devices", the entry of a response.
"""

from __future__ import annotations

from collections.abc import Iterator

from remit.inventory.use.model import Act, Use
from remit.inventory.use.readers import Context, Told
from remit.inventory.use.readers.words import address_of, environment_in, loaded, mapping, moment_of, text
from remit.kernel.ids import name


def read(record: bytes, context: Context) -> Iterator[Told]:
    entry = loaded(record)
    moment = moment_of(text(entry.get("time"))[:26].rstrip("Z") + "Z")
    if moment is None:
        return
    who, asked = mapping(entry.get("auth")), mapping(entry.get("request"))
    entity, shown = text(who.get("entity_id")), text(who.get("display_name"))
    if entry.get("type") != "response" or not (entity or shown):
        yield Told(moment=moment)
        return
    kind, local = ("entity", entity) if entity else ("login", shown)
    use = Use(
        name=name("openbao", context.instance, kind, local),
        moment=moment,
        address=address_of(text(asked.get("remote_address"))),
        program=shown,
        environment=context.environment or environment_in(text(asked.get("path"))),
        acts=(Act(action=text(asked.get("operation")), resource=text(asked.get("path"))),),
        admitted="permission denied" not in text(entry.get("error")),
    )
    yield Told(moment=moment, uses=(use,))
